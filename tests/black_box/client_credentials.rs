//! Tests of the credential of an OAuth client (RFC 6749 section 2.3.1): `Basic` and the form fields
//! `client_id` and `client_secret`. Introspection accepts it. Revocation ignores it (the tests of
//! revocation are in `revoke_token.rs`).

use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode_byte, utf8_percent_encode};
use serde_json::json;
use shared::domain::token::ExpiryType;
use tests::{Answer, Event, Service};

use crate::{assert_invalid, assert_unauthorized};

/// The challenge to a client whose secret is invalid.
pub(crate) const BASIC: &str = r#"Basic realm="tokenry""#;
const PATH: &str = "/api/auth/introspect";

fn basic(pair: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// Percent-encodes every character.
fn encoded(text: &str) -> String {
    text.bytes().map(percent_encode_byte).collect()
}

/// Introspects a token with this `Authorization` header.
async fn with_header(service: &Service, header: &str, token: &str) -> Answer {
    service.introspect_as(header, token).await
}

/// Introspects a token without a header. `more` are further fields of the form.
async fn with_form(service: &Service, token: &str, more: &str) -> Answer {
    let request = service
        .request("POST", PATH)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={token}{more}"));
    service.send(request).await
}

#[tokio::test]
async fn an_account_or_server_token_may_be_the_secret_of_a_client() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let (_, server) = service.server_token(&service.ecosystem).await;
    let ecosystem = service.ecosystem.id.as_str();
    let url = format!("https://app.example.com/{}", "x".repeat(120));
    for secret in [&server, &service.account_token] {
        for id in [ecosystem, "app", " ", "b%C3%B6b", &encoded(&url)] {
            for secret in [secret.clone(), encoded(secret)] {
                let header = basic(&format!("{id}:{secret}"));
                let spaces = header.replace("Basic ", "bASIC    ");
                for header in [header, spaces] {
                    let answer = with_header(&service, &header, &token).await;
                    assert_eq!(answer.json()["active"], true, "{header}: {answer:?}");
                }
            }
            let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
            let more = format!("&client_secret={secret}&client_id={id}&scope=");
            let answer = with_form(&service, &token, &more).await;
            assert_eq!(answer.json()["active"], true, "{more}: {answer:?}");
        }
    }
    // A secret without a value counts as missing.
    let request = service
        .request("POST", PATH)
        .header("authorization", &server)
        .form(&[("token", &*token), ("client_id", ""), ("client_secret", "")]);
    assert_eq!(service.send(request).await.json()["active"], true);
}

#[tokio::test]
async fn a_client_sees_only_the_tokens_that_its_secret_allows() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let elsewhere = service.another_ecosystem().await;
    let (_, elsewhere) = service.server_token(&elsewhere).await;
    // Tokenry does not compare the id, so the id gives no access.
    let ecosystem = service.ecosystem.id.as_str();
    let inactive = json!({ "active": false });
    let answer = with_header(
        &service,
        &basic(&format!("{ecosystem}:{elsewhere}")),
        &token,
    )
    .await;
    assert_eq!((answer.status, answer.json()), (200, inactive.clone()));
    let more = format!("&client_id={ecosystem}&client_secret={elsewhere}");
    let answer = with_form(&service, &token, &more).await;
    assert_eq!((answer.status, answer.json()), (200, inactive));

    let of_bob = with_header(&service, &basic(&format!("bob:{token}")), &token).await;
    assert_eq!(of_bob.status, 403);
    assert_eq!(of_bob.json()["error"], "insufficient_scope");
}

