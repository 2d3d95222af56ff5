//! Tests of `POST /api/ecosystems`.

use tests::Service;

use crate::assert_invalid;

#[tokio::test]
async fn a_new_ecosystem_can_be_used_at_once() {
    let service = Service::start().await;
    let answer = service.manage("POST", "/api/ecosystems", "").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = answer.json();
    assert_eq!(made.as_object().unwrap().len(), 1);
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with('C') && id.len() == 25);

    let user = format!("/api/users/{id};bob");
    assert_eq!(service.manage("PUT", &user, "{}").await.status, 201);
    assert_eq!(service.mint(&format!("{id};bob"), "").await.status, 200);
}

#[tokio::test]
async fn each_new_ecosystem_has_its_own_id() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let made = service.manage("POST", "/api/ecosystems", "").await.json();
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn a_query_and_a_large_body_are_refused() {
    let service = Service::start().await;
    let answer = service
        .manage("POST", "/api/ecosystems?id=C1&name", "")
        .await;
    let message = "contains fields that are not allowed: [ id, name ]";
    assert_invalid(&answer, &[("query", "additional parameters", message)]);
    let large = "x".repeat(16 * 1024 + 1);
    assert_eq!(
        service
            .manage("POST", "/api/ecosystems", &large)
            .await
            .status,
        413
    );
    assert!(
        !service
            .database
            .take_operations()
            .contains(&"TransactWriteItems".to_owned())
    );
}
