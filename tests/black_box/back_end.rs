//! Tests of log-in and of the exchange of short codes through a back end. The back end sends its
//! own server token and the IP address of its client.

use serde_json::{Value, json};
use shared::domain::{owner::Ecosystem, token::ExpiryType};
use tests::{Answer, Event, LOG_INS, Service};

use crate::{
    assert_invalid,
    consume_shortcode::{code, without_minute_limit},
    create_email_token::{BOB, PASSWORD, server, with_bob},
};

/// The source address of the back end's own requests.
const BACK_END: &str = "203.0.113.1";

/// Sends a log-in or a short code from the back end, with this `Authorization` header.
async fn attempt(
    service: &Service,
    endpoint: &'static str,
    credential: &str,
    body: Value,
) -> Answer {
    Event::to(endpoint)
        .source(BACK_END)
        .header("authorization", credential)
        .json_body(&body.to_string())
        .send(&service.app)
        .await
}

async fn log_in(service: &Service, credential: &str, body: Value) -> Answer {
    attempt(service, "log-in-with-password", credential, body).await
}

async fn consume(service: &Service, credential: &str, body: Value) -> Answer {
    attempt(service, "consume-shortcode", credential, body).await
}

fn bob(password: &str, client: &str) -> Value {
    json!({ "email": BOB, "password": password, "clientAddress": client })
}

/// Creates the user `eve` in this ecosystem, with the e-mail address `email` and the password
/// [`PASSWORD`]. Returns the user's id.
async fn person_of(service: &Service, ecosystem: &Ecosystem, email: &str) -> String {
    let id = format!("{};eve", ecosystem.id.as_str());
    let body = json!({ "email": email, "password": PASSWORD }).to_string();
    let made = service
        .manage("PUT", &format!("/api/users/{id}"), &body)
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    id
}

#[tokio::test]
async fn failed_log_ins_of_some_clients_of_a_back_end_do_not_lock_out_its_other_clients() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    for stranger in 0..40 {
        let body = json!({
            "email": format!("user{stranger}@example.com"),
            "password": "wrong",
            "clientAddress": format!("198.51.100.{stranger}"),
        });
        assert_eq!(log_in(&service, &server, body).await.status, 401);
    }
    let answer = log_in(&service, &server, bob(PASSWORD, "192.0.2.1")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Without the server token, all attempts have the same source: the back end.
    for stranger in 0..30 {
        let email = format!("user{stranger}@example.com");
        service.log_in(BACK_END, &email, "wrong").await;
    }
    assert_eq!(service.log_in(BACK_END, BOB, PASSWORD).await.status, 429);
}

#[tokio::test]
async fn a_client_address_has_the_same_limits_as_a_source_address() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    for _ in 0..10 {
        let answer = log_in(&service, &server, bob("wrong", "2001:db8::1")).await;
        assert_eq!(answer.status, 401);
    }
    let right = async |client| log_in(&service, &server, bob(PASSWORD, client)).await;
    let session = bob(PASSWORD, "2001:db8::ffff");
    let session = attempt(&service, "create-session", &server, session).await;
    assert_eq!(session.status, 429, "{session:?}");
    let answer = right("2001:db8::ffff").await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("900"));
    assert_eq!(right("2001:db8:0:1::1").await.status, 200);
    for stranger in 0..20 {
        let email = format!("user{stranger}@example.com");
        let body = json!({ "email": email, "password": "wrong", "clientAddress": "2001:db8::2" });
        assert_eq!(log_in(&service, &server, body).await.status, 401);
    }
    let other = json!({ "email": "nobody@example.com", "password": "wrong", "clientAddress": "2001:db8::3" });
    assert_eq!(log_in(&service, &server, other).await.status, 429);
}

#[tokio::test]
async fn without_a_client_address_only_the_limit_of_the_email_address_applies() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    for stranger in 0..40 {
        let body = json!({ "email": format!("user{stranger}@example.com"), "password": "wrong" });
        assert_eq!(log_in(&service, &server, body).await.status, 401);
    }
    let send = async |endpoint, password| {
        let body = json!({ "email": BOB, "password": password });
        attempt(&service, endpoint, &server, body).await.status
    };
    for number in 0..100 {
        assert_eq!(send(LOG_INS[number % 2], "wrong").await, 401);
    }
    for endpoint in LOG_INS {
        assert_eq!(send(endpoint, PASSWORD).await, 429);
    }
}

