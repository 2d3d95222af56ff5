//! Tests of `POST /api/ecosystems/{ecosystemId}/environments`.

use tests::{Fault, Service};

use crate::{assert_invalid, assert_unknown};

#[tokio::test]
async fn each_new_environment_has_its_own_id() {
    let service = Service::start().await;
    let path = format!(
        "/api/ecosystems/{}/environments",
        service.ecosystem.id.as_str()
    );
    let (_, server) = service.server_token(&service.ecosystem).await;
    let mut ids = Vec::new();
    for credential in [&service.account_token, &server] {
        let answer = service.call(credential, "POST", &path, "").await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let made = answer.json();
        assert_eq!(made.as_object().unwrap().len(), 1);
        let id = made["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with('E') && id.len() == 25);
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_database_operation_is_retried_if_its_response_is_lost() {
    let service = Service::start().await;
    let path = format!(
        "/api/ecosystems/{}/environments",
        service.ecosystem.id.as_str()
    );
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    assert_eq!(service.manage("POST", &path, "").await.status, 201);
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    assert_eq!(
        service.manage("POST", "/api/ecosystems", "").await.status,
        201
    );
}

#[tokio::test]
async fn a_malformed_ecosystem_id_gets_a_400_and_an_unknown_ecosystem_id_gets_a_404() {
    let service = Service::start().await;
    let answer = service
        .manage("POST", "/api/ecosystems/C1/environments", "")
        .await;
    assert_invalid(&answer, &[("path", "ecosystemId", "invalid ecosystem id")]);
    let unknown = "C58521fd8a5d9b5cc21987501";
    let answer = service
        .manage(
            "POST",
            &format!("/api/ecosystems/{unknown}/environments"),
            "",
        )
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {unknown} does not exist."),
    );
}
