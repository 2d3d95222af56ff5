//! Tests of `POST /api/auth/shortcode/consume`.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::config::Settings;
use tests::{Answer, Event, Fault, Service, TestClock, pause, rounds};

use crate::{assert_invalid, assert_unknown};

const PATH: &str = "/api/auth/shortcode/consume";

/// Creates a short code with this request body. Returns the body of the response, and the code.
pub(crate) async fn code(service: &Service, body: Value) -> (Value, String) {
    let answer = service
        .manage("POST", "/api/auth/shortcode/create", &body.to_string())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = answer.json();
    let code = made["shortcode"].as_str().unwrap().to_owned();
    service.database.take_calls();
    (made, code)
}

pub(crate) fn attempt(code: &str) -> Event {
    Event::to("consume-shortcode").json_body(&json!({ "shortcode": code }).to_string())
}

pub(crate) async fn consume(service: &Service, code: &str) -> Answer {
    attempt(code).send(&service.app).await
}

/// Starts a service without the limit on failed attempts per minute.
pub(crate) async fn without_minute_limit() -> Service {
    let settings = Settings {
        shortcode_failures_per_minute: u32::MAX,
        ..Settings::default()
    };
    Service::start_with(settings).await
}

#[tokio::test]
async fn a_users_code_gives_the_requested_token_once() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let body = json!({ "userId": bob, "tokenExpiryType": "SlidingTtl", "tokenTtl": 60 });
    let (_, code) = code(&service, body).await;
    let request = service
        .request("POST", PATH)
        .header("content-type", "application/json");
    let typed = code.to_lowercase();
    let typed = format!(r#"{{"shortcode":" {}-{} "}}"#, &typed[..3], &typed[3..]);
    let answer = service.send(request.body(typed)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let got = answer.json();
    let expected = json!({
        "token": got["token"],
        "tokenId": got["tokenId"],
        "expiryType": "SlidingTtl",
        "expiresAt": "2100-01-01T00:01:00Z",
        "ecosystemId": service.ecosystem.id.as_str(),
        "userId": bob,
    });
    assert_eq!(got, expected);
    let claims = service.introspect(&answer.token()).await.json();
    assert_eq!(
        (&claims["sub"], &claims["scope"]),
        (&json!(bob), &json!("read write"))
    );
    assert!(claims.get("environment_id").is_none());
    assert_unknown(
        &consume(&service, &code).await,
        &format!("Shortcode {code} does not exist."),
    );
}

#[tokio::test]
async fn the_exchange_of_an_environments_code_creates_the_user_of_the_code() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment, "tokenExpiryType": "Infinite" });
    let (made, code) = code(&service, body).await;
    let answer = consume(&service, &code).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let got = answer.json();
    for name in ["ecosystemId", "environmentId", "userId"] {
        assert_eq!(got[name], made[name]);
    }
    assert!(got["expiresAt"].is_null());
    let claims = service.introspect(&answer.token()).await.json();
    assert_eq!(claims["sub"], made["userId"]);
    assert_eq!(claims["environment_id"], environment);
    let user = made["userId"].as_str().unwrap();
    assert_eq!(
        service.mint(user, "").await.status,
        200,
        "a token can be minted for the new user"
    );
}

