//! Many devices exchange short codes of one environment at the same time, with the limits of
//! DynamoDB's partitions.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tests::{Answer, Event, Service, pause};

const DEVICES: usize = 1000;

async fn exchange(service: &Service, device: usize, code: &str) -> Answer {
    // Each device has its own IP address.
    let source = format!("198.18.{}.{}", device / 250, device % 250);
    let body = json!({ "shortcode": code }).to_string();
    let consume = Event::to("consume-shortcode").source(&source);
    consume.json_body(&body).send(&service.app).await
}

#[tokio::test]
async fn each_code_of_1000_devices_gives_one_token_and_each_refusal_says_to_retry_within_2_seconds()
{
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let mut waiting = Vec::new();
    for device in 0..DEVICES {
        let create = Event::to("create-shortcode").header("authorization", &service.account_token);
        let body = json!({ "environmentId": environment, "shortCodeTtl": 3600 }).to_string();
        let created = create.json_body(&body).send(&service.app).await.json();
        let code = created["shortcode"]
            .as_str()
            .expect("the response has a code");
        waiting.push((device, code.to_owned()));
    }
    let _paused = pause();
    service.database.limit_partitions(&service.clock);
    let (mut tokens, mut seconds) = (HashSet::new(), 0);
    while !waiting.is_empty() {
        // The devices that have no token yet send their requests within one second.
        let count = u32::try_from(waiting.len()).expect("the number fits");
        let attempts = (0..count).zip(&waiting).map(async |(at, (device, code))| {
            #[expect(
                clippy::disallowed_methods,
                reason = "the attempts begin one after the other"
            )]
            tokio::time::sleep(Duration::from_secs(1) * at / count).await;
            exchange(&service, *device, code).await
        });
        let answers = join_all(attempts).await;
        let mut refused = Vec::new();
        for ((device, code), answer) in waiting.into_iter().zip(answers) {
            if answer.status == 200 {
                assert!(
                    tokens.insert(answer.token()),
                    "two codes gave the same token"
                );
                continue;
            }
            assert!([429, 503].contains(&answer.status), "{answer:?}");
            let wait = answer.header("retry-after").map(str::parse::<u64>);
            assert!(matches!(wait, Some(Ok(0..=2))), "{answer:?}");
            refused.push((device, code));
        }
        waiting = refused;
        seconds += 1;
        println!(
            "after {seconds} seconds, {} devices have no token",
            waiting.len()
        );
        service.clock.advance(1);
        assert!(seconds < 30, "{} devices have no token", waiting.len());
    }
    assert_eq!(tokens.len(), DEVICES);
    for token in &tokens {
        assert!(service.is_active(token).await);
    }
}
