//! A database that throttles, reports conflicts, hangs, or returns wrong or no responses. The
//! service gives the correct response or a 503 within 3 seconds, and never accepts a token that it
//! could not verify.
//!
//! The tests run on tokio's paused clock, so that they do not wait. They bypass the gateway,
//! because a socket would make that clock jump.

use std::time::Duration;

use tests::{Answer, Event, Fault, Service, pause};
use tokio::time::Instant;

/// Starts a service with a user and a valid sliding token. Returns all three.
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

/// Sends the event on a paused clock. Asserts that the response takes at most 3 of its seconds.
async fn send_in_time(service: &Service, event: &Event) -> Answer {
    let _paused = pause();
    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's paused clock, which a test measures"
    )]
    let started = Instant::now();
    let answer = event.send(&service.app).await;
    assert!(
        started.elapsed() <= Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    answer
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
async fn a_single_fault_of_any_kind_is_retried() {
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
async fn a_put_whose_response_is_lost_creates_one_token() {
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
    assert_eq!(puts, 2, "the put was retried");
    assert_eq!(service.token_items(&bob).await.len(), before + 1);
}

#[tokio::test]
async fn a_persistent_fault_is_a_503_for_every_request() {
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
async fn a_token_is_not_verified_if_its_renewal_fails() {
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
async fn unprocessed_keys_are_requested_again_and_not_taken_as_missing() {
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
async fn the_pause_before_unprocessed_keys_are_requested_again_doubles() {
    let (service, _, _) = prepared().await;
    let unprocessed = ("BatchGetItem", Fault::Unprocessed);
    service.database.fail(vec![unprocessed; 3]);
    let event = service.introspection("rubbish");
    let _paused = pause();
    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's paused clock, which a test measures"
    )]
    let started = Instant::now();
    let answer = event.send(&service.app).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let pauses = Duration::from_millis(20 + 40 + 80);
    let took = started.elapsed();
    // Each timer may be a millisecond late.
    assert!(
        (pauses..pauses + Duration::from_millis(4)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_database_fault_never_lets_an_expired_token_in() {
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
