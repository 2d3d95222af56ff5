//! Tests of `DELETE /api/ecosystems/{ecosystemId}`.

use serde_json::json;
use tests::Service;

use crate::{assert_invalid, assert_unauthorized, assert_unknown};

#[tokio::test]
async fn the_id_of_a_deleted_ecosystem_is_unknown_at_once() {
    let service = Service::start().await;
    let id = service.ecosystem.id.as_str().to_owned();
    let bob = service.user("bob").await;
    let path = format!("/api/ecosystems/{id}");
    let answer = service.manage("DELETE", &path, "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (204, ""),
        "{answer:?}"
    );

    let text = format!("Ecosystem with id {id} does not exist.");
    for (method, path, body) in [
        ("DELETE", path.clone(), ""),
        ("POST", format!("{path}/environments"), ""),
        ("POST", format!("{path}/tokens"), ""),
        ("GET", format!("{path}/tokens"), ""),
        (
            "DELETE",
            format!("{path}/tokens/01KDVDNAFMFDHADR9JK9PFNKW4"),
            "",
        ),
        ("PUT", format!("/api/users/{bob}"), "{}"),
        ("GET", format!("/api/users/{bob}"), ""),
        ("DELETE", format!("/api/users/{bob}"), ""),
        ("POST", format!("/api/users/{bob}/tokens"), ""),
    ] {
        assert_unknown(&service.manage(method, &path, body).await, &text);
    }
}

#[tokio::test]
async fn user_tokens_become_invalid_within_30_seconds_after_the_deletion_of_their_cached_ecosystem()
{
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let with_cache = service.another_environment();
    let mut uses = Vec::new();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}"))
            .await
            .token();
        let use_it = service.introspection(&token);
        assert_eq!(use_it.send(&with_cache).await.json()["active"], true);
        uses.push(use_it);
    }
    let (_, server) = service.server_token(&service.ecosystem).await;

    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    service.clock.advance(1);
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    let without_cache = service.another_environment();
    for use_it in &uses {
        let answer = use_it.send(&without_cache).await;
        assert_eq!(answer.json(), json!({ "active": false }));
        // A server token is invalid at once, even if the ecosystem is cached. The ecosystem is the
        // owner of the server token, and each use of a token reads the token's owner from the
        // database.
        let by_server = use_it.clone().header("authorization", &server);
        assert_eq!(by_server.send(&with_cache).await.status, 401);
    }
    // An execution environment caches an ecosystem for 30 seconds after it reads the ecosystem.
    service.clock.advance(28);
    for use_it in &uses {
        assert_eq!(use_it.send(&with_cache).await.json()["active"], true);
    }
    service.clock.advance(1);
    for use_it in &uses {
        assert_eq!(
            use_it.send(&with_cache).await.json(),
            json!({ "active": false })
        );
    }
}

#[tokio::test]
async fn a_cached_ecosystem_is_not_used_after_the_clock_goes_back() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    assert!(service.is_active(&token).await);
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    service.clock.go_back(5);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn server_tokens_of_a_deleted_ecosystem_become_invalid_at_once() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    assert_eq!(service.mint_as(&server, &bob, "").await.status, 200);
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    let answer = service.mint_as(&server, &bob, "").await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
    assert!(!service.is_active(&server).await);
}

#[tokio::test]
async fn a_malformed_id_gets_a_400() {
    let service = Service::start().await;
    for id in [
        "C1",
        "c58521fd8a5d9b5cc21987501",
        "E58521fd8a5d9b5cc21987501",
    ] {
        let answer = service
            .manage("DELETE", &format!("/api/ecosystems/{id}?x=1"), "")
            .await;
        let message = "contains fields that are not allowed: [ x ]";
        assert_invalid(
            &answer,
            &[
                ("path", "ecosystemId", "invalid ecosystem id"),
                ("query", "additional parameters", message),
            ],
        );
    }
}
