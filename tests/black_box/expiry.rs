//! Time: when tokens die, and that nothing brings them back.

use serde_json::json;
use shared::domain::token::ExpiryType;
use tests::{Fault, Service, TestClock, pause};

#[tokio::test]
async fn a_fixed_token_dies_on_its_second_though_it_is_used() {
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
async fn a_sliding_token_lives_while_it_is_used_and_dies_when_it_is_idle() {
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
async fn max_ttl_ends_a_token_that_is_used() {
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
async fn being_a_callers_credential_is_a_use() {
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
async fn an_item_that_the_database_still_has_is_dead_all_the_same_and_stays_dead() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ends = async || -> Vec<_> {
        let items = service.token_items(&bob).await;
        items
            .iter()
            .map(|item| item["expires_at"].clone())
            .collect()
    };
    for (query, dead_for_good) in [
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
        // A fixed end is a matter of the clock alone; an idle one depends on what was observed.
        service.clock.go_back(8);
        assert_eq!(service.is_active(&token).await, !dead_for_good, "{query}");
    }
}

#[tokio::test]
async fn max_ttl_holds_against_a_renewal_that_is_under_way() {
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
        "a dead item was touched"
    );
}

#[tokio::test]
async fn a_renewal_that_arrives_after_somebody_was_told_that_the_token_is_dead_revives_nothing() {
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

        // A use on the last second, whose renewal gets lost or late on its way.
        service.clock.advance(4);
        service.database.fail([("UpdateItem", fault.clone())]);
        let paused = pause();
        let early = tokio::spawn({
            let event = use_it.clone();
            async move { event.send(&early).await }
        });
        service.database.has_arrived("UpdateItem").await;

        // It is dead now, and somebody is told so.
        service.clock.advance(1);
        let late = service.another_environment();
        assert_eq!(
            use_it.send(&late).await.json()["active"],
            false,
            "{fault:?}"
        );

        // Now the renewal arrives, or is tried again.
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
async fn a_renewal_that_wins_against_the_end_is_told_to_both() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=5")
        .await
        .token();
    let use_it = service.introspection(&token);
    let (early, late) = (service.another_environment(), service.another_environment());

    // The late use finds it dead; before it can end it for good, the early one's renewal comes.
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
    let late = tokio::spawn({
        let event = use_it.clone();
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
    let late = late.await.unwrap();
    drop(paused);
    assert_eq!(late.json()["active"], true, "{late:?}");
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_forged_token_with_a_real_tokens_id_renews_nothing() {
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
async fn a_forged_token_of_any_kind_does_not_count() {
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
async fn a_forged_token_beside_the_real_one_in_one_request_changes_nothing() {
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
async fn a_clock_that_goes_back_lengthens_no_life_beyond_its_step() {
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
        // One that has nothing in memory but the table to go by.
        let answer = service
            .introspection(&token)
            .send(&service.another_environment())
            .await;
        assert_eq!(answer.json()["active"], true);
    }
    // Used at 8 and, by the clock that went back, at 3: it ends at 18.
    let exp = service.introspect(&token).await.json()["exp"].clone();
    assert_eq!(exp, json!(TestClock::START + 18));
    service.clock.advance(15);
    assert!(!service.is_active(&token).await);
}

/// The token with another secret and a right checksum.
pub(crate) fn forge(token: &str) -> String {
    let (covered, _) = token.split_at(83);
    let last = if covered.ends_with('7') { '8' } else { '7' };
    let covered = format!("{}{last}", &covered[..82]);
    let sum = crc32fast::hash(covered.as_bytes());
    format!("{covered}{:0>6}", base62::encode_fmt(sum))
}
