//! Tests of the expiry of tokens. A sliding token that was reported as expired stays invalid.

use std::sync::Arc;

use serde_json::json;
use shared::domain::token::ExpiryType;
use tests::{Fault, Service, TestClock, pause};

#[tokio::test]
async fn a_fixed_token_expires_after_its_ttl_even_if_it_is_used() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "ttl=3").await.token();
    for _ in 0..2 {
        service.clock.advance(1);
        assert!(service.is_active(&token).await);
    }
    service.clock.advance(1);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn a_sliding_token_is_valid_while_it_is_used_and_expires_when_it_is_idle() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10")
        .await
        .token();
    for _ in 0..20 {
        service.clock.advance(9);
        assert!(service.is_active(&token).await);
    }
    service.clock.advance(10);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn a_token_expires_at_its_max_ttl_even_if_it_is_used() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10&maxTtl=25")
        .await
        .token();
    for _ in 0..3 {
        service.clock.advance(8);
        assert!(service.is_active(&token).await);
    }
    let exp = service.introspect(&token).await.json()["exp"].clone();
    assert_eq!(exp, json!(TestClock::START + 25));
    service.clock.advance(1);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn a_sliding_token_is_renewed_when_it_is_the_credential_of_a_request() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::SlidingTtl)
        .await;
    for _ in 0..3 {
        service.clock.advance(3599);
        assert_eq!(service.mint_as(&server, &bob, "").await.status, 200);
    }
    service.clock.advance(3600);
    assert_eq!(service.mint_as(&server, &bob, "").await.status, 401);
}

