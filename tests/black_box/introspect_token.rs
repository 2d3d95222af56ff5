//! Tests of `POST /api/auth/introspect`.

use serde_json::json;
use shared::domain::token::ExpiryType;
use tests::{Service, TestClock};

use crate::{assert_forbidden, assert_invalid, assert_unauthorized};

const INACTIVE: &str = r#"{"active":false}"#;

#[tokio::test]
async fn the_response_for_a_valid_token_contains_its_owner_and_its_expiry() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for (query, exp) in [
        ("expiryType=Infinite", None),
        ("expiryType=FixedTtl&ttl=60", Some(60)),
        ("expiryType=SlidingTtl&ttl=60", Some(61)),
        ("expiryType=SlidingTtl&ttl=60&maxTtl=30", Some(30)),
    ] {
        let minted = service.mint(&bob, query).await;
        service.clock.advance(1);
        let answer = service.introspect(&minted.token()).await;
        service.clock.go_back(1);

        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let mut expected = json!({
            "active": true,
            "sub": bob,
            "username": bob,
            "ecosystem_id": service.ecosystem.id.as_str(),
            "jti": minted.json()["tokenId"],
            "holder": "user",
            "scope": "read write",
            "expiry_type": minted.json()["expiryType"],
            "iat": TestClock::START,
        });
        if let Some(exp) = exp {
            expected["exp"] = json!(TestClock::START + exp);
        }
        assert_eq!(answer.json(), expected, "{query}");
    }
}

#[tokio::test]
async fn an_account_may_introspect_its_own_tokens_and_the_tokens_of_its_servers() {
    let service = Service::start().await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    let answer = service.introspect(&server).await.json();
    assert_eq!(answer["holder"], "server");
    assert_eq!(answer["sub"], service.ecosystem.id.as_str());
    assert_eq!(answer["ecosystem_id"], service.ecosystem.id.as_str());

    let answer = service.introspect(&service.account_token).await.json();
    assert_eq!(answer["holder"], "account");
    assert_eq!(answer["sub"], service.account.id.as_str());
    assert!(answer.get("ecosystem_id").is_none());
}

#[tokio::test]
async fn a_server_may_introspect_only_the_tokens_of_its_ecosystem() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let server = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    let other = service.another_ecosystem().await;
    let elsewhere = service.token_of(&other, ExpiryType::Infinite).await;

    assert_eq!(
        service.introspect_as(&server, &token).await.json()["active"],
        true
    );
    assert_eq!(
        service.introspect_as(&server, &server).await.json()["active"],
        true
    );
    assert_eq!(
        service.introspect_as(&elsewhere, &token).await.body,
        INACTIVE
    );
    assert_eq!(
        service
            .introspect_as(&server, &service.account_token)
            .await
            .body,
        INACTIVE
    );
}

#[tokio::test]
async fn the_response_for_every_invalid_token_is_exactly_active_false() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let (foreign, foreign_ecosystem) = service.another_account().await;
    let foreign_server = service
        .token_of(&foreign_ecosystem, ExpiryType::SlidingTtl)
        .await;
    let elsewhere = Service::start().await;
    let carol = elsewhere.user("carol").await;
    let another_deployment = elsewhere
        .mint(&carol, "expiryType=SlidingTtl")
        .await
        .token();
    let long = "x".repeat(10_000);

    for (what, token) in [
        ("empty", ""),
        ("malformed", "nonsense"),
        ("not ASCII", "tk_ｕｆ"),
        ("without its first character", &token[1..]),
        ("with a space at the end", &format!("{token} ")),
        ("long", &long),
        ("of another account", &foreign),
        ("of a server of another account", &foreign_server),
        ("of another deployment", &another_deployment),
    ] {
        let answer = service.introspect(token).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, INACTIVE),
            "{what}"
        );
    }
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_token_of_an_inactive_user_is_inactive() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}"))
            .await
            .token();
        service.set_active(&bob, false).await;
        assert!(!service.is_active(&token).await, "{kind}");
        service.set_active(&bob, true).await;
        assert!(service.is_active(&token).await, "{kind}");
    }
}

