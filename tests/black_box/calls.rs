//! Tests of the database operations of each request. Round trips determine the latency, and
//! capacity units determine the bill.

use std::time::Duration;

use functions::{FUNCTIONS, authorize};
use lambda_http::{Context, LambdaEvent};
use serde_json::{json, value::to_raw_value};
use shared::{App, domain::token::ExpiryType, service::deadline::Deadline};
use tests::{Answer, Call, Event, Fault, Service, pause};

use crate::{
    ROWS, change_password,
    consume_shortcode::{self, code},
    create_email_token::{BOB, PASSWORD, ask, datum, value, with_bob},
    refusals::{Calls, Case},
    token_metadata,
    update_ecosystem::change,
};

/// Cases that [`ROWS`] does not contain. Each entry consists of the function, the case, and the
/// expected database operations.
pub(crate) const VARIANTS: &[(&str, &str, Calls)] = &[
    ("introspect-token", "without a well-formed token", &[]),
    (
        "introspect-token",
        "with its ecosystem cached",
        &[("BatchGetItem", 4.0)],
    ),
    (
        "introspect-token",
        "of a sliding token",
        &[("BatchGetItem", 5.0), ("UpdateItem", 1.0)],
    ),
    (
        "introspect-token",
        "of a token with 1 KB of metadata",
        &[("BatchGetItem", 5.0)],
    ),
    (
        "introspect-token",
        "of a sliding token with 1 KB of metadata",
        &[("BatchGetItem", 5.0), ("UpdateItem", 2.0)],
    ),
    (
        "introspect-token",
        "of a token whose last use is written, about once an hour",
        &[("BatchGetItem", 5.0), ("UpdateItem", 1.0)],
    ),
    ("whoami", "of a user's token", &[("BatchGetItem", 3.0)]),
    (
        "whoami",
        "with its ecosystem cached",
        &[("BatchGetItem", 2.0)],
    ),
    (
        "whoami",
        "of a sliding token",
        &[("BatchGetItem", 3.0), ("UpdateItem", 1.0)],
    ),
    (
        "whoami",
        "of a token whose last use is written, about once an hour",
        &[("BatchGetItem", 3.0), ("UpdateItem", 1.0)],
    ),
    ("authorize", "", &[("BatchGetItem", 3.0)]),
    (
        "authorize",
        "with its ecosystem cached",
        &[("BatchGetItem", 2.0)],
    ),
    (
        "authorize",
        "of a sliding token",
        &[("BatchGetItem", 3.0), ("UpdateItem", 1.0)],
    ),
    (
        "authorize",
        "of a token whose last use is written, about once an hour",
        &[("BatchGetItem", 3.0), ("UpdateItem", 1.0)],
    ),
    (
        "authorize",
        "of a sliding token with 1 KB of metadata",
        &[("BatchGetItem", 3.0), ("UpdateItem", 2.0)],
    ),
    (
        "create-user-token",
        "with 1 KB of metadata",
        &[("BatchGetItem", 4.0), ("PutItem", 2.0)],
    ),
    (
        "list-user-tokens",
        "of 100 tokens",
        &[("BatchGetItem", 4.0), ("Query", 6.0)],
    ),
    (
        "list-user-tokens",
        "of 100 tokens with 1 KB of metadata",
        &[("BatchGetItem", 4.0), ("Query", 31.0)],
    ),
    (
        "update-user-token",
        "with 1 KB of metadata",
        &[("BatchGetItem", 5.0), ("UpdateItem", 2.0)],
    ),
    (
        "revoke-user-token",
        "with 1 KB of metadata",
        &[("BatchGetItem", 5.0), ("UpdateItem", 2.0)],
    ),
    (
        "create-user-token",
        "for a short code's user",
        &[
            ("BatchGetItem", 4.0),
            ("BatchGetItem", 1.0),
            ("PutItem", 1.0),
        ],
    ),
    (
        "create-user-token",
        "for a user with a limit of tokens",
        &[
            ("BatchGetItem", 4.0),
            ("BatchGetItem", 2.0),
            ("TransactWriteItems", 4.0),
        ],
    ),
    (
        "create-user-token",
        "for a user with a limit of tokens, for the first time",
        &[
            ("BatchGetItem", 4.0),
            ("BatchGetItem", 2.0),
            ("Query", 1.0),
            ("TransactWriteItems", 4.0),
        ],
    ),
    (
        "create-user-token",
        "which revokes the oldest of 3 tokens",
        &[
            ("BatchGetItem", 4.0),
            ("BatchGetItem", 2.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 6.0),
        ],
    ),
    (
        "revoke-user-tokens",
        "of a user without tokens",
        &[
            ("BatchGetItem", 4.0),
            ("PutItem", 1.0),
            ("Query", 1.0),
            ("TransactGetItems", 2.0),
        ],
    ),
    (
        "revoke-user-tokens",
        "of which one has made another",
        &[
            ("BatchGetItem", 4.0),
            ("PutItem", 1.0),
            ("Query", 1.0),
            ("TransactGetItems", 2.0),
            ("BatchWriteItem", 2.0),
            ("PutItem", 1.0),
        ],
    ),
    (
        "revoke-user-token",
        "of an e-mail token",
        &[("BatchGetItem", 5.0), ("TransactWriteItems", 5.0)],
    ),
    (
        "revoke-user-token",
        "that has made one other token",
        &[
            ("BatchGetItem", 5.0),
            ("TransactWriteItems", 4.0),
            ("Query", 1.0),
            ("UpdateItem", 1.0),
            ("BatchWriteItem", 1.0),
            ("Query", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "revoke-token",
        "of an e-mail token",
        &[("BatchGetItem", 2.0), ("TransactWriteItems", 5.0)],
    ),
    (
        "revoke-server-token",
        "that was revoked before",
        &[("BatchGetItem", 4.0)],
    ),
    (
        "delete-environment",
        "by a server",
        &[("BatchGetItem", 3.0), ("TransactWriteItems", 6.0)],
    ),
    (
        "put-user",
        "of a new user",
        &[("BatchGetItem", 4.0), ("TransactWriteItems", 4.0)],
    ),
    (
        "put-user",
        "of a new user, with an address and a password",
        &[
            ("BatchGetItem", 4.0),
            ("GetItem", 1.0),
            ("TransactWriteItems", 8.0),
        ],
    ),
    (
        "put-user",
        "with another password",
        &[("BatchGetItem", 4.0), ("TransactWriteItems", 4.0)],
    ),
    (
        "put-user",
        "with another address",
        &[
            ("BatchGetItem", 4.0),
            ("GetItem", 1.0),
            ("TransactWriteItems", 6.0),
        ],
    ),
    (
        "put-user",
        "with its address in capitals",
        &[("BatchGetItem", 4.0), ("PutItem", 1.0)],
    ),
    (
        "delete-user",
        "without an e-mail token",
        &[("BatchGetItem", 4.0), ("TransactWriteItems", 12.0)],
    ),
    (
        "delete-user",
        "without an address or a password",
        &[("BatchGetItem", 4.0), ("TransactWriteItems", 6.0)],
    ),
    (
        "create-shortcode",
        "for an environment",
        &[
            ("BatchGetItem", 3.0),
            ("BatchGetItem", 1.0),
            ("TransactWriteItems", 4.0),
        ],
    ),
    (
        "create-shortcode",
        "for an environment, by a server",
        &[("BatchGetItem", 3.0), ("TransactWriteItems", 4.0)],
    ),
    (
        "consume-shortcode",
        "for an environment",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 4.0),
            ("TransactWriteItems", 8.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "consume-shortcode",
        "of a code that a server token created",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 2.0),
            ("TransactWriteItems", 6.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "consume-shortcode",
        "of a code that a user token created",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 2.0),
            ("TransactWriteItems", 10.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "consume-shortcode",
        "from an IPv6 address",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 6.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "consume-shortcode",
        "through a back end",
        &[
            ("BatchGetItem", 2.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("TransactWriteItems", 6.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "consume-shortcode",
        "for a user with a limit of tokens",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("BatchGetItem", 2.0),
            ("TransactWriteItems", 8.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "create-email-token",
        "for a user with a limit of tokens",
        &[
            ("BatchGetItem", 2.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("BatchGetItem", 2.0),
            ("TransactWriteItems", 9.0),
        ],
    ),
    (
        "get-email-token-value",
        "of the first value in an execution environment",
        &[
            ("BatchGetItem", 2.0),
            ("GetItem", 1.0),
            ("BatchGetItem", 3.0),
            ("GetItem", 1.0),
        ],
    ),
    (
        "log-in-with-password",
        "without a valid e-mail token",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("TransactWriteItems", 7.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "log-in-with-password",
        "from an IPv6 address",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "log-in-with-password",
        "with a wrong password",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "log-in-with-password",
        "with an ecosystem id",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("BatchGetItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "log-in-with-password",
        "through a back end",
        &[
            ("BatchGetItem", 2.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "create-session",
        "with a wrong password",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "create-session",
        "for a user with a limit of tokens",
        &[
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("TransactGetItems", 6.0),
            ("BatchGetItem", 1.0),
            ("BatchGetItem", 2.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("TransactWriteItems", 6.0),
        ],
    ),
    (
        "change-password",
        "with a wrong password",
        &[
            ("BatchGetItem", 3.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
        ],
    ),
    (
        "change-password",
        "with the user's e-mail token",
        &[
            ("BatchGetItem", 3.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("GetItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("UpdateItem", 1.0),
            ("TransactWriteItems", 9.0),
        ],
    ),
    ("erase", "with an empty queue", &[("Query", 1.0); 16]),
];

/// Returns the name and the consumed capacity units of each database operation.
pub(crate) fn shape(calls: &[Call]) -> Vec<(&str, f64)> {
    calls
        .iter()
        .map(|call| (call.operation.as_str(), call.capacity))
        .collect()
}

#[tokio::test]
async fn minting_reads_four_items_and_writes_one() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.mint(&bob, "expiryType=SlidingTtl").await;
    let calls = service.database.take_calls();
    assert_eq!(shape(&calls), [("BatchGetItem", 4.0), ("PutItem", 1.0)]);

    // A user that an environment's code created belongs to the environment. So the request to mint
    // a token for this user also reads the environment.
    let environment = service.environment(&service.ecosystem).await;
    let body = serde_json::json!({ "environmentId": environment });
    let (made, code) = consume_shortcode::code(&service, body).await;
    consume_shortcode::consume(&service, &code).await;
    service.database.take_calls();
    let user = made["userId"].as_str().unwrap();
    assert_eq!(service.mint(user, "").await.status, 200);
    let calls = service.database.take_calls();
    let reads = [("BatchGetItem", 4.0), ("BatchGetItem", 1.0)];
    assert_eq!(shape(&calls), [&reads[..], &[("PutItem", 1.0)]].concat());
}

#[tokio::test]
async fn verifying_an_infinite_or_fixed_token_makes_one_read() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for kind in ["Infinite", "FixedTtl"] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}"))
            .await
            .token();
        let environment = service.another_environment();
        service.database.take_calls();
        // Each use reads two items for the caller's token, and two items for the token that is
        // verified. The first use also reads the user's ecosystem, which is cached for the second
        // use.
        for capacity in [5.0, 4.0] {
            let answer = service.introspection(&token).send(&environment).await;
            assert_eq!(answer.json()["active"], true);
            let calls = service.database.take_calls();
            assert_eq!(shape(&calls), [("BatchGetItem", capacity)], "{kind}");
            let request = &calls[0].request["RequestItems"];
            assert!(
                request
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|t| t["ConsistentRead"] == true)
            );
        }
    }
}

#[tokio::test]
async fn verifying_a_sliding_token_reads_and_writes_in_parallel() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.clock.advance(1);
    service.database.take_calls();
    // Each operation waits until the other one arrives, so sequential operations would never
    // finish.
    service.database.fail([
        ("BatchGetItem", Fault::NotBefore("UpdateItem")),
        ("UpdateItem", Fault::NotBefore("BatchGetItem")),
    ]);
    assert!(service.is_active(&token).await);
    let mut calls = service.database.take_calls();
    calls.sort_by(|a, b| a.operation.cmp(&b.operation));
    assert_eq!(shape(&calls), [("BatchGetItem", 5.0), ("UpdateItem", 1.0)]);
}

#[tokio::test]
async fn a_thousand_uses_in_a_second_make_at_most_two_writes() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.clock.advance(1);
    service.database.take_calls();
    let event = service.introspection(&token);
    // In a slow build, a thousand concurrent uses can take longer than the timeout of one database
    // operation. The paused clock prevents these timeouts.
    let paused = pause();
    let uses = (0..1000).map(|_| event.send(&service.app));
    for answer in futures_util::future::join_all(uses).await {
        assert_eq!(answer.json()["active"], true, "{answer:?}");
    }
    drop(paused);
    let operations = service.database.take_operations();
    let writes = operations
        .iter()
        .filter(|operation| *operation == "UpdateItem")
        .count();
    assert!((1..=2).contains(&writes), "{writes} writes");
    assert_eq!(operations.len(), 1000 + writes);

    // The first use in the next second renews the token again.
    service.clock.advance(1);
    assert!(service.is_active(&token).await);
    assert_eq!(
        service.database.take_operations(),
        ["BatchGetItem", "UpdateItem"]
    );
}

#[tokio::test]
async fn renewals_by_several_execution_environments_in_one_second_all_succeed() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=10")
        .await
        .token();
    service.clock.advance(9);
    let event = service.introspection(&token);
    let environments: Vec<_> = (0..8).map(|_| service.another_environment()).collect();
    let uses = environments
        .iter()
        .map(|environment| event.send(environment));
    for answer in futures_util::future::join_all(uses).await {
        assert_eq!(answer.json()["active"], true, "{answer:?}");
    }
    service.clock.advance(9);
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_use_makes_one_write_if_another_environment_renewed_the_token_in_the_same_second() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.clock.advance(1);
    assert!(service.is_active(&token).await);
    let environment = service.another_environment();
    service.database.take_calls();
    let answer = service.introspection(&token).send(&environment).await;
    assert_eq!(answer.json()["active"], true);
    let operations = service.database.take_operations();
    assert_eq!(operations, ["BatchGetItem", "UpdateItem"]);
}

/// The operation that reads the records of a token.
const READ: &str = "BatchGetItem";
/// The operation that renews a sliding token. A renewal costs one write unit even if its condition
/// is false.
const WRITE: &str = "UpdateItem";

/// Uses a token in this execution environment. Returns whether the token is active, and the
/// database operations in the order of arrival.
async fn used(service: &Service, token: &str, environment: &App) -> (bool, Vec<String>) {
    service.database.take_calls();
    let answer = service.introspection(token).send(environment).await;
    let calls = service.database.take_calls().into_iter();
    let operations = calls.map(|call| call.operation).collect();
    (answer.json()["active"] == true, operations)
}

/// Returns a service, a sliding token with a `ttl` of 20 seconds, and two execution environments
/// that have used this token in the same second. Both environments sent a renewal, but only the
/// renewal of the first environment was stored.
async fn two_users_of_a_token() -> (Service, String, [App; 2]) {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let query = "expiryType=SlidingTtl&ttl=20";
    let token = service.mint(&bob, query).await.token();
    let environments = [service.another_environment(), service.another_environment()];
    service.clock.advance(1);
    for environment in &environments {
        let (active, operations) = used(&service, &token, environment).await;
        assert!(active);
        assert_eq!(operations[1..], [WRITE]);
    }
    service.clock.advance(1);
    (service, token, environments)
}

#[tokio::test]
async fn a_token_that_two_execution_environments_use_is_written_once_a_second() {
    let (service, token, [first, second]) = two_users_of_a_token().await;
    for _ in 0..3 {
        // The first environment reads and renews at the same time, so it needs one round trip.
        service.database.fail([
            ("BatchGetItem", Fault::NotBefore("UpdateItem")),
            ("UpdateItem", Fault::NotBefore("BatchGetItem")),
        ]);
        let (active, mut operations) = used(&service, &token, &first).await;
        operations.sort_unstable();
        assert!(active);
        assert_eq!(operations, [READ, WRITE]);
        for environment in [&second, &first, &second] {
            let (active, operations) = used(&service, &token, environment).await;
            assert!(active);
            assert_eq!(operations, [READ]);
        }
        service.clock.advance(1);
    }
    // The first environment makes no more requests. So the second environment now renews the token.
    // In its first use, the renewal comes after the read. In its next use, the read and the renewal
    // run in parallel.
    let (active, operations) = used(&service, &token, &second).await;
    assert!(active);
    assert_eq!(operations, [READ, WRITE]);
    service.clock.advance(1);
    service
        .database
        .fail([("BatchGetItem", Fault::NotBefore("UpdateItem"))]);
    assert!(used(&service, &token, &second).await.0);
    // The last renewal was stored, so the token is still valid.
    service.clock.advance(19);
    assert!(used(&service, &token, &first).await.0);
}

#[tokio::test]
async fn an_execution_environment_that_reads_before_it_renews_rejects_expired_and_revoked_tokens() {
    let (service, token, [_, second]) = two_users_of_a_token().await;
    service.clock.advance(18);
    let (active, operations) = used(&service, &token, &second).await;
    assert!(active, "the token is valid in its last second");
    assert_eq!(operations, [READ, WRITE]);

    let (service, token, [first, second]) = two_users_of_a_token().await;
    service.clock.advance(19);
    let (active, operations) = used(&service, &token, &second).await;
    assert!(!active);
    // The second write ends the expired token permanently.
    assert_eq!(operations, [READ, WRITE, WRITE]);
    assert!(!used(&service, &token, &first).await.0);

    let (service, token, [first, second]) = two_users_of_a_token().await;
    assert!(used(&service, &token, &first).await.0);
    let revoke = Event::to("revoke-token").form(&format!("token={token}"));
    assert_eq!(revoke.send(&service.app).await.status, 200);
    let (active, operations) = used(&service, &token, &second).await;
    assert!(!active);
    assert_eq!(operations, [READ]);
}

#[tokio::test]
async fn the_first_use_of_an_expired_sliding_token_makes_one_more_write_to_end_it_permanently() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    // If the condition of a write is false, DynamoDB returns the stored item, which contains the
    // name of the token. The service must not mistake this name for the error code
    // `TransactionConflict`, which causes a retry.
    let query = "expiryType=SlidingTtl&ttl=5&name=TransactionConflict";
    let token = service.mint(&bob, query).await.token();
    service.clock.advance(5);
    service.database.take_calls();
    assert!(!service.is_active(&token).await);
    let operations = service.database.take_operations();
    assert_eq!(operations, ["BatchGetItem", "UpdateItem", "UpdateItem"]);
    // Another environment does not know yet that the token is expired. The database rejects the
    // renewal of this environment.
    service.clock.advance(1);
    let other = service.another_environment();
    service.introspection(&token).send(&other).await;
    let operations = service.database.take_operations();
    assert_eq!(operations, ["BatchGetItem", "UpdateItem"]);
}

#[tokio::test]
async fn a_transaction_is_not_retried_if_its_condition_is_false() {
    let service = Service::start().await;
    let put = Event::to("put-user")
        .header("authorization", &service.account_token)
        .parameter("id", &format!("{};ann", service.ecosystem.id.as_str()))
        .json_body("{}");
    let (read, write) = ("BatchGetItem", "TransactWriteItems");
    // Both requests find that the user does not exist, and try to create the user.
    let both = (write, Fault::NotBeforeAll(write, 2));
    service.database.fail([both.clone(), both]);
    let (one, other) = tokio::join!(put.send(&service.app), put.send(&service.app));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    let operations = service.database.take_operations();
    assert_eq!(operations, [read, read, "PutItem", write, write]);
}

#[tokio::test]
async fn introspection_does_not_look_up_a_malformed_token() {
    let service = Service::start().await;
    service.introspect("tk_uf_rubbish").await;
    let calls = service.database.take_calls();
    assert_eq!(calls.len(), 1);
    assert!(
        (calls[0].capacity - 2.0).abs() < f64::EPSILON,
        "only the caller's two items are read"
    );
}

#[tokio::test]
async fn a_token_that_introspects_itself_is_read_once() {
    let service = Service::start().await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::SlidingTtl)
        .await;
    let answer = service.introspect_as(&server, &server).await;
    assert_eq!(answer.json()["active"], true);
    let calls = service.database.take_calls();
    let read = calls
        .iter()
        .find(|call| call.operation == "BatchGetItem")
        .unwrap();
    assert!((read.capacity - 2.0).abs() < f64::EPSILON);
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn each_endpoint_makes_the_calls_of_its_row() {
    for row in ROWS {
        let calls = Case::new(row).await.calls().await;
        assert_eq!(shape(&calls), row.calls, "{}", row.endpoint);
    }
}

#[tokio::test]
async fn each_variant_makes_the_calls_that_it_lists() {
    for (function, when, expected) in VARIANTS {
        let calls = Variant::new().await.calls(function, when).await;
        assert_eq!(shape(&calls), *expected, "{function} {when}");
    }
}

#[test]
fn every_function_has_a_row_or_a_variant() {
    for function in FUNCTIONS {
        let of_row = ROWS.iter().any(|row| row.endpoint == function.name);
        let of_variant = VARIANTS.iter().any(|(name, ..)| *name == function.name);
        assert!(
            of_row || of_variant,
            "the function {} has no row and no variant",
            function.name
        );
    }
}

/// The service and the records that the variants use.
struct Variant {
    service: Service,
    /// A user with an address, a password and an e-mail token.
    bob: String,
    environment: String,
}

impl Variant {
    async fn new() -> Self {
        let (service, bob) = with_bob().await;
        let environment = service.environment(&service.ecosystem).await;
        let made = ask(&service, "POST", &json!({ "email": BOB })).await;
        assert_eq!(made.status, 201, "{made:?}");
        Self {
            service,
            bob,
            environment,
        }
    }

    /// Sends the request of this case and returns the database operations of the request.
    #[expect(clippy::too_many_lines, reason = "each case is short")]
    async fn calls(&self, function: &str, when: &str) -> Vec<Call> {
        let (service, bob) = (&self.service, &self.bob);
        match (function, when) {
            ("introspect-token", "without a well-formed token") => {
                service.database.take_calls();
                let answer = service.introspect_as("tk_uf_rubbish", "any").await;
                assert_eq!(answer.status, 401, "{answer:?}");
                service.database.take_calls()
            }
            (function, when) if when.ends_with("1 KB of metadata") || when == "of 100 tokens" => {
                self.calls_with_metadata(function, when).await
            }
            ("introspect-token" | "whoami" | "authorize", when) => {
                let kind = if when.contains("sliding") {
                    "SlidingTtl"
                } else {
                    "Infinite"
                };
                let query = format!("expiryType={kind}");
                let token = service.mint(bob, &query).await.token();
                service.clock.advance(1);
                if when.contains("once an hour") {
                    service.clock.advance(75 * 60);
                    // Writes the last use of the caller's token. The execution environment then
                    // caches no ecosystem.
                    service.introspect("tk_uf_rubbish").await;
                }
                let verify = async || match function {
                    "authorize" => self.authorize(&token).await,
                    "whoami" => {
                        let asking = service.call(&token, "GET", "/api/auth/whoami", "");
                        self.of(asking).await
                    }
                    _ => self.of(service.introspect(&token)).await,
                };
                if when == "with its ecosystem cached" {
                    verify().await;
                }
                verify().await
            }
            ("erase", _) => {
                service.database.take_calls();
                let until = Deadline::after(Duration::from_mins(1));
                let erased = functions::erase::handle(&service.app, until).await;
                assert_eq!(erased.unwrap().queued, 0);
                service.database.take_calls()
            }
            ("create-user-token", "for a short code's user") => {
                let (made, code) =
                    code(service, json!({ "environmentId": self.environment })).await;
                consume_shortcode::consume(service, &code).await;
                let short = made["userId"].as_str().unwrap();
                self.of(service.mint(short, "")).await
            }
            ("create-user-token" | "create-email-token", when) => {
                let when_full = match when {
                    "which revokes the oldest of 3 tokens" => "revoke-oldest",
                    _ => "reject",
                };
                let settings = json!({ "maxTokensPerUser": 3, "whenFull": when_full });
                change(service, &settings).await;
                if when != "for a user with a limit of tokens, for the first time" {
                    service.mint(bob, "").await;
                }
                if function == "create-email-token" {
                    ask(service, "DELETE", &json!({ "email": BOB })).await;
                    return self
                        .of(ask(service, "POST", &json!({ "email": BOB })))
                        .await;
                }
                if when_full == "revoke-oldest" {
                    service.mint(bob, "").await;
                }
                self.of(service.mint(bob, "")).await
            }
            ("create-shortcode" | "consume-shortcode", _) => {
                self.calls_of_a_code(function, when).await
            }
            ("get-email-token-value", "of the first value in an execution environment") => {
                let environment = service.another_environment();
                let event = Event::to("get-email-token-value")
                    .header("authorization", &service.account_token)
                    .query(&format!("email={BOB}"));
                self.of(event.send(&environment)).await
            }
            ("log-in-with-password", "without a valid e-mail token") => {
                ask(service, "DELETE", &json!({ "email": BOB })).await;
                self.of(service.log_in("192.0.2.1", BOB, PASSWORD)).await
            }
            ("log-in-with-password", "from an IPv6 address") => {
                self.of(service.log_in("2001:db8::1", BOB, PASSWORD)).await
            }
            ("log-in-with-password", "with a wrong password") => {
                service.database.take_calls();
                let answer = service.log_in("192.0.2.1", BOB, "a wrong one").await;
                assert_eq!(answer.status, 401, "{answer:?}");
                service.database.take_calls()
            }
            ("change-password", when) => {
                let token = match when {
                    "with the user's e-mail token" => value(service, BOB).await,
                    _ => service.mint(bob, "").await.token(),
                };
                let (current, status) = match when {
                    "with a wrong password" => ("a wrong one", 403),
                    _ => (PASSWORD, 204),
                };
                let environment = service.another_environment();
                service.database.take_calls();
                let answer = change_password::change(&token, current, PASSWORD);
                let answer = answer.send(&environment).await;
                assert_eq!(answer.status, status, "{answer:?}");
                service.database.take_calls()
            }
            ("log-in-with-password", "with an ecosystem id") => {
                let ecosystem = service.ecosystem.id.as_str();
                let body = json!({ "email": BOB, "password": PASSWORD, "ecosystemId": ecosystem });
                let event = Event::to("log-in-with-password").json_body(&body.to_string());
                self.of(event.send(&service.app)).await
            }
            ("log-in-with-password", "through a back end") => {
                let (_, server) = service.server_token(&service.ecosystem).await;
                let body =
                    json!({ "email": BOB, "password": PASSWORD, "clientAddress": "192.0.2.1" });
                let event = Event::to("log-in-with-password").header("authorization", &server);
                self.of(event.json_body(&body.to_string()).send(&service.app))
                    .await
            }
            ("create-session", "with a wrong password") => {
                service.database.take_calls();
                let answer = service
                    .create_session("192.0.2.1", BOB, "a wrong one")
                    .await;
                assert_eq!(answer.status, 401, "{answer:?}");
                service.database.take_calls()
            }
            ("create-session", "for a user with a limit of tokens") => {
                change(service, &json!({ "maxTokensPerUser": 5 })).await;
                // The first token creates the item that counts the user's tokens.
                service.mint(bob, "").await;
                self.of(service.create_session("192.0.2.1", BOB, PASSWORD))
                    .await
            }
            _ => self.calls_of_a_change(function, when).await,
        }
    }

    /// Does the same as [`Self::calls`] for tokens with metadata, and for a long list.
    async fn calls_with_metadata(&self, function: &str, when: &str) -> Vec<Call> {
        let service = &self.service;
        let ann = service.user("ann").await;
        let tokens = format!("/api/users/{ann}/tokens");
        let mut body =
            json!({ "expiryType": "FixedTtl", "metadata": token_metadata::of_bytes(1024) });
        if when.contains("sliding") {
            body["expiryType"] = "SlidingTtl".into();
        }
        if when == "of 100 tokens" {
            body.as_object_mut().unwrap().remove("metadata");
        }
        let body = body.to_string();
        if function == "create-user-token" {
            return self.manage("POST", &tokens, &body).await;
        }
        let minted = service.manage("POST", &tokens, &body).await;
        let token = minted.token();
        let path = format!("{tokens}/{}", minted.json()["tokenId"].as_str().unwrap());
        service.clock.advance(1);
        match function {
            "introspect-token" => self.of(service.introspect(&token)).await,
            "authorize" => self.authorize(&token).await,
            "update-user-token" => self.manage("PATCH", &path, r#"{"name":"phone"}"#).await,
            "revoke-user-token" => self.manage("DELETE", &path, "").await,
            "list-user-tokens" => {
                for _ in 1..100 {
                    service.manage("POST", &tokens, &body).await;
                }
                self.manage("GET", &tokens, "").await
            }
            _ => panic!("this test has no request for the case `{function} {when}`"),
        }
    }

    /// Does the same as [`Self::calls`] for the functions of short codes.
    async fn calls_of_a_code(&self, function: &str, when: &str) -> Vec<Call> {
        let (service, bob) = (&self.service, &self.bob);
        match (function, when) {
            ("create-shortcode", "for an environment") => {
                let body = json!({ "environmentId": self.environment }).to_string();
                self.manage("POST", "/api/auth/shortcode/create", &body)
                    .await
            }
            ("create-shortcode", "for an environment, by a server") => {
                let body = json!({ "environmentId": self.environment }).to_string();
                let (_, server) = service.server_token(&service.ecosystem).await;
                let path = "/api/auth/shortcode/create";
                self.of(service.call(&server, "POST", path, &body)).await
            }
            (
                "consume-shortcode",
                when @ ("of a code that a server token created"
                | "of a code that a user token created"),
            ) => {
                let credential = if when.contains("server") {
                    service.server_token(&service.ecosystem).await.1
                } else {
                    service.mint(bob, "").await.token()
                };
                let code = self.code_by(&credential).await;
                self.of(consume_shortcode::consume(service, &code)).await
            }
            ("consume-shortcode", "for an environment") => {
                let (_, code) = code(service, json!({ "environmentId": self.environment })).await;
                self.of(consume_shortcode::consume(service, &code)).await
            }
            ("consume-shortcode", "for a user with a limit of tokens") => {
                change(service, &json!({ "maxTokensPerUser": 5 })).await;
                service.mint(bob, "").await;
                let (_, code) = code(service, json!({ "userId": bob })).await;
                self.of(consume_shortcode::consume(service, &code)).await
            }
            ("consume-shortcode", "from an IPv6 address") => {
                let (_, code) = code(service, json!({ "userId": bob })).await;
                let event = consume_shortcode::attempt(&code).source("2001:db8::1");
                self.of(event.send(&service.app)).await
            }
            ("consume-shortcode", "through a back end") => {
                let (_, code) = code(service, json!({ "userId": bob })).await;
                let (_, server) = service.server_token(&service.ecosystem).await;
                let event = consume_shortcode::attempt(&code).header("authorization", &server);
                self.of(event.send(&service.app)).await
            }
            _ => panic!("this test has no request for the case `{function} {when}`"),
        }
    }

    /// Does the same as [`Self::calls`] for the functions that change, revoke or delete a record.
    async fn calls_of_a_change(&self, function: &str, when: &str) -> Vec<Call> {
        let (service, bob) = (&self.service, &self.bob);
        let ecosystem = service.ecosystem.id.as_str();
        let user = format!("/api/users/{bob}");
        match (function, when) {
            ("revoke-user-tokens", "of a user without tokens") => {
                let ann = service.user("ann").await;
                self.manage("DELETE", &format!("/api/users/{ann}/tokens"), "")
                    .await
            }
            ("revoke-user-tokens", "of which one has made another") => {
                let ann = service.user("ann").await;
                let maker = service.mint(&ann, "").await.token();
                let body = json!({ "userId": ann }).to_string();
                let made = service.call(&maker, "POST", "/api/auth/shortcode/create", &body);
                let code = made.await.json()["shortcode"].clone();
                consume_shortcode::consume(service, code.as_str().unwrap()).await;
                self.manage("DELETE", &format!("/api/users/{ann}/tokens"), "")
                    .await
            }
            ("revoke-user-token", "of an e-mail token") => {
                let listed = service.manage("GET", "/_/user-token", "").await;
                let id = datum(&listed)["tokenId"].clone();
                let path = format!("{user}/tokens/{}", id.as_str().unwrap());
                self.manage("DELETE", &path, "").await
            }
            ("revoke-user-token", "that has made one other token") => {
                let maker = service.mint(bob, "").await;
                let code = self.code_by(&maker.token()).await;
                consume_shortcode::consume(service, &code).await;
                let id = maker.json()["tokenId"].clone();
                let path = format!("{user}/tokens/{}", id.as_str().unwrap());
                self.manage("DELETE", &path, "").await
            }
            ("revoke-token", "of an e-mail token") => {
                let token = value(service, BOB).await;
                let event = Event::to("revoke-token").form(&format!("token={token}"));
                self.of(event.send(&service.app)).await
            }
            ("revoke-server-token", "that was revoked before") => {
                let (id, _) = service.server_token(&service.ecosystem).await;
                let path = format!("/api/ecosystems/{ecosystem}/tokens/{id}");
                self.manage("DELETE", &path, "").await;
                self.manage("DELETE", &path, "").await
            }
            ("delete-environment", "by a server") => {
                let (_, server) = service.server_token(&service.ecosystem).await;
                let path = format!("/api/environments/{}", self.environment);
                self.of(service.call(&server, "DELETE", &path, "")).await
            }
            ("put-user", when) => {
                let ann = format!("/api/users/{ecosystem};ann");
                let (path, body) = match when {
                    "of a new user" => (&ann, json!({})),
                    "of a new user, with an address and a password" => (
                        &ann,
                        json!({ "email": "ann@example.com", "password": PASSWORD }),
                    ),
                    "with another password" => (&user, json!({ "password": "another one" })),
                    "with another address" => (&user, json!({ "email": "b@example.com" })),
                    "with its address in capitals" => {
                        (&user, json!({ "email": BOB.to_uppercase() }))
                    }
                    _ => panic!("this test has no request for the case `{function} {when}`"),
                };
                self.manage("PUT", path, &body.to_string()).await
            }
            ("delete-user", "without an e-mail token") => {
                ask(service, "DELETE", &json!({ "email": BOB })).await;
                self.manage("DELETE", &user, "").await
            }
            ("delete-user", "without an address or a password") => {
                let ann = service.user("ann").await;
                self.manage("DELETE", &format!("/api/users/{ann}"), "")
                    .await
            }
            _ => panic!("this test has no request for the case `{function} {when}`"),
        }
    }

    /// Uses this credential to create a short code for `bob`.
    async fn code_by(&self, credential: &str) -> String {
        let body = json!({ "userId": self.bob }).to_string();
        let path = "/api/auth/shortcode/create";
        let made = self.service.call(credential, "POST", path, &body).await;
        made.json()["shortcode"].as_str().unwrap().to_owned()
    }

    /// Awaits a response, asserts success, and returns the database operations of the request.
    async fn of(&self, answer: impl Future<Output = Answer>) -> Vec<Call> {
        self.service.database.take_calls();
        let answer = answer.await;
        assert!(answer.status < 300, "{answer:?}");
        self.service.database.take_calls()
    }

    async fn manage(&self, method: &str, path: &str, body: &str) -> Vec<Call> {
        self.of(self.service.manage(method, path, body)).await
    }

    async fn authorize(&self, token: &str) -> Vec<Call> {
        let event = json!({ "routeArn": "arn:aws:execute-api:::api/$default/GET/", "identitySource": [token] });
        let event = LambdaEvent::new(to_raw_value(&event).unwrap(), Context::default());
        self.service.database.take_calls();
        let decision = authorize::handle(&self.service.app, event).await;
        assert_eq!(json!(decision.unwrap())["isAuthorized"], true);
        self.service.database.take_calls()
    }
}
