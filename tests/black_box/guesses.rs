//! Tests of the limits on guessing short codes at `POST /api/auth/shortcode/consume`.

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::config::Settings;
use tests::{Event, Fault, Service};

use crate::{
    assert_invalid,
    consume_shortcode::{attempt, code, consume, without_minute_limit},
};

#[tokio::test]
async fn guesses_from_one_source_are_limited_even_if_they_are_sent_in_parallel() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, right) = code(&service, json!({ "userId": bob })).await;
    let guess = attempt("A2B3C4").source("2001:db8::1");
    let answers = join_all((0..50).map(|_| guess.send(&service.app))).await;
    let wrong = answers.iter().filter(|answer| answer.status == 404).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((wrong, refused), (5, 45));

    // Until the window ends, every address of the same /64 network gets a 429, even for a valid
    // code. Forged headers do not change the source.
    let again = attempt(&right)
        .source("2001:db8::2:3")
        .header("x-forwarded-for", "198.51.100.1")
        .header("forwarded", "for=198.51.100.1");
    let answer = again.send(&service.app).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "TooManyRequests");
    assert_eq!(answer.header("retry-after"), Some("900"));
    let elsewhere = attempt("A2B3C4")
        .source("2001:db8:0:1::1")
        .send(&service.app)
        .await;
    assert_eq!(elsewhere.status, 404);
    service.clock.advance(899);
    assert_eq!(
        again.send(&service.app).await.header("retry-after"),
        Some("1")
    );
    service.clock.advance(1);
    let (_, right) = code(&service, json!({ "userId": bob })).await;
    let answer = attempt(&right)
        .source("2001:db8::1")
        .send(&service.app)
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn guesses_from_many_64_networks_of_one_48_network_are_limited_and_its_neighbor_is_not() {
    let service = without_minute_limit().await;
    let guess = async |network: &str| {
        let source = format!("2001:db8:{network}::1");
        let answer = attempt("A2B3C4").source(&source).send(&service.app).await;
        (
            answer.status,
            answer.header("retry-after").map(str::to_owned),
        )
    };
    let wrong = (404, None);
    let refused = (429, Some("900".to_owned()));
    // Each guess comes from another /64 network. A /56 network may have 20 failed attempts, and the
    // whole /48 network 80. A guess that gets a 429 does not use up any of the 80, so each of the
    // four /56 networks can use its 20.
    for wide in 0..4 {
        for narrow in 0..30 {
            let expected = if narrow < 20 { &wrong } else { &refused };
            let network = format!("1:{wide}{narrow:02x}");
            assert_eq!(guess(&network).await, *expected, "{network}");
        }
    }
    assert_eq!(guess("1:400").await, refused);
    assert_eq!(guess("1:ff00").await, refused);
    assert_eq!(guess("2:400").await, wrong);
    service.clock.advance(900);
    assert_eq!(guess("1:400").await, wrong);
}

#[tokio::test]
async fn correct_codes_from_many_64_networks_of_one_48_network_never_reach_a_limit() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    for network in 0..100 {
        let (_, code) = code(&service, json!({ "environmentId": environment })).await;
        let event = attempt(&code).source(&format!("2001:db8:1:{network}::1"));
        assert_eq!(event.send(&service.app).await.status, 200);
    }
}

#[tokio::test]
async fn retry_after_is_one_second_if_unfinished_attempts_fill_the_limit() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(code(&service, json!({ "userId": bob })).await.1);
    }
    let answers = join_all(codes.iter().map(|code| consume(&service, code))).await;
    let ok = answers.iter().filter(|answer| answer.status == 200).count();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert_eq!((ok, refused.len()), (5, 1));
    assert_eq!(refused[0].header("retry-after"), Some("1"));
}

#[tokio::test]
async fn many_valid_codes_from_one_address_never_reach_the_limit() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    for _ in 0..40 {
        let (_, code) = code(&service, json!({ "environmentId": environment })).await;
        assert_eq!(consume(&service, &code).await.status, 200);
    }
}

#[tokio::test]
async fn when_the_limit_of_the_deployment_is_reached_all_codes_get_a_429_until_the_next_minute() {
    let settings = Settings {
        shortcode_failures_per_minute: 10,
        ..Settings::default()
    };
    let service = Service::start_with(settings).await;
    let bob = service.user("bob").await;
    let (_, right) = code(&service, json!({ "userId": bob })).await;
    for number in 0..10 {
        let event = attempt("A2B3C4").source(&format!("10.0.0.{number}"));
        assert_eq!(event.send(&service.app).await.status, 404);
    }
    let event = attempt(&right).source("10.0.1.1");
    let refused = event.send(&service.app).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("60"))
    );
    service.clock.advance(60);
    assert_eq!(event.send(&service.app).await.status, 200);
}

