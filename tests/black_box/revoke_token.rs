//! `POST /api/auth/revoke`.

use serde_json::json;
use shared::token::ExpiryType;
use tests::{Answer, Service};

use crate::{
    assert_invalid,
    create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob},
    expiry::forge,
};

async fn revoke(service: &Service, token: &str) -> Answer {
    let request = service
        .request("POST", "/api/auth/revoke")
        .form(&[("token", token)]);
    service.send(request).await
}

#[tokio::test]
async fn a_token_of_any_holder_and_kind_ends_itself() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let mut tokens = Vec::new();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        tokens.push(
            service
                .mint(&bob, &format!("expiryType={kind}"))
                .await
                .token(),
        );
    }
    tokens.push(
        service
            .token_of(&service.ecosystem, ExpiryType::SlidingTtl)
            .await,
    );
    tokens.push(
        service
            .token_of(&service.account, ExpiryType::Infinite)
            .await,
    );
    for token in tokens {
        assert!(service.is_active(&token).await);
        let answer = revoke(&service, &token).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert!(!service.is_active(&token).await);
        assert_eq!(revoke(&service, &token).await.status, 200);
    }
    // One that was dead already, too.
    let dead = service.mint(&bob, "ttl=1").await.token();
    service.clock.advance(1);
    assert_eq!(revoke(&service, &dead).await.status, 200);
    service.clock.go_back(1);
    assert!(!service.is_active(&dead).await);
}

#[tokio::test]
async fn rubbish_is_the_same_200_and_makes_no_call() {
    let service = Service::start().await;
    for token in ["", "x", "tk_uf_rubbish", &"x".repeat(10_000)] {
        let answer = revoke(&service, token).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{token}");
    }
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn a_forged_token_with_the_id_of_a_real_one_ends_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    let forged = forge(&token);
    assert_ne!(forged, token);
    service.database.take_calls();
    assert_eq!(revoke(&service, &forged).await.status, 200);
    assert_eq!(service.database.take_operations(), ["BatchGetItem"]);
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn an_e_mail_token_ends_with_what_names_it() {
    let (service, _) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let token = value(&service, BOB).await;
    assert_eq!(revoke(&service, &token).await.status, 200);
    assert!(!service.is_active(&token).await);
    let new = datum(&service.log_in("192.0.2.1", BOB, PASSWORD).await);
    assert_ne!(new["token"], token.as_str());
    assert!(service.is_active(new["token"].as_str().unwrap()).await);
}

#[tokio::test]
async fn the_hint_is_taken_and_everything_else_refused() {
    let service = Service::start().await;
    let send = async |body: &'static str| {
        let request = service
            .request("POST", "/api/auth/revoke")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        service.send(request).await
    };
    assert_eq!(
        send("token=x&token_type_hint=refresh_token").await.status,
        200
    );
    assert_invalid(&send("").await, &[("body", "token", "field is required")]);
    assert_invalid(
        &send("token=x&token=y").await,
        &[("body", "token", "field must be given once")],
    );
    assert_invalid(
        &send("token=x&all=1").await,
        &[(
            "body",
            "additional parameters",
            "contains fields that are not allowed: [ all ]",
        )],
    );
    let json = service
        .request("POST", "/api/auth/revoke")
        .header("content-type", "application/json")
        .body(r#"{"token":"x"}"#);
    assert_eq!(service.send(json).await.status, 415);
}