#[tokio::test]
async fn unknown_used_expired_and_invalidated_codes_get_the_same_response() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, used) = code(&service, json!({ "userId": bob })).await;
    consume(&service, &used).await;
    let (_, expired) = code(&service, json!({ "userId": bob, "shortCodeTtl": 10 })).await;
    service.clock.advance(10);
    let (_, invalid) = code(&service, json!({ "userId": bob })).await;
    service
        .manage("PUT", &format!("/api/users/{bob}"), r#"{"active":false}"#)
        .await;
    let mut answers = Vec::new();
    for (number, code) in ["A2B3C4", &used, &expired, &invalid]
        .into_iter()
        .enumerate()
    {
        let event = attempt(code).source(&format!("192.0.2.{number}"));
        let answer = event.send(&service.app).await;
        assert_unknown(&answer, &format!("Shortcode {code} does not exist."));
        answers.push(answer.headers);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn the_first_use_of_a_code_of_a_deactivated_or_deleted_user_gets_a_404_and_deletes_the_code()
{
    let service = without_minute_limit().await;
    for (name, method, body) in [("bob", "PUT", r#"{"active":false}"#), ("ann", "DELETE", "")] {
        let user = service.user(name).await;
        let (_, code) = code(&service, json!({ "userId": user })).await;
        let path = format!("/api/users/{user}");
        assert!(service.manage(method, &path, body).await.status < 300);
        let tokens = service.count_tokens().await;
        let text = format!("Shortcode {code} does not exist.");
        assert_unknown(&consume(&service, &code).await, &text);
        let items = service.ephemeral_items().await;
        assert!(
            items
                .iter()
                .all(|item| item["key"].as_s().unwrap() != &format!("code#{code}"))
        );
        // The code stays invalid even if the user is activated or created again.
        service.manage("PUT", &path, r#"{"active":true}"#).await;
        assert_unknown(&consume(&service, &code).await, &text);
        assert_eq!(service.count_tokens().await, tokens);
    }
}

#[tokio::test]
async fn an_invalid_code_gets_a_503_if_the_code_cannot_be_deleted() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    service
        .manage("PUT", &format!("/api/users/{bob}"), r#"{"active":false}"#)
        .await;
    service
        .database
        .fail((0..4).map(|_| ("DeleteItem", Fault::Throttled)));
    let _paused = pause();
    assert_eq!(consume(&service, &code).await.status, 503);
    assert_eq!(consume(&service, &code).await.status, 404);
}

#[tokio::test]
async fn an_invalid_code_is_not_deleted_if_a_new_code_with_the_same_text_replaced_it_meanwhile() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    service
        .manage("PUT", &format!("/api/users/{bob}"), r#"{"active":false}"#)
        .await;
    let held_up = ("DeleteItem", Fault::NotBefore("Scan"));
    service.database.fail([held_up]);
    let key = AttributeValue::S(format!("code#{code}"));
    let _paused = pause();
    let meanwhile = async {
        service.database.has_arrived("DeleteItem").await;
        // Replace the nonce directly in the database. The item is then a different code with the
        // same text.
        let nonce = AttributeValue::B(Blob::new([9; 16]));
        let call = service.client.update_item().key("key", key.clone());
        call.table_name(&service.tables.ephemeral)
            .update_expression("SET nonce = :nonce")
            .expression_attribute_values(":nonce", nonce)
            .send()
            .await
            .unwrap();
        service.ephemeral_items().await;
    };
    let (answer, ()) = tokio::join!(consume(&service, &code), meanwhile);
    assert_eq!(answer.status, 404, "{answer:?}");
    let items = service.ephemeral_items().await;
    assert!(items.iter().any(|item| item["key"] == key));
}

#[tokio::test]
async fn a_code_stays_invalid_if_its_user_is_deactivated_and_activated_again() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    let path = format!("/api/users/{bob}");
    for body in [r#"{"active":false}"#, r#"{"active":true}"#] {
        service.manage("PUT", &path, body).await;
    }
    assert_eq!(consume(&service, &code).await.status, 404);
}

#[tokio::test]
async fn a_code_of_a_deleted_environment_or_ecosystem_gets_a_404() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let (_, one) = code(&service, json!({ "environmentId": environment })).await;
    service
        .manage("DELETE", &format!("/api/environments/{environment}"), "")
        .await;
    assert_eq!(consume(&service, &one).await.status, 404);

    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    let (_, one) = code(&service, json!({ "environmentId": environment })).await;
    let (_, two) = code(&service, json!({ "userId": bob })).await;
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    service.manage("DELETE", &path, "").await;
    assert_eq!(consume(&service, &one).await.status, 404);
    assert_eq!(consume(&service, &two).await.status, 404);
}

#[tokio::test]
async fn the_tokens_of_a_deleted_environments_users_become_invalid_within_30_seconds() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment, "tokenExpiryType": "Infinite" });
    let (_, code) = code(&service, body).await;
    let token = consume(&service, &code).await.token();
    assert!(service.is_active(&token).await);
    service.clock.advance(1);
    service
        .manage("DELETE", &format!("/api/environments/{environment}"), "")
        .await;
    let elsewhere = service
        .introspection(&token)
        .send(&service.another_environment())
        .await;
    assert_eq!(elsewhere.json()["active"], false);
    service.clock.advance(28);
    assert!(service.is_active(&token).await);
    service.clock.advance(1);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn a_code_created_with_a_user_token_gives_a_token_that_expires_no_later_than_the_user_token()
{
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "ttl=100").await.token();
    for (asked, expiry_type) in [
        (json!({ "tokenExpiryType": "Infinite" }), "FixedTtl"),
        (
            json!({ "tokenExpiryType": "FixedTtl", "tokenTtl": 3600 }),
            "FixedTtl",
        ),
        (
            json!({ "tokenExpiryType": "SlidingTtl", "tokenTtl": 3600 }),
            "SlidingTtl",
        ),
    ] {
        let mut body = asked.clone();
        body["userId"] = json!(bob);
        let body = body.to_string();
        let made = service
            .call(&token, "POST", "/api/auth/shortcode/create", &body)
            .await;
        let code = made.json()["shortcode"].as_str().unwrap().to_owned();
        let got = consume(&service, &code).await;
        assert_eq!(got.json()["expiryType"], expiry_type, "{asked}");
        assert_eq!(got.json()["expiresAt"], "2100-01-01T00:01:40Z", "{asked}");
        let exp = service.introspect(&got.token()).await.json()["exp"].clone();
        assert_eq!(exp, json!(TestClock::START + 100), "{asked}");
    }
    // The code expires no later than the user token, although the requested lifetime is longer.
    let body = json!({ "userId": bob, "shortCodeTtl": 3600 }).to_string();
    let made = service
        .call(&token, "POST", "/api/auth/shortcode/create", &body)
        .await
        .json();
    service.clock.advance(100);
    assert_eq!(
        consume(&service, made["shortcode"].as_str().unwrap())
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn the_request_that_consumes_a_code_cannot_change_the_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob, "tokenTtl": 60 })).await;
    let body = format!(r#"{{"shortcode":"{code}","tokenTtl":3600,"scope":"all"}}"#);
    let answer = Event::to("consume-shortcode")
        .json_body(&body)
        .send(&service.app)
        .await;
    let message = "contains fields that are not allowed: [ tokenTtl, scope ]";
    assert_invalid(&answer, &[("body", "additional parameters", message)]);
    let answer = attempt(&code)
        .query("tokenTtl=3600")
        .send(&service.app)
        .await;
    let message = "contains fields that are not allowed: [ tokenTtl ]";
    assert_invalid(&answer, &[("query", "additional parameters", message)]);
    let got = consume(&service, &code).await.json();
    assert_eq!(got["expiresAt"], "2100-01-01T00:01:00Z");
}

