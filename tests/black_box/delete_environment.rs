//! Tests of `DELETE /api/environments/{environmentId}`.

use serde_json::json;
use tests::Service;

use crate::{
    assert_invalid, assert_unknown,
    consume_shortcode::{code, consume},
};

#[tokio::test]
async fn a_deleted_environment_is_unknown_at_once() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    for credential in [&service.account_token, &server] {
        let id = service.environment(&service.ecosystem).await;
        let path = format!("/api/environments/{id}");
        let answer = service.call(credential, "DELETE", &path, "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (204, ""),
            "{answer:?}"
        );
        let text = format!("Environment with id {id} does not exist.");
        assert_unknown(&service.call(credential, "DELETE", &path, "").await, &text);
    }
}

#[tokio::test]
async fn an_environment_of_another_account_or_ecosystem_is_a_404() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let (foreign, _) = service.another_account().await;
    let other = service.another_ecosystem().await;
    let id = service.environment(&other).await;
    let path = format!("/api/environments/{id}");
    let text = format!("Environment with id {id} does not exist.");
    for credential in [&server, &foreign] {
        assert_unknown(&service.call(credential, "DELETE", &path, "").await, &text);
    }
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
}

#[tokio::test]
async fn an_environment_of_a_deleted_ecosystem_is_a_404() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.as_str();
    let id = service.environment(&service.ecosystem).await;
    service
        .manage("DELETE", &format!("/api/ecosystems/{ecosystem}"), "")
        .await;
    let answer = service
        .manage("DELETE", &format!("/api/environments/{id}"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("Environment with id {id} does not exist."),
    );
}

#[tokio::test]
async fn a_malformed_id_gets_a_400() {
    let service = Service::start().await;
    for id in [
        "E1",
        "C58521fd8a5d9b5cc21987501",
        "E58521FD8A5D9B5CC21987501",
    ] {
        let answer = service
            .manage("DELETE", &format!("/api/environments/{id}"), "")
            .await;
        assert_invalid(
            &answer,
            &[("path", "environmentId", "invalid environment id")],
        );
    }
}

#[tokio::test]
async fn users_of_a_deleted_environment_get_no_new_tokens_or_codes() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let mut users = Vec::new();
    for email in ["ann@example.com", "bob@example.com"] {
        let (made, code) = code(&service, json!({ "environmentId": environment })).await;
        assert_eq!(consume(&service, &code).await.status, 200);
        let id = made["userId"].as_str().unwrap().to_owned();
        let put = json!({ "email": email, "password": "correct horse" }).to_string();
        let path = format!("/api/users/{id}");
        assert_eq!(service.manage("PUT", &path, &put).await.status, 200);
        users.push((id, email));
    }
    // Only the first user has an e-mail token.
    let ann = service.log_in("192.0.2.1", users[0].1, "correct horse");
    assert_eq!(ann.await.status, 200);
    let path = format!("/api/environments/{environment}");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);

    for (id, email) in &users {
        for (path, body) in [
            (format!("/api/users/{id}/tokens"), String::new()),
            (
                "/api/auth/shortcode/create".to_owned(),
                json!({ "userId": id }).to_string(),
            ),
            (
                "/_/user-token".to_owned(),
                json!({ "email": email }).to_string(),
            ),
        ] {
            let answer = service.manage("POST", &path, &body).await;
            assert_eq!(answer.status, 409, "{answer:?}");
            assert_eq!(
                answer.json()["errors"][0]["message"],
                "user is of a deleted environment"
            );
        }
        let right = service.log_in("192.0.2.1", email, "correct horse").await;
        let wrong = service.log_in("192.0.2.1", email, "another horse").await;
        assert_eq!(right.status, 401, "{right:?}");
        assert_eq!(right.body, wrong.body);
    }
}
