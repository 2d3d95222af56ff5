//! Tests of `GET /api/users/{id}`.

use serde_json::json;
use tests::Service;

use crate::{assert_invalid, assert_unknown};

#[tokio::test]
async fn the_response_contains_the_user() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    for credential in [&service.account_token, &server] {
        let answer = service
            .call(credential, "GET", &format!("/api/users/{bob}"), "")
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = json!({ "id": bob, "email": null, "admin": false, "active": true });
        assert_eq!(answer.json(), expected);
    }
}

#[tokio::test]
async fn an_unknown_ecosystem_is_reported_before_an_unknown_user() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.as_str();
    let unknown = "C58521fd8a5d9b5cc21987501";
    let answer = service
        .manage("GET", &format!("/api/users/{unknown};bob"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {unknown} does not exist."),
    );
    let answer = service
        .manage("GET", &format!("/api/users/{ecosystem};bob"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("User with id {ecosystem};bob does not exist."),
    );
}

#[tokio::test]
async fn one_response_reports_all_problems() {
    let service = Service::start().await;
    let answer = service.manage("GET", "/api/users/bob?x=1&y", "").await;
    let message = "contains fields that are not allowed: [ x, y ]";
    assert_invalid(
        &answer,
        &[
            ("path", "id", "invalid user id"),
            ("query", "additional parameters", message),
        ],
    );
}

#[tokio::test]
async fn a_head_request_gets_a_404() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    assert_eq!(
        service
            .manage("HEAD", &format!("/api/users/{bob}"), "")
            .await
            .status,
        404
    );
}