#[tokio::test]
async fn log_ins_through_a_back_end_do_not_count_for_another_account_or_for_direct_log_ins() {
    let (service, _) = with_bob().await;
    let own = server(&service, &service.ecosystem).await;
    let (_, tenant) = service.another_account().await;
    let foreign = service.token_of(&tenant, ExpiryType::Infinite).await;
    for client in 0..10 {
        let client = format!("198.51.100.{client}");
        for _ in 0..10 {
            let answer = log_in(&service, &foreign, bob("wrong", &client)).await;
            assert_eq!(answer.status, 401);
        }
    }
    let answer = log_in(&service, &foreign, bob("wrong", "192.0.2.1")).await;
    assert_eq!(
        answer.status, 429,
        "the other account has reached its own limit"
    );
    let answer = log_in(&service, &own, bob(PASSWORD, "198.51.100.0")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let session = bob(PASSWORD, "198.51.100.0");
    let session = attempt(&service, "create-session", &own, session).await;
    assert_eq!(session.status, 201, "{session:?}");
    assert_eq!(
        service.log_in("198.51.100.0", BOB, PASSWORD).await.status,
        200
    );
}

#[tokio::test]
async fn a_user_of_another_ecosystem_gets_the_same_response_as_an_unknown_user() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    let elsewhere = service.another_ecosystem().await;
    person_of(&service, &elsewhere, "eve@example.com").await;
    let mut seen = Vec::new();
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("eve@example.com", PASSWORD),
        ("eve@example.com", "wrong"),
        (BOB, "wrong"),
    ] {
        service.database.take_calls();
        let body = json!({ "email": email, "password": password, "clientAddress": "192.0.2.1" });
        let answer = log_in(&service, &server, body).await;
        let calls = service.database.take_calls();
        let calls = calls
            .iter()
            .map(|call| (call.operation.clone(), call.capacity.to_bits()));
        seen.push((answer, calls.collect::<Vec<_>>()));
    }
    assert_eq!(seen[0].0.status, 401);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let eve = service.log_in("192.0.2.1", "eve@example.com", PASSWORD);
    assert_eq!(eve.await.status, 200);
}

#[tokio::test]
async fn a_server_token_adds_one_read_and_a_sliding_server_token_adds_one_read_and_one_write() {
    let (service, user) = with_bob().await;
    service.log_in(BACK_END, BOB, PASSWORD).await;
    service.database.take_calls();
    let both = |mut without: Vec<String>, more: &[&str]| {
        without.extend(more.iter().map(ToString::to_string));
        without.sort();
        without
    };
    for (expiry_type, more) in [
        (ExpiryType::Infinite, &["BatchGetItem"][..]),
        (ExpiryType::SlidingTtl, &["BatchGetItem", "UpdateItem"]),
    ] {
        let server = service.token_of(&service.ecosystem, expiry_type).await;
        log_in(&service, &server, bob(PASSWORD, "192.0.2.1")).await;
        let with = service.database.take_operations();
        service.log_in("192.0.2.1", BOB, PASSWORD).await;
        assert_eq!(with, both(service.database.take_operations(), more));

        let (_, one) = code(&service, json!({ "userId": user })).await;
        let (_, other) = code(&service, json!({ "userId": user })).await;
        // All uses in one second share one renewal. Advance the clock so that the next use renews
        // the token again.
        service.clock.advance(1);
        let body = json!({ "shortcode": one, "clientAddress": "192.0.2.1" });
        assert_eq!(consume(&service, &server, body).await.status, 200);
        let with = service.database.take_operations();
        consume(&service, "", json!({ "shortcode": other })).await;
        assert_eq!(with, both(service.database.take_operations(), more));
    }
}

