//! Tests of what a user's own token may do with the tokens of its user.

use serde_json::{Value, json};
use tests::Service;

use crate::{
    assert_forbidden, assert_unauthorized,
    create_email_token::{BOB, ask, datum, with_bob},
    get_server_token,
    get_user_token::{Minted, NO_TOKEN, assert_no_token, mint, path, record},
    update_user_token::assert_conflict,
};

const INVALID_TOKEN: &str = r#"Bearer realm="tokenry", error="invalid_token""#;

#[tokio::test]
async fn a_users_token_lists_reads_renames_narrows_disables_and_revokes_its_users_tokens() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let own = mint(&service, &bob, &json!({ "scope": "read write" })).await;
    let call = async |method: &str, path: &str, body: &str| {
        service.call(&own.token, method, path, body).await
    };
    let body = json!({ "scope": "read write orders", "metadata": { "a": 1 }, "name": "old" });
    let other = mint(&service, &bob, &body).await;
    let tokens = format!("/api/users/{bob}/tokens");
    let other_path = path(&bob, &other.id);

    let listed = call("GET", &tokens, "").await;
    assert_eq!(listed.body, service.manage("GET", &tokens, "").await.body);
    let mut expected = record(&service, &bob, &other.id).await;
    assert_eq!(call("GET", &other_path, "").await.json(), expected);
    for (body, name, value) in [
        (r#"{"name":"laptop"}"#, "name", json!("laptop")),
        (r#"{"name":null}"#, "name", Value::Null),
        ("{}", "name", Value::Null),
        (r#"{"disabled":false}"#, "disabled", json!(false)),
        (
            r#"{"scope":"orders write read"}"#,
            "scope",
            json!("orders write read"),
        ),
        // `write` implies this scope.
        (
            r#"{"scope":"read tokenry:codes:write"}"#,
            "scope",
            json!("read tokenry:codes:write"),
        ),
        (r#"{"scope":"read"}"#, "scope", json!("read")),
        (r#"{"disabled":true}"#, "disabled", json!(true)),
    ] {
        let answer = call("PATCH", &other_path, body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        expected[name] = value;
        if name == "disabled" && body.contains("true") {
            expected["state"] = "disabled".into();
        }
        assert_eq!(answer.json(), expected, "{body}");
    }
    assert!(!service.is_active(&other.token).await);
    // It may still rename and narrow the disabled token.
    let body = r#"{"name":"lost","disabled":true}"#;
    assert_eq!(call("PATCH", &other_path, body).await.status, 200);

    assert_eq!(call("DELETE", &other_path, "").await.status, 204);
    let ended = call("GET", &other_path, "").await.json();
    let by = json!({ "holder": "user", "tokenId": own.id });
    assert_eq!(
        (&ended["state"], &ended["endedBy"]),
        (&json!("revoked"), &by)
    );
    assert_eq!(call("DELETE", &other_path, "").await.status, 204);
    let nothing = path(&bob, NO_TOKEN);
    assert_no_token(&call("DELETE", &nothing, "").await, NO_TOKEN);
    assert_no_token(&call("GET", &nothing, "").await, NO_TOKEN);
    let another = mint(&service, &bob, &json!({})).await;
    assert_eq!(call("DELETE", &tokens, "").await.status, 204);
    for made in [&own, &another] {
        assert!(!service.is_active(&made.token).await);
    }
    let answer = call("GET", &tokens, "").await;
    assert_unauthorized(&answer, INVALID_TOKEN);
}

#[tokio::test]
async fn a_users_token_does_not_widen_a_scope_change_metadata_enable_or_mint() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let scope = "read write orders bills";
    let own = mint(&service, &bob, &json!({ "scope": scope })).await;
    let body = json!({ "scope": "read orders", "metadata": { "a": 1 }, "name": "old" });
    let other = mint(&service, &bob, &body).await;
    let disabled = mint(&service, &bob, &body).await;
    service
        .manage("PATCH", &path(&bob, &disabled.id), r#"{"disabled":true}"#)
        .await;
    for (made, body) in [
        (&other, r#"{"scope":"read orders write"}"#),
        // The new scopes must be among those of the changed token, not of the caller's token.
        (&other, r#"{"scope":"read orders bills"}"#),
        (&other, r#"{"scope":"read orders tokenry:codes:write"}"#),
        (&other, r#"{"scope":"bills"}"#),
        (&own, r#"{"scope":"read write orders bills more"}"#),
        (&other, r#"{"metadata":{"a":2}}"#),
        (&other, r#"{"metadata":{"a":1}}"#),
        (&other, r#"{"metadata":null}"#),
        (&own, r#"{"metadata":{}}"#),
        (&disabled, r#"{"disabled":false}"#),
        // One field that is not allowed is enough.
        (&other, r#"{"name":"new","metadata":{}}"#),
        (&other, r#"{"scope":"read","disabled":true,"metadata":{}}"#),
        (&disabled, r#"{"name":"new","disabled":false}"#),
    ] {
        let before = record(&service, &bob, &made.id).await;
        let path = path(&bob, &made.id);
        let answer = service.call(&own.token, "PATCH", &path, body).await;
        assert_forbidden(&answer);
        assert_eq!(record(&service, &bob, &made.id).await, before, "{body}");
    }
    assert!(!service.is_active(&disabled.token).await);
    // A user's token never changes metadata, so the state of the other token does not matter.
    service.manage("DELETE", &path(&bob, &other.id), "").await;
    for id in [&other.id, NO_TOKEN] {
        let answer = service
            .call(&own.token, "PATCH", &path(&bob, id), r#"{"metadata":{}}"#)
            .await;
        assert_forbidden(&answer);
    }
    let tokens = format!("/api/users/{bob}/tokens");
    for body in ["", r#"{"scope":"read"}"#] {
        let answer = service.call(&own.token, "POST", &tokens, body).await;
        assert_forbidden(&answer);
    }
    let list = service.manage("GET", &tokens, "").await.json();
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_users_token_narrows_and_disables_itself() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let own = mint(&service, &bob, &json!({})).await;
    let own_path = path(&bob, &own.id);
    let patch = async |body: &str| service.call(&own.token, "PATCH", &own_path, body).await;
    assert_eq!(patch(r#"{"scope":"write"}"#).await.status, 200);
    assert_forbidden(&patch(r#"{"scope":"read write"}"#).await);
    let narrow = r#"{"scope":"tokenry:tokens:write","disabled":true}"#;
    assert_eq!(patch(narrow).await.status, 200);
    let answer = patch(r#"{"disabled":false}"#).await;
    assert_unauthorized(&answer, INVALID_TOKEN);
    let record = record(&service, &bob, &own.id).await;
    assert_eq!(record["scope"], "tokenry:tokens:write");
    assert_eq!(record["state"], "disabled");
}

#[tokio::test]
async fn a_users_token_gets_the_same_403_for_tokens_of_anybody_else() {
    let service = Service::start().await;
    let (bob, eve) = (service.user("bob").await, service.user("eve").await);
    let of_eve = mint(&service, &eve, &json!({})).await;
    let (of_server, _) = service.server_token(&service.ecosystem).await;
    let elsewhere = service.another_ecosystem().await;
    let other_bob = format!("{};bob", elsewhere.id.as_str());
    service
        .manage("PUT", &format!("/api/users/{other_bob}"), "{}")
        .await;
    let of_other_bob = mint(&service, &other_bob, &json!({})).await;
    service
        .manage("PUT", &format!("/api/users/{bob}"), r#"{"admin":true}"#)
        .await;
    // An admin user has no more rights for tokens than another user.
    let own = mint(&service, &bob, &json!({ "expiryType": "Infinite" })).await;
    let nobody = format!("{};nobody", service.ecosystem.id.as_str());
    for user in [&eve, &other_bob, &nobody, &"bob".to_owned()] {
        let tokens = format!("/api/users/{user}/tokens");
        for (method, path, body) in [
            ("GET", tokens.clone(), ""),
            ("DELETE", tokens.clone(), ""),
            ("POST", tokens.clone(), ""),
            ("GET", path(user, &of_eve.id), ""),
            ("PATCH", path(user, &of_eve.id), r#"{"name":"a"}"#),
            ("DELETE", path(user, &of_eve.id), ""),
        ] {
            let answer = service.call(&own.token, method, &path, body).await;
            assert_forbidden(&answer);
        }
    }
    let server_path = get_server_token::path(&service, &of_server);
    for (method, body) in [("GET", ""), ("PATCH", r#"{"name":"a"}"#), ("DELETE", "")] {
        let answer = service.call(&own.token, method, &server_path, body).await;
        assert_forbidden(&answer);
        // The id of another user's token does not exist among the user's own tokens.
        let path = path(&bob, &of_eve.id);
        let answer = service.call(&own.token, method, &path, body).await;
        assert_no_token(&answer, &of_eve.id);
    }
    for made in [&of_eve, &of_other_bob] {
        assert!(service.is_active(&made.token).await);
    }
}

#[tokio::test]
async fn a_users_token_revokes_its_users_e_mail_token_but_does_not_change_it() {
    let (service, bob) = with_bob().await;
    let made = datum(&ask(&service, "POST", &json!({ "email": BOB })).await);
    let id = made["tokenId"].as_str().unwrap();
    let own: Minted = mint(&service, &bob, &json!({})).await;
    let path = path(&bob, id);
    for body in [r#"{"name":"a"}"#, r#"{"disabled":true}"#] {
        let answer = service.call(&own.token, "PATCH", &path, body).await;
        assert_conflict(&answer, "token is an e-mail token");
    }
    let answer = service.call(&own.token, "DELETE", &path, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(record(&service, &bob, id).await["state"], "revoked");
}

#[tokio::test]
async fn every_caller_lists_and_reads_disabled_tokens_and_their_names() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let own = mint(&service, &bob, &json!({ "scope": "read" })).await;
    let other = mint(&service, &bob, &json!({ "name": "phone" })).await;
    service
        .manage("PATCH", &path(&bob, &other.id), r#"{"disabled":true}"#)
        .await;
    let tokens = format!("/api/users/{bob}/tokens");
    let listed = service.call(&own.token, "GET", &tokens, "").await.json();
    let entry = |id: &str| {
        let tokens = listed["tokens"].as_array().unwrap();
        let entry = tokens.iter().find(|token| token["tokenId"] == id);
        entry.unwrap().clone()
    };
    assert_eq!(entry(&own.id)["disabled"], false);
    assert_eq!(entry(&other.id)["disabled"], true);
    assert_eq!(entry(&other.id)["name"], "phone");
}
