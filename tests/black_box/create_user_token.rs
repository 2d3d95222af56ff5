//! Tests of `POST /api/users/{id}/tokens`.

use shared::domain::token::ExpiryType;
use tests::{Service, TestClock};

use crate::{assert_forbidden, assert_invalid, assert_unauthorized};

const NUMBER: &str = "expected field to be a number";
const POSITIVE: &str = "field must be a positive number";
const TOO_LARGE: &str = "field must be at most 315360000";

#[tokio::test]
async fn by_default_a_token_has_the_type_fixed_ttl_and_expires_after_an_hour() {
    let service = Service::start().await;
    let bob = service.user("auth0|59ad5e8843f89ba26c5b80ca").await;

    let answer = service.mint(&bob, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(
        answer
            .header("x-request-id")
            .is_some_and(|id| !id.is_empty())
    );
    let minted = answer.json();
    assert_eq!(minted["expiryType"], "FixedTtl");
    assert_eq!(minted["expiresAt"], "2100-01-01T01:00:00Z");
    assert_eq!(minted["tokenId"].as_str().unwrap().len(), 26);
    assert_eq!(minted["scope"], "read write");
    assert_eq!(minted.as_object().unwrap().len(), 5);
    assert!(answer.token().starts_with("tk_uf_"));
}

#[tokio::test]
async fn the_response_contains_the_expiry_type_and_the_expiry_time() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for (query, kind, prefix, expires_at) in [
        ("expiryType=Infinite", "Infinite", "tk_ui_", None),
        (
            "expiryType=Infinite&ttl=5&maxTtl=5",
            "Infinite",
            "tk_ui_",
            None,
        ),
        (
            "expiryType=FixedTtl&ttl=1",
            "FixedTtl",
            "tk_uf_",
            Some("2100-01-01T00:00:01Z"),
        ),
        (
            "ttl=0060&maxTtl=30",
            "FixedTtl",
            "tk_uf_",
            Some("2100-01-01T00:00:30Z"),
        ),
        (
            "expiryType=SlidingTtl",
            "SlidingTtl",
            "tk_us_",
            Some("2100-01-01T01:00:00Z"),
        ),
        (
            "expiryType=SlidingTtl&ttl=315360000&maxTtl=60&name=%F0%9F%94%91+of+bob",
            "SlidingTtl",
            "tk_us_",
            Some("2100-01-01T00:01:00Z"),
        ),
        (
            "expiryType=SlidingTtl&ttl=315360000&maxTtl=315360000",
            "SlidingTtl",
            "tk_us_",
            Some("2109-12-30T00:00:00Z"),
        ),
    ] {
        let answer = service.mint(&bob, query).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let minted = answer.json();
        assert_eq!(minted["expiryType"], kind, "{query}");
        assert_eq!(minted["expiresAt"].as_str(), expires_at, "{query}");
        assert!(answer.token().starts_with(prefix), "{query}");
    }
}

#[tokio::test]
async fn a_user_can_have_many_tokens() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let mut tokens = Vec::new();
    for _ in 0..50 {
        tokens.push(service.mint(&bob, "").await.token());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 50);
    for token in &tokens {
        assert!(service.is_active(token).await);
    }
}

#[tokio::test]
async fn a_credential_is_accepted_with_or_without_the_word_bearer_in_upper_or_lower_case() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = &service.account_token;
    for credential in [
        token.clone(),
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!("BEARER {token}"),
    ] {
        assert_eq!(service.mint_as(&credential, &bob, "").await.status, 200);
    }
}

#[tokio::test]
async fn a_user_id_may_be_percent_encoded_and_is_decoded_only_once() {
    let service = Service::start().await;
    let pipe = service.user("auth0|b\u{f6}b").await;
    let encoded = pipe
        .replace(';', "%3B")
        .replace('|', "%7c")
        .replace('\u{f6}', "%C3%B6");
    assert_eq!(service.mint(&encoded, "").await.status, 200);
    assert_eq!(service.mint(&pipe, "").await.status, 200);

    for wrong in [
        "a%2525", "a%", "a%2", "a%zz", "a%2Fb", "a%3Bb", "a%20b", "a%00b", "a%FFb",
    ] {
        let ecosystem = service.ecosystem.id.as_str();
        let answer = service.mint(&format!("{ecosystem};{wrong}"), "").await;
        assert_invalid(&answer, &[("path", "id", "invalid user id")]);
    }
}

