//! Tests of `GET /api/auth/whoami`.

use serde_json::json;
use shared::{config::Settings, domain::token::ExpiryType};
use tests::{Answer, Event, Service};

use crate::{assert_forbidden, assert_invalid, assert_scope_missing, assert_unauthorized};

const PATH: &str = "/api/auth/whoami";

async fn whoami(service: &Service, token: &str, query: &str) -> Answer {
    service
        .call(token, "GET", &format!("{PATH}{query}"), "")
        .await
}

/// The claims that the headers repeat.
const HEADERS: [(&str, &str); 5] = [
    ("x-tokenry-sub", "sub"),
    ("x-tokenry-ecosystem", "ecosystem_id"),
    ("x-tokenry-holder", "holder"),
    ("x-tokenry-scope", "scope"),
    ("x-tokenry-token-id", "jti"),
];

#[tokio::test]
async fn the_response_has_the_claims_of_introspection_and_repeats_some_in_headers() {
    let service = Service::start().await;
    let bob = service.user("auth0|bob").await;
    let mut tokens = vec![service.account_token.clone()];
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let query = format!("expiryType={kind}");
        tokens.push(service.mint(&bob, &query).await.token());
    }
    tokens.push(service.server_token(&service.ecosystem).await.1);
    for token in &tokens {
        let answer = whoami(&service, token, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let claims = service.introspect(token).await.json();
        assert_eq!(answer.json(), claims);
        for (header, claim) in HEADERS {
            assert_eq!(answer.header(header), claims[claim].as_str(), "{header}");
        }
    }
}

#[tokio::test]
async fn the_claims_name_the_user_and_have_no_audience() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let claims = whoami(&service, &token, "").await.json();
    assert_eq!(
        (&claims["sub"], &claims["username"]),
        (&json!(bob), &json!(bob))
    );
    assert!(claims.get("aud").is_none());
}

#[tokio::test]
async fn a_name_that_is_not_ascii_is_percent_encoded_in_the_header() {
    let service = Service::start().await;
    for (name, expected) in [
        ("b\u{f6}b", "b%C3%B6b".to_owned()),
        ("auth0|b+&=\"'<>{}", "auth0|b+&=\"'<>{}".to_owned()),
        (&"\u{1f600}".repeat(256), "%F0%9F%98%80".repeat(256)),
    ] {
        let user = service.user(name).await;
        let token = service.mint(&user.replace('+', "%2B"), "").await;
        let answer = whoami(&service, &token.token(), "").await;
        assert_eq!(answer.json()["sub"], user);
        let expected = format!("{};{expected}", service.ecosystem.id);
        assert_eq!(answer.header("x-tokenry-sub"), Some(&*expected));
    }
}

#[tokio::test]
async fn a_token_of_another_ecosystem_or_of_another_holder_gets_a_403() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.as_str();
    let other = service.another_ecosystem().await;
    let (_, foreign) = service.another_account().await;
    let bob = service.user("bob").await;
    let user = service.mint(&bob, "").await.token();
    let (_, server) = service.server_token(&service.ecosystem).await;
    let account = &service.account_token;

    let own = format!("?ecosystem={ecosystem}");
    let with = |holders: &str| format!("{own}&holder={holders}");
    for (query, allowed) in [
        (String::new(), [true, true, true]),
        ("?holder=user".to_owned(), [true, false, false]),
        ("?holder=server".to_owned(), [false, true, false]),
        ("?holder=account".to_owned(), [false, false, true]),
        ("?holder=account,user".to_owned(), [true, false, true]),
        ("?holder=server%2Cuser,user".to_owned(), [true, true, false]),
        (own.clone(), [true, false, false]),
        (with("user"), [true, false, false]),
        (with("server"), [false, true, false]),
        (with("server,user"), [true, true, false]),
        // An account's token belongs to no ecosystem.
        (with("account"), [false, false, false]),
        (with("account,server,user"), [true, true, false]),
        (format!("?ecosystem={}", other.id), [false, false, false]),
        (format!("?ecosystem={}", foreign.id), [false, false, false]),
        (
            "?ecosystem=C58521fd8a5d9b5cc21987501&holder=account,server,user".to_owned(),
            [false, false, false],
        ),
    ] {
        for (token, allowed) in [&user, &server, account].into_iter().zip(allowed) {
            let answer = whoami(&service, token, &query).await;
            if allowed {
                assert_eq!(answer.status, 200, "{query}: {answer:?}");
            } else {
                assert_forbidden(&answer);
                assert!(
                    HEADERS
                        .iter()
                        .all(|(name, _)| answer.header(name).is_none())
                );
            }
        }
    }
}