#[tokio::test]
async fn only_an_account_or_a_server_may_introspect() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let answer = service.introspect_as(&token, &token).await;
    assert_forbidden(&answer);

    let request = service
        .request("POST", "/api/auth/introspect")
        .form(&[("token", &token)]);
    assert_unauthorized(&service.send(request).await, r#"Bearer realm="tokenry""#);
    let other = Service::start().await;
    let answer = service.introspect_as(&other.account_token, &token).await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
}

#[tokio::test]
async fn a_forbidden_introspection_does_not_renew_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let caller = service.mint(&bob, "expiryType=Infinite").await.token();
    let sliding = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10")
        .await
        .token();
    service.clock.advance(9);
    assert_forbidden(&service.introspect_as(&caller, &sliding).await);
    service.clock.advance(1);
    assert!(!service.is_active(&sliding).await);
}

#[tokio::test]
async fn the_form_must_have_exactly_one_token_and_all_other_form_fields_are_ignored() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let post = |query: &str, body: String| {
        service
            .request("POST", &format!("/api/auth/introspect{query}"))
            .header("authorization", &service.account_token)
            .header(
                "content-type",
                "Application/X-WWW-Form-Urlencoded; charset=UTF-8",
            )
            .body(body)
    };
    for more in [
        "&token_type_hint=access_token",
        "&client_id=app&client_id=app&resource=https%3A%2F%2Fapi.example.com",
        &"&a=1".repeat(4000),
    ] {
        let form = format!("token={token}{more}");
        let claims = service.send(post("", form)).await.json();
        assert_eq!(claims["active"], true, "{more}");
    }
    for (query, body, errors) in [
        (
            "",
            String::new(),
            vec![("body", "token", "field is required")],
        ),
        (
            "",
            format!("token={token}&token={token}"),
            vec![("body", "token", "field must be given once")],
        ),
        (
            "",
            format!("token={token}{}&token={token}", "&a=1".repeat(3000)),
            vec![("body", "token", "field must be given once")],
        ),
        (
            "",
            ["token=a"; 1000].join("&"),
            vec![("body", "token", "field must be given once")],
        ),
        (
            "?b=2&a=1",
            format!("client=1&token={token}&{token}=2"),
            vec![(
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ b, a ]",
            )],
        ),
        (
            "",
            "a=1".to_owned(),
            vec![("body", "token", "field is required")],
        ),
    ] {
        assert_invalid(&service.send(post(query, body)).await, &errors);
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_form_is_refused() {
    let service = Service::start().await;
    let post = |content_type: &str, body: Vec<u8>| {
        let request = service
            .request("POST", "/api/auth/introspect")
            .header("authorization", &service.account_token)
            .body(body);
        if content_type.is_empty() {
            request
        } else {
            request.header("content-type", content_type)
        }
    };
    let form = "application/x-www-form-urlencoded";
    for (content_type, body, status, error_type) in [
        (
            "application/json",
            b"{}".to_vec(),
            415,
            "UnsupportedMediaType",
        ),
        (
            "text/plain",
            b"token=x".to_vec(),
            415,
            "UnsupportedMediaType",
        ),
        ("", b"token=x".to_vec(), 415, "UnsupportedMediaType"),
        ("application/json", b"".to_vec(), 400, "InvalidParams"),
        (form, vec![b'x'; 16 * 1024 + 1], 413, "PayloadTooLarge"),
    ] {
        let answer = service.send(post(content_type, body)).await;
        assert_eq!(answer.status, status, "{content_type}: {answer:?}");
        assert_eq!(answer.json()["errorType"], error_type);
    }
    // A token that is not UTF-8 counts as an unknown token.
    let answer = service.send(post(form, b"token=\xff\xfe".to_vec())).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "active": false }))
    );
}

#[tokio::test]
async fn form_fields_do_not_replace_the_authorization_header() {
    let service = Service::start().await;
    let token = &service.account_token;
    let request = service.request("POST", "/api/auth/introspect").form(&[
        ("token", token),
        ("authorization", token),
        ("access_token", token),
    ]);
    assert_unauthorized(&service.send(request).await, r#"Bearer realm="tokenry""#);
}
