//! In these tests the database has faults. It throttles requests, reports conflicts, returns a
//! wrong response, or returns no response. The service gives the correct response or a 503 within
//! 3 seconds. The service never accepts a token that it could not verify.
//!
//! The tests pause tokio's clock, so they do not wait for timeouts. They send events without a
//! gateway, because a paused clock jumps forward while a test waits for a socket.

use std::time::Duration;

use serde_json::json;
use tests::{Answer, Event, Fault, Service, pause};
use tokio::time::Instant;

use crate::{
    consume_shortcode::code,
    create_email_token::{BOB, PASSWORD, with_bob},
};

/// Starts a service, and creates a user and a valid sliding token of the user. Returns the service,
/// the user's id and the token.
async fn prepared() -> (Service, String, String) {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=SlidingTtl").await.token();
    service.clock.advance(1);
    service.database.take_calls();
    (service, bob, token)
}

fn mint(service: &Service, user: &str) -> Event {
    Event::to("create-user-token")
        .header("authorization", &service.account_token)
        .parameter("id", user)
}

/// Pauses the clock and sends the event. Asserts that the response takes at most 3 seconds of the
/// paused clock.
async fn send_in_time(service: &Service, event: &Event) -> Answer {
    let (answer, took) = timed(service, event).await;
    assert!(took <= Duration::from_secs(3), "{took:?}");
    answer
}

/// Pauses the clock and sends the event. Returns the response, and how long it took by the paused
/// clock.
async fn timed(service: &Service, event: &Event) -> (Answer, Duration) {
    let _paused = pause();
    #[expect(
        clippy::disallowed_methods,
        reason = "the test measures the time of tokio's paused clock"
    )]
    let started = Instant::now();
    let answer = event.send(&service.app).await;
    (answer, started.elapsed())
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.body,
        r#"{"errorType":"ServiceUnavailable","errors":[{"message":"the service is not available, try again"}]}"#
    );
}

