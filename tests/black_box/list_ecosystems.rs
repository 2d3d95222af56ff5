//! Tests of `GET /api/ecosystems`.

use serde_json::json;
use tests::{Answer, Service};

use crate::list_users::ids;

pub(crate) async fn ecosystems(service: &Service, query: &str) -> Answer {
    let path = format!("/api/ecosystems{query}");
    service.manage("GET", &path, "").await
}

#[tokio::test]
async fn an_ecosystem_is_listed_from_its_creation_to_its_deletion() {
    let service = Service::start().await;
    let first = service.ecosystem.id.to_string();
    let answer = ecosystems(&service, "").await;
    let expected = json!({ "ecosystems": [{ "id": first }], "cursor": null });
    assert_eq!(answer.json(), expected);
    let second = service.another_ecosystem().await.id.to_string();
    let mut both = [first.clone(), second.clone()];
    both.sort_unstable();
    assert_eq!(ids(&ecosystems(&service, "").await), both);
    let path = format!("/api/ecosystems/{second}");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert_eq!(ids(&ecosystems(&service, "").await), [first]);
}

#[tokio::test]
async fn an_account_lists_only_its_own_ecosystems() {
    let service = Service::start().await;
    let (stranger, ecosystem) = service.another_account().await;
    let answer = service.call(&stranger, "GET", "/api/ecosystems", "").await;
    assert_eq!(ids(&answer), [ecosystem.id.as_str()]);
    let own = ids(&ecosystems(&service, "").await);
    assert_eq!(own, [service.ecosystem.id.as_str()]);
}
