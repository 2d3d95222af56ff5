//! Tests of token tags. A token with a wrong tag is rejected without a database read.
//!
//! Also tests what an execution environment remembers about invalid tokens and about callers.

use serde_json::Value;
use shared::{
    domain::token::PlainToken,
    service::{access::MayWrite, deployment},
};
use tests::{Event, Fault, Service};

/// Changes the last random byte of a token, and corrects the checksum. The tag is then wrong.
fn forged(token: &str) -> String {
    let (covered, _) = token.split_at(token.len() - 6);
    // The last 11 digits are 4 random bytes and the tag.
    let (rest, last) = covered.split_at(covered.len() - 11);
    let number = base62::decode(last).expect("the digits are base62") ^ (1 << 32);
    let covered = format!("{rest}{:0>11}", base62::encode_fmt(number));
    let sum = crc32fast::hash(covered.as_bytes());
    let forged = format!("{covered}{:0>6}", base62::encode_fmt(sum));
    assert!(PlainToken::parse(&forged).is_some());
    forged
}

#[tokio::test]
async fn a_forged_token_costs_no_database_call_at_any_endpoint() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let (_, server) = service.server_token(&service.ecosystem).await;
    service.database.take_calls();
    for token in [&token, &server, &service.account_token] {
        let forged = forged(token);
        let answer = service
            .call(&forged, "GET", &format!("/api/users/{bob}"), "")
            .await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let answer = service.introspect_as(&forged, token).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let revoke = Event::to("revoke-token").form(&format!("token={forged}"));
        assert_eq!(revoke.send(&service.app).await.status, 200);
        assert_eq!(service.database.take_operations(), Vec::<String>::new());
    }
    // The introspection reads only the records of the caller.
    let answer = service.introspect(&forged(&token)).await;
    assert_eq!(answer.json(), serde_json::json!({ "active": false }));
    let capacity: Vec<_> = service
        .database
        .take_calls()
        .iter()
        .map(|call| call.capacity)
        .collect();
    assert_eq!(capacity, [2.0]);
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_token_of_another_deployment_costs_no_database_call() {
    let (service, other) = (Service::start().await, Service::start().await);
    service.database.take_calls();
    let answer = service
        .call(&other.account_token, "POST", "/api/ecosystems", "")
        .await;
    assert_eq!(answer.status, 401);
    assert_eq!(service.database.take_operations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_record_of_the_deployment_is_read_again_for_an_unknown_tag_at_most_every_10_seconds() {
    let service = Service::start().await;
    let forged = forged(&service.account_token);
    let attack = async || {
        let answer = service.call(&forged, "POST", "/api/ecosystems", "").await;
        assert_eq!(answer.status, 401);
        service.database.take_operations()
    };
    let none = Vec::<String>::new();
    service.clock.advance(9);
    assert_eq!(attack().await, none);
    service.clock.advance(1);
    assert_eq!(attack().await, ["GetItem"]);
    assert_eq!(attack().await, none);
    // The clock is set back, so the time of the last read is then in the future.
    service.clock.go_back(20);
    assert_eq!(attack().await, ["GetItem"]);
    assert_eq!(attack().await, none);
}

#[tokio::test]
async fn an_unknown_tag_gets_a_503_while_the_record_of_the_deployment_cannot_be_read() {
    let service = Service::start().await;
    let forged = forged(&service.account_token);
    service.clock.advance(10);
    service.database.fail_always(Some(Fault::Throttled));
    for _ in 0..2 {
        let answer = service.call(&forged, "POST", "/api/ecosystems", "").await;
        assert_eq!(answer.status, 503);
    }
    service.database.fail_always(None);
    let answer = service.call(&forged, "POST", "/api/ecosystems", "").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_new_tag_key_creates_tags_after_a_minute_and_every_execution_environment_accepts_them() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let warm = service.another_environment();
    let record = deployment::add_tag_key(&service.app, MayWrite::of_operator())
        .await
        .unwrap();
    let key_of_new_token = async || {
        let token = service.mint(&bob, "").await.token();
        let plain = PlainToken::parse(&token).unwrap();
        let mut keys = record.tag_keys.iter();
        let key = keys
            .find(|key| plain.has_tag_of(key))
            .expect("a key created the tag");
        (token, key.id)
    };
    let (_, key) = key_of_new_token().await;
    assert_eq!(key, 1);
    service.clock.advance(60);
    let (token, key) = key_of_new_token().await;
    assert_eq!(key, 2);
    // The other execution environment does not know the new key, so it reads the record again.
    service.database.take_calls();
    let answer = service.introspection(&token).send(&warm).await;
    assert_eq!(answer.json()["active"], Value::Bool(true));
    assert_eq!(
        service.database.take_operations(),
        ["BatchGetItem", "GetItem"]
    );
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_read_once_and_then_costs_no_database_call() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (one, all, expired, sliding) = (
        service.mint(&bob, "expiryType=Infinite").await,
        service.mint(&bob, "expiryType=Infinite").await.token(),
        service.mint(&bob, "ttl=5").await.token(),
        service
            .mint(&bob, "expiryType=SlidingTtl&ttl=5")
            .await
            .token(),
    );
    let path = format!(
        "/api/users/{bob}/tokens/{}",
        one.json()["tokenId"].as_str().unwrap()
    );
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    service.clock.advance(5);
    let cost = async |token: &str| {
        service.database.take_calls();
        let answer = service.call(token, "POST", "/api/ecosystems", "").await;
        assert_eq!(answer.status, 401);
        service.database.take_calls().len()
    };
    for token in [&one.token(), &expired, &sliding] {
        assert!(cost(token).await >= 1);
        assert_eq!(cost(token).await, 0);
    }
    let path = format!("/api/users/{bob}/tokens");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert_eq!((cost(&all).await, cost(&all).await), (1, 0));
}

#[tokio::test]
async fn an_expired_token_is_read_again_after_the_clock_is_set_back() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "ttl=5").await.token();
    service.clock.advance(6);
    assert!(!service.is_active(&token).await);
    service.clock.go_back(3);
    assert!(service.is_active(&token).await);
    service.clock.advance(2);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn a_token_is_not_remembered_as_invalid_after_a_failed_database_call() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    service.database.fail([("BatchGetItem", Fault::Denied)]);
    assert_eq!(service.introspect(&token).await.status, 500);
    assert!(service.is_active(&token).await);

    // After a sliding token has expired, a write makes the token permanently invalid. Here, this
    // write fails.
    let sliding = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=5")
        .await
        .token();
    service.clock.advance(5);
    let (update, denied) = ("UpdateItem", Fault::Denied);
    service
        .database
        .fail([(update, Fault::None), (update, denied)]);
    assert_eq!(service.introspect(&sliding).await.status, 500);
    service.database.take_calls();
    assert!(!service.is_active(&sliding).await);
    let operations = service.database.take_operations();
    assert_eq!(operations, ["BatchGetItem", "UpdateItem", "UpdateItem"]);
}

