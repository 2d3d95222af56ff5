//! Tests of `TOKENRY_NOT_BEFORE`. Tokens that were issued before this time are rejected without a
//! read of the database.

use serde_json::json;
use shared::{
    App,
    config::Settings,
    domain::{time::Timestamp, token::ExpiryType},
};
use tests::{Event, Service};

use crate::{
    assert_unauthorized,
    create_email_token::{BOB, PASSWORD, datum, with_bob},
    get_user_token::id_of,
};

/// Returns an execution environment whose `TOKENRY_NOT_BEFORE` is one second after the start time
/// of the test clock.
fn after(service: &Service) -> App {
    let not_before = Timestamp::parse("2100-01-01T00:00:01Z");
    service.another_environment().with_settings(Settings {
        not_before,
        ..Settings::default()
    })
}

#[tokio::test]
async fn a_token_issued_before_the_configured_time_is_rejected_without_a_read() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let mut old = Vec::new();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        old.push(
            service
                .mint(&bob, &format!("expiryType={kind}"))
                .await
                .token(),
        );
    }
    let server = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    service.clock.advance(1);
    let app = after(&service);
    let account = service
        .token_of(&service.account, ExpiryType::Infinite)
        .await;
    let young = service.mint_as(&account, &bob, "").await.token();
    service.database.take_calls();

    for credential in [&service.account_token, &server, &old[0], &old[2]] {
        let event = Event::to("get-user")
            .header("authorization", credential)
            .parameter("id", &bob);
        let answer = event.send(&app).await;
        assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
    }
    assert!(service.database.take_calls().is_empty());

    let introspect = async |token: &str| {
        let event = Event::to("introspect-token")
            .header("authorization", &account)
            .form(&format!("token={token}"));
        event.send(&app).await.json()
    };
    for token in &old {
        assert_eq!(introspect(token).await, json!({ "active": false }));
        let calls = service.database.take_calls();
        let units: f64 = calls.iter().map(|call| call.capacity).sum();
        assert_eq!(
            units.to_string(),
            "2",
            "only the caller's two items are read"
        );
    }
    assert_eq!(introspect(&young).await["active"], true);

    let event = Event::to("list-user-tokens")
        .header("authorization", &account)
        .parameter("id", &bob);
    let listed = event.send(&app).await.json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);
    // An old token can still be revoked. The revocation also applies in execution environments
    // without `TOKENRY_NOT_BEFORE`.
    assert!(service.is_active(&old[0]).await);
    let revoke = Event::to("revoke-token").form(&format!("token={}", old[0]));
    assert_eq!(revoke.send(&app).await.status, 200);
    assert!(!service.is_active(&old[0]).await);
    assert!(service.is_active(&old[1]).await);
    let revoke = Event::to("revoke-user-token")
        .header("authorization", &account)
        .parameter("id", &bob)
        .parameter("tokenId", &id_of(&old[1]));
    assert_eq!(revoke.send(&app).await.status, 204);
    assert!(!service.is_active(&old[1]).await);
}

#[tokio::test]
async fn a_short_code_created_before_the_configured_time_gives_no_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let body = json!({ "userId": bob }).to_string();
    let code = service
        .manage("POST", "/api/auth/shortcode/create", &body)
        .await
        .json();
    service.clock.advance(1);
    let app = after(&service);
    let consume = Event::to("consume-shortcode")
        .json_body(&json!({ "shortcode": code["shortcode"] }).to_string());
    assert_eq!(consume.send(&app).await.status, 404);
    // The first request used up the code. An execution environment without
    // `TOKENRY_NOT_BEFORE` therefore also rejects the code.
    assert_eq!(consume.send(&service.app).await.status, 404);
    assert_eq!(service.token_items(&bob).await.len(), 0);
}

#[tokio::test]
async fn a_log_in_replaces_an_e_mail_token_issued_before_the_configured_time() {
    let (service, _) = with_bob().await;
    let old = datum(&service.log_in("192.0.2.1", BOB, PASSWORD).await)["token"].clone();
    service.clock.advance(1);
    let app = after(&service);
    let event = Event::to("log-in-with-password")
        .json_body(&json!({ "email": BOB, "password": PASSWORD }).to_string());
    let new = datum(&event.send(&app).await)["token"].clone();
    assert_ne!(new, old);
    assert!(service.is_active(new.as_str().unwrap()).await);
    let again = datum(&event.send(&app).await)["token"].clone();
    assert_eq!(again, new);
}
