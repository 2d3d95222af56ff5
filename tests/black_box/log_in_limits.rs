//! Tests of the limits on failed log-ins with `POST /_/user-token/value` and
//! `POST /api/auth/sessions`.

use futures_util::future::{join, join_all};
use tests::{Answer, LOG_INS};

use crate::create_email_token::{BOB, PASSWORD, with_bob};

fn assert_too_many(answer: &Answer, retry_after: &str) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "TooManyRequests");
    assert_eq!(answer.header("retry-after"), Some(retry_after));
}

#[tokio::test]
async fn one_source_may_fail_10_log_ins_to_one_e_mail_address_in_any_spelling() {
    let (service, _) = with_bob().await;
    let spellings = [
        "bob@example.com",
        "BOB@example.com",
        "Bob@Example.COM",
        "bob@ｅxample.com",
    ];
    // The attempts with both endpoints count together.
    let attempts = (0..40).map(|n| {
        let (endpoint, email) = (LOG_INS[n / 4 % 2], spellings[n % 4]);
        service.log_in_at(endpoint, "2001:db8::1", email, "wrong")
    });
    let answers = join_all(attempts).await;
    let wrong = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!((wrong, answers.len()), (10, 40));

    // Until the window ends, every source in the same /64 network gets a 429, even with the correct
    // password.
    let right = async |source| service.log_in(source, BOB, PASSWORD).await;
    assert_too_many(&right("2001:db8::ffff").await, "900");
    let session = service.create_session("2001:db8::ffff", BOB, PASSWORD);
    assert_too_many(&session.await, "900");
    assert_eq!(right("2001:db8:0:1::1").await.status, 200);
    service.clock.advance(899);
    assert_too_many(&right("2001:db8::1").await, "1");
    service.clock.advance(1);
    assert_eq!(right("2001:db8::1").await.status, 200);
}

#[tokio::test]
async fn a_source_gets_a_429_after_30_failed_log_ins_to_different_e_mail_addresses() {
    let (service, _) = with_bob().await;
    for number in 0..30 {
        let email = format!("user{number}@example.com");
        let endpoint = LOG_INS[number % 2];
        let answer = service.log_in_at(endpoint, "192.0.2.1", &email, "wrong");
        assert_eq!(answer.await.status, 401);
    }
    for endpoint in LOG_INS {
        let right = service.log_in_at(endpoint, "192.0.2.1", BOB, PASSWORD);
        assert_too_many(&right.await, "900");
    }
    assert_eq!(service.log_in("192.0.2.2", BOB, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn log_ins_to_one_e_mail_address_from_one_48_network_are_limited_and_do_not_lock_the_address()
{
    let (service, _) = with_bob().await;
    let wrong = async |network: &str| {
        let source = format!("2001:db8:{network}::1");
        service.log_in(&source, BOB, "wrong").await
    };
    // Each attempt comes from another /64 network.
    for wide in 0..2 {
        for narrow in 0..20 {
            let answer = wrong(&format!("1:{wide}{narrow:02x}")).await;
            assert_eq!(answer.status, 401, "{wide} {narrow}");
        }
        assert_too_many(&wrong(&format!("1:{wide}ff")).await, "900");
    }
    assert_too_many(&wrong("1:200").await, "900");
    // The owner of the e-mail address is in the next /48 network.
    let answer = service.log_in("2001:db8:2::1", BOB, PASSWORD).await;
    assert_eq!(answer.status, 200);
    // The /48 network can still send log-ins to other e-mail addresses.
    let other = service.log_in("2001:db8:1::1", "ann@example.com", "wrong");
    assert_eq!(other.await.status, 401);
}

#[tokio::test]
async fn log_ins_to_any_e_mail_addresses_from_one_48_network_are_limited_and_its_neighbor_is_not() {
    let (service, _) = with_bob().await;
    let wrong = async |network: String, number: u32| {
        let email = format!("user{number}@example.com");
        let source = format!("2001:db8:{network}::1");
        service.log_in(&source, &email, "wrong").await
    };
    for number in 0..480 {
        let (wide, narrow) = (number / 120, number % 120);
        let answer = wrong(format!("1:{wide}{narrow:02x}"), number).await;
        assert_eq!(answer.status, 401, "{number}");
        if narrow == 119 {
            assert_too_many(&wrong(format!("1:{wide}ff"), 1000).await, "900");
        }
    }
    assert_too_many(&wrong("1:400".to_owned(), 1000).await, "900");
    assert_eq!(wrong("2:400".to_owned(), 1000).await.status, 401);
}

#[tokio::test]
async fn an_e_mail_address_is_locked_for_all_sources_after_exactly_100_failed_log_ins() {
    let (service, _) = with_bob().await;
    for attacker in 1..=10 {
        let source = format!("198.51.100.{attacker}");
        assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
        for number in 0..10 {
            let endpoint = LOG_INS[number % 2];
            let answer = service.log_in_at(endpoint, &source, BOB, "wrong");
            assert_eq!(answer.await.status, 401);
        }
        assert_too_many(&service.log_in(&source, BOB, "wrong").await, "900");
    }
    for endpoint in LOG_INS {
        let right = service.log_in_at(endpoint, "192.0.2.1", BOB, PASSWORD);
        assert_too_many(&right.await, "900");
    }
    let unknown = service
        .log_in("192.0.2.1", "nobody@example.com", PASSWORD)
        .await;
    assert_eq!(unknown.status, 401);
    service.clock.advance(900);
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_flood_from_one_source_does_not_use_up_the_limit_that_all_sources_share() {
    let (service, _) = with_bob().await;
    for _ in 0..10 {
        service.log_in("192.0.2.1", BOB, "wrong").await;
    }
    let flood = join_all((0..200).map(|_| service.log_in("192.0.2.1", BOB, "wrong")));
    let owner = async {
        for _ in 0..5 {
            let answer = service.log_in("192.0.2.2", BOB, PASSWORD).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    let (refused, ()) = Box::pin(join(flood, owner)).await;
    assert!(refused.iter().all(|answer| answer.status == 429));
}

#[tokio::test]
async fn correct_log_ins_never_reach_a_limit() {
    let (service, _) = with_bob().await;
    for _ in 0..40 {
        assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
        let session = service.create_session("192.0.2.1", BOB, PASSWORD);
        assert_eq!(session.await.status, 201);
    }
}

#[tokio::test]
async fn an_attempt_that_gets_a_429_does_not_count_as_a_failure() {
    let (service, _) = with_bob().await;
    for _ in 0..10 {
        service.log_in("192.0.2.1", BOB, "wrong").await;
    }
    for _ in 0..100 {
        assert_too_many(&service.log_in("192.0.2.1", BOB, "wrong").await, "900");
    }
    assert_eq!(service.log_in("192.0.2.2", BOB, PASSWORD).await.status, 200);
    let other = service
        .log_in("192.0.2.1", "nobody@example.com", PASSWORD)
        .await;
    assert_eq!(other.status, 401);
}