#[tokio::test]
async fn all_problems_of_a_request_are_reported_in_one_response() {
    let service = Service::start().await;
    let answer = service
        .mint(
            "Cbad;bob",
            "ttl=x&foo=1&expiryType=fixed&maxTtl=0&b%61r=2&foo=3&name=&ttl=2",
        )
        .await;
    assert_invalid(
        &answer,
        &[
            ("path", "id", "invalid user id"),
            (
                "query",
                "expiryType",
                "field must be one of the following values: Infinite, FixedTtl, SlidingTtl",
            ),
            ("query", "ttl", "field must be given once"),
            ("query", "maxTtl", POSITIVE),
            (
                "query",
                "name",
                "field must be 1 to 64 characters, none of them a control character",
            ),
            (
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ foo, b%61r ]",
            ),
        ],
    );
}

#[tokio::test]
async fn a_number_that_is_out_of_range_or_not_ascii_digits_gets_a_400_and_stores_nothing() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.database.take_calls();
    for (raw, message) in [
        ("", NUMBER),
        ("abc", NUMBER),
        ("1e9", NUMBER),
        ("1.5", NUMBER),
        ("3600%20", NUMBER),
        ("+3600", NUMBER),
        ("%2B3600", NUMBER),
        ("%EF%BC%99", NUMBER),
        ("\u{ff19}", NUMBER),
        ("0x10", NUMBER),
        ("true", NUMBER),
        ("%00", NUMBER),
        ("3600%00", NUMBER),
        ("%FF", NUMBER),
        ("1%", NUMBER),
        ("0", POSITIVE),
        ("-1", POSITIVE),
        ("-0", POSITIVE),
        ("315360001", TOO_LARGE),
        ("9223372036854775808", TOO_LARGE),
        ("1000000000000000000000000000000", TOO_LARGE),
    ] {
        for field in ["ttl", "maxTtl"] {
            for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
                let query = format!("expiryType={kind}&{field}={raw}");
                let answer = service.mint(&bob, &query).await;
                assert_invalid(&answer, &[("query", field, message)]);
            }
        }
    }
    assert!(
        !service
            .database
            .take_operations()
            .contains(&"PutItem".to_owned())
    );
}

#[tokio::test]
async fn a_name_has_at_most_64_characters_and_no_control_character() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let longest = "\u{1f511}".repeat(64);
    assert_eq!(
        service.mint(&bob, &format!("name={longest}")).await.status,
        200
    );
    let message = "field must be 1 to 64 characters, none of them a control character";
    for name in ["", "%00", "a%0Ab", "%FF", "a%C3", &format!("{longest}x")] {
        let answer = service.mint(&bob, &format!("name={name}")).await;
        assert_invalid(&answer, &[("query", "name", message)]);
    }
}

#[tokio::test]
async fn a_field_that_is_given_twice_gets_a_400_in_any_encoding() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for query in ["ttl=5&ttl=5", "ttl=5&tt%6C=5", "ttl&ttl", "ttl=5&&ttl="] {
        let answer = service.mint(&bob, query).await;
        assert_invalid(&answer, &[("query", "ttl", "field must be given once")]);
    }
}

#[tokio::test]
async fn a_semicolon_does_not_separate_fields_and_a_plus_is_a_space() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let answer = service.mint(&bob, "ttl=5;maxTtl=6").await;
    assert_invalid(&answer, &[("query", "ttl", NUMBER)]);
    assert_eq!(service.mint(&bob, "name=a+b&&").await.status, 200);
}

#[tokio::test]
async fn a_token_in_the_query_is_not_a_credential_and_is_not_in_the_response() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = &service.account_token;

    let path = format!("/api/users/{bob}/tokens?access_token={token}");
    let answer = service.send(service.request("POST", &path)).await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry""#);

    let answer = service
        .mint(&bob, &format!("{token}=1&access_token={token}"))
        .await;
    let message = "contains fields that are not allowed: [ ***, access_token ]";
    assert_invalid(&answer, &[("query", "additional parameters", message)]);

    let encoded = token.replace('_', "%5F");
    let answer = service.mint(&bob, &encoded).await;
    let message = "contains fields that are not allowed: [ *** ]";
    assert_invalid(&answer, &[("query", "additional parameters", message)]);
}

#[tokio::test]
async fn an_unknown_ecosystem_is_reported_before_an_unknown_user() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.as_str().to_owned();
    let unknown = "C58521fd8a5d9b5cc21987501";

    let answer = service.mint(&format!("{unknown};bob"), "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        answer.body,
        format!("Ecosystem with id {unknown} does not exist.")
    );

    let answer = service.mint(&format!("{ecosystem};nob\u{f6}dy"), "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.body,
        format!("User with id {ecosystem};nob\u{f6}dy does not exist.")
    );
}

#[tokio::test]
async fn the_ecosystem_of_another_account_is_a_404() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (foreign, _) = service.another_account().await;
    let answer = service.mint_as(&foreign, &bob, "").await;
    assert_eq!(answer.status, 404);
    let ecosystem = service.ecosystem.id.as_str();
    assert_eq!(
        answer.body,
        format!("Ecosystem with id {ecosystem} does not exist.")
    );
}

