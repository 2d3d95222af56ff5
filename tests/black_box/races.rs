//! Tests of requests that use a token while another request revokes the token, and of an insert
//! that arrives after the revocation of the token.

use futures_util::future::{join, join_all};
use shared::{
    domain::token::NewToken,
    service::{access::Grant, tokens::mint},
};
use tests::{Event, Service, rounds};

#[tokio::test]
async fn a_concurrent_use_never_makes_a_revoked_token_valid_again_in_1000_rounds() {
    let service = Service::start().await;
    let other = service.another_environment();
    let bob = service.user("bob").await;
    let account = &service.account_token;
    for round in 0..rounds(1000) {
        let minted = Event::to("create-user-token")
            .header("authorization", account)
            .parameter("id", &bob)
            .query("expiryType=SlidingTtl&ttl=100");
        let minted = minted.send(&service.app).await.json();
        let token = minted["token"]
            .as_str()
            .expect("the response contains a token");
        // Advances the clock so that each use renews the token.
        service.clock.advance(1);
        let id = minted["tokenId"].as_str().unwrap();
        let revoke = match round % 3 {
            0 => Event::to("revoke-user-token")
                .header("authorization", account)
                .parameter("id", &bob)
                .parameter("tokenId", id),
            1 => Event::to("revoke-user-tokens")
                .header("authorization", account)
                .parameter("id", &bob),
            _ => Event::to("revoke-token").form(&format!("token={token}")),
        };
        let verify = service.introspection(token);
        let revoked = async {
            let answer = revoke.send(&other).await;
            assert!([200, 204].contains(&answer.status), "{answer:?}");
            // After the response to the revocation, the token is invalid in every execution
            // environment.
            for app in [&*service.app, &other] {
                let answer = verify.send(app).await;
                assert_eq!(answer.body, r#"{"active":false}"#, "round {round}");
            }
        };
        let uses = [&*service.app, &other, &service.app, &other];
        let uses = join_all(uses.map(|app| verify.send(app)));
        let (answers, ()) = Box::pin(join(uses, revoked)).await;
        for answer in answers {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let items = service.token_items(&bob).await;
        let holds = |item: &shared::store::item::Item| {
            item["item"].as_s().is_ok_and(|key| key.ends_with(id))
                && item.contains_key("token_hash")
        };
        assert!(!items.iter().any(holds), "round {round}");
    }
}

#[tokio::test]
async fn an_insert_that_arrives_after_the_revocation_does_not_restore_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let owner = service.token_owner(&bob).await;
    for by in ["its id", "its value", "a revocation of all tokens"] {
        let made = mint(&service.app, Grant::of_operator(owner, NewToken::default())).await;
        let (record, token) = made.unwrap();
        let token = token.reveal();
        assert!(service.is_active(token).await);
        let answer = match by {
            "its id" => {
                let path = format!("/api/users/{bob}/tokens/{}", record.id);
                service.manage("DELETE", &path, "").await
            }
            "its value" => {
                let request = service.request("POST", "/api/auth/revoke");
                service.send(request.form(&[("token", token)])).await
            }
            _ => {
                service
                    .manage("DELETE", &format!("/api/users/{bob}/tokens"), "")
                    .await
            }
        };
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        // Repeats the insert that created the token, as a delayed retry would.
        let _ = service.app.identity().insert_token(&record).await;
        assert!(!service.is_active(token).await, "revoked by {by}");
    }
}
