//! Tests of metadata: what is valid, and where it is returned.

use serde_json::{Map, Value, json};
use tests::Service;

use crate::{
    assert_invalid,
    authorize::{decide_with, events},
    get_server_token,
    get_user_token::{mint, path},
};

/// Returns metadata whose JSON text has this many bytes, at most 1,053.
pub(crate) fn of_bytes(bytes: usize) -> Value {
    let text = |length: usize| "x".repeat(length);
    // Four keys of one character, with the quotation marks, colons, commas and braces.
    let last = bytes - 29 - 3 * 256;
    let metadata = json!({ "a": text(256), "b": text(256), "c": text(256), "d": text(last) });
    assert_eq!(metadata.to_string().len(), bytes);
    metadata
}

/// Returns metadata with this many keys.
fn with_keys(count: usize) -> Value {
    let members: Map<_, _> = (0..count).map(|n| (format!("k{n}"), json!(n))).collect();
    Value::Object(members)
}

#[tokio::test]
async fn metadata_that_is_too_large_or_nested_or_has_a_bad_key_gets_a_400_that_names_the_field() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ecosystem = service.ecosystem.id.as_str();
    let of_user = mint(&service, &bob, &json!({})).await.id;
    let of_server = get_server_token::mint(&service, &json!({})).await.id;
    let object = "expected field to be an object";
    let keys = "field must have at most 32 keys";
    let key = "each key must be 1 to 64 of the characters A-Z a-z 0-9 _ . -";
    let value = "each value must be a string of at most 256 characters, a number or a boolean";
    let bytes = "field must be at most 1024 bytes of JSON";
    let bad = [
        (json!([]), object),
        (json!("{}"), object),
        (json!(1), object),
        (json!(true), object),
        (with_keys(33), keys),
        (json!({ "": 1 }), key),
        (json!({ "a b": 1 }), key),
        (json!({ "é": 1 }), key),
        (json!({ "a/b": 1 }), key),
        (json!({ "k".repeat(65): 1 }), key),
        (json!({ "a": null }), value),
        (json!({ "a": { "b": 1 } }), value),
        (json!({ "a": [1] }), value),
        (json!({ "a": "x".repeat(257) }), value),
        (of_bytes(1025), bytes),
    ];
    let good = [
        json!({}),
        with_keys(32),
        json!({ "k".repeat(64): "é".repeat(256) }),
        json!({ "A-Z_a.z-09": "", "n": -1.5e3, "big": u64::MAX, "b": false }),
        of_bytes(1024),
    ];
    for (method, path) in [
        ("POST", format!("/api/users/{bob}/tokens")),
        ("POST", format!("/api/ecosystems/{ecosystem}/tokens")),
        ("PATCH", path(&bob, &of_user)),
        ("PATCH", get_server_token::path(&service, &of_server)),
    ] {
        let send = async |metadata: &Value| {
            let body = json!({ "metadata": metadata }).to_string();
            service.manage(method, &path, &body).await
        };
        for (metadata, message) in &bad {
            let answer = send(metadata).await;
            assert_invalid(&answer, &[("body", "metadata", message)]);
        }
        for (metadata, message) in [
            (r#"{"a":1,"a":2}"#, "each key must be given once"),
            (r#"{"a":1,"b":2,"\u0061":1}"#, "each key must be given once"),
            (r#"{"a":{"b":1,"b":2}}"#, value),
        ] {
            let body = format!(r#"{{"metadata":{metadata}}}"#);
            let answer = service.manage(method, &path, &body).await;
            assert_invalid(&answer, &[("body", "metadata", message)]);
        }
        for metadata in &good {
            let answer = send(metadata).await;
            assert_eq!(answer.status, 200, "{metadata}: {answer:?}");
            assert_eq!(answer.json()["metadata"], *metadata);
        }
        // Null removes the metadata of a token. A new token has none to remove.
        let answer = send(&Value::Null).await;
        if method == "PATCH" {
            assert!(answer.json().get("metadata").is_none(), "{answer:?}");
        } else {
            assert_invalid(&answer, &[("body", "metadata", object)]);
        }
    }
}

#[tokio::test]
async fn all_problems_of_a_body_are_reported_at_once_without_its_values() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let secret = service.account_token.clone();
    let body = json!({
        "expiryType": secret,
        "ttl": secret,
        "maxTtl": secret,
        "name": [secret],
        "scope": format!("{secret}{secret}"),
        "metadata": { secret.clone(): secret },
        secret.clone(): 1,
    });
    let path = format!("/api/users/{bob}/tokens");
    let answer = service.manage("POST", &path, &body.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.body.contains(&secret), "{answer:?}");
    let json = answer.json();
    let mut paths: Vec<_> = json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "additional parameters",
            "expiryType",
            "maxTtl",
            "metadata",
            "name",
            "scope",
            "ttl"
        ]
    );
}

#[tokio::test]
async fn introspection_returns_the_username_the_scope_and_the_metadata() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let metadata = json!({ "plan": "pro", "seats": 3, "share": 0.5, "trial": false });
    for metadata in [Some(metadata), Some(of_bytes(1024)), Some(json!({})), None] {
        let mut body = json!({ "expiryType": "Infinite", "scope": "orders:read" });
        if let Some(metadata) = &metadata {
            body["metadata"] = metadata.clone();
        }
        let minted = mint(&service, &bob, &body).await;
        let mut expected = json!({
            "active": true,
            "sub": bob,
            "username": bob,
            "ecosystem_id": service.ecosystem.id.as_str(),
            "jti": minted.id,
            "holder": "user",
            "scope": "orders:read",
            "expiry_type": "Infinite",
            "iat": service.clock.seconds(),
        });
        if let Some(metadata) = &metadata {
            expected["metadata"] = metadata.clone();
        }
        assert_eq!(service.introspect(&minted.token).await.json(), expected);
    }
    // The username of a server is its ecosystem, as `sub` is.
    let minted = get_server_token::mint(&service, &json!({ "metadata": { "a": 1 } })).await;
    let claims = service.introspect(&minted.token).await.json();
    let ecosystem = json!(service.ecosystem.id.as_str());
    assert_eq!(
        (&claims["sub"], &claims["username"]),
        (&ecosystem, &ecosystem)
    );
    assert_eq!(claims["metadata"], json!({ "a": 1 }));
}

#[tokio::test]
async fn the_context_of_the_authorizer_has_the_metadata_as_json_text() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for (metadata, text) in [
        (
            Some(json!({ "plan": "pro", "seats": 3, "trial": false })),
            json!(r#"{"plan":"pro","seats":3,"trial":false}"#),
        ),
        (Some(json!({})), json!("{}")),
        (None, Value::Null),
    ] {
        let mut body = json!({ "scope": "orders:read" });
        if let Some(metadata) = metadata {
            body["metadata"] = metadata;
        }
        let minted = mint(&service, &bob, &body).await;
        let mut expected = json!({
            "sub": bob,
            "ecosystemId": service.ecosystem.id.as_str(),
            "holder": "user",
            "scope": "orders:read",
            "tokenId": minted.id,
        });
        if !text.is_null() {
            expected["metadata"] = text;
        }
        for event in events(&minted.token) {
            let decision = decide_with(&service.app, &event).await.unwrap();
            assert_eq!(decision["context"], expected, "{event}");
        }
    }
}
