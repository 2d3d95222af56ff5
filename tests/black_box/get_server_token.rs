//! Tests of `GET /api/ecosystems/{ecosystemId}/tokens/{tokenId}`. The tests of
//! `GET /api/users/{id}/tokens/{tokenId}` cover the states that both endpoints share.

use serde_json::{Value, json};
use tests::{Answer, Service};

use crate::{
    assert_forbidden, assert_invalid, assert_unknown,
    get_user_token::{self, Minted, NO_TOKEN, assert_no_token, id_of, revoke_itself},
};

/// Returns the path of a server token.
pub(crate) fn path(service: &Service, id: &str) -> String {
    let ecosystem = service.ecosystem.id.as_str();
    format!("/api/ecosystems/{ecosystem}/tokens/{id}")
}

/// Mints a server token. `body` contains its properties.
pub(crate) async fn mint(service: &Service, body: &Value) -> Minted {
    let tokens = path(service, "");
    let tokens = tokens.trim_end_matches('/');
    Minted::of(&service.manage("POST", tokens, &body.to_string()).await)
}

pub(crate) async fn get(service: &Service, id: &str) -> Answer {
    service.manage("GET", &path(service, id), "").await
}

#[tokio::test]
async fn the_record_shows_the_state_of_a_server_token() {
    let service = Service::start().await;
    let body = json!({ "ttl": 60, "name": "gateway", "scope": "tokenry:introspect", "metadata": { "region": "eu" } });
    let minted = mint(&service, &body).await;
    let mut expected = json!({
        "tokenId": minted.id,
        "name": "gateway",
        "expiryType": "FixedTtl",
        "createdAt": "2100-01-01T00:00:00Z",
        "lastUsedAt": null,
        "expiresAt": "2100-01-01T00:01:00Z",
        "scope": "tokenry:introspect",
        "metadata": { "region": "eu" },
        "disabled": false,
        "state": "active",
    });
    let answer = get(&service, &minted.id).await;
    assert_eq!(answer.json(), expected);
    assert!(!answer.body.contains(&minted.token));
    let disable = r#"{"disabled":true}"#;
    service
        .manage("PATCH", &path(&service, &minted.id), disable)
        .await;
    expected["disabled"] = true.into();
    expected["state"] = "disabled".into();
    assert_eq!(get(&service, &minted.id).await.json(), expected);
    service.clock.advance(60);
    expected["state"] = "expired".into();
    expected["endedAt"] = "2100-01-01T00:01:00Z".into();
    expected["endReason"] = "expired".into();
    assert_eq!(get(&service, &minted.id).await.json(), expected);
    // An expired token can still be revoked.
    revoke_itself(&service, &minted.token).await;
    expected["disabled"] = false.into();
    expected["state"] = "revoked".into();
    expected["endReason"] = "revoked".into();
    expected["endedBy"] = json!({ "holder": "server", "tokenId": minted.id });
    assert_eq!(get(&service, &minted.id).await.json(), expected);

    let minted = mint(&service, &json!({})).await;
    service
        .manage("DELETE", &path(&service, &minted.id), "")
        .await;
    let ended = get(&service, &minted.id).await.json();
    let by = json!({ "holder": "account", "tokenId": id_of(&service.account_token) });
    assert_eq!(
        (&ended["state"], &ended["endedBy"]),
        (&json!("revoked"), &by)
    );
}

#[tokio::test]
async fn an_unknown_token_and_the_token_of_somebody_else_get_the_same_404() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let of_bob = get_user_token::mint(&service, &bob, &json!({})).await.id;
    let elsewhere = service.another_ecosystem().await;
    let (of_another, _) = service.server_token(&elsewhere).await;
    let of_account = id_of(&service.account_token);
    for id in [NO_TOKEN, &of_bob, &of_another, &of_account] {
        service.database.take_calls();
        assert_no_token(&get(&service, id).await, id);
        assert_eq!(service.database.take_operations(), ["BatchGetItem"]);
    }
    let own = mint(&service, &json!({})).await;
    let (foreign, _) = service.another_account().await;
    let answer = service
        .call(&foreign, "GET", &path(&service, &own.id), "")
        .await;
    let ecosystem = service.ecosystem.id.as_str();
    let text = format!("Ecosystem with id {ecosystem} does not exist.");
    assert_unknown(&answer, &text);
    // Only an account token may read the record of a server token. A server token may not even read
    // its own record.
    let answer = service
        .call(&own.token, "GET", &path(&service, &own.id), "")
        .await;
    assert_forbidden(&answer);
}

#[tokio::test]
async fn an_invalid_id_or_a_query_field_gets_a_400() {
    let service = Service::start().await;
    let answer = service
        .manage("GET", "/api/ecosystems/C1/tokens/nonsense?query=1", "")
        .await;
    let query = "contains fields that are not allowed: [ query ]";
    assert_invalid(
        &answer,
        &[
            ("path", "ecosystemId", "invalid ecosystem id"),
            ("path", "tokenId", "invalid token id"),
            ("query", "additional parameters", query),
        ],
    );
}
