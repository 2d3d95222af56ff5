//! Tests of scopes: which scope each endpoint needs, who may grant which scopes, and which scopes
//! are malformed.

use std::{fs, path::Path};

use futures_util::future::join;
use serde_json::{Value, json};
use shared::domain::token::{ExpiryType, Permission};
use tests::{Answer, Event, Fault, Service};

use crate::{
    ROWS, assert_forbidden, assert_invalid, assert_scope_missing,
    create_email_token::{BOB, PASSWORD, VALUE, ask, with_bob},
    get_server_token,
    get_user_token::{self, id_of, mint, path},
    refusals::{Case, Own},
};

/// All scopes of Tokenry except `read` and `write`.
const SCOPES: [&str; 9] = [
    "tokenry:introspect",
    "tokenry:tokens:read",
    "tokenry:tokens:write",
    "tokenry:users:read",
    "tokenry:users:write",
    "tokenry:codes:write",
    "tokenry:email-tokens:read",
    "tokenry:email-tokens:write",
    "tokenry:ecosystems:write",
];

/// The scope that each endpoint needs, or `None` if the endpoint needs no scope.
const NEEDED: &[(&str, Option<&str>)] = &[
    ("create-user-token", Some("tokenry:tokens:write")),
    ("list-user-tokens", Some("tokenry:tokens:read")),
    ("revoke-user-tokens", Some("tokenry:tokens:write")),
    ("get-user-token", Some("tokenry:tokens:read")),
    ("update-user-token", Some("tokenry:tokens:write")),
    ("revoke-user-token", Some("tokenry:tokens:write")),
    ("revoke-token", None),
    ("introspect-token", Some("tokenry:introspect")),
    ("whoami", None),
    ("metadata", None),
    ("create-ecosystem", Some("tokenry:ecosystems:write")),
    ("get-ecosystem", Some("tokenry:users:read")),
    ("update-ecosystem", Some("tokenry:ecosystems:write")),
    ("list-ecosystems", Some("tokenry:users:read")),
    ("delete-ecosystem", Some("tokenry:ecosystems:write")),
    ("create-environment", Some("tokenry:users:write")),
    ("list-environments", Some("tokenry:users:read")),
    ("delete-environment", Some("tokenry:users:write")),
    ("list-users", Some("tokenry:users:read")),
    ("put-user", Some("tokenry:users:write")),
    ("get-user", Some("tokenry:users:read")),
    ("delete-user", Some("tokenry:users:write")),
    ("create-server-token", Some("tokenry:tokens:write")),
    ("list-server-tokens", Some("tokenry:tokens:read")),
    ("get-server-token", Some("tokenry:tokens:read")),
    ("update-server-token", Some("tokenry:tokens:write")),
    ("revoke-server-token", Some("tokenry:tokens:write")),
    ("create-shortcode", Some("tokenry:codes:write")),
    ("consume-shortcode", None),
    ("create-email-token", Some("tokenry:email-tokens:write")),
    ("list-email-tokens", Some("tokenry:email-tokens:read")),
    ("update-email-token", Some("tokenry:email-tokens:write")),
    ("delete-email-token", Some("tokenry:email-tokens:write")),
    ("get-email-token-value", Some("tokenry:email-tokens:write")),
    ("log-in-with-password", None),
    ("create-session", None),
    ("change-password", Some("tokenry:users:write")),
];

/// Returns all scopes of Tokenry and a scope of the application, without `needed` and without the
/// general scope that implies `needed`.
fn all_but(needed: &str) -> String {
    let implied_by = if needed.ends_with("write") {
        "read"
    } else {
        "write"
    };
    let others = SCOPES.iter().filter(|scope| **scope != needed);
    let others: Vec<_> = others.copied().chain([implied_by, "orders"]).collect();
    others.join(" ")
}

/// Creates an account token with this scope.
async fn account(service: &Service, scope: &str) -> String {
    let token = service
        .token_of(&service.account, ExpiryType::Infinite)
        .await;
    service
        .set_scope(&service.account.id, &id_of(&token), scope)
        .await;
    token
}

/// Mints a server token with this scope.
async fn server(service: &Service, scope: &str) -> String {
    get_server_token::mint(service, &json!({ "scope": scope }))
        .await
        .token
}