#[tokio::test]
async fn the_exchange_of_a_valid_code_takes_five_round_trips() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    // The first update counts the attempt for its source. The second update counts the attempt for
    // the deployment, and runs in parallel with the `GetItem` that reads the code. The last two
    // updates take the attempt back, in parallel.
    assert_eq!(consume(&service, &code).await.status, 200);
    let calls = service.database.take_calls();
    let operations: Vec<_> = calls.iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(
        operations,
        [
            "UpdateItem",
            "UpdateItem",
            "GetItem",
            "BatchGetItem",
            "TransactWriteItems",
            "UpdateItem",
            "UpdateItem",
        ]
    );
}

#[tokio::test]
async fn an_attempt_is_counted_during_the_read_of_the_code_and_is_taken_back_in_parallel() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let (read, update) = ("GetItem", "UpdateItem");
    for faults in [
        // The second update and the read of the code wait for each other.
        vec![
            (update, Fault::None),
            (update, Fault::NotBefore(read)),
            (read, Fault::NotBeforeAll(update, 2)),
        ],
        // The first update that takes the attempt back waits for the second such update.
        vec![
            (update, Fault::None),
            (update, Fault::None),
            (update, Fault::NotBeforeAll(update, 4)),
        ],
    ] {
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        service.database.fail(faults);
        assert_eq!(consume(&service, &code).await.status, 200);
        // If one of these operations waited in vain, a timeout would cause one more operation or
        // one fewer.
        let operations = service.database.take_operations();
        let others = ["BatchGetItem", read, "TransactWriteItems"];
        assert_eq!(operations, [&others[..], &[update; 4]].concat());
    }
}

#[tokio::test]
async fn exactly_one_of_200_concurrent_attempts_gets_the_token() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let paused = pause();
    for round in 0..rounds(100) {
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        let before = service.token_items(&bob).await.len();
        let attempts = (0..200).map(|number| {
            let event = attempt(&code).source(&format!("10.{round}.{number}.1"));
            let app = &service.app;
            async move { event.send(app).await.status }
        });
        let statuses = join_all(attempts).await;
        let count = |status| statuses.iter().filter(|s| **s == status).count();
        assert_eq!((count(200), count(404)), (1, 199), "round {round}");
        assert_eq!(service.token_items(&bob).await.len(), before + 1);
    }
    drop(paused);
}

