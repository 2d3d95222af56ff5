//! Tests of `POST /api/auth/revoke`.

use serde_json::json;
use shared::domain::token::ExpiryType;
use tests::{Answer, Fault, Service};

use crate::{
    assert_invalid,
    consume_shortcode::{code, consume},
    create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob},
    expiry::forge,
};

async fn revoke(service: &Service, token: &str) -> Answer {
    let request = service
        .request("POST", "/api/auth/revoke")
        .form(&[("token", token)]);
    service.send(request).await
}

/// Asserts the response to every revocation. `about` appears in the message of a failure.
fn assert_revoked(answer: &Answer, about: &str) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "{}"),
        "{about}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_token_of_any_holder_and_any_expiry_type_can_be_revoked_with_its_value() {
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
        assert_revoked(&answer, "");
        assert!(!service.is_active(&token).await);
        assert_eq!(revoke(&service, &token).await.status, 200);
    }
    // An expired token can also be revoked. The revoked token stays invalid even if the clock is
    // set back.
    let dead = service.mint(&bob, "ttl=1").await.token();
    service.clock.advance(1);
    assert_eq!(revoke(&service, &dead).await.status, 200);
    service.clock.go_back(1);
    assert!(!service.is_active(&dead).await);
}

#[tokio::test]
async fn the_record_of_a_token_that_ended_together_with_others_stays_as_it_is() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let of_bob = service.mint(&bob, "expiryType=Infinite").await.token();
    let eve = service.user("eve").await;
    let of_eve = service.mint(&eve, "expiryType=Infinite").await.token();
    let environment = service.environment(&service.ecosystem).await;
    let (made, code) = code(&service, json!({ "environmentId": environment })).await;
    let short = made["userId"].as_str().unwrap().to_owned();
    let of_short = consume(&service, &code).await.token();
    // No record is deleted, as if there were more of them than a request can delete.
    let write = "BatchWriteItem";
    service.database.fail([(write, Fault::Rubbish)]);
    let tokens = format!("/api/users/{bob}/tokens");
    assert_eq!(service.manage("DELETE", &tokens, "").await.status, 204);
    for path in [
        format!("/api/users/{eve}"),
        format!("/api/environments/{environment}"),
    ] {
        assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    }
    for (user, token) in [(bob, of_bob), (eve, of_eve), (short, of_short)] {
        assert!(!service.is_active(&token).await, "{user}");
        let before = service.token_items(&user).await;
        assert_eq!(before.len(), 1, "{user}");
        service.database.take_calls();
        assert_revoked(&revoke(&service, &token).await, &user);
        let operations = service.database.take_operations();
        assert_eq!(operations, ["BatchGetItem"; 2], "{user}");
        assert_eq!(service.token_items(&user).await, before, "{user}");
    }
}

#[tokio::test]
async fn a_malformed_token_gets_a_200_without_a_database_call() {
    let service = Service::start().await;
    for token in ["", "x", "tk_uf_rubbish", &"x".repeat(10_000)] {
        let answer = revoke(&service, token).await;
        assert_revoked(&answer, token);
    }
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn a_forged_token_with_the_id_of_a_valid_token_revokes_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    let forged = forge(&token);
    assert_ne!(forged, token);
    service.database.take_calls();
    assert_eq!(revoke(&service, &forged).await.status, 200);
    assert_eq!(service.database.take_operations(), Vec::<String>::new());
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn after_an_e_mail_token_is_revoked_a_log_in_returns_a_new_token() {
    let (service, _) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let token = value(&service, BOB).await;
    assert_eq!(revoke(&service, &token).await.status, 200);
    assert!(!service.is_active(&token).await);
    let new = datum(&service.log_in("192.0.2.1", BOB, PASSWORD).await);
    assert_ne!(new["token"], token.as_str());
    assert!(service.is_active(new["token"].as_str().unwrap()).await);
}

/// Sends a form body unchanged.
async fn send(service: &Service, path: &str, form: &str) -> Answer {
    let request = service
        .request("POST", path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    service.send(request).await
}

#[tokio::test]
async fn extra_fields_that_oauth_libraries_send_do_not_prevent_the_revocation() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let many = "&a=1".repeat(5000);
    for (query, more) in [
        ("", "&token_type_hint=refresh_token"),
        // A line break after the token, as in a form that curl reads from a file.
        ("", "%0D%0A&client_id=app"),
        // Authlib, openid-client, oauth4webapi and the Rust crate oauth2 send this field.
        ("", "&client_id=app"),
        (
            "",
            "&client_id=app&client_secret=secret&token_type_hint=nonsense",
        ),
        ("", "&client_id=one&client_id=another&scope=&%ff=%ff"),
        ("?client_id=app&token=another", ""),
        ("", &many[..16_000]),
    ] {
        let token = service.mint(&bob, "").await.token();
        let path = format!("/api/auth/revoke{query}");
        let answer = send(&service, &path, &format!("token={token}{more}")).await;
        assert_revoked(&answer, more);
        assert!(!service.is_active(&token).await, "{query} {more}");
    }
    let token = service.mint(&bob, "").await.token();
    let late = format!("{}token={token}", &many[1..16_001]);
    assert_revoked(&send(&service, "/api/auth/revoke", &late).await, "late");
    assert!(!service.is_active(&token).await);
    for credential in [
        "",
        "Basic YXBwOg==",
        "Basic :",
        "Bearer x, Bearer y",
        &service.account_token,
    ] {
        let token = service.mint(&bob, "").await.token();
        let request = service
            .request("POST", "/api/auth/revoke")
            .header("authorization", credential)
            .form(&[("token", &*token), ("client_secret", "x")]);
        assert_revoked(&service.send(request).await, credential);
        assert!(!service.is_active(&token).await, "{credential}");
    }
}

#[tokio::test]
async fn a_missing_token_a_repeated_token_and_a_wrong_content_type_are_errors() {
    let service = Service::start().await;
    let path = "/api/auth/revoke";
    let required = [("body", "token", "field is required")];
    assert_invalid(&send(&service, path, "").await, &required);
    assert_invalid(&send(&service, path, "client_id=app").await, &required);
    let many = "a=1&".repeat(4000);
    assert_invalid(&send(&service, path, &many).await, &required);
    assert_invalid(
        &send(&service, path, "token=x&token=y").await,
        &[("body", "token", "field must be given once")],
    );
    let json = service
        .request("POST", path)
        .header("content-type", "application/json")
        .body(r#"{"token":"x"}"#);
    assert_eq!(service.send(json).await.status, 415);
}
