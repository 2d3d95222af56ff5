//! Tests of `DELETE /api/users/{id}/tokens`. This request first writes a new epoch of the user.
//! This one write invalidates all tokens of the user. A sweep then deletes the items of these
//! tokens.

use serde_json::json;
use shared::{
    domain::token::NewToken,
    service::{access::Grant, tokens::mint},
};
use tests::{Event, Fault, Service, pause};

use crate::{
    assert_unknown,
    create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob},
    list_user_tokens::ids,
};

async fn revoke_all(service: &Service, user: &str) -> u16 {
    let path = format!("/api/users/{user}/tokens");
    service.manage("DELETE", &path, "").await.status
}

/// Mints tokens without sending requests.
async fn make_tokens(service: &Service, user: &str, count: usize) {
    let owner = service.token_owner(user).await;
    for _ in 0..count {
        let wanted = NewToken::default();
        mint(&service.app, Grant::of_operator(owner, wanted))
            .await
            .unwrap();
    }
    service.database.take_calls();
}

#[tokio::test]
async fn all_earlier_tokens_are_invalid_and_later_tokens_are_valid() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let mut tokens = vec![value(&service, BOB).await];
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let minted = service.mint(&bob, &format!("expiryType={kind}")).await;
        tokens.push(minted.token());
    }
    let code = json!({ "userId": bob }).to_string();
    let code = service
        .manage("POST", "/api/auth/shortcode/create", &code)
        .await
        .json();
    let eve = service.user("eve").await;
    let of_eve = service.mint(&eve, "").await.token();

    assert_eq!(revoke_all(&service, &bob).await, 204);
    for token in &tokens {
        assert!(!service.is_active(token).await);
    }
    assert!(ids(&service, &bob).await.is_empty());
    assert!(service.is_active(&of_eve).await);
    let code = json!({ "shortcode": code["shortcode"] }).to_string();
    let consumed = service
        .manage("POST", "/api/auth/shortcode/consume", &code)
        .await;
    assert_eq!(
        consumed.status, 404,
        "the revocation also invalidates the short code"
    );

    let later = service.mint(&bob, "").await.token();
    assert!(service.is_active(&later).await);
    let log_in = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    assert!(
        service
            .is_active(datum(&log_in)["token"].as_str().unwrap())
            .await
    );
    assert_eq!(revoke_all(&service, &bob).await, 204);
    assert!(!service.is_active(&later).await);
}

#[tokio::test]
async fn a_revocation_is_one_write_followed_by_a_sweep_that_deletes_the_token_items() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for count in [0, 1, 60] {
        make_tokens(&service, &bob, count).await;
        assert_eq!(revoke_all(&service, &bob).await, 204);
        let calls = service.database.take_calls();
        let writes: Vec<_> = calls
            .iter()
            .filter(|call| call.operation == "PutItem")
            .collect();
        assert_eq!(writes.len(), 1);
        let deletions = calls
            .iter()
            .filter(|call| call.operation == "BatchWriteItem")
            .count();
        assert_eq!(deletions, count.div_ceil(25));
        assert_eq!(service.token_items(&bob).await.len(), 0);
    }
}

#[tokio::test]
async fn the_next_sweep_deletes_the_items_that_a_failed_sweep_left() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    make_tokens(&service, &bob, 10).await;
    service.database.fail([("BatchWriteItem", Fault::Rubbish)]);
    let token = service.mint(&bob, "").await.token();
    assert_eq!(revoke_all(&service, &bob).await, 204);
    assert!(!service.is_active(&token).await);
    assert_eq!(service.token_items(&bob).await.len(), 11);
    assert!(ids(&service, &bob).await.is_empty());
    make_tokens(&service, &bob, 1).await;
    assert_eq!(revoke_all(&service, &bob).await, 204);
    assert_eq!(service.token_items(&bob).await.len(), 0);
}