#[tokio::test]
async fn an_expired_token_is_invalid_although_its_item_is_still_stored() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ends = async || -> Vec<_> {
        let items = service.token_items(&bob).await;
        items
            .iter()
            .map(|item| item["expires_at"].clone())
            .collect()
    };
    for (query, ended_permanently) in [
        ("expiryType=FixedTtl&ttl=5", false),
        ("expiryType=SlidingTtl&ttl=50&maxTtl=5", true),
        ("expiryType=SlidingTtl&ttl=5", true),
    ] {
        let token = service.mint(&bob, query).await.token();
        let before = ends().await;
        service.clock.advance(5);
        for _ in 0..3 {
            assert!(!service.is_active(&token).await, "{query}");
            service.clock.advance(1);
        }
        assert_eq!(ends().await, before, "{query}");
        // A fixed token is valid again if the clock goes back. A sliding token stays invalid,
        // because the first use after its expiry ends the token permanently.
        service.clock.go_back(8);
        assert_eq!(
            service.is_active(&token).await,
            !ended_permanently,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_use_at_the_max_ttl_does_not_renew_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10&maxTtl=15")
        .await
        .token();
    service.clock.advance(9);
    assert!(service.is_active(&token).await);
    service.clock.advance(6);
    let before = service.token_items(&bob).await;
    assert!(!service.is_active(&token).await);
    assert_eq!(
        service.token_items(&bob).await,
        before,
        "the item of the expired token was changed"
    );
}

#[tokio::test]
async fn a_late_renewal_does_not_revive_a_token_that_was_reported_as_expired() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for fault in [Fault::NoAnswer, Fault::NotBefore("Scan")] {
        let token = service
            .mint(&bob, "expiryType=SlidingTtl&ttl=5")
            .await
            .token();
        let early = service.another_environment();
        let use_it = service.introspection(&token);
        service.database.take_calls();

        // Use the token in its last valid second. The renewal of this use is lost or arrives late.
        service.clock.advance(4);
        service.database.fail([("UpdateItem", fault.clone())]);
        let paused = pause();
        let early = tokio::spawn({
            let event = use_it.clone();
            async move { event.send(&early).await }
        });
        service.database.has_arrived("UpdateItem").await;

        // The token is expired now. Another use gets the response that the token is not active.
        service.clock.advance(1);
        let late = service.another_environment();
        assert_eq!(
            use_it.send(&late).await.json()["active"],
            false,
            "{fault:?}"
        );

        // Now the late renewal arrives, or the lost renewal is retried.
        service
            .client
            .scan()
            .table_name(&service.tables.identity)
            .limit(1)
            .send()
            .await
            .unwrap();
        assert_eq!(early.await.unwrap().json()["active"], false, "{fault:?}");
        drop(paused);
        for environment in [&late, &service.another_environment()] {
            assert_eq!(
                use_it.send(environment).await.json()["active"],
                false,
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn two_uses_succeed_if_the_renewal_of_one_arrives_before_the_other_ends_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=5")
        .await
        .token();
    let use_it = service.introspection(&token);
    let early = service.another_environment();
    let late = Arc::new(service.another_environment());

    // The late use finds the token expired. The renewal of the early use arrives before the late
    // use can end the token permanently.
    service.clock.advance(4);
    service
        .database
        .fail([("UpdateItem", Fault::NotBefore("Scan"))]);
    let paused = pause();
    let early = tokio::spawn({
        let event = use_it.clone();
        async move { event.send(&early).await }
    });
    service.database.has_arrived("UpdateItem").await;
    service.clock.advance(1);
    service.database.fail([
        ("UpdateItem", Fault::None),
        ("UpdateItem", Fault::NotBefore("Query")),
    ]);
    let late_use = tokio::spawn({
        let (event, late) = (use_it.clone(), late.clone());
        async move { event.send(&late).await }
    });
    service.database.have_arrived("UpdateItem", 3).await;
    service
        .client
        .scan()
        .table_name(&service.tables.identity)
        .limit(1)
        .send()
        .await
        .unwrap();
    assert_eq!(early.await.unwrap().json()["active"], true);
    service.token_items(&bob).await;
    let answer = late_use.await.unwrap();
    drop(paused);
    assert_eq!(answer.json()["active"], true, "{answer:?}");
    // The execution environment of the late use does not remember the token as invalid.
    let answer = use_it.send(&late).await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_forged_token_with_the_id_of_a_real_token_does_not_renew_the_real_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let real = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10")
        .await
        .token();
    let forged = forge(&real);
    assert_ne!(real, forged);
    let before = service.token_items(&bob).await;
    for _ in 0..3 {
        service.clock.advance(3);
        assert!(!service.is_active(&forged).await);
    }
    assert_eq!(service.token_items(&bob).await, before);
    service.clock.advance(1);
    assert!(!service.is_active(&real).await);
}

#[tokio::test]
async fn a_forged_token_of_any_expiry_type_is_invalid() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let real = service
            .mint(&bob, &format!("expiryType={kind}"))
            .await
            .token();
        assert!(!service.is_active(&forge(&real)).await, "{kind}");
        assert!(service.is_active(&real).await, "{kind}");
    }
    let answer = service
        .mint_as(&forge(&service.account_token), &bob, "")
        .await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_forged_token_is_invalid_even_if_the_same_request_contains_the_real_token() {
    let service = Service::start().await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::SlidingTtl)
        .await;
    let forged = forge(&server);
    let answer = service.introspect_as(&server, &forged).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "active": false }))
    );
    assert_eq!(service.introspect_as(&forged, &server).await.status, 401);
}

#[tokio::test]
async fn a_clock_that_goes_back_5_seconds_extends_a_token_by_at_most_5_seconds() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10")
        .await
        .token();
    service.clock.advance(8);
    assert!(service.is_active(&token).await);
    service.clock.go_back(5);
    for _ in 0..5 {
        assert!(service.is_active(&token).await);
        // A new execution environment has an empty cache, so it reads everything from the database.
        let answer = service
            .introspection(&token)
            .send(&service.another_environment())
            .await;
        assert_eq!(answer.json()["active"], true);
    }
    // The token was used at second 8, so it expires at second 18. Later uses, after the clock went
    // back to second 3, do not change the time of the expiry.
    let exp = service.introspect(&token).await.json()["exp"].clone();
    assert_eq!(exp, json!(TestClock::START + 18));
    service.clock.advance(15);
    assert!(!service.is_active(&token).await);
}

/// Returns this token with another secret and a correct checksum.
pub(crate) fn forge(token: &str) -> String {
    let (covered, _) = token.split_at(83);
    let last = if covered.ends_with('7') { '8' } else { '7' };
    let covered = format!("{}{last}", &covered[..82]);
    let sum = crc32fast::hash(covered.as_bytes());
    format!("{covered}{:0>6}", base62::encode_fmt(sum))
}
