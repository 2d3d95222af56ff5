//! What reaches the database: round trips are the latency, capacity units the bill.

use crate::{consume_shortcode, create_email_token};
use shared::domain::token::ExpiryType;
use tests::{Call, Fault, Service, pause};

/// What these calls are, and what they consumed.
pub(crate) fn shape(calls: &[Call]) -> Vec<(&str, f64)> {
    calls
        .iter()
        .map(|call| (call.operation.as_str(), call.capacity))
        .collect()
}

#[tokio::test]
async fn minting_is_a_read_of_four_items_and_a_write() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.mint(&bob, "expiryType=SlidingTtl").await;
    let calls = service.database.take_calls();
    assert_eq!(shape(&calls), [("BatchGetItem", 4.0), ("PutItem", 1.0)]);

    // A short code's user is of an environment, which must be there.
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
async fn verifying_an_infinite_or_a_fixed_token_is_one_read() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for kind in ["Infinite", "FixedTtl"] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}"))
            .await
            .token();
        let environment = service.another_environment();
        service.database.take_calls();
        // Two items for each of the two tokens; the user's ecosystem only where nothing is
        // remembered of it.
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
async fn verifying_a_sliding_token_is_a_write_beside_the_read() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.clock.advance(1);
    service.database.take_calls();
    // Each waits for the other: one after the other would never end.
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
async fn a_thousand_uses_in_a_second_are_at_most_two_writes() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.clock.advance(1);
    service.database.take_calls();
    let event = service.introspection(&token);
    // A thousand at once keep a slow build busy for longer than a call may take.
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

    // The next second is a use of its own.
    service.clock.advance(1);
    assert!(service.is_active(&token).await);
    assert_eq!(
        service.database.take_operations(),
        ["BatchGetItem", "UpdateItem"]
    );
}

#[tokio::test]
async fn a_renewal_by_another_environment_in_the_same_second_is_as_good_as_ones_own() {
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
async fn a_dead_sliding_token_is_ended_for_good_by_one_more_write_the_first_time() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    // A name that DynamoDB sends back with the old item, and that is no reason to try again.
    let query = "expiryType=SlidingTtl&ttl=5&name=TransactionConflict";
    let token = service.mint(&bob, query).await.token();
    service.clock.advance(5);
    for operations in [
        &["BatchGetItem", "UpdateItem", "UpdateItem"][..],
        &["BatchGetItem", "UpdateItem"],
    ] {
        service.database.take_calls();
        assert!(!service.is_active(&token).await);
        assert_eq!(service.database.take_operations(), operations);
        service.clock.advance(1);
    }
}

#[tokio::test]
async fn the_directory_is_read_at_once_and_written_at_once() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.as_str().to_owned();
    let bob = service.user("bob").await;
    let path = format!("/api/ecosystems/{ecosystem}/environments");
    let environment = service.environment(&service.ecosystem).await;
    let (token, _) = service.server_token(&service.ecosystem).await;
    let (read, put, delete) = ("BatchGetItem", "PutItem", "DeleteItem");
    // New owners and environments: in a transaction, which arrives once.
    let new = ("TransactWriteItems", 2.0);
    for (method, path, body, calls) in [
        ("POST", "/api/ecosystems", "", vec![(read, 2.0), new]),
        ("POST", &path, "", vec![(read, 3.0), new]),
        (
            "PUT",
            &format!("/api/users/{ecosystem};ann"),
            "{}",
            vec![(read, 4.0), new],
        ),
        (
            "PUT",
            &format!("/api/users/{bob}"),
            "{}",
            vec![(read, 4.0), (put, 1.0)],
        ),
        ("GET", &format!("/api/users/{bob}"), "", vec![(read, 4.0)]),
        (
            "DELETE",
            &format!("/api/users/{bob}"),
            "",
            vec![(read, 4.0), (delete, 1.0)],
        ),
        (
            "POST",
            &format!("/api/ecosystems/{ecosystem}/tokens"),
            "",
            vec![(read, 3.0), (put, 1.0)],
        ),
        (
            "GET",
            &format!("/api/ecosystems/{ecosystem}/tokens"),
            "",
            vec![(read, 3.0), ("Query", 1.0)],
        ),
        (
            "DELETE",
            &format!("/api/ecosystems/{ecosystem}/tokens/{token}"),
            "",
            vec![(read, 4.0), (put, 1.0)],
        ),
        (
            "DELETE",
            &format!("/api/ecosystems/{ecosystem}/tokens/01KDVDNAFMFDHADR9JK9PFNKW4"),
            "",
            vec![(read, 4.0)],
        ),
        // Whose the environment is, is known only when it has been read.
        (
            "DELETE",
            &format!("/api/environments/{environment}"),
            "",
            vec![(read, 1.0), (read, 3.0), (delete, 1.0)],
        ),
        (
            "DELETE",
            &format!("/api/ecosystems/{ecosystem}"),
            "",
            vec![(read, 3.0), (delete, 1.0)],
        ),
    ] {
        let answer = service.manage(method, path, body).await;
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        let made = service.database.take_calls();
        let mut made = shape(&made);
        made.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let mut calls = calls;
        calls.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(made, calls, "{method} {path}");
    }
}

#[tokio::test]
async fn rubbish_to_introspect_is_not_looked_up() {
    let service = Service::start().await;
    service.introspect("tk_uf_rubbish").await;
    let calls = service.database.take_calls();
    assert_eq!(calls.len(), 1);
    assert!(
        (calls[0].capacity - 2.0).abs() < f64::EPSILON,
        "the caller's two items and no more"
    );
}

#[tokio::test]
async fn one_token_twice_in_a_request_is_read_once() {
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
async fn e_mail_tokens_make_no_more_calls_than_these() {
    let (service, bob) = create_email_token::with_bob().await;
    let user = format!("/api/users/{bob}");
    let email = r#"{"email":"bob@example.com"}"#;
    let value = "/_/user-token/value?email=bob@example.com";
    let (read, write) = ("BatchGetItem", "TransactWriteItems");
    // The first one in an environment makes the key of values, or reads it.
    service.manage("POST", "/_/user-token", email).await;
    service.manage("DELETE", "/_/user-token", email).await;
    service.database.take_calls();
    for (method, path, body, calls) in [
        (
            "POST",
            "/_/user-token",
            email,
            vec![(read, 3.0), (read, 3.0), (write, 7.0)],
        ),
        (
            "PUT",
            "/_/user-token",
            email,
            vec![(read, 3.0), (read, 3.0), (write, 5.0)],
        ),
        ("GET", value, "", vec![(read, 3.0), (read, 3.0)]),
        (
            "GET",
            "/_/user-token",
            "",
            vec![(read, 2.0), ("Query", 0.5), (read, 2.0)],
        ),
        (
            "DELETE",
            "/_/user-token",
            email,
            vec![(read, 3.0), (read, 3.0), (write, 5.0)],
        ),
        (
            "PUT",
            &user,
            r#"{"password":"another one"}"#,
            vec![(read, 4.0), (write, 4.0)],
        ),
        (
            "PUT",
            &user,
            r#"{"email":"b@example.com"}"#,
            vec![(read, 4.0), ("GetItem", 1.0), (write, 6.0)],
        ),
        (
            "PUT",
            &user,
            r#"{"email":"B@example.com"}"#,
            vec![(read, 4.0), ("PutItem", 1.0)],
        ),
        ("DELETE", &user, "", vec![(read, 4.0), (write, 8.0)]),
    ] {
        let answer = service.manage(method, path, body).await;
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        let made = service.database.take_calls();
        assert_eq!(shape(&made), calls, "{method} {path}");
    }
}