#[tokio::test]
async fn an_expired_e_mail_token_is_valid_again_after_its_expiry_is_changed() {
    let service = Service::start().await;
    service
        .person("bob", "bob@example.com", "correct horse")
        .await;
    let put = async |date: u64| {
        let body =
            format!(r#"{{"email":"bob@example.com","write":true,"expiration_date":{date}}}"#);
        service.manage("PUT", "/_/user-token", &body).await
    };
    let token = service
        .log_in("192.0.2.1", "bob@example.com", "correct horse")
        .await;
    let token = token.json()["data"][0]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(put(1).await.status, 200);
    assert!(!service.is_active(&token).await);
    assert!(!service.is_active(&token).await);
    assert_eq!(put(4_200_000_000_000).await.status, 200);
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_remembered_caller_costs_no_database_read_and_is_forgotten_after_the_configured_time() {
    let settings = shared::config::Settings {
        caller_memory_seconds: 3,
        ..Default::default()
    };
    let service = Service::start_with(settings).await;
    let bob = service.user("bob").await;
    let (id, server) = service.server_token(&service.ecosystem).await;
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    let cost = async |caller: &str| {
        service.database.take_calls();
        let answer = service.introspect_as(caller, &token).await;
        let calls = service.database.take_calls();
        let capacity: f64 = calls.iter().map(|call| call.capacity).sum();
        (answer.status, capacity)
    };
    assert_eq!(cost(&server).await, (200, 4.0));
    // The ecosystem is cached, and the caller is remembered.
    assert_eq!(cost(&server).await, (200, 2.0));
    // The requests above verified `token` as the token in the form, but only the token of a caller
    // is remembered. So the first request with `token` as the caller's token reads the records of
    // `token`.
    assert_eq!(cost(&token).await, (403, 2.0));
    let path = format!("/api/ecosystems/{}/tokens/{id}", service.ecosystem.id);
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    service.clock.advance(2);
    assert_eq!(cost(&server).await.0, 200);
    // The server token is revoked, and introspection says so. But requests with the server token
    // still succeed while this token is remembered.
    assert!(!service.is_active(&server).await);
    service.clock.advance(1);
    assert_eq!(cost(&server).await.0, 401);
}

#[tokio::test]
async fn a_remembered_caller_may_call_until_it_expires_and_a_sliding_caller_is_renewed() {
    let settings = shared::config::Settings {
        caller_memory_seconds: 5,
        ..Default::default()
    };
    let service = Service::start_with(settings).await;
    let path = format!("/api/ecosystems/{}/tokens", service.ecosystem.id);
    let server = service
        .manage("POST", &format!("{path}?ttl=3"), "")
        .await
        .token();
    let sliding = service
        .manage("POST", &format!("{path}?expiryType=SlidingTtl"), "")
        .await
        .token();
    service.clock.advance(2);
    assert_eq!(service.introspect_as(&server, "x").await.status, 200);
    service.clock.advance(1);
    assert_eq!(service.introspect_as(&server, "x").await.status, 401);
    for _ in 0..2 {
        service.clock.advance(1);
        service.database.take_calls();
        assert_eq!(service.introspect_as(&sliding, "x").await.status, 200);
        assert_eq!(
            service.database.take_operations(),
            ["BatchGetItem", "UpdateItem"]
        );
    }
}

#[tokio::test]
async fn a_warm_environment_creates_tags_with_a_new_key_within_six_minutes() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let operator = service.another_environment();
    let right = MayWrite::of_operator();
    let record = deployment::add_tag_key(&operator, right).await.unwrap();
    service.clock.advance(360);
    let token = service.mint(&bob, "").await.token();
    let plain = PlainToken::parse(&token).unwrap();
    assert!(plain.has_tag_of(&record.tag_keys[1]));
}

#[tokio::test]
async fn a_dead_caller_reads_nothing_even_if_the_request_names_other_records() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (id, server) = service.server_token(&service.ecosystem).await;
    let path = format!("/api/ecosystems/{}/tokens/{id}", service.ecosystem.id);
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    let other = service.another_ecosystem().await;
    let target = format!("/api/users/{};eve", other.id);
    for path in [&format!("/api/users/{bob}"), &target] {
        assert_eq!(service.call(&server, "GET", path, "").await.status, 401);
        service.database.take_calls();
        assert_eq!(service.call(&server, "GET", path, "").await.status, 401);
        assert_eq!(service.database.take_operations(), Vec::<String>::new());
    }
}