#[tokio::test]
async fn a_client_address_without_a_valid_server_token_is_a_400_and_does_not_count_as_an_attempt() {
    let (service, user) = with_bob().await;
    let (revoked_id, revoked) = service.server_token(&service.ecosystem).await;
    let path = format!(
        "/api/ecosystems/{}/tokens/{revoked_id}",
        service.ecosystem.id.as_str()
    );
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    let (read_only_id, read_only) = service.server_token(&service.ecosystem).await;
    service
        .set_scope(&service.ecosystem.id, &read_only_id, "read")
        .await;
    let user_token = service.mint(&user, "").await.token();
    let (_, right) = code(&service, json!({ "userId": user })).await;
    let refused = [("body", "clientAddress", "field needs a valid server token")];
    for credential in [
        "",
        "nonsense",
        &revoked,
        &read_only,
        &user_token,
        &service.account_token,
    ] {
        for _ in 0..11 {
            let answer = log_in(&service, credential, bob("wrong", "192.0.2.1")).await;
            assert_invalid(&answer, &refused);
            let body = json!({ "shortcode": "A2B3C4", "clientAddress": "192.0.2.1" });
            assert_invalid(&consume(&service, credential, body).await, &refused);
        }
        // If the body has no `clientAddress`, the credential is ignored.
        let body = json!({ "email": BOB, "password": PASSWORD });
        assert_eq!(log_in(&service, credential, body).await.status, 200);
    }
    let answer = consume(&service, &revoked, json!({ "shortcode": right })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_client_address_must_be_an_ipv4_or_ipv6_address() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    let long = "1".repeat(10_000);
    for client in [
        "",
        "192.0.2.1:80",
        "192.0.2",
        "fe80::1%eth0",
        "[::1]",
        " ::1",
        "host",
        &long,
    ] {
        let answer = log_in(&service, &server, bob(PASSWORD, client)).await;
        let message = "field must be an IPv4 or IPv6 address";
        assert_invalid(&answer, &[("body", "clientAddress", message)]);
    }
    for client in [json!(null), json!(7), json!(["192.0.2.1"])] {
        let body = json!({ "shortcode": "A2B3C4", "clientAddress": client });
        let message = "field must be an IPv4 or IPv6 address";
        let answer = consume(&service, &server, body).await;
        assert_invalid(&answer, &[("body", "clientAddress", message)]);
    }
    let twice = format!(
        r#"{{"email":"{BOB}","password":"{PASSWORD}","clientAddress":"::1","clientAddress":"::1"}}"#
    );
    let answer = Event::to("log-in-with-password")
        .header("authorization", &server)
        .json_body(&twice)
        .send(&service.app)
        .await;
    assert_invalid(
        &answer,
        &[("body", "clientAddress", "field must be given once")],
    );
}

#[tokio::test]
async fn wrong_codes_of_one_client_of_a_back_end_do_not_block_its_other_clients() {
    let service = without_minute_limit().await;
    let user = service.user("bob").await;
    let server = server(&service, &service.ecosystem).await;
    let (_, right) = code(&service, json!({ "userId": user })).await;
    let guess = async |code: &str, client: &str| {
        let body = json!({ "shortcode": code, "clientAddress": client });
        consume(&service, &server, body).await.status
    };
    for _ in 0..5 {
        assert_eq!(guess("A2B3C4", "198.51.100.1").await, 404);
    }
    assert_eq!(guess(&right, "198.51.100.1").await, 429);
    assert_eq!(guess(&right, "192.0.2.1").await, 200);
    // The failed attempts did not count for the IP address of the back end.
    let direct = consume(&service, "", json!({ "shortcode": "A2B3C4" })).await;
    assert_eq!(direct.status, 404);
}

#[tokio::test]
async fn a_code_of_another_ecosystem_gets_a_404_and_stays_valid() {
    let service = without_minute_limit().await;
    let user = service.user("bob").await;
    let (_, right) = code(&service, json!({ "userId": user })).await;
    let (_, tenant) = service.another_account().await;
    let foreign = service.token_of(&tenant, ExpiryType::Infinite).await;
    let unknown = consume(&service, &foreign, json!({ "shortcode": right })).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.body, format!("Shortcode {right} does not exist."));
    let own = server(&service, &service.ecosystem).await;
    let answer = consume(&service, &own, json!({ "shortcode": right })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn each_ecosystem_has_its_own_limit_of_failed_codes_per_minute() {
    let settings = shared::config::Settings {
        shortcode_failures_per_minute: 10,
        ..shared::config::Settings::default()
    };
    let service = Service::start_with(settings).await;
    let user = service.user("bob").await;
    let (_, tenant) = service.another_account().await;
    let foreign = service.token_of(&tenant, ExpiryType::Infinite).await;
    for _ in 0..10 {
        let guess = consume(&service, &foreign, json!({ "shortcode": "A2B3C4" })).await;
        assert_eq!(guess.status, 404);
    }
    let guess = consume(&service, &foreign, json!({ "shortcode": "A2B3C4" })).await;
    assert_eq!(
        (guess.status, guess.header("retry-after")),
        (429, Some("60"))
    );
    let own = server(&service, &service.ecosystem).await;
    for credential in [&own, ""] {
        let (_, right) = code(&service, json!({ "userId": user })).await;
        let answer = consume(&service, credential, json!({ "shortcode": right })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn failed_attempts_of_a_client_count_only_in_the_ecosystem_of_the_server_token() {
    let (service, user) = with_bob().await;
    let own = server(&service, &service.ecosystem).await;
    let (_, tenant) = service.another_account().await;
    let foreign = service.token_of(&tenant, ExpiryType::Infinite).await;
    for stranger in 0..30 {
        let body = json!({
            "email": format!("user{stranger}@example.com"),
            "password": "wrong",
            "clientAddress": "192.0.2.1",
        });
        assert_eq!(log_in(&service, &foreign, body).await.status, 401);
    }
    let full = log_in(&service, &foreign, bob(PASSWORD, "192.0.2.1")).await;
    assert_eq!(full.status, 429);
    let answer = log_in(&service, &own, bob(PASSWORD, "192.0.2.1")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);

    let guess = json!({ "shortcode": "A2B3C4", "clientAddress": BACK_END });
    for status in [404, 404, 404, 404, 404, 429] {
        assert_eq!(
            consume(&service, &foreign, guess.clone()).await.status,
            status
        );
    }
    for (credential, client) in [
        (own.as_str(), json!({ "clientAddress": BACK_END })),
        ("", json!({})),
    ] {
        let (_, right) = code(&service, json!({ "userId": user })).await;
        let mut body = client;
        body["shortcode"] = right.into();
        let answer = consume(&service, credential, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