#[tokio::test]
async fn an_invalid_secret_gets_a_401_with_the_challenge_basic() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let revoked = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    let revoke = service
        .request("POST", "/api/auth/revoke")
        .form(&[("token", &revoked)]);
    service.send(revoke).await;
    let other = Service::start().await;
    let long = "x".repeat(1024);

    let mut headers = vec![
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic !".to_owned(),
        format!("Basic app:{server}"),
        format!("Basic {server}"),
    ];
    let pairs = [
        String::new(),
        ":".to_owned(),
        "app".to_owned(),
        "app:".to_owned(),
        // The id is missing, or the text after the first colon is not exactly the secret.
        format!(":{server}"),
        server.clone(),
        format!("app:{server}:"),
        format!("app::{server}"),
        format!("https://app.example.com:{server}"),
        format!("app:%3A{server}"),
        format!("app:{server}%"),
        format!("app:{server}%ff"),
        format!("app: {server}"),
        format!("app:{server}\n"),
        format!("{long}:{server}"),
        format!("app:{revoked}"),
        format!("app:{}", other.account_token),
        format!("app:{}", server.replace("tk_s", "tk_a")),
    ];
    headers.extend(pairs.iter().map(|pair| basic(pair)));
    let padded = basic(&format!("ap:{server}"));
    headers.push(padded.trim_end_matches('=').to_owned());
    headers.push(format!("{padded}="));
    let not_utf_8 = [b"\xff:".as_slice(), server.as_bytes()].concat();
    headers.push(format!("Basic {}", BASE64_STANDARD.encode(not_utf_8)));
    for header in &headers {
        let answer = with_header(&service, header, "x").await;
        assert_unauthorized(&answer, BASIC);
        assert_eq!(answer.json()["error"], "invalid_client", "{header}");
        assert!(!answer.body.contains("tk_"), "{answer:?}");
    }
    for secret in ["x", &revoked, &other.account_token, &format!("{server}+")] {
        let more = format!("&client_id=app&client_secret={secret}");
        let answer = with_form(&service, "x", &more).await;
        assert_unauthorized(&answer, BASIC);
        assert!(!answer.body.contains("tk_"), "{answer:?}");
    }
    // Without a client's credential, the challenge is `Bearer`.
    for more in ["", "&client_id=app", "&client_id=app&client_secret="] {
        let answer = with_form(&service, "x", more).await;
        assert_unauthorized(&answer, r#"Bearer realm="tokenry""#);
    }
}

#[tokio::test]
async fn a_malformed_client_credential_is_rejected_without_a_database_read() {
    let service = Service::start().await;
    let account = &service.account_token;
    let forged = account.replace("tk_ai", "tk_as");
    for header in [
        "Basic".to_owned(),
        basic("app"),
        basic(&format!(":{account}")),
        basic(&format!("app:{forged}")),
        basic(&format!("{}:{account}", "x".repeat(1024))),
    ] {
        assert_unauthorized(&with_header(&service, &header, "x").await, BASIC);
    }
    let header_and_secret = [(
        "body",
        "client_secret",
        "field is not allowed with an Authorization header",
    )];
    for header in [account, &basic(&format!("app:{account}")), "Negotiate x"] {
        for id in ["", "&client_id=app", "&client_id=a&client_id=b"] {
            let form = format!("token=x&client_secret={account}{id}");
            let event = Event::to("introspect-token")
                .header("authorization", header)
                .form(&form);
            let answer = event.send(&service.app).await;
            assert_invalid(&answer, &header_and_secret);
            assert_eq!(answer.json()["error"], "invalid_request");
        }
    }
    for (id, message) in [
        ("", "field is required"),
        ("&client_id=", "field is required"),
        ("&client_id=app&client_id=app", "field must be given once"),
    ] {
        let answer = with_form(&service, "x", &format!("&client_secret={account}{id}")).await;
        assert_invalid(&answer, &[("body", "client_id", message)]);
        assert!(!answer.body.contains("tk_"), "{answer:?}");
    }
    let twice = format!("&client_secret={account}").repeat(2);
    let answer = with_form(&service, "x", &format!("{twice}&client_id=app")).await;
    let once = "field must be given once";
    assert_invalid(&answer, &[("body", "client_secret", once)]);
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn a_client_is_verified_before_its_form_is_validated() {
    let service = Service::start().await;
    let answer = with_form(&service, "x&token=y", "&client_id=a&client_secret=b").await;
    assert_unauthorized(&answer, BASIC);
    let more = format!("&client_id=a&client_secret={}", service.account_token);
    let answer = with_form(&service, "x&token=y", &more).await;
    assert_invalid(&answer, &[("body", "token", "field must be given once")]);
}

#[tokio::test]
async fn a_sliding_secret_is_renewed() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let sliding = service
        .token_of(&service.ecosystem, ExpiryType::SlidingTtl)
        .await;
    service.clock.advance(3000);
    let answer = with_header(&service, &basic(&format!("app:{sliding}")), &token).await;
    assert_eq!(answer.json()["active"], true);
    service.clock.advance(3000);
    assert!(service.is_active(&sliding).await);
}
