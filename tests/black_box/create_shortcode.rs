//! Tests of `POST /api/auth/shortcode/create`.

use serde_json::{Value, json};
use shared::{
    config::Settings,
    domain::{id::UserId, shortcode::CodeSpace, token::ExpiryType},
};
use tests::{Answer, Fault, Service};

use crate::{assert_forbidden, assert_invalid, assert_scope_missing, assert_unknown, calls::shape};

const PATH: &str = "/api/auth/shortcode/create";

async fn create(service: &Service, body: &Value) -> Answer {
    service.manage("POST", PATH, &body.to_string()).await
}

#[tokio::test]
async fn a_code_for_an_environment_belongs_to_a_new_user() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let body = json!({ "environmentId": environment }).to_string();
    for credential in [&service.account_token, &server] {
        let answer = service.call(credential, "POST", PATH, &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let made = answer.json();
        let code = made["shortcode"].as_str().unwrap();
        assert!(
            code.len() == 6
                && code
                    .chars()
                    .all(|c| shared::domain::shortcode::ALPHABET.contains(c))
        );
        let ecosystem = service.ecosystem.id.as_str();
        let expected = json!({
            "shortcode": code,
            "ecosystemId": ecosystem,
            "environmentId": environment,
            "userId": format!("{ecosystem};short|{code}"),
        });
        assert_eq!(made, expected);
    }
}

#[tokio::test]
async fn a_code_for_a_user_belongs_to_that_user() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let answer = create(&service, &json!({ "userId": bob })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let expected = json!({
        "shortcode": answer.json()["shortcode"],
        "ecosystemId": service.ecosystem.id.as_str(),
        "userId": bob,
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn a_body_with_both_ids_or_without_an_id_gets_the_documented_error() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let bob = service.user("bob").await;
    let expected = json!({
        "errorType": "InvalidBody",
        "errors": [{
            "path": "id",
            "message": "Shortcode must be generated from either an environmentId or userId.",
        }],
    });
    for body in [
        json!({}),
        json!({ "shortCodeTtl": 60 }),
        json!({ "shortCodeTtl": 0, "more": 1 }),
        json!({ "environmentId": environment, "userId": bob }),
        json!({ "environmentId": null, "userId": null }),
    ] {
        let answer = create(&service, &body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, expected.clone()),
            "{body}"
        );
    }
}

#[tokio::test]
async fn all_problems_of_the_fields_are_reported_in_one_response() {
    let service = Service::start().await;
    let body = json!({
        "environmentId": "bad",
        "shortCodeTtl": 3601,
        "tokenExpiryType": "infinite",
        "tokenTtl": true,
        "extra": 1,
    });
    let one_of = "field must be one of the following values: Infinite, FixedTtl, SlidingTtl";
    assert_invalid(
        &create(&service, &body).await,
        &[
            ("body", "environmentId", "invalid environment id"),
            ("body", "shortCodeTtl", "field must be at most 3600"),
            ("body", "tokenExpiryType", one_of),
            ("body", "tokenTtl", "expected field to be a number"),
            (
                "body",
                "additional parameters",
                "contains fields that are not allowed: [ extra ]",
            ),
        ],
    );
    let answer = create(&service, &json!({ "environmentId": "E1" })).await;
    let expected = json!({
        "errorType": "InvalidParams",
        "errors": [{
            "in": "body",
            "message": "invalid environment id",
            "path": "environmentId",
        }],
    });
    assert_eq!(answer.json(), expected);
    let answer = create(&service, &json!({ "userId": "bob" })).await;
    assert_invalid(&answer, &[("body", "userId", "invalid user id")]);
    let answer = create(&service, &json!({ "userId": null })).await;
    assert_invalid(&answer, &[("body", "userId", "invalid user id")]);
}

#[tokio::test]
async fn a_number_must_be_a_whole_json_number_in_range() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (number, positive) = (
        "expected field to be a number",
        "field must be a positive number",
    );
    for (raw, message) in [
        ("\"60\"", number),
        ("true", number),
        ("null", number),
        ("[60]", number),
        ("1.5", number),
        ("15e-1", number),
        ("0", positive),
        ("-0.0", positive),
        ("-1", positive),
        ("-6e1", positive),
        ("3601.0", "field must be at most 3600"),
        ("3601", "field must be at most 3600"),
        ("18446744073709551615", "field must be at most 3600"),
        (
            "1000000000000000000000000000000",
            "field must be at most 3600",
        ),
    ] {
        let body = format!(r#"{{"userId":"{bob}","shortCodeTtl":{raw}}}"#);
        let answer = service.manage("POST", PATH, &body).await;
        assert_invalid(&answer, &[("body", "shortCodeTtl", message)]);
    }
    let body = format!(r#"{{"userId":"{bob}","tokenTtl":1,"tokenTtl":1}}"#);
    let answer = service.manage("POST", PATH, &body).await;
    assert_invalid(&answer, &[("body", "tokenTtl", "field must be given once")]);
    assert!(service.ephemeral_items().await.is_empty());
}

#[tokio::test]
async fn a_query_string_is_refused() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let body = json!({ "userId": bob }).to_string();
    let answer = service
        .manage("POST", &format!("{PATH}?userId=x&a"), &body)
        .await;
    let message = "contains fields that are not allowed: [ userId, a ]";
    assert_invalid(&answer, &[("query", "additional parameters", message)]);
}

#[tokio::test]
async fn an_unknown_environment_or_user_gets_a_404_and_an_inactive_user_gets_a_409() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ecosystem = service.ecosystem.id.as_str();
    let unknown = "E58521fd8a5d9b5cc21987501";
    let answer = create(&service, &json!({ "environmentId": unknown })).await;
    assert_unknown(
        &answer,
        &format!("Environment with id {unknown} does not exist."),
    );
    let answer = create(
        &service,
        &json!({ "userId": "C58521fd8a5d9b5cc21987501;x" }),
    )
    .await;
    assert_unknown(
        &answer,
        "Ecosystem with id C58521fd8a5d9b5cc21987501 does not exist.",
    );
    let answer = create(&service, &json!({ "userId": format!("{ecosystem};x") })).await;
    assert_unknown(
        &answer,
        &format!("User with id {ecosystem};x does not exist."),
    );
    service.set_active(&bob, false).await;
    assert_eq!(
        create(&service, &json!({ "userId": bob })).await.status,
        409
    );
}