#[tokio::test]
async fn a_malformed_code_counts_as_a_failed_attempt_and_a_malformed_request_does_not_count() {
    let service = Service::start().await;
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let large = format!(r#"{{"shortcode":"{}"}}"#, "A".repeat(17 * 1024));
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        ("{", 400),
        ("{}", 400),
        (r#"{"shortcode":"A2B3C4","shortcode":"A2B3C4"}"#, 400),
        (r#"{"shortcode":"A2B3C4","code":"A2B3C4"}"#, 400),
        (&deep, 400),
        (&large, 413),
    ] {
        let answer = Event::to("consume-shortcode")
            .json_body(body)
            .send(&service.app)
            .await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let text = attempt("A2B3C4").header("content-type", "text/plain");
    assert_eq!(text.send(&service.app).await.status, 415);
    assert!(service.database.take_calls().is_empty());

    let texts = ["", "A2B3C", "A2B3C45", "A2B3CO", "A2B3C\u{ff14}"].map(Value::from);
    let others = [
        json!(null),
        json!(123_456),
        json!(true),
        json!([]),
        json!({}),
    ];
    for (source, malformed) in [("192.0.2.1", texts), ("192.0.2.2", others)] {
        for typed in malformed {
            let body = json!({ "shortcode": typed }).to_string();
            let attempt = Event::to("consume-shortcode").json_body(&body);
            let answer = attempt.source(source).send(&service.app).await;
            assert_invalid(&answer, &[("body", "shortcode", "invalid shortcode")]);
        }
        let attempt = attempt("A2B3C4").source(source);
        assert_eq!(attempt.send(&service.app).await.status, 429);
    }
}

#[tokio::test]
async fn a_counter_never_falls_below_zero_and_counts_every_failed_attempt() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    for _ in 0..3 {
        assert_eq!(consume(&service, "A2B3C4").await.status, 404);
    }
    // An update that takes an attempt back is not retried. With the first fault, the update takes
    // effect but its response is lost. With the second fault, the update never arrives.
    for fault in [Fault::AnswerLost, Fault::Unreachable] {
        let (_, code) = code(&service, json!({ "userId": bob })).await;
        let counts = [("UpdateItem", Fault::None), ("UpdateItem", Fault::None)];
        let take_backs = [("UpdateItem", fault.clone()), ("UpdateItem", fault)];
        service.database.fail(counts.into_iter().chain(take_backs));
        assert_eq!(consume(&service, &code).await.status, 200);
        let updates = service.database.take_operations();
        assert_eq!(updates.iter().filter(|o| *o == "UpdateItem").count(), 4);
    }
    // The limit is five attempts. Four attempts are counted: three failures, and one success that
    // was not taken back.
    assert_eq!(consume(&service, "A2B3C4").await.status, 404);
    assert_eq!(consume(&service, "A2B3C4").await.status, 429);
    for item in service.ephemeral_items().await {
        if let Some(counted) = item.get("n") {
            assert!(counted.as_n().unwrap().parse::<i64>().unwrap() >= 0);
            assert!(item["expires_at"].as_n().is_ok());
        }
    }
}

#[tokio::test]
async fn a_success_after_the_window_of_its_attempt_does_not_reduce_the_count_of_the_next_window() {
    let service = without_minute_limit().await;
    let bob = service.user("bob").await;
    let (_, code) = code(&service, json!({ "userId": bob, "shortCodeTtl": 3600 })).await;
    service.clock.advance(899);
    service
        .database
        .fail([("TransactWriteItems", Fault::NotBefore("Scan"))]);
    let right = attempt(&code);
    let (answer, ()) = tokio::join!(right.send(&service.app), async {
        service.database.has_arrived("TransactWriteItems").await;
        service.clock.advance(1);
        for _ in 0..5 {
            assert_eq!(consume(&service, "A2B3C4").await.status, 404);
        }
        service
            .client
            .scan()
            .table_name(&service.tables.ephemeral)
            .send()
            .await
            .unwrap();
    });
    assert_eq!(answer.status, 200);
    assert_eq!(
        consume(&service, "A2B3C4").await.status,
        429,
        "the five failed attempts are still counted"
    );
}
