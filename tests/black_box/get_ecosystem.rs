//! Tests of `GET /api/ecosystems/{ecosystemId}`.

use serde_json::json;
use tests::Service;

use crate::{assert_forbidden, assert_invalid, assert_unknown};

#[tokio::test]
async fn accounts_and_servers_see_the_settings_and_a_new_ecosystem_has_the_defaults() {
    let service = Service::start().await;
    let id = service.ecosystem.id.as_str();
    let path = format!("/api/ecosystems/{id}");
    let (_, server) = service.server_token(&service.ecosystem).await;
    let get = async || {
        let mut answers = Vec::new();
        for credential in [&service.account_token, &server] {
            let answer = service.call(credential, "GET", &path, "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answers.push(answer.json());
        }
        answers.dedup();
        answers
    };
    let new = json!({
        "id": id,
        "maxTokensPerUser": null,
        "whenFull": "reject",
        "sessionTtl": 1_209_600,
        "sessionMaxTtl": 7_776_000,
        "sessionScope": "read write",
    });
    assert_eq!(get().await, [new]);
    let mut change = json!({
        "maxTokensPerUser": 7,
        "whenFull": "revoke-oldest",
        "sessionTtl": 1,
        "sessionMaxTtl": 2,
        "sessionScope": "read app:feed",
    });
    service.manage("PATCH", &path, &change.to_string()).await;
    change["id"] = json!(id);
    assert_eq!(get().await, [change]);
}

#[tokio::test]
async fn a_user_gets_a_403_and_one_response_reports_all_problems() {
    let service = Service::start().await;
    let id = service.ecosystem.id.as_str();
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let path = format!("/api/ecosystems/{id}");
    assert_forbidden(&service.call(&token, "GET", &path, "").await);
    let answer = service
        .manage("GET", "/api/ecosystems/C1?x=1", r#"{"y":1}"#)
        .await;
    assert_invalid(
        &answer,
        &[
            ("path", "ecosystemId", "invalid ecosystem id"),
            (
                "body",
                "additional parameters",
                "contains fields that are not allowed: [ y ]",
            ),
            (
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ x ]",
            ),
        ],
    );
    let unknown = "C58521fd8a5d9b5cc21987501";
    let answer = service
        .manage("GET", &format!("/api/ecosystems/{unknown}"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {unknown} does not exist."),
    );
}