/// Mints a token for a user with this scope.
async fn user_token(service: &Service, user: &str, scope: &str) -> String {
    mint(service, user, &json!({ "scope": scope })).await.token
}

#[test]
fn the_scope_of_each_endpoint_is_listed() {
    let listed: Vec<_> = NEEDED.iter().map(|(endpoint, _)| *endpoint).collect();
    let rows: Vec<_> = ROWS.iter().map(|row| row.endpoint).collect();
    assert_eq!(listed, rows);
}

#[test]
fn the_tables_of_scopes_in_the_documents_agree_with_each_other_and_with_the_code() {
    assert_eq!(Permission::ALL.map(Permission::scope), SCOPES);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let [of_openapi, of_endpoints] = ["openapi.yaml", "docs/reference/endpoints.md"].map(|file| {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let rows = text.lines().map(str::trim);
        let rows = rows.filter(|row| row.starts_with("| `tokenry:"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(of_openapi, of_endpoints);
    let scopes = of_openapi.iter().map(|row| row.split('`').nth(1).unwrap());
    assert_eq!(scopes.collect::<Vec<_>>(), SCOPES);
}

#[tokio::test]
async fn each_endpoint_accepts_the_needed_scope_alone_and_rejects_all_others_together() {
    for row in ROWS {
        let needed = NEEDED
            .iter()
            .find(|(endpoint, _)| *endpoint == row.endpoint);
        let Some((_, Some(needed))) = needed else {
            continue;
        };
        if matches!(row.refusals, Own) {
            // See `a_users_own_token_needs_the_same_scopes`.
            continue;
        }
        let mut case = Case::new(row).await;
        match row.endpoint {
            // These two bodies need more: a new server token has `read write`, and a change that
            // makes an admin user needs `tokenry:email-tokens:write`.
            "create-server-token" => case.body = json!({ "scope": needed }).to_string(),
            "put-user" => "{}".clone_into(&mut case.body),
            _ => {}
        }
        let service = &case.service;
        for scope in ["orders:read", &all_but(needed)] {
            let answer = case.send(Some(&account(service, scope).await)).await;
            assert_scope_missing(&answer, needed);
        }
        let is_of_server = case
            .send(Some(&server(service, &all_but(needed)).await))
            .await;
        let is_for_accounts =
            row.endpoint.contains("server-token") || row.endpoint == "list-ecosystems";
        if *needed == "tokenry:ecosystems:write" || is_for_accounts {
            // No scope of a server token is enough.
            assert_forbidden(&is_of_server);
        } else {
            assert_scope_missing(&is_of_server, needed);
        }
        let answer = case.send(Some(&account(service, needed).await)).await;
        assert_eq!(answer.status, row.good, "{}: {answer:?}", row.endpoint);
    }
}

#[tokio::test]
async fn a_users_own_token_needs_the_same_scopes() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB, "write": false })).await;
    let tokens = format!("/api/users/{bob}/tokens");
    let other = mint(&service, &bob, &json!({})).await.id;
    let other = path(&bob, &other);
    let code = json!({ "userId": bob }).to_string();
    let value = format!("{VALUE}?email={BOB}");
    let change = json!({ "currentPassword": PASSWORD, "newPassword": PASSWORD }).to_string();
    for (method, path, body, needed, status) in [
        ("GET", &tokens, "", "tokenry:tokens:read", 200),
        ("GET", &other, "", "tokenry:tokens:read", 200),
        (
            "PATCH",
            &other,
            r#"{"name":"a"}"#,
            "tokenry:tokens:write",
            200,
        ),
        (
            "POST",
            &"/api/auth/shortcode/create".to_owned(),
            &code,
            "tokenry:codes:write",
            201,
        ),
        ("DELETE", &other, "", "tokenry:tokens:write", 204),
        ("DELETE", &tokens, "", "tokenry:tokens:write", 204),
        (
            "POST",
            &"/api/auth/password".to_owned(),
            &change,
            "tokenry:users:write",
            204,
        ),
    ] {
        for scope in ["orders:read", &all_but(needed)] {
            let credential = user_token(&service, &bob, scope).await;
            let answer = service.call(&credential, method, path, body).await;
            assert_scope_missing(&answer, needed);
        }
        let credential = user_token(&service, &bob, needed).await;
        let answer = service.call(&credential, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
    // To read the value of its user's e-mail token, a token needs the scope of the endpoint, and
    // all scopes of the e-mail token.
    ask(&service, "POST", &json!({ "email": BOB, "write": false })).await;
    let read = async |scope: &str| {
        let body = json!({ "scope": scope, "expiryType": "Infinite" });
        let credential = mint(&service, &bob, &body).await.token;
        service.call(&credential, "GET", &value, "").await
    };
    let others = all_but("tokenry:email-tokens:read");
    assert_scope_missing(&read(&others).await, "tokenry:email-tokens:read");
    assert_scope_missing(&read("tokenry:email-tokens:read").await, "read");
    assert_eq!(read("read").await.status, 200);
    // No scope lets a user without `admin` do anything else.
    let everything = format!("read write {}", SCOPES.join(" "));
    let credential = user_token(&service, &bob, &everything).await;
    assert_forbidden(&service.introspect_as(&credential, &credential).await);
    assert_forbidden(&service.mint_as(&credential, &bob, "").await);
    let user = format!("/api/users/{bob}");
    assert_forbidden(&service.call(&credential, "GET", &user, "").await);
}

#[tokio::test]
async fn a_back_end_needs_the_scope_to_create_tokens() {
    let service = Service::start().await;
    let attempt = async |credential: &str| {
        let event = Event::to("consume-shortcode").header("authorization", credential);
        let body = r#"{"shortcode":"234567","clientAddress":"192.0.2.9"}"#;
        event.json_body(body).send(&service.app).await
    };
    let needed = "tokenry:tokens:write";
    let answer = attempt(&server(&service, &all_but(needed)).await).await;
    let message = "field needs a valid server token";
    assert_invalid(&answer, &[("body", "clientAddress", message)]);
    let answer = attempt(&server(&service, needed).await).await;
    assert_eq!(answer.status, 404, "{answer:?}");
}

/// Each row contains the scopes of a caller, the scopes that the caller asks for in a new server
/// token, and the scopes that the caller lacks for that.
const GRANTS: &[(&str, Option<&str>, Option<&str>)] = &[
    // Without a scope, a new token gets `read write`.
    ("read write", None, None),
    ("write", None, Some("read")),
    ("tokenry:tokens:write", None, Some("read write")),
    ("tokenry:tokens:write", Some("tokenry:tokens:write"), None),
    ("tokenry:tokens:write", Some("orders bills:read"), None),
    (
        "tokenry:tokens:write",
        Some("orders read tokenry:introspect"),
        Some("read tokenry:introspect"),
    ),
    (
        "tokenry:tokens:write tokenry:introspect",
        Some("tokenry:introspect"),
        None,
    ),
    ("write", Some("write tokenry:codes:write"), None),
    (
        "write",
        Some("tokenry:users:read tokenry:users:write"),
        Some("tokenry:users:read"),
    ),
    // A caller that has all scopes that `read` implies still lacks `read`.
    (
        "write tokenry:introspect tokenry:tokens:read tokenry:users:read tokenry:email-tokens:read",
        Some("read"),
        Some("read"),
    ),
];

#[tokio::test]
async fn nobody_grants_a_server_token_more_of_tokenrys_scopes_than_the_caller_has() {
    let service = Service::start().await;
    let tokens = get_server_token::path(&service, "");
    let tokens = tokens.trim_end_matches('/');
    for (own, wanted, missing) in GRANTS {
        let caller = account(&service, own).await;
        let body = wanted.map_or_else(|| json!({}), |scope| json!({ "scope": scope }));
        let answer = service
            .call(&caller, "POST", tokens, &body.to_string())
            .await;
        if let Some(missing) = missing {
            assert_scope_missing(&answer, missing);
        } else {
            assert_eq!(answer.status, 200, "{own}, {wanted:?}: {answer:?}");
            assert_eq!(answer.json()["scope"], wanted.unwrap_or("read write"));
        }
        // A change of a token that had only a scope of the application follows the same rule.
        let Some(wanted) = wanted else { continue };
        let old = get_server_token::mint(&service, &json!({ "scope": "orders" })).await;
        let old = get_server_token::path(&service, &old.id);
        let answer = service
            .call(&caller, "PATCH", &old, &body.to_string())
            .await;
        let scope = service.manage("GET", &old, "").await.json()["scope"].clone();
        if let Some(missing) = missing {
            assert_scope_missing(&answer, missing);
            assert_eq!(scope, "orders");
        } else {
            assert_eq!(answer.status, 200, "{own}, {wanted:?}: {answer:?}");
            assert_eq!(scope, *wanted);
        }
    }
}

#[tokio::test]
async fn a_caller_with_fewer_scopes_may_reduce_or_keep_the_scopes_of_a_server_token() {
    let service = Service::start().await;
    let caller = account(&service, "tokenry:tokens:write").await;
    let token = get_server_token::mint(&service, &json!({})).await;
    let path = get_server_token::path(&service, &token.id);
    let change = async |body: &str| service.call(&caller, "PATCH", &path, body).await;
    for body in [
        r#"{"scope":"read write"}"#,
        r#"{"name":"gateway","metadata":{"a":1}}"#,
        r#"{"disabled":false}"#,
        // The token had `write`, which implies this scope.
        r#"{"scope":"read tokenry:codes:write orders"}"#,
        r#"{"scope":"read bills"}"#,
        r#"{"scope":"tokenry:introspect"}"#,
    ] {
        let answer = change(body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
    }
    // What was taken away cannot be given back.
    assert_scope_missing(&change(r#"{"scope":"read"}"#).await, "read");
    let both = r#"{"scope":"tokenry:introspect tokenry:users:read","name":"new"}"#;
    assert_scope_missing(&change(both).await, "tokenry:users:read");
    let record = service.manage("GET", &path, "").await.json();
    assert_eq!(record["scope"], "tokenry:introspect");
    assert_eq!(record["name"], "gateway");
}

#[tokio::test]
async fn a_caller_who_enables_a_server_token_must_have_the_scopes_of_the_token() {
    let service = Service::start().await;
    let limited = account(&service, "tokenry:tokens:write tokenry:introspect").await;
    let body = json!({ "scope": "read tokenry:introspect orders" });
    let token = get_server_token::mint(&service, &body).await;
    let path = get_server_token::path(&service, &token.id);
    let change = async |body: &str| service.call(&limited, "PATCH", &path, body).await;
    assert_eq!(change(r#"{"disabled":true}"#).await.status, 200);
    assert_scope_missing(&change(r#"{"disabled":false}"#).await, "read");
    let wider = r#"{"disabled":false,"scope":"tokenry:users:write write"}"#;
    assert_scope_missing(&change(wider).await, "tokenry:users:write write");
    assert!(!service.is_active(&token.token).await);
    // All other changes of the disabled token are still allowed.
    for body in [r#"{"name":"a"}"#, r#"{"metadata":{"a":1}}"#, "{}"] {
        assert_eq!(change(body).await.status, 200, "{body}");
    }
    // The scopes after the change decide.
    let narrower = r#"{"disabled":false,"scope":"tokenry:introspect orders"}"#;
    assert_eq!(change(narrower).await.status, 200);
    assert!(service.is_active(&token.token).await);
    // A caller that has the scopes may enable the token.
    assert_eq!(change(r#"{"disabled":true}"#).await.status, 200);
    assert_eq!(change(r#"{"disabled":false}"#).await.status, 200);
}

#[tokio::test]
async fn a_user_token_may_get_scopes_that_the_caller_lacks() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let caller = server(&service, "tokenry:tokens:write").await;
    let tokens = format!("/api/users/{bob}/tokens");
    let answer = service.call(&caller, "POST", &tokens, "").await;
    assert_eq!(answer.json()["scope"], "read write");
    let id = answer.json()["tokenId"].as_str().unwrap().to_owned();
    for scope in ["read", "read write tokenry:ecosystems:write"] {
        let body = json!({ "scope": scope }).to_string();
        let answer = service
            .call(&caller, "PATCH", &path(&bob, &id), &body)
            .await;
        assert_eq!(answer.json()["scope"], scope, "{answer:?}");
    }
    for disabled in [true, false] {
        let body = json!({ "disabled": disabled }).to_string();
        let answer = service
            .call(&caller, "PATCH", &path(&bob, &id), &body)
            .await;
        assert_eq!(answer.json()["disabled"], disabled, "{answer:?}");
    }
}

/// The scope that a request needs if it gives somebody the rights of an admin user.
const ADMIN: &str = "tokenry:email-tokens:write";

/// Sends a request with all scopes except [`ADMIN`], and with all scopes. Asserts that only the
/// second one succeeds.
async fn assert_needs_admin_scope(service: &Service, method: &str, path: &str, body: &Value) {
    let body = body.to_string();
    let limited = all_but(ADMIN);
    // `read` is in `all_but`, and `write` would imply the scope.
    for caller in [
        account(service, &limited).await,
        server(service, &limited).await,
    ] {
        let answer = service.call(&caller, method, path, &body).await;
        assert_scope_missing(&answer, ADMIN);
    }
    let caller = server(service, &format!("{limited} {ADMIN}")).await;
    let answer = service.call(&caller, method, path, &body).await;
    assert!(answer.status < 300, "{method} {path} {body}: {answer:?}");
}

#[tokio::test]
async fn each_request_that_gives_the_rights_of_an_admin_user_needs_the_scope_for_email_tokens() {
    let (service, bob) = with_bob().await;
    let user = format!("/api/users/{bob}");
    let limited = server(&service, &all_but(ADMIN)).await;
    let put = async |body: Value| {
        service
            .call(&limited, "PUT", &user, &body.to_string())
            .await
    };
    // All this is allowed for a user who is not an admin user.
    for body in [
        json!({ "email": BOB, "password": PASSWORD }),
        json!({ "admin": false, "active": true }),
        json!({}),
    ] {
        assert_eq!(put(body).await.status, 200);
    }
    let before = mint(&service, &bob, &json!({ "scope": "read" })).await;

    let new = format!("/api/users/{};ann", service.ecosystem.id.as_str());
    let admin = json!({ "admin": true });
    assert_needs_admin_scope(&service, "PUT", &new, &admin).await;
    assert_needs_admin_scope(&service, "PUT", &user, &admin).await;
    assert_needs_admin_scope(&service, "PUT", &user, &admin).await;
    for body in [
        json!({ "email": "new@example.com" }),
        json!({ "email": null }),
        json!({ "password": "another password" }),
        json!({ "password": null }),
        json!({ "active": true, "password": PASSWORD }),
    ] {
        assert_needs_admin_scope(&service, "PUT", &user, &body).await;
    }
    // The scope is checked before the precondition.
    let event = Event::to("put-user")
        .header("authorization", &limited)
        .header("if-none-match", "*")
        .parameter("id", &bob)
        .json_body(r#"{"admin":true}"#);
    assert_scope_missing(&event.send(&service.app).await, ADMIN);
    // The user is still an admin user when the scope is checked, so the new password needs the
    // scope, even if the request also sets `admin` to false.
    let answer = put(json!({ "admin": false, "password": PASSWORD })).await;
    assert_scope_missing(&answer, ADMIN);

    let tokens = format!("{user}/tokens");
    assert_needs_admin_scope(&service, "POST", &tokens, &json!({})).await;
    let orders = json!({ "scope": "orders" });
    assert_needs_admin_scope(&service, "POST", &tokens, &orders).await;
    let code = json!({ "userId": bob });
    let create = "/api/auth/shortcode/create";
    assert_needs_admin_scope(&service, "POST", create, &code).await;
    drop(before);
    let token = mint(&service, &bob, &json!({ "scope": "read" })).await;
    let token = path(&bob, &token.id);
    let wider = json!({ "scope": "read tokenry:introspect write" });
    assert_needs_admin_scope(&service, "PATCH", &token, &wider).await;
    for body in [
        json!({ "scope": "read orders" }),
        json!({ "name": "a", "metadata": { "a": 1 } }),
        json!({ "disabled": true }),
    ] {
        let answer = service
            .call(&limited, "PATCH", &token, &body.to_string())
            .await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
    }
    let enable = json!({ "disabled": false });
    assert_needs_admin_scope(&service, "PATCH", &token, &enable).await;
    // The token of an admin user also needs the scope to create a code for its user.
    let own = user_token(&service, &bob, "tokenry:codes:write").await;
    let answer = service.call(&own, "POST", create, &code.to_string()).await;
    assert_scope_missing(&answer, ADMIN);
    // It is always allowed to deactivate an admin user, and to end its rights and tokens.
    assert_eq!(
        service.call(&limited, "DELETE", &tokens, "").await.status,
        204
    );
    for body in [json!({ "active": false }), json!({ "admin": false })] {
        assert_eq!(put(body).await.status, 200);
    }
    let body = json!({ "active": true, "password": PASSWORD });
    assert_eq!(put(body).await.status, 200);
}

#[tokio::test]
async fn a_user_who_becomes_an_admin_user_between_read_and_write_keeps_the_password_and_address() {
    for body in [
        json!({ "password": "another password" }),
        json!({ "email": "new@example.com" }),
    ] {
        let (service, bob) = with_bob().await;
        let other = service.another_environment();
        let limited = server(&service, &all_but(ADMIN)).await;
        let put = |credential: &str, body: &Value| {
            Event::to("put-user")
                .header("authorization", credential)
                .parameter("id", &bob)
                .json_body(&body.to_string())
        };
        let list = Event::to("list-user-tokens")
            .header("authorization", &service.account_token)
            .parameter("id", &bob);
        let change = put(&limited, &body);
        let promote = put(&service.account_token, &json!({ "admin": true }));
        service.database.take_calls();
        // The write waits until the user is an admin user: the list makes the call `Query`.
        let database = &service.database;
        database.fail([("TransactWriteItems", Fault::NotBefore("Query"))]);
        let promoted = async {
            database.has_arrived("TransactWriteItems").await;
            assert_eq!(promote.send(&other).await.status, 200);
            list.send(&other).await
        };
        let (answer, _) = Box::pin(join(change.send(&service.app), promoted)).await;
        assert_scope_missing(&answer, ADMIN);
        let user = service
            .manage("GET", &format!("/api/users/{bob}"), "")
            .await
            .json();
        assert_eq!(
            (&user["admin"], &user["email"]),
            (&json!(true), &json!(BOB))
        );
        let answer = service.log_in("192.0.2.1", BOB, PASSWORD).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn an_admin_users_token_manages_email_tokens_only_within_its_own_scopes() {
    let (service, _) = with_bob().await;
    let admin = service.user("admin").await;
    let path = format!("/api/users/{admin}");
    service.manage("PUT", &path, r#"{"admin":true}"#).await;
    let token = async |scope: &str| {
        let body = json!({ "scope": scope, "expiryType": "Infinite" });
        mint(&service, &admin, &body).await.token
    };
    let ask = async |credential: &str, method: &str, body: Value| {
        let path = "/_/user-token";
        service
            .call(credential, method, path, &body.to_string())
            .await
    };
    let manager = token(ADMIN).await;
    let writes = json!({ "email": BOB, "write": true });
    let reads = json!({ "email": BOB, "write": false });
    let answer = ask(&manager, "POST", writes.clone()).await;
    assert_scope_missing(&answer, "read write");
    assert_scope_missing(&ask(&manager, "POST", reads.clone()).await, "read");
    let reader = token(&format!("{ADMIN} read")).await;
    assert_eq!(ask(&reader, "POST", reads.clone()).await.status, 201);
    let answer = ask(&reader, "PUT", writes.clone()).await;
    assert_scope_missing(&answer, "write");
    let both = token("read write").await;
    assert_eq!(ask(&both, "PUT", writes).await.status, 200);
    // The value has the scope `write` now.
    let value = format!("{VALUE}?email={BOB}");
    let answer = service.call(&reader, "GET", &value, "").await;
    assert_scope_missing(&answer, "write");
    assert_eq!(service.call(&both, "GET", &value, "").await.status, 200);
    // The deletion of an e-mail token gives nobody a scope.
    let gone = ask(&manager, "DELETE", json!({ "email": BOB })).await;
    assert_eq!(gone.status, 200);
    // The token of an admin user may not call the other endpoints, even if it has all scopes.
    let everything = token(&format!("read write {}", SCOPES.join(" "))).await;
    for (method, path) in crate::requests(&service).await {
        let is_allowed = ["/shortcode/create", "/whoami", "/auth/password"]
            .iter()
            .any(|end| path.ends_with(end));
        if is_allowed || path.starts_with("/_/user-token") {
            continue;
        }
        let answer = service.call(&everything, method, &path, "").await;
        assert_forbidden(&answer);
    }
}

/// Returns a scope with this many different scopes.
fn many(count: usize) -> String {
    let scopes: Vec<_> = (0..count).map(|n| format!("s{n}")).collect();
    scopes.join(" ")
}

#[tokio::test]
async fn too_many_or_malformed_or_unknown_scopes_get_a_400_that_names_the_field() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let of_user = mint(&service, &bob, &json!({})).await.id;
    let of_server = get_server_token::mint(&service, &json!({})).await.id;
    let ecosystem = service.ecosystem.id.as_str();
    let many_bytes = |last: usize| {
        let mut scopes: Vec<_> = (b'a'..b'h')
            .map(|c| String::from(char::from(c)).repeat(63))
            .collect();
        scopes.push("h".repeat(last));
        scopes.join(" ")
    };
    assert_eq!(many_bytes(64).len(), 512);
    let too_many = "field must contain at most 32 scopes and 512 bytes";
    let malformed = "field must be scopes separated by single spaces, each of 1 to 64 printable \
                     ASCII characters without \" and \\";
    let twice = "field must contain each scope once";
    let unknown = "field contains a scope that begins with tokenry: and does not exist";
    let bad = [
        (json!(many(33)), too_many),
        (json!(format!("{} x", many_bytes(64))), too_many),
        (json!("a".repeat(65)), malformed),
        (json!(null), malformed),
        (json!(""), malformed),
        (json!(" "), malformed),
        (json!("read  write"), malformed),
        (json!(" read"), malformed),
        (json!("read\n"), malformed),
        (json!("a\"b"), malformed),
        (json!("a\\b"), malformed),
        (json!("é"), malformed),
        (json!(1), malformed),
        (json!(["read"]), malformed),
        (json!({ "read": true }), malformed),
        (json!("read write read"), twice),
        (json!("tokenry:"), unknown),
        (json!("read tokenry:admin"), unknown),
        (json!("tokenry:tokens:Read"), unknown),
    ];
    let good = [
        json!(many(32)),
        json!(many_bytes(64)),
        json!("a".repeat(64)),
        json!("!#[]~ Tokenry:admin tokenryx https://example.com/orders"),
        json!("write"),
    ];
    for (method, path) in [
        ("POST", format!("/api/users/{bob}/tokens")),
        ("POST", format!("/api/ecosystems/{ecosystem}/tokens")),
        ("PATCH", get_user_token::path(&bob, &of_user)),
        ("PATCH", get_server_token::path(&service, &of_server)),
    ] {
        let send = async |scope: &Value| -> Answer {
            let body = json!({ "scope": scope }).to_string();
            service.manage(method, &path, &body).await
        };
        for (scope, message) in &bad {
            let answer = send(scope).await;
            assert_invalid(&answer, &[("body", "scope", message)]);
        }
        for scope in &good {
            let answer = send(scope).await;
            assert_eq!(answer.status, 200, "{scope}: {answer:?}");
            assert_eq!(answer.json()["scope"], *scope);
        }
    }
}

#[tokio::test]
async fn scope_and_metadata_are_allowed_only_in_the_body_and_other_fields_only_once() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ecosystem = service.ecosystem.id.as_str();
    for path in [
        format!("/api/users/{bob}/tokens"),
        format!("/api/ecosystems/{ecosystem}/tokens"),
    ] {
        let query = format!("{path}?scope=read&metadata=%7B%7D");
        let message = "contains fields that are not allowed: [ scope, metadata ]";
        assert_invalid(
            &service.manage("POST", &query, "").await,
            &[("query", "additional parameters", message)],
        );
        let query = format!("{path}?expiryType=Infinite&ttl=60&maxTtl=60&name=a");
        let body = r#"{"expiryType":"Infinite","ttl":60,"maxTtl":60,"name":"a","scope":"read"}"#;
        let once = "field must be given once";
        assert_invalid(
            &service.manage("POST", &query, body).await,
            &[
                ("body", "expiryType", once),
                ("body", "ttl", once),
                ("body", "maxTtl", once),
                ("body", "name", once),
            ],
        );
        // Different fields may be in different places.
        let query = format!("{path}?expiryType=SlidingTtl&ttl=60");
        let body = r#"{"maxTtl":90,"name":"a","scope":"read","metadata":{"a":1}}"#;
        let answer = service.manage("POST", &query, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let minted = answer.json();
        assert_eq!(minted["expiryType"], "SlidingTtl");
        assert_eq!(minted["expiresAt"], "2100-01-01T00:01:00Z");
        assert_eq!(minted["scope"], "read");
        assert_eq!(minted["metadata"], json!({ "a": 1 }));
    }
}
