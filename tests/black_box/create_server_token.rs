//! Tests of `POST /api/ecosystems/{ecosystemId}/tokens`.

use tests::Service;

use crate::{assert_invalid, assert_unknown};

#[tokio::test]
async fn a_server_token_works_in_its_ecosystem() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = format!("/api/ecosystems/{}/tokens", service.ecosystem.id.as_str());
    for (query, prefix, expires_at) in [
        ("", "tk_sf_", Some("2100-01-01T01:00:00Z")),
        ("?expiryType=Infinite&name=build", "tk_si_", None),
        (
            "?expiryType=SlidingTtl&ttl=60&maxTtl=30",
            "tk_ss_",
            Some("2100-01-01T00:00:30Z"),
        ),
    ] {
        let answer = service.manage("POST", &format!("{path}{query}"), "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let made = answer.json();
        assert_eq!(made["scope"], "read write");
        assert_eq!(made.as_object().unwrap().len(), 5);
        assert_eq!(made["expiresAt"].as_str(), expires_at);
        assert!(answer.token().starts_with(prefix));
        assert_eq!(service.mint_as(&answer.token(), &bob, "").await.status, 200);
    }
}

#[tokio::test]
async fn all_problems_are_reported_in_one_response() {
    let service = Service::start().await;
    let answer = service
        .manage("POST", "/api/ecosystems/C1/tokens?ttl=0&x", "")
        .await;
    let message = "contains fields that are not allowed: [ x ]";
    assert_invalid(
        &answer,
        &[
            ("path", "ecosystemId", "invalid ecosystem id"),
            ("query", "ttl", "field must be a positive number"),
            ("query", "additional parameters", message),
        ],
    );
}

#[tokio::test]
async fn an_unknown_ecosystem_is_a_404() {
    let service = Service::start().await;
    let unknown = "C58521fd8a5d9b5cc21987501";
    let answer = service
        .manage("POST", &format!("/api/ecosystems/{unknown}/tokens"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {unknown} does not exist."),
    );
}
