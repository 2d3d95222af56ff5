//! Sends all kinds of credentials to every endpoint: malformed credentials, tokens of other owners,
//! and tokens without the required right.

use std::path::Path;

use functions::FUNCTIONS;
use shared::{
    domain::error::Error,
    service::{access::rights, verify::Lookup},
};
use tests::{Event, Service};

use crate::{
    RUBBISH, assert_forbidden, assert_invalid, assert_unauthorized, client_credentials::BASIC,
    requests,
};

const BEARER: &str = r#"Bearer realm="tokenry""#;
const INVALID_TOKEN: &str = r#"Bearer realm="tokenry", error="invalid_token""#;

#[tokio::test]
async fn a_malformed_credential_gets_the_same_401_at_every_endpoint_without_a_database_read() {
    let service = Service::start().await;
    let long = "x".repeat(100_000);
    let tab = format!("Bearer\t{}", service.account_token);
    let changed = service.account_token.replace("tk_ai", "tk_af");
    let more = [long.as_bytes(), tab.as_bytes(), changed.as_bytes()];
    for (method, path) in requests(&service).await {
        for credential in RUBBISH.iter().copied().chain(more) {
            let value = reqwest::header::HeaderValue::from_bytes(credential).unwrap();
            let request = service
                .request(method, &path)
                .header("authorization", value);
            assert_unauthorized(&service.send(request).await, INVALID_TOKEN);
        }
        for credential in ["", "Bearer", "bearer  ", "Basic dXNlcjpwYXNzd29yZA=="] {
            let answer = service.call(credential, method, &path, "").await;
            // Only introspection accepts the credential of a client.
            let is_basic = credential.starts_with("Basic") && path.ends_with("introspect");
            let challenge = if is_basic { BASIC } else { BEARER };
            assert_unauthorized(&answer, challenge);
        }
        let answer = service.send(service.request(method, &path)).await;
        assert_unauthorized(&answer, BEARER);
    }
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn the_scheme_bearer_may_be_followed_by_several_spaces_at_every_endpoint() {
    let service = Service::start().await;
    let (_, foreign) = service
        .server_token(&service.another_ecosystem().await)
        .await;
    for (method, path) in requests(&service).await {
        for spaces in ["", " ", "     "] {
            let scheme = if spaces.is_empty() { "" } else { "bEARER" };
            let credential = format!("{scheme}{spaces}{foreign}");
            let answer = service.call(&credential, method, &path, "").await;
            assert_ne!(
                answer.status, 401,
                "{method} {path} {credential}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_authorization_header_without_a_bearer_token_counts_as_missing() {
    let service = Service::start().await;
    for header in ["", "Bearer", "Bearer ", "Negotiate YII="] {
        let event = Event::to("introspect-token").header("authorization", header);
        assert_unauthorized(&event.send(&service.app).await, BEARER);
    }
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn two_credentials_get_a_400_without_a_database_read_even_if_they_are_long() {
    let service = Service::start().await;
    let long = format!("{},{}", "x".repeat(300), service.account_token);
    let once = [("header", "Authorization", "field must be given once")];
    for (method, path) in requests(&service).await {
        let request = service
            .request(method, &path)
            .header("authorization", &service.account_token)
            .header("authorization", &service.account_token);
        assert_invalid(&service.send(request).await, &once);
        assert_invalid(&service.call(&long, method, &path, "").await, &once);
    }
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn a_token_of_another_deployment_is_invalid_at_every_endpoint() {
    let service = Service::start().await;
    let elsewhere = Service::start().await;
    for (method, path) in requests(&service).await {
        let answer = service
            .call(&elsewhere.account_token, method, &path, "")
            .await;
        assert_unauthorized(&answer, INVALID_TOKEN);
    }
}

#[tokio::test]
async fn a_user_token_gets_a_403_at_every_endpoint_that_is_not_about_its_own_user() {
    let service = Service::start().await;
    let requests = requests(&service).await;
    let bob = format!("{};bob", service.ecosystem.id.as_str());
    let token = service.mint(&bob, "").await.token();
    for (method, path) in requests {
        let is_own = path.contains(";bob/tokens") && method != "POST";
        let for_users = ["/shortcode/create", "/whoami", "/auth/password"];
        if is_own || for_users.iter().any(|end| path.ends_with(end)) {
            // A user may manage its own tokens, create a short code for itself, look at the token
            // that it uses, and change its own password.
            continue;
        }
        assert_forbidden(&service.call(&token, method, &path, "").await);
    }
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_server_is_not_allowed_to_manage_ecosystems_or_server_tokens() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let ecosystem = service.ecosystem.id.as_str();
    let unknown = "C58521fd8a5d9b5cc21987501";
    for of in [ecosystem, unknown] {
        for (method, path) in [
            ("POST", "/api/ecosystems".to_owned()),
            ("DELETE", format!("/api/ecosystems/{of}")),
            ("POST", format!("/api/ecosystems/{of}/tokens")),
            ("GET", format!("/api/ecosystems/{of}/tokens")),
            (
                "DELETE",
                format!("/api/ecosystems/{of}/tokens/01KDVDNAFMFDHADR9JK9PFNKW4"),
            ),
        ] {
            assert_forbidden(&service.call(&server, method, &path, "").await);
        }
    }
}

#[tokio::test]
async fn a_server_gets_the_same_403_whether_or_not_the_other_ecosystem_exists() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let other = service.another_ecosystem().await;
    let (_, foreign) = service.another_account().await;
    let mut bodies = Vec::new();
    for of in [
        other.id.as_str(),
        foreign.id.as_str(),
        "C58521fd8a5d9b5cc21987501",
    ] {
        for (method, path, body) in [
            ("POST", format!("/api/ecosystems/{of}/environments"), ""),
            ("PUT", format!("/api/users/{of};bob"), "{}"),
            ("GET", format!("/api/users/{of};bob"), ""),
            ("DELETE", format!("/api/users/{of};bob"), ""),
            ("DELETE", format!("/api/users/{of};a%20b"), ""),
            ("POST", format!("/api/users/{of};bob/tokens"), ""),
        ] {
            let answer = service.call(&server, method, &path, body).await;
            assert_forbidden(&answer);
            bodies.push(answer.body);
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
}

#[tokio::test]
async fn a_record_of_another_account_gets_the_same_response_as_an_unknown_record() {
    let service = Service::start().await;
    let (foreign, _) = service.another_account().await;
    let requests = requests(&service).await;
    let own = service.ecosystem.id.as_str();
    for (method, path) in requests {
        if !path.contains('C') && !path.contains("/E") {
            continue;
        }
        let body = if ["PUT", "PATCH"].contains(&method) {
            "{}"
        } else {
            ""
        };
        let theirs = service.call(&foreign, method, &path, body).await;
        // Send the same request with an id that does not exist.
        let id = path
            .split('/')
            .find(|part| part.starts_with(['C', 'E']))
            .unwrap();
        let id = id.split(';').next().unwrap();
        let nothing = format!("{}58521fd8a5d9b5cc21987501", &id[..1]);
        let nobodys = service
            .call(&foreign, method, &path.replace(id, &nothing), body)
            .await;
        assert_eq!(theirs.status, 404, "{method} {path}: {theirs:?}");
        assert_eq!(
            theirs.body,
            nobodys.body.replace(&nothing, id),
            "{method} {path}"
        );
        let names = |answer: &tests::Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&theirs), names(&nobodys), "{method} {path}");
    }
    assert_eq!(
        service
            .manage("GET", &format!("/api/users/{own};bob"), "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_right_in_one_ecosystem_does_not_apply_in_another() {
    let service = Service::start().await;
    let (own, other) = (&service.ecosystem.id, service.another_ecosystem().await.id);
    let (_, server) = service.server_token(&service.ecosystem).await;
    let credential = service.app.token(&server).await.unwrap().unwrap();
    let lookup = Lookup::new(&service.app).token(&credential);
    let found = lookup.ecosystem(Some(&other)).ecosystem(Some(own)).read();
    let found = found.await.unwrap();
    let caller = || found.caller(&credential).unwrap();
    assert!(
        caller()
            .may(rights::CREATE_ENVIRONMENT, Some(&other))
            .is_err()
    );
    // The permit gives no access to the other ecosystem, even if no ecosystem was passed to `may`.
    let permit = caller().may(rights::CREATE_ENVIRONMENT, None).unwrap();
    assert_eq!(permit.ecosystem(own).unwrap().id, *own);
    let refused = permit.ecosystem(&other).unwrap_err();
    assert!(matches!(refused, Error::Forbidden), "{refused:?}");
}

#[tokio::test]
async fn a_read_only_token_is_allowed_only_to_read() {
    let service = Service::start().await;
    let requests = requests(&service).await;
    let (id, server) = service.server_token(&service.ecosystem).await;
    service.set_scope(&service.ecosystem.id, &id, "read").await;
    let account = service
        .token_of(
            &service.account,
            shared::domain::token::ExpiryType::Infinite,
        )
        .await;
    let id = shared::domain::token::PlainToken::parse(&account)
        .unwrap()
        .id()
        .to_string();
    service.set_scope(&service.account.id, &id, "read").await;
    for (method, path) in requests {
        // The value of an e-mail token is a secret. A read-only token may read the value only if
        // both tokens belong to the same user.
        let reads =
            method == "GET" && path != "/_/user-token/value" || path.ends_with("introspect");
        let answer = service.call(&account, method, &path, "").await;
        assert_eq!(answer.status == 403, !reads, "{method} {path}: {answer:?}");
        let answer = service.call(&server, method, &path, "").await;
        let of_servers = path.contains("/tokens") && path.starts_with("/api/ecosystems")
            || path == "/api/ecosystems";
        assert_eq!(
            answer.status == 403,
            !reads || of_servers,
            "{method} {path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_sliding_token_is_renewed_when_it_is_the_credential_at_any_endpoint() {
    let service = Service::start().await;
    let kind = shared::domain::token::ExpiryType::SlidingTtl;
    for (method, path) in requests(&service).await {
        let account = service.token_of(&service.account, kind).await;
        service.clock.advance(1);
        service.database.take_calls();
        service.call(&account, method, &path, "").await;
        let calls = service.database.take_operations();
        assert!(calls.contains(&"UpdateItem".to_owned()), "{method} {path}");
    }
}

#[test]
fn every_function_has_a_source_file_and_a_test_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for function in FUNCTIONS {
        let file = format!("{}.rs", function.name.replace('-', "_"));
        for folder in ["functions/src", "tests/black_box"] {
            assert!(
                root.join(folder).join(&file).is_file(),
                "{folder}/{file} is missing"
            );
        }
    }
}
