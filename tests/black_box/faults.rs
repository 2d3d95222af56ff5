//! A database that throttles, conflicts, hangs, lies or loses answers: the right answer or a 503
//! within 3 seconds, and never an allow.
//!
//! On tokio's paused clock, so that no test waits, and past the gateway, because a socket would
//! make that clock jump.

use std::time::Duration;

use tests::{Answer, Event, Fault, Service, pause};
use tokio::time::Instant;

/// A service, its user and one live sliding token.
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

/// Sends on a paused clock; asserts that an answer comes within 3 of its seconds.
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
async fn one_fault_of_any_kind_is_overcome() {
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
async fn a_put_whose_answer_is_lost_makes_one_token() {
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
    assert_eq!(puts, 2, "it was tried again");
    assert_eq!(service.token_items(&bob).await.len(), before + 1);
}

#[tokio::test]
async fn a_fault_that_stays_is_a_503_for_every_call() {
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
        // Health returns by itself.
        service.database.fail_always(None);
        assert!(service.is_active(&token).await, "{fault:?}");
        assert_eq!(service.mint(&bob, "").await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn a_renewal_that_fails_is_no_verification() {
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
async fn unprocessed_keys_are_asked_for_again_and_are_not_absent() {
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
async fn a_database_that_is_away_never_lets_a_dead_token_in() {
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