#[tokio::test]
async fn an_inactive_user_gets_a_409() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.set_active(&bob, false).await;
    let answer = service.mint(&bob, "").await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(
        answer.body,
        r#"{"errorType":"Conflict","errors":[{"message":"user is inactive"}]}"#
    );
}

#[tokio::test]
async fn a_server_token_mints_only_in_its_ecosystem_and_reveals_no_other_ecosystem() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::SlidingTtl)
        .await;
    assert_eq!(service.mint_as(&server, &bob, "").await.status, 200);

    let other = service.another_ecosystem().await;
    let there = service
        .mint_as(&server, &format!("{};bob", other.id.as_str()), "")
        .await;
    let nowhere = service
        .mint_as(&server, "C58521fd8a5d9b5cc21987501;bob", "")
        .await;
    assert_forbidden(&there);
    assert_forbidden(&nowhere);
    assert_eq!(there.body, nowhere.body);
}

#[tokio::test]
async fn a_user_token_is_not_allowed_to_mint() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}"))
            .await
            .token();
        assert_forbidden(&service.mint_as(&token, &bob, "").await);
    }
}

#[tokio::test]
async fn the_checks_come_in_the_order_credential_right_request_existence() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let user = service.mint(&bob, "").await.token();
    let server = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    let unknown = "C58521fd8a5d9b5cc21987501;bob";

    assert_unauthorized(
        &service.mint_as("|", "bad", "ttl=0").await,
        r#"Bearer realm="tokenry", error="invalid_token""#,
    );
    assert_forbidden(&service.mint_as(&user, "bad", "ttl=0").await);
    assert_forbidden(&service.mint_as(&server, unknown, "ttl=0").await);
    let bad_name = "C58521fd8a5d9b5cc21987501;a%20b";
    assert_forbidden(&service.mint_as(&server, bad_name, "").await);
    let answer = service.mint(unknown, "ttl=0").await;
    assert_invalid(&answer, &[("query", "ttl", POSITIVE)]);
    assert_eq!(service.mint(unknown, "").await.status, 404);
}

#[tokio::test]
async fn a_token_of_another_deployment_is_refused() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let elsewhere = Service::start().await;
    let answer = service.mint_as(&elsewhere.account_token, &bob, "").await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
}

#[tokio::test]
async fn an_expired_credential_is_refused() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::FixedTtl)
        .await;
    assert_eq!(service.mint_as(&server, &bob, "").await.status, 200);
    service.clock.advance(3600);
    let answer = service.mint_as(&server, &bob, "").await;
    assert_unauthorized(&answer, r#"Bearer realm="tokenry", error="invalid_token""#);
}

#[tokio::test]
async fn only_a_hash_of_the_token_is_stored() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=60&maxTtl=90&name=key")
        .await;
    let put = service
        .database
        .take_calls()
        .into_iter()
        .find(|call| call.operation == "PutItem");
    let put = put
        .expect("the request makes a `PutItem` operation")
        .request;
    assert!(!put.to_string().contains(&minted.token()));

    let item = &put["Item"];
    let second = |seconds: u64| (TestClock::START + seconds).to_string();
    assert_eq!(item["expires_at"]["N"], second(60));
    assert_eq!(item["max_expires_at"]["N"], second(90));
    assert_eq!(item["created_at"]["N"], second(0));
    assert_eq!(item["ttl"]["N"], "60");
    assert_eq!(item["name"]["S"], "key");
    assert_eq!(item["scope"]["S"], "read write");
    let id = minted.json()["tokenId"].as_str().unwrap().to_owned();
    assert_eq!(item["item"]["S"], format!("token#{id}"));
}

#[tokio::test]
async fn a_token_that_never_expires_has_no_expires_at_attribute() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.mint(&bob, "expiryType=Infinite&ttl=5").await;
    let calls = service.database.take_calls();
    let put = calls
        .iter()
        .find(|call| call.operation == "PutItem")
        .expect("the request makes a `PutItem` operation");
    assert!(put.request["Item"].get("expires_at").is_none());
}

#[tokio::test]
async fn a_body_up_to_16_kib_is_ignored_and_a_larger_body_gets_a_413() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let request = |length| {
        service
            .request("POST", &format!("/api/users/{bob}/tokens"))
            .header("authorization", &service.account_token)
            .body("x".repeat(length))
    };
    assert_eq!(service.send(request(16 * 1024)).await.status, 200);
    let answer = service.send(request(16 * 1024 + 1)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["errorType"], "PayloadTooLarge");
}