#[tokio::test]
async fn an_environment_of_another_account_another_ecosystem_or_a_deleted_ecosystem_gets_a_404() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment }).to_string();
    let text = format!("Environment with id {environment} does not exist.");
    let (foreign, _) = service.another_account().await;
    let other = service.another_ecosystem().await;
    let (_, server) = service.server_token(&other).await;
    for credential in [&foreign, &server] {
        assert_unknown(&service.call(credential, "POST", PATH, &body).await, &text);
    }
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    service.manage("DELETE", &path, "").await;
    assert_unknown(&service.manage("POST", PATH, &body).await, &text);
}

#[tokio::test]
async fn a_server_gets_a_403_for_a_user_of_another_ecosystem() {
    let service = Service::start().await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let other = service.another_ecosystem().await;
    for ecosystem in [other.id.as_str(), "C58521fd8a5d9b5cc21987501"] {
        for name in ["bob", "a b"] {
            let body = json!({ "userId": format!("{ecosystem};{name}"), "shortCodeTtl": 0 });
            assert_forbidden(&service.call(&server, "POST", PATH, &body.to_string()).await);
        }
    }
}

#[tokio::test]
async fn a_user_creates_codes_only_for_itself_and_only_with_scope_write() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let ann = service.user("ann").await;
    let environment = service.environment(&service.ecosystem).await;
    let minted = service.mint(&bob, "").await;
    let token = minted.token();
    let own = json!({ "userId": bob }).to_string();
    assert_eq!(service.call(&token, "POST", PATH, &own).await.status, 201);
    for body in [
        json!({ "userId": ann }),
        json!({ "environmentId": environment }),
        json!({ "environmentId": "bad" }),
        json!({ "environmentId": environment, "userId": bob }),
        json!({ "userId": "bad" }),
    ] {
        assert_forbidden(&service.call(&token, "POST", PATH, &body.to_string()).await);
    }
    let bob = &UserId::parse(&bob).unwrap();
    service
        .set_scope(bob, minted.json()["tokenId"].as_str().unwrap(), "read")
        .await;
    let answer = service.call(&token, "POST", PATH, &own).await;
    assert_scope_missing(&answer, "tokenry:codes:write");
}