#[tokio::test]
async fn a_sweep_reads_each_page_once_and_stops_if_the_database_leaves_deletions_unprocessed() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    // One `Query` reads a page of 100 tokens. One `BatchWriteItem` deletes 25 tokens.
    for (made, fault, queries, left) in [
        (110, Fault::None, 2, 0),
        (110, Fault::Unprocessed, 1, 35),
        (0, Fault::None, 1, 0),
    ] {
        make_tokens(&service, &bob, made).await;
        service.database.fail([("BatchWriteItem", fault)]);
        assert_eq!(revoke_all(&service, &bob).await, 204);
        let calls = service.database.take_calls();
        let of_pages = calls.iter().filter(|call| call.operation == "Query");
        assert_eq!(of_pages.count(), queries);
        assert_eq!(service.token_items(&bob).await.len(), left);
    }
}

#[tokio::test]
async fn the_response_takes_at_most_two_seconds_if_the_sweep_hangs() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for operation in ["Query", "BatchWriteItem"] {
        make_tokens(&service, &bob, 1).await;
        let token = service.mint(&bob, "").await.token();
        service
            .database
            .fail((0..4).map(|_| (operation, Fault::NoAnswer)));
        let revoke = Event::to("revoke-user-tokens")
            .header("authorization", &service.account_token)
            .parameter("id", &bob);
        let paused = pause();
        #[expect(
            clippy::disallowed_methods,
            reason = "the test measures the time of tokio's paused clock"
        )]
        let started = tokio::time::Instant::now();
        let answer = revoke.send(&service.app).await;
        let took = started.elapsed();
        drop(paused);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert!(took <= std::time::Duration::from_secs(2), "{took:?}");
        service.database.take_faults();
        assert!(!service.is_active(&token).await);
    }
}

#[tokio::test]
async fn the_sweep_stops_before_the_request_runs_out_of_time() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    // The service waits 0.9 seconds for the response to `BatchGetItem`, and then retries it. It
    // does the same for `PutItem`. So less than 0.9 seconds are left for the sweep. The first
    // `Query` of the sweep gets no response, and the service stops the sweep before a retry.
    let hanging = ["BatchGetItem", "PutItem", "Query"];
    service
        .database
        .fail(hanging.map(|operation| (operation, Fault::NoAnswer)));
    let revoke = Event::to("revoke-user-tokens")
        .header("authorization", &service.account_token)
        .parameter("id", &bob);
    let paused = pause();
    let answer = revoke.send(&service.app).await;
    drop(paused);
    service.database.take_faults();
    assert_eq!(answer.status, 204, "{answer:?}");
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn a_sweep_does_not_delete_the_tokens_of_a_later_epoch() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for _ in 0..20 {
        make_tokens(&service, &bob, 30).await;
        // Two requests revoke all tokens while a third request mints a token.
        let both = futures_util::future::join3(
            revoke_all(&service, &bob),
            revoke_all(&service, &bob),
            service.mint(&bob, ""),
        );
        let (one, other, minted) = both.await;
        assert_eq!((one, other), (204, 204));
        let token = minted.token();
        let listed = ids(&service, &bob).await.len();
        assert_eq!(service.is_active(&token).await, listed == 1);
        let after = service.mint(&bob, "").await.token();
        assert!(service.is_active(&after).await);
        assert_eq!(revoke_all(&service, &bob).await, 204);
    }
}

#[tokio::test]
async fn a_token_that_is_minted_during_the_sweep_stays_valid() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    make_tokens(&service, &bob, 10).await;
    // The sweep reads the tokens only after a token with the new epoch was minted.
    service.database.fail([("Query", Fault::NotBefore("Scan"))]);
    let mint_and_scan = async {
        service.database.has_arrived("Query").await;
        let token = service.mint(&bob, "").await.token();
        service.identity_items().await;
        token
    };
    let (status, token) =
        futures_util::future::join(revoke_all(&service, &bob), mint_and_scan).await;
    assert_eq!(status, 204);
    assert!(service.is_active(&token).await);
    assert_eq!(
        service.token_items(&bob).await.len(),
        1,
        "the sweep deletes exactly the earlier tokens"
    );
}

#[tokio::test]
async fn an_unknown_user_gets_a_404() {
    let service = Service::start().await;
    let nobody = format!("{};nobody", service.ecosystem.id.as_str());
    let answer = service
        .manage("DELETE", &format!("/api/users/{nobody}/tokens"), "")
        .await;
    assert_unknown(&answer, &format!("User with id {nobody} does not exist."));
}
