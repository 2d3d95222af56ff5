//! Time: when tokens die, and that nothing brings them back.

use serde_json::json;
use shared::token::ExpiryType;
use tests::{Service, TestClock};

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
    service.clock.go_back(0);
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
    for kind in ["FixedTtl", "SlidingTtl"] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}&ttl=5"))
            .await
            .token();
        let before = service.token_items(&bob).await;
        service.clock.advance(5);
        for _ in 0..3 {
            assert!(!service.is_active(&token).await, "{kind}");
            service.clock.advance(1);
        }
        assert_eq!(
            service.token_items(&bob).await,
            before,
            "{kind}: a dead item was touched"
        );
    }
}

#[tokio::test]
async fn a_renewal_beside_the_expiry_never_revives() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for round in 0..20 {
        let token = service
            .mint(&bob, "expiryType=SlidingTtl&ttl=5")
            .await
            .token();
        service.clock.advance(4);
        // Uses on the last second and on the first of death, from two environments, at once.
        let other = service.another_environment();
        let early = service.introspect(&token);
        service.clock.advance(1);
        let late = tests::Event::to("introspect-token")
            .header("authorization", &service.account_token)
            .form(&format!("token={token}"));
        let (_, late) = tokio::join!(early, late.send(&other));
        let renewed_in_time = late.json()["active"] == true;
        // Alive afterwards only if the early use came before the late one's second.
        assert_eq!(
            service.is_active(&token).await,
            renewed_in_time,
            "round {round}"
        );
        service.clock.advance(5);
        assert!(!service.is_active(&token).await, "round {round}");
    }
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
    }
    // Used at 8 and, by the clock that went back, at 3: it ends at 18.
    let exp = service.introspect(&token).await.json()["exp"].clone();
    assert_eq!(exp, json!(TestClock::START + 18));
    service.clock.advance(15);
    assert!(!service.is_active(&token).await);
}

/// The token with another secret and a right checksum.
fn forge(token: &str) -> String {
    let (covered, _) = token.split_at(83);
    let last = if covered.ends_with('7') { '8' } else { '7' };
    let covered = format!("{}{last}", &covered[..82]);
    let sum = crc32fast::hash(covered.as_bytes());
    format!("{covered}{:0>6}", base62::encode_fmt(sum))
}