#[tokio::test]
async fn a_token_needs_every_required_scope() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = async |scope: &str| {
        let path = format!("/api/users/{bob}/tokens");
        let body = json!({ "scope": scope }).to_string();
        service.manage("POST", &path, &body).await.token()
    };
    let token = minted("read orders:read tokenry:codes:write").await;
    for scope in [
        "read",
        "orders:read",
        "orders:read+read",
        "tokenry:codes:write%20read",
    ] {
        let answer = whoami(&service, &token, &format!("?scope={scope}")).await;
        assert_eq!(answer.status, 200, "{scope}: {answer:?}");
    }
    // `read` implies Tokenry's own scopes for reading.
    let answer = whoami(&service, &token, "?scope=tokenry:users:read").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for (scope, missing) in [
        ("write", "write"),
        ("orders", "orders"),
        ("READ", "READ"),
        ("bills+read+write", "bills write"),
        ("tokenry:users:write", "tokenry:users:write"),
    ] {
        let answer = whoami(&service, &token, &format!("?scope={scope}")).await;
        assert_scope_missing(&answer, missing);
    }
    // The application's scopes imply nothing, and `read` and `write` do not imply them.
    let token = minted("orders:read").await;
    for (scope, missing) in [
        ("read", "read"),
        ("tokenry:users:read", "tokenry:users:read"),
    ] {
        let answer = whoami(&service, &token, &format!("?scope={scope}")).await;
        assert_scope_missing(&answer, missing);
    }
    let token = minted("read write").await;
    let answer = whoami(&service, &token, "?scope=orders:read").await;
    assert_scope_missing(&answer, "orders:read");
    // The ecosystem and the holder are checked before the scope.
    let answer = whoami(&service, &token, "?scope=orders:read&holder=server").await;
    assert_forbidden(&answer);
}

#[tokio::test]
async fn an_invalid_or_unknown_requirement_is_an_error_and_lets_nobody_in() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let holders = "field must be a list of the following values: account, server, user";
    let malformed = "field must be scopes separated by single spaces, each of 1 to 64 printable \
        ASCII characters without \" and \\";
    let unknown = "contains fields that are not allowed: [ ecosystems ]";
    for (query, path, message) in [
        ("?ecosystem=", "ecosystem", "invalid ecosystem id"),
        ("?ecosystem=x", "ecosystem", "invalid ecosystem id"),
        ("?holder=", "holder", holders),
        ("?holder=User", "holder", holders),
        ("?holder=user,", "holder", holders),
        ("?holder=user+server", "holder", holders),
        (
            "?holder=user&holder=user",
            "holder",
            "field must be given once",
        ),
        ("?scope=", "scope", malformed),
        ("?scope=read++write", "scope", malformed),
        ("?scope=read,write\u{f6}", "scope", malformed),
        (
            "?scope=read+read",
            "scope",
            "field must contain each scope once",
        ),
        (
            "?scope=tokenry:all",
            "scope",
            "field contains a scope that begins with tokenry: and does not exist",
        ),
        ("?ecosystems=x", "additional parameters", unknown),
    ] {
        let answer = whoami(&service, &token, query).await;
        assert_invalid(&answer, &[("query", path, message)]);
        // The credential is checked before the query.
        assert_unauthorized(
            &whoami(&service, "x", query).await,
            r#"Bearer realm="tokenry", error="invalid_token""#,
        );
    }
}

#[tokio::test]
async fn a_body_is_ignored() {
    let service = Service::start().await;
    let long = "x".repeat(100_000);
    for (content_type, body) in [
        ("application/json", "[1]"),
        ("application/json", &*long),
        ("application/x-www-form-urlencoded", "holder=account"),
    ] {
        let request = service
            .request("GET", PATH)
            .header("authorization", &service.account_token)
            .header("content-type", content_type)
            .body(body.to_owned());
        assert_eq!(service.send(request).await.status, 200, "{content_type}");
    }
    let mut event = Event::to("whoami").header("authorization", &service.account_token);
    event.json["body"] = json!("not base64!");
    event.json["isBase64Encoded"] = json!(true);
    assert_eq!(event.send(&service.app).await.status, 200);
}

