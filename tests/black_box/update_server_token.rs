//! Tests of `PATCH /api/ecosystems/{ecosystemId}/tokens/{tokenId}`. The tests of
//! `PATCH /api/users/{id}/tokens/{tokenId}` cover what both endpoints share.

use serde_json::{Value, json};
use tests::{Answer, Event, Service};

use crate::{
    assert_forbidden, assert_invalid, assert_unauthorized, assert_unknown,
    get_server_token::{get, mint, path},
    get_user_token::{self, NO_TOKEN, assert_no_token, revoke_itself},
    update_user_token::assert_conflict,
};

const DISABLE: &str = r#"{"disabled":true}"#;
const ENABLE: &str = r#"{"disabled":false}"#;

async fn patch(service: &Service, id: &str, body: &str) -> Answer {
    service.manage("PATCH", &path(service, id), body).await
}

#[tokio::test]
async fn each_field_changes_alone_and_what_is_omitted_stays() {
    let service = Service::start().await;
    let body = json!({ "name": "gateway", "scope": "read", "metadata": { "a": 1 } });
    let minted = mint(&service, &body).await;
    let mut expected = get(&service, &minted.id).await.json();
    for (body, name, value) in [
        (r#"{"name":"new"}"#, "name", json!("new")),
        (
            r#"{"scope":"tokenry:introspect x"}"#,
            "scope",
            json!("tokenry:introspect x"),
        ),
        (r#"{"metadata":{"b":2}}"#, "metadata", json!({ "b": 2 })),
        (r#"{"name":null}"#, "name", Value::Null),
        ("{}", "name", Value::Null),
        (r#"{"metadata":null}"#, "metadata", Value::Null),
    ] {
        let answer = patch(&service, &minted.id, body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        expected[name] = value;
        if expected["metadata"].is_null() {
            expected.as_object_mut().unwrap().remove("metadata");
        }
        assert_eq!(answer.json(), expected, "{body}");
        assert_eq!(get(&service, &minted.id).await.json(), expected, "{body}");
    }
    let answer = patch(&service, &minted.id, r#"{"ttl":1}"#).await;
    let message = "contains fields that are not allowed: [ ttl ]";
    assert_invalid(&answer, &[("body", "additional parameters", message)]);
}

#[tokio::test]
async fn a_disabled_server_token_is_no_credential_until_it_is_enabled() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let other = service.another_environment();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let minted = mint(&service, &json!({ "expiryType": kind })).await;
        let event = Event::to("get-user")
            .header("authorization", &minted.token)
            .parameter("id", &bob);
        let attempt = Event::to("consume-shortcode")
            .header("authorization", &minted.token)
            .json_body(r#"{"shortcode":"234567","clientAddress":"192.0.2.9"}"#);
        assert_eq!(attempt.send(&service.app).await.status, 404);
        assert_eq!(event.send(&service.app).await.status, 200);
        for _ in 0..2 {
            let disabled = patch(&service, &minted.id, DISABLE).await;
            assert_eq!(disabled.json()["state"], "disabled");
            let challenge = r#"Bearer realm="tokenry", error="invalid_token""#;
            for app in [&service.app, &service.app, &other, &other] {
                assert_unauthorized(&event.send(app).await, challenge);
            }
            // A disabled token cannot send the attempts of a back end.
            let answer = attempt.send(&service.app).await;
            let message = "field needs a valid server token";
            assert_invalid(&answer, &[("body", "clientAddress", message)]);
            assert!(!service.is_active(&minted.token).await);
            patch(&service, &minted.id, ENABLE).await;
            for app in [&service.app, &other] {
                assert_eq!(event.send(app).await.status, 200, "{kind}");
            }
            service.clock.advance(1);
        }
    }
}

#[tokio::test]
async fn a_server_token_that_ended_gets_a_409_and_an_unknown_one_a_404() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let of_bob = get_user_token::mint(&service, &bob, &json!({})).await.id;
    let elsewhere = service.another_ecosystem().await;
    let (of_another, token_of_another) = service.server_token(&elsewhere).await;
    for id in [NO_TOKEN, &of_bob, &of_another] {
        assert_no_token(&patch(&service, id, DISABLE).await, id);
    }
    assert!(service.is_active(&token_of_another).await);
    let (foreign, _) = service.another_account().await;
    let own = mint(&service, &json!({})).await;
    let answer = service
        .call(&foreign, "PATCH", &path(&service, &own.id), DISABLE)
        .await;
    let ecosystem = service.ecosystem.id.as_str();
    let text = format!("Ecosystem with id {ecosystem} does not exist.");
    assert_unknown(&answer, &text);
    // A server may not even rename its own token.
    let answer = service
        .call(
            &own.token,
            "PATCH",
            &path(&service, &own.id),
            r#"{"name":"a"}"#,
        )
        .await;
    assert_forbidden(&answer);

    let [expired, revoked, disabled] = [
        mint(&service, &json!({ "ttl": 60 })).await,
        mint(&service, &json!({})).await,
        mint(&service, &json!({})).await,
    ];
    service.clock.advance(60);
    revoke_itself(&service, &revoked.token).await;
    patch(&service, &disabled.id, DISABLE).await;
    service
        .manage("DELETE", &path(&service, &disabled.id), "")
        .await;
    for made in [&expired, &revoked, &disabled] {
        for body in ["{}", r#"{"name":"a"}"#, ENABLE] {
            let answer = patch(&service, &made.id, body).await;
            assert_conflict(&answer, "token has ended");
        }
        assert!(!service.is_active(&made.token).await);
    }
}