#[tokio::test]
async fn a_code_is_deleted_exactly_when_its_token_is_created_even_if_a_database_operation_fails() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let steps = ["UpdateItem", "GetItem", "TransactWriteItems"];
    for (number, (operation, fault)) in steps
        .iter()
        .flat_map(|step| {
            [
                Fault::AnswerLost,
                Fault::Unreachable,
                Fault::NoAnswer,
                Fault::ServerError,
            ]
            .map(|fault| (*step, fault))
        })
        .enumerate()
    {
        for times in [1, 20] {
            let (_, code) = code(&service, json!({ "userId": bob })).await;
            let before = service.token_items(&bob).await.len();
            service
                .database
                .fail((0..times).map(|_| (operation, fault.clone())));
            let paused = pause();
            let event = attempt(&code).source(&format!("10.0.{number}.{times}"));
            let status = event.send(&service.app).await.status;
            drop(paused);
            service.database.take_faults();
            let made = service.token_items(&bob).await.len() - before;
            let items = service.ephemeral_items().await;
            let there = items
                .iter()
                .any(|i| i["key"].as_s().unwrap() == &format!("code#{code}"));
            assert_eq!(made, usize::from(!there), "{operation} {fault:?} {times}");
            assert!(
                status == 200 || status == 503,
                "{operation} {fault:?} {times}: {status}"
            );
            assert!(made == 1 || status != 200, "{operation} {fault:?} {times}");
        }
    }
}

#[tokio::test]
async fn a_code_for_a_user_that_an_environments_code_created_belongs_to_the_same_environment() {
    let service = without_minute_limit().await;
    let environment = service.environment(&service.ecosystem).await;
    let (made, first) = code(&service, json!({ "environmentId": environment })).await;
    assert_eq!(consume(&service, &first).await.status, 200);
    let (_, second) = code(&service, json!({ "userId": made["userId"] })).await;
    let (_, third) = code(&service, json!({ "userId": made["userId"] })).await;
    assert_eq!(
        consume(&service, &second).await.json()["environmentId"],
        environment
    );
    service
        .manage("DELETE", &format!("/api/environments/{environment}"), "")
        .await;
    assert_eq!(consume(&service, &third).await.status, 404);
}

#[tokio::test]
async fn a_code_whose_creation_was_retried_does_not_reappear_after_use() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    assert_eq!(consume(&service, &code).await.status, 200);
    let items = service.ephemeral_items().await;
    assert!(
        items
            .iter()
            .all(|item| item["key"].as_s().unwrap() != &format!("code#{code}"))
    );
}

#[tokio::test]
async fn a_valid_code_gives_its_token_even_if_the_attempt_cannot_be_taken_back() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    let counts = [("UpdateItem", Fault::None), ("UpdateItem", Fault::None)];
    let take_backs = [
        ("UpdateItem", Fault::NoAnswer),
        ("UpdateItem", Fault::NoAnswer),
    ];
    service.database.fail(counts.into_iter().chain(take_backs));
    let _paused = pause();
    assert_eq!(consume(&service, &code).await.status, 200);
}

#[tokio::test]
async fn a_database_failure_does_not_count_as_a_failed_attempt() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob })).await;
    let _paused = pause();
    for _ in 0..8 {
        service
            .database
            .fail((0..3).map(|_| ("GetItem", Fault::Throttled)));
        assert_eq!(consume(&service, &code).await.status, 503);
    }
    assert_eq!(consume(&service, &code).await.status, 200);
}

#[tokio::test]
async fn a_transaction_that_conflicts_or_is_throttled_is_retried() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for codes in [
        &["None", "TransactionConflict"][..],
        &["None", "ThrottlingError"],
        &["None", "ProvisionedThroughputExceeded"],
    ] {
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        let cancelled = Fault::TransactionCancelled(codes);
        let transaction = "TransactWriteItems";
        service.database.fail(vec![(transaction, cancelled); 2]);
        assert_eq!(consume(&service, &code).await.status, 200, "{codes:?}");
    }
}

#[tokio::test]
async fn a_transaction_with_a_false_condition_is_not_retried_even_if_it_is_also_throttled() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for codes in [
        &["ConditionalCheckFailed", "ThrottlingError"][..],
        &["ConditionalCheckFailed", "ProvisionedThroughputExceeded"],
        &["ConditionalCheckFailed", "TransactionConflict"],
    ] {
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        let cancelled = Fault::TransactionCancelled(codes);
        service.database.fail([("TransactWriteItems", cancelled)]);
        let answer = consume(&service, &code).await;
        assert_unknown(&answer, &format!("Shortcode {code} does not exist."));
        let operations = service.database.take_operations();
        let transactions = operations.iter().filter(|o| *o == "TransactWriteItems");
        assert_eq!(transactions.count(), 1, "{codes:?}");
    }
}