#[tokio::test]
async fn head_gets_the_status_and_the_headers_without_a_body() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    for (token, query, status) in [
        (&*token, "", 200),
        (&token, "?holder=account", 403),
        (&token, "?holder=x", 400),
        ("x", "", 401),
    ] {
        let get = whoami(&service, token, query).await;
        let head = service
            .call(token, "HEAD", &format!("{PATH}{query}"), "")
            .await;
        assert_eq!((head.status, get.status), (status, status), "{query}");
        assert_eq!(head.body, "");
        for name in HEADERS.map(|(name, _)| name).iter().chain(&[
            "cache-control",
            "content-type",
            "www-authenticate",
        ]) {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
    }
    // API Gateway sends the function's body to the client, so the function itself must leave it
    // out.
    let mut event = Event::to("whoami").header("authorization", "x");
    event.json["requestContext"]["http"]["method"] = json!("HEAD");
    let payload = serde_json::value::to_raw_value(&event.json).unwrap();
    let event = lambda_http::LambdaEvent::new(payload, lambda_http::Context::default());
    let endpoint = functions::endpoints().find(|endpoint| endpoint.name == "whoami");
    let handler = endpoint.unwrap().handler;
    let Ok(answer) = shared::http::respond(&service.app, "whoami", handler, event).await;
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(
        (&answer["statusCode"], &answer["body"]),
        (&json!(401), &json!(""))
    );
}

#[tokio::test]
async fn the_request_is_a_use_of_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let query = "expiryType=SlidingTtl&ttl=10";
    let token = service.mint(&bob, query).await.token();
    for _ in 0..3 {
        service.clock.advance(9);
        assert_eq!(whoami(&service, &token, "").await.status, 200);
    }
    service.clock.advance(10);
    assert_unauthorized(
        &whoami(&service, &token, "").await,
        r#"Bearer realm="tokenry", error="invalid_token""#,
    );
}

#[tokio::test]
async fn the_memory_of_callers_is_never_used() {
    let settings = Settings {
        caller_memory_seconds: 5,
        ..Settings::default()
    };
    let service = Service::start_with(settings).await;
    for is_remembered in [false, true] {
        let (id, server) = service.server_token(&service.ecosystem).await;
        // An introspection makes this execution environment remember its caller.
        if is_remembered {
            assert_eq!(service.introspect_as(&server, "x").await.status, 200);
        }
        assert_eq!(whoami(&service, &server, "").await.status, 200);
        let path = format!("/api/ecosystems/{}/tokens/{id}", service.ecosystem.id);
        // Another execution environment revokes the token.
        let revoke = Event::to("revoke-server-token")
            .header("authorization", &service.account_token)
            .parameter("ecosystemId", service.ecosystem.id.as_str())
            .parameter("tokenId", &id);
        let revoked = revoke.send(&service.another_environment()).await;
        assert_eq!(revoked.status, 204, "{path}");
        let answer = whoami(&service, &server, "").await;
        assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
    }
}

#[tokio::test]
async fn a_token_that_is_invalid_for_any_reason_gets_a_401() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let revoked = service.mint(&bob, "").await.token();
    let form = service
        .request("POST", "/api/auth/revoke")
        .form(&[("token", &revoked)]);
    service.send(form).await;
    let expired = service.mint(&bob, "ttl=1").await.token();
    let inactive = service.user("ann").await;
    let of_inactive = service.mint(&inactive, "").await.token();
    service.set_active(&inactive, false).await;
    let elsewhere = Service::start().await;
    let of_deleted = service.another_ecosystem().await;
    let of_deleted_token = service.token_of(&of_deleted, ExpiryType::Infinite).await;
    let path = format!("/api/ecosystems/{}", of_deleted.id);
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    service.clock.advance(31);
    for token in [
        &revoked,
        &expired,
        &of_inactive,
        &of_deleted_token,
        &elsewhere.account_token,
    ] {
        let answer = whoami(&service, token, "").await;
        assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
    }
    let none = service.send(service.request("GET", PATH)).await;
    assert_unauthorized(&none, r#"Bearer realm="tokenry""#);
}