#[tokio::test]
async fn creating_a_code_takes_two_round_trips() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    create(&service, &json!({ "userId": bob })).await;
    let calls = service.database.take_calls();
    assert_eq!(
        shape(&calls),
        [("BatchGetItem", 4.0), ("TransactWriteItems", 4.0)]
    );
    let (_, server) = service.server_token(&service.ecosystem).await;
    let body = json!({ "environmentId": environment }).to_string();
    service.call(&server, "POST", PATH, &body).await;
    let calls = service.database.take_calls();
    assert_eq!(
        shape(&calls),
        [("BatchGetItem", 3.0), ("TransactWriteItems", 4.0)]
    );
}

/// Starts a service whose codes have one character, from this alphabet. So only few codes exist.
async fn with_codes_of(alphabet: &'static str) -> Service {
    let code_space = CodeSpace::new(alphabet, 1);
    Service::start_with(Settings {
        code_space,
        ..Settings::default()
    })
    .await
}

#[tokio::test]
async fn a_valid_code_is_never_overwritten_and_an_expired_code_is_replaced() {
    let service = with_codes_of("A").await;
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    let for_bob = json!({ "userId": bob, "shortCodeTtl": 60 });
    let for_environment = json!({ "environmentId": environment, "shortCodeTtl": 60 });
    assert_eq!(create(&service, &for_bob).await.status, 201);
    let live = service.ephemeral_items().await;
    for body in [&for_bob, &for_environment] {
        assert_eq!(create(&service, body).await.status, 503);
    }
    assert_eq!(service.ephemeral_items().await, live);
    service.clock.advance(59);
    assert_eq!(create(&service, &for_bob).await.status, 503);
    service.clock.advance(1);
    assert_eq!(create(&service, &for_environment).await.status, 201);
    assert_ne!(service.ephemeral_items().await, live);
    service.clock.advance(60);
    assert_eq!(create(&service, &for_bob).await.status, 201);
}

#[tokio::test]
async fn another_code_is_generated_if_the_user_of_the_first_code_exists_already() {
    let service = with_codes_of("AB").await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment, "shortCodeTtl": 1 });
    let mut codes = Vec::new();
    for _ in 0..2 {
        let made = create(&service, &body).await.json();
        let code = made["shortcode"].as_str().unwrap().to_owned();
        let consume = json!({ "shortcode": code }).to_string();
        let consumed = service
            .manage("POST", "/api/auth/shortcode/consume", &consume)
            .await;
        assert_eq!(consumed.status, 200, "{consumed:?}");
        codes.push(code);
    }
    codes.sort();
    assert_eq!(codes, ["A", "B"]);
    assert_eq!(
        create(&service, &body).await.status,
        503,
        "the users of both codes exist"
    );
}

#[tokio::test]
async fn each_request_creates_exactly_one_code_even_if_a_database_response_is_lost() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    assert_eq!(
        create(&service, &json!({ "userId": bob })).await.status,
        201
    );
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    assert_eq!(
        create(&service, &json!({ "environmentId": environment }))
            .await
            .status,
        201
    );
    assert_eq!(service.ephemeral_items().await.len(), 2);
}

#[tokio::test]
async fn an_expired_server_token_is_refused() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .token_of(&service.ecosystem, ExpiryType::FixedTtl)
        .await;
    service.clock.advance(3600);
    let body = json!({ "userId": bob }).to_string();
    assert_eq!(service.call(&token, "POST", PATH, &body).await.status, 401);
}
