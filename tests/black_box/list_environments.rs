//! Tests of `GET /api/ecosystems/{ecosystemId}/environments`.

use serde_json::json;
use tests::{Answer, Service};

use crate::list_users::ids;

pub(crate) async fn environments(service: &Service, query: &str) -> Answer {
    let ecosystem = &service.ecosystem.id;
    let path = format!("/api/ecosystems/{ecosystem}/environments{query}");
    service.manage("GET", &path, "").await
}

#[tokio::test]
async fn an_environment_is_listed_from_its_creation_to_its_deletion() {
    let service = Service::start().await;
    let answer = environments(&service, "").await;
    assert_eq!(answer.json(), json!({ "environments": [], "cursor": null }));
    let environment = service.environment(&service.ecosystem).await;
    let listed = ids(&environments(&service, "").await);
    assert_eq!(listed, [environment.as_str()]);
    let path = format!("/api/environments/{environment}");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert_eq!(
        environments(&service, "").await.json()["environments"],
        json!([])
    );
}

#[tokio::test]
async fn a_server_lists_the_environments_of_its_own_ecosystem() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let other = service.another_ecosystem().await;
    service.environment(&other).await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let list = async |id: &str| {
        let path = format!("/api/ecosystems/{id}/environments");
        service.call(&server, "GET", &path, "").await
    };
    assert_eq!(
        ids(&list(service.ecosystem.id.as_str()).await),
        [environment]
    );
    assert_eq!(list(other.id.as_str()).await.status, 403);
}