#[tokio::test]
async fn a_database_operation_is_retried_after_a_temporary_fault() {
    let (service, bob, token) = prepared().await;
    for fault in [
        Fault::Throttled,
        Fault::TransactionConflict,
        Fault::ServerError,
        Fault::AnswerLost,
        Fault::Unreachable,
        Fault::NoAnswer,
    ] {
        for operation in ["BatchGetItem", "PutItem"] {
            service.database.fail([(operation, fault.clone())]);
            let answer = send_in_time(&service, &mint(&service, &bob)).await;
            assert_eq!(answer.status, 200, "{operation} {fault:?}: {answer:?}");
            assert!(
                service.is_active(&answer.token()).await,
                "{operation} {fault:?}"
            );
        }
        for operation in ["BatchGetItem", "UpdateItem"] {
            service.clock.advance(1);
            service.database.fail([(operation, fault.clone())]);
            let answer = send_in_time(&service, &service.introspection(&token)).await;
            assert_eq!(
                answer.json()["active"],
                true,
                "{operation} {fault:?}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn only_one_token_is_created_if_the_response_to_the_put_item_is_lost() {
    let (service, bob, _) = prepared().await;
    let before = service.token_items(&bob).await.len();
    service.database.fail([("PutItem", Fault::AnswerLost)]);
    let answer = send_in_time(&service, &mint(&service, &bob)).await;
    assert_eq!(answer.status, 200);
    let puts = service
        .database
        .take_operations()
        .iter()
        .filter(|o| *o == "PutItem")
        .count();
    assert_eq!(puts, 2, "the `PutItem` was retried once");
    assert_eq!(service.token_items(&bob).await.len(), before + 1);
}

#[tokio::test]
async fn every_request_gets_a_503_while_the_database_fails() {
    let (service, bob, token) = prepared().await;
    for fault in [
        Fault::Throttled,
        Fault::TransactionConflict,
        Fault::ServerError,
        Fault::AnswerLost,
        Fault::Unreachable,
        Fault::NoAnswer,
        Fault::Rubbish,
        Fault::Empty,
    ] {
        service.clock.advance(1);
        service.database.fail_always(Some(fault.clone()));
        for event in [mint(&service, &bob), service.introspection(&token)] {
            let answer = send_in_time(&service, &event).await;
            assert_unavailable(&answer);
        }
        // The service recovers without a restart.
        service.database.fail_always(None);
        assert!(service.is_active(&token).await, "{fault:?}");
        assert_eq!(service.mint(&bob, "").await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn a_sliding_token_is_not_accepted_if_its_renewal_fails() {
    let (service, _, token) = prepared().await;
    for fault in [
        Fault::Throttled,
        Fault::Unreachable,
        Fault::NoAnswer,
        Fault::Rubbish,
        Fault::Empty,
    ] {
        service.clock.advance(1);
        service
            .database
            .fail((0..4).map(|_| ("UpdateItem", fault.clone())));
        let answer = send_in_time(&service, &service.introspection(&token)).await;
        assert_ne!(answer.status, 200, "{fault:?}: {answer:?}");
        service.database.take_faults();
        assert!(service.is_active(&token).await, "{fault:?}");
    }
}

#[tokio::test]
async fn unprocessed_keys_are_requested_again_and_not_treated_as_missing_items() {
    let (service, bob, token) = prepared().await;
    service.database.fail([
        ("BatchGetItem", Fault::Unprocessed),
        ("BatchGetItem", Fault::Unprocessed),
    ]);
    let answer = send_in_time(&service, &service.introspection(&token)).await;
    assert_eq!(answer.json()["active"], true);

    service
        .database
        .fail((0..20).map(|_| ("BatchGetItem", Fault::Unprocessed)));
    for event in [service.introspection(&token), mint(&service, &bob)] {
        assert_unavailable(&send_in_time(&service, &event).await);
    }
}

#[tokio::test]
async fn unprocessed_keys_and_throttled_reads_are_requested_up_to_three_times_with_random_pauses() {
    let (service, _, _) = prepared().await;
    let event = service.introspection("rubbish");
    let mut times = Vec::new();
    for (seed, faults) in (0..).zip([
        [Fault::Unprocessed, Fault::Unprocessed],
        [Fault::Throttled, Fault::Unprocessed],
        [Fault::Unprocessed, Fault::Throttled],
        [Fault::Throttled, Fault::Throttled],
        [Fault::Unreachable, Fault::ServerError],
    ]) {
        // The seed determines the pauses.
        fastrand::seed(seed);
        let faults = faults.map(|fault| ("BatchGetItem", fault));
        service.database.fail(faults.clone());
        let (answer, took) = timed(&service, &event).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(service.database.take_calls().len(), 3);
        times.push(took);

        let [first, last] = faults;
        service.database.fail([first, last.clone(), last]);
        let (answer, took) = timed(&service, &event).await;
        assert_unavailable(&answer);
        assert_eq!(service.database.take_calls().len(), 3);
        times.push(took);
    }
    // There are two random pauses: the first takes at most 50 ms, and the second at most 100 ms.
    // Each timer may be a millisecond late.
    let most = Duration::from_millis(50 + 100 + 2);
    assert!(times.iter().all(|time| *time <= most), "{times:?}");
    let least = times.iter().min().expect("there are times");
    let most = times.iter().max().expect("there are times");
    assert!(*most > *least + Duration::from_millis(10), "{times:?}");
}

/// Returns one request to each of several endpoints. These endpoints use different database
/// operations.
async fn requests(service: &Service, bob: &str) -> Vec<Event> {
    let token = service.mint(bob, "expiryType=SlidingTtl").await.token();
    let (_, code) = code(service, json!({ "userId": bob })).await;
    let to = |endpoint| Event::to(endpoint).header("authorization", &service.account_token);
    let email = json!({ "email": BOB }).to_string();
    let log_in = json!({ "email": BOB, "password": PASSWORD }).to_string();
    vec![
        mint(service, bob),
        service.introspection(&token),
        to("list-user-tokens").parameter("id", bob),
        to("revoke-user-tokens").parameter("id", bob),
        to("create-shortcode").json_body(&json!({ "userId": bob }).to_string()),
        to("consume-shortcode").json_body(&json!({ "shortcode": code }).to_string()),
        to("create-email-token").json_body(&email),
        to("list-email-tokens"),
        Event::to("revoke-token").form(&format!("token={token}")),
        Event::to("log-in-with-password").json_body(&log_in),
        Event::to("create-session").json_body(&log_in),
        to("delete-user").parameter("id", bob),
    ]
}

#[tokio::test]
async fn each_response_takes_at_most_400_ms_while_one_database_operation_is_throttled() {
    const OPERATIONS: &[&str] = &[
        "BatchGetItem",
        "BatchWriteItem",
        "GetItem",
        "PutItem",
        "Query",
        "TransactGetItems",
        "TransactWriteItems",
        "UpdateItem",
    ];
    let (service, bob) = with_bob().await;
    let cancelled = Fault::TransactionCancelled(&["ThrottlingError"]);
    for event in requests(&service, &bob).await {
        service.clock.advance(1);
        let mut unavailable = 0;
        for throttled in OPERATIONS {
            let fault = if throttled.starts_with("Transact") {
                cancelled.clone()
            } else {
                Fault::Throttled
            };
            service.database.take_calls();
            service.database.fail(vec![(*throttled, fault); 30]);
            let (answer, took) = timed(&service, &event).await;
            service.database.take_faults();
            let operations = service.database.take_operations();
            assert!(
                took <= Duration::from_millis(400),
                "{operations:?} {took:?}"
            );
            if answer.status == 503 {
                assert_unavailable(&answer);
                unavailable += 1;
            }
        }
        // For at least one of the throttled operations, the response was a 503.
        assert!(unavailable > 0, "{event:?}");
    }
}

#[tokio::test]
async fn an_expired_token_is_never_accepted_during_a_database_fault() {
    let (service, bob, token) = prepared().await;
    service.clock.advance(3600);
    for fault in [
        Fault::Unprocessed,
        Fault::Empty,
        Fault::AnswerLost,
        Fault::ServerError,
    ] {
        service.database.fail([
            ("BatchGetItem", fault.clone()),
            ("UpdateItem", fault.clone()),
        ]);
        let answer = send_in_time(&service, &service.introspection(&token)).await;
        let denied = answer.status == 503 || answer.json()["active"] == false;
        assert!(denied, "{fault:?}: {answer:?}");
        service.database.take_faults();
        service.database.fail([
            ("BatchGetItem", fault.clone()),
            ("UpdateItem", fault.clone()),
        ]);
        let as_caller = service.introspection(&bob).header("authorization", &token);
        let answer = send_in_time(&service, &as_caller).await;
        assert!([401, 503].contains(&answer.status), "{fault:?}: {answer:?}");
        service.database.take_faults();
    }
}
