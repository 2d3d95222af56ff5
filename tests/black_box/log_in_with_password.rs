//! Tests of `POST /_/user-token/value`.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::{
    config::Settings,
    domain::{password::MinLength, token::ExpiryType},
};
use tests::{Answer, Event, Fault, LOG_INS, Service, pause};

use crate::{
    assert_invalid,
    create_email_token::{BOB, PASSWORD, VALUE, ask, datum, value, with_bob},
};

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    datum(answer)["token"]
        .as_str()
        .expect("the response contains a token")
        .to_owned()
}

async fn send(service: &Service, body: &serde_json::Value) -> Answer {
    send_to("log-in-with-password", service, body).await
}

async fn send_to(endpoint: &'static str, service: &Service, body: &Value) -> Answer {
    let event = Event::to(endpoint).json_body(&body.to_string());
    event.send(&service.app).await
}

/// Returns the status of a successful log-in with this endpoint.
fn success(endpoint: &str) -> u16 {
    if endpoint == "create-session" {
        201
    } else {
        200
    }
}

/// Returns the password's Argon2id hash with these parameters, as a PHC string.
fn hash(password: &str, memory: u32, passes: u32, output: usize) -> String {
    let params = Params::new(memory, passes, 1, Some(output)).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), b"a salt of some length")
        .unwrap()
        .to_string()
}

#[tokio::test]
async fn a_log_in_returns_the_valid_e_mail_token_or_creates_a_new_token() {
    let (service, bob) = with_bob().await;
    let body = json!({ "email": BOB, "password": PASSWORD }).to_string();
    let request = service
        .request("POST", VALUE)
        .header("content-type", "application/json")
        .body(body);
    let answer = service.send(request).await;
    let first = token(&answer);
    assert_eq!(answer.json(), json!({ "data": [{ "token": first }] }));
    let claims = service.introspect(&first).await.json();
    assert_eq!(claims["sub"], bob.as_str());
    assert_eq!(claims["scope"], "read write");
    assert_eq!(claims["expiry_type"], "Infinite");
    assert_eq!(value(&service, BOB).await, first);

    let again = service
        .log_in("192.0.2.1", "BOB@example.COM", PASSWORD)
        .await;
    assert_eq!(token(&again), first);
    // A log-in returns a valid token even if the token's scope is only `read`.
    let read_only = json!({ "email": BOB, "write": false });
    assert_eq!(ask(&service, "PUT", &read_only).await.status, 200);
    assert_eq!(
        token(&service.log_in("192.0.2.1", BOB, PASSWORD).await),
        first
    );

    let past = json!({ "email": BOB, "expiration_date": 1 });
    assert_eq!(ask(&service, "PUT", &past).await.status, 200);
    let second = token(&service.log_in("192.0.2.1", BOB, PASSWORD).await);
    assert_ne!(second, first);
    assert!(service.is_active(&second).await);
    assert!(!service.is_active(&first).await);
}

#[tokio::test]
async fn sixteen_concurrent_first_log_ins_create_one_token() {
    let (service, bob) = with_bob().await;
    let sources: Vec<_> = (1..=16).map(|n| format!("192.0.2.{n}")).collect();
    let log_ins = sources
        .iter()
        .map(|source| service.log_in(source, BOB, PASSWORD));
    let tokens: Vec<_> = join_all(log_ins).await.iter().map(token).collect();
    assert!(tokens.iter().all(|one| *one == tokens[0]));
    assert!(service.is_active(&tokens[0]).await);
    assert_eq!(service.token_items(&bob).await.len(), 1);
}

#[tokio::test]
async fn every_cause_of_a_401_gives_the_same_response_after_the_same_database_calls() {
    let (service, _) = with_bob().await;
    let inactive = service
        .person("inactive", "inactive@example.com", PASSWORD)
        .await;
    let path = format!("/api/users/{inactive}");
    service.manage("PUT", &path, r#"{"active":false}"#).await;
    let path = format!("/api/users/{};none", service.ecosystem.id.as_str());
    service
        .manage("PUT", &path, r#"{"email":"none@example.com"}"#)
        .await;
    service.person("gone", "gone@example.com", PASSWORD).await;
    let path = format!("/api/users/{};gone", service.ecosystem.id.as_str());
    service.manage("DELETE", &path, "").await;
    service.database.take_calls();

    let mut seen = Vec::new();
    for (email, password) in [
        (BOB, "a wrong one"),
        (BOB, "Correct horse"),
        (BOB, "correct horse "),
        (BOB, "short"),
        (BOB, ""),
        ("nobody@example.com", PASSWORD),
        ("inactive@example.com", PASSWORD),
        ("none@example.com", PASSWORD),
        ("none@example.com", ""),
        ("gone@example.com", PASSWORD),
    ] {
        for endpoint in LOG_INS {
            let log_in = service.log_in_at(endpoint, "192.0.2.1", email, password);
            let answer = log_in.await;
            let calls = service.database.take_calls();
            let shape: Vec<_> = calls
                .iter()
                .map(|call| (call.operation.clone(), call.capacity.to_bits()))
                .collect();
            seen.push((endpoint, email, password, (answer, shape)));
            service.clock.advance(900);
        }
    }
    let (.., expected) = &seen[0];
    assert_eq!(expected.0.status, 401, "{expected:?}");
    assert_eq!(
        expected.0.body,
        r#"{"errorType":"Unauthorized","errors":[{"message":"wrong email address or password"}]}"#
    );
    assert_eq!(
        expected.0.header("www-authenticate"),
        Some(r#"Bearer realm="tokenry""#)
    );
    for (endpoint, email, password, one) in &seen {
        assert_eq!(one, expected, "{endpoint} {email} {password}");
    }
}

/// An e-mail address, a password and an ecosystem id.
type Attempt<'a> = (&'a str, &'a str, Option<&'a str>);

#[tokio::test]
async fn a_user_who_is_not_found_gets_the_response_to_a_wrong_password_after_the_same_calls() {
    let (service, _) = with_bob().await;
    let own = service.ecosystem.id.as_str();
    let second = service.another_ecosystem().await;
    let (stranger, third) = service.another_account().await;
    let (second, third_id) = (second.id.as_str(), third.id.as_str());
    // Creates one user in another ecosystem of the same account, and two users in another account.
    for (credential, id, email) in [
        (&service.account_token, second, "second@example.com"),
        (&stranger, third_id, "third@example.com"),
        (&stranger, third_id, "both@example.com"),
    ] {
        let name = email.split('@').next().unwrap();
        let path = format!("/api/users/{id};{name}");
        let body = json!({ "email": email, "password": PASSWORD }).to_string();
        let made = service.call(credential, "PUT", &path, &body).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let (both, nobody) = ("both@example.com", "nobody@example.com");
    service.person("both", both, "the first account's").await;
    let (unknown, wrong) = ("C58521fd8a5d9b5cc21987501", "a wrong one");
    // Each group contains requests that differ only in the address, the password and the ecosystem.
    // The first request of a group has a wrong password. The requests of the last group have a
    // server token.
    let groups: [(bool, &[Attempt<'_>]); 3] = [
        (
            false,
            &[
                (BOB, wrong, None),
                (nobody, PASSWORD, None),
                ("third@example.com", PASSWORD, None),
                (both, PASSWORD, None),
            ],
        ),
        (
            false,
            &[
                (BOB, wrong, Some(own)),
                (nobody, PASSWORD, Some(own)),
                (BOB, PASSWORD, Some(second)),
                (BOB, PASSWORD, Some(third_id)),
                (BOB, PASSWORD, Some(unknown)),
                ("second@example.com", PASSWORD, Some(own)),
                ("third@example.com", PASSWORD, Some(own)),
                ("third@example.com", PASSWORD, Some(unknown)),
                (both, PASSWORD, Some(own)),
                (both, "the first account's", Some(third_id)),
            ],
        ),
        (
            true,
            &[
                (BOB, wrong, None),
                (BOB, wrong, Some(own)),
                (nobody, PASSWORD, None),
                (BOB, PASSWORD, Some(second)),
                (BOB, PASSWORD, Some(third_id)),
                (BOB, PASSWORD, Some(unknown)),
                ("second@example.com", PASSWORD, Some(second)),
                ("second@example.com", PASSWORD, None),
                ("third@example.com", PASSWORD, Some(third_id)),
            ],
        ),
    ];
    for (has_server, attempts) in groups {
        let mut expected = None;
        let of_both = attempts.iter().flat_map(|one| LOG_INS.map(|to| (to, one)));
        for (endpoint, (email, password, ecosystem)) in of_both {
            let mut body = json!({ "email": email, "password": password });
            if let Some(id) = ecosystem {
                body["ecosystemId"] = json!(id);
            }
            let event = Event::to(endpoint).json_body(&body.to_string());
            // The server token is new each time. The use of an older one would be stored about once
            // an hour.
            let event = if has_server {
                let server = service.token_of(&service.ecosystem, ExpiryType::Infinite);
                event.header("authorization", &server.await)
            } else {
                event
            };
            service.database.take_calls();
            let answer = event.send(&service.app).await;
            let calls = service.database.take_calls();
            let calls = calls.iter();
            let shape = calls.map(|call| (call.operation.clone(), call.capacity.to_bits()));
            let seen = (answer, shape.collect::<Vec<_>>());
            let expected = expected.get_or_insert_with(|| seen.clone());
            assert_eq!(expected.0.status, 401, "{expected:?}");
            assert_eq!(seen, *expected, "{endpoint} {body}");
            service.clock.advance(900);
        }
    }
    // The right user is found with the right ecosystem.
    for (email, ecosystem) in [
        (BOB, own),
        ("second@example.com", second),
        ("third@example.com", third_id),
        (both, third_id),
    ] {
        let body = json!({ "email": email, "password": PASSWORD, "ecosystemId": ecosystem });
        for endpoint in LOG_INS {
            let answer = send_to(endpoint, &service, &body).await;
            assert_eq!(answer.status, success(endpoint), "{endpoint} {email}");
        }
    }
}

#[tokio::test]
async fn an_ecosystem_id_does_not_change_the_limits_of_an_e_mail_address() {
    let (service, _) = with_bob().await;
    let own = service.ecosystem.id.as_str();
    let (_, other) = service.another_account().await;
    let ids = [
        Value::Null,
        json!(own),
        json!(other.id.as_str()),
        json!("C58521fd8a5d9b5cc21987501"),
    ];
    let body = |password: &str, id: &Value| {
        let mut body = json!({ "email": BOB, "password": password });
        if !id.is_null() {
            body["ecosystemId"] = id.clone();
        }
        body
    };
    // From one source, 10 attempts for one e-mail address may fail.
    for attempt in 0..10 {
        let id = &ids[attempt % ids.len()];
        let wrong = body("a wrong one", id);
        let answer = send_to(LOG_INS[attempt / 5], &service, &wrong).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    for id in &ids {
        for endpoint in LOG_INS {
            let answer = send_to(endpoint, &service, &body(PASSWORD, id)).await;
            assert_eq!(answer.status, 429);
        }
    }
}

#[tokio::test]
async fn a_log_in_makes_exactly_these_database_calls() {
    let (service, _) = with_bob().await;
    let [taken_back, failed] = [["UpdateItem"; 3]; 2];
    // Two calls count the attempt: one for the source, and one for the source together with the
    // e-mail address. The next two calls run concurrently. One counts the attempt for the e-mail
    // address, and the other reads the record of the e-mail address. Then two calls read the
    // records of the user and the user's ecosystem.
    let before = [
        "UpdateItem",
        "UpdateItem",
        "UpdateItem",
        "GetItem",
        "TransactGetItems",
        "BatchGetItem",
    ];
    // The first log-in also creates the data key, so its calls are not compared.
    service.log_in("192.0.2.1", BOB, PASSWORD).await;
    ask(&service, "DELETE", &json!({ "email": BOB })).await;
    // After a correct password, three more calls take the counted attempt back. If the user has no
    // token, another call creates a token before these three calls. After a wrong password, three
    // more calls record the failure.
    for (password, last, expected_units) in [
        (
            PASSWORD,
            [&["TransactWriteItems"], &taken_back[..]].concat(),
            "21",
        ),
        (PASSWORD, taken_back.to_vec(), "14"),
        ("a wrong one", failed.to_vec(), "14"),
    ] {
        service.database.take_calls();
        service.log_in("192.0.2.1", BOB, password).await;
        let calls = service.database.take_calls();
        let operations: Vec<_> = calls.iter().map(|call| call.operation.as_str()).collect();
        assert_eq!(operations, [&before[..], &last].concat());
        let units: f64 = calls.iter().map(|call| call.capacity).sum();
        assert_eq!(units.to_string(), expected_units, "{password}");
    }
}

#[tokio::test]
async fn a_change_of_a_users_state_password_or_address_invalidates_all_tokens_of_the_user_at_once()
{
    let (service, bob) = with_bob().await;
    let path = format!("/api/users/{bob}");
    let mut password = PASSWORD;
    let (mut email, mut tokens) = (BOB, Vec::new());
    for change in [
        json!({ "password": "another one" }),
        json!({ "password": "another one" }),
        json!({ "active": false }),
        json!({ "active": true, "email": "robert@example.com" }),
        json!({ "password": null }),
        json!({ "password": PASSWORD, "email": null }),
    ] {
        if change.get("active") != Some(&json!(true)) {
            let before = token(&service.log_in("192.0.2.1", email, password).await);
            assert!(service.is_active(&before).await);
            let minted = service.mint(&bob, "expiryType=SlidingTtl").await.token();
            tokens.extend([before, minted]);
        }
        let answer = service.manage("PUT", &path, &change.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for token in &tokens {
            assert!(!service.is_active(token).await, "{change}");
        }
        if let Some(new) = change["password"].as_str() {
            password = if new == PASSWORD {
                PASSWORD
            } else {
                "another one"
            };
        }
        if let Some("robert@example.com") = change["email"].as_str() {
            assert_eq!(service.log_in("192.0.2.1", BOB, password).await.status, 401);
            email = "robert@example.com";
        }
        if change["password"].is_null() && change.get("password").is_some() {
            assert_eq!(
                service.log_in("192.0.2.1", email, password).await.status,
                401
            );
            let set = json!({ "password": password }).to_string();
            service.manage("PUT", &path, &set).await;
        }
    }
    // A user without an address cannot log in.
    assert_eq!(
        service.log_in("192.0.2.1", email, password).await.status,
        401
    );
    let address = json!({ "email": BOB }).to_string();
    service.manage("PUT", &path, &address).await;
    let kept = token(&service.log_in("192.0.2.1", BOB, password).await);
    // The token stays valid if the state, the password and the normal form of the address stay the
    // same.
    for same in [
        address,
        json!({ "email": "Bob@EXAMPLE.com", "active": true, "admin": true }).to_string(),
    ] {
        assert_eq!(service.manage("PUT", &path, &same).await.status, 200);
        assert!(service.is_active(&kept).await, "{same}");
    }
    assert_eq!(
        service.manage("GET", &path, "").await.json()["email"],
        "Bob@EXAMPLE.com"
    );
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert!(!service.is_active(&kept).await);
    assert_eq!(service.log_in("192.0.2.1", BOB, password).await.status, 401);
}

#[tokio::test]
async fn a_log_in_with_the_correct_password_replaces_a_weak_hash_but_an_unusable_hash_gets_a_401() {
    let (service, bob) = with_bob().await;
    let weak = hash(PASSWORD, 8192, 1, 32);
    let mut strong = String::new();
    for endpoint in LOG_INS {
        let log_in = |source, password| service.log_in_at(endpoint, source, BOB, password);
        service.set_password_hash(&bob, &weak).await;
        assert_eq!(log_in("192.0.2.1", "a wrong one").await.status, 401);
        assert_eq!(service.password_hash(&bob).await, weak);
        let sources: Vec<_> = (1..=4).map(|n| format!("192.0.2.{n}")).collect();
        let log_ins = sources.iter().map(|source| log_in(source, PASSWORD));
        let answers = join_all(log_ins).await;
        let is_success = |answer: &Answer| answer.status == success(endpoint);
        assert!(answers.iter().all(is_success), "{answers:?}");
        strong = service.password_hash(&bob).await;
        assert!(
            strong.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{strong}"
        );
        assert!(is_success(&log_in("192.0.2.1", PASSWORD).await));
        assert_eq!(service.password_hash(&bob).await, strong);
    }

    let too_much_memory = strong.replace("m=19456", "m=4194304");
    for absurd in [
        too_much_memory.as_str(),
        &strong.replace("t=2", "t=4294967295"),
        &strong.replace("p=1", "p=255"),
        &strong.replace("argon2id", "argon2d"),
        "$2b$12$LQv3c1yqBWVHxkd0LHAkCOYz6TtxMQJqhN8/LewY5GyYIuRDFdZ6K",
        "nonsense",
        "",
    ] {
        service.set_password_hash(&bob, absurd).await;
        let answer = service.log_in("192.0.2.9", BOB, PASSWORD).await;
        assert_eq!(answer.status, 401, "{absurd}");
        service.clock.advance(900);
    }
    service.set_password_hash(&bob, &strong).await;
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_hash_with_only_one_weak_parameter_is_replaced() {
    let (service, bob) = with_bob().await;
    for (memory, passes, output) in [(8192, 2, 32), (19_456, 1, 32), (19_456, 2, 16)] {
        let weak = hash(PASSWORD, memory, passes, output);
        service.set_password_hash(&bob, &weak).await;
        let answer = service.log_in("192.0.2.1", BOB, PASSWORD).await;
        assert_eq!(answer.status, 200, "{weak}");
        assert_ne!(service.password_hash(&bob).await, weak);
    }
}

#[tokio::test]
async fn a_user_that_changes_during_the_log_in_gets_a_token_only_if_the_password_stays_the_same() {
    let password = json!({ "password": "another one" }).to_string();
    let inactive = json!({ "active": false }).to_string();
    let changes = [
        ("revoke-user-tokens", None, true),
        ("put-user", Some(&password), false),
        ("put-user", Some(&inactive), false),
    ];
    let of_both = changes.iter().flat_map(|one| LOG_INS.map(|to| (to, *one)));
    for (log_in, (endpoint, body, succeeds)) in of_both {
        let (service, bob) = with_bob().await;
        let to = Event::to(endpoint).header("authorization", &service.account_token);
        let change = to.parameter("id", &bob);
        let change = body.map_or(change.clone(), |body| change.json_body(body));
        // The log-in stores its new token only after the change.
        let held_up = ("TransactWriteItems", Fault::NotBefore("Scan"));
        service.database.fail([held_up]);
        let _paused = pause();
        let meanwhile = async {
            service.database.has_arrived("TransactWriteItems").await;
            assert!(change.send(&service.app).await.status < 300);
            service.identity_items().await;
        };
        let attempt = service.log_in_at(log_in, "192.0.2.1", BOB, PASSWORD);
        let (answer, ()) = tokio::join!(attempt, meanwhile);
        let status = if succeeds { success(log_in) } else { 401 };
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 201 {
            assert!(service.is_active(&answer.token()).await);
        }
    }
}

#[tokio::test]
async fn a_password_is_not_trimmed_normalised_or_truncated() {
    let service = Service::start().await;
    let long = "🦀".repeat(256);
    for (name, password) in [
        ("spaces", "  spaces at both ends  "),
        ("nul", "nul\0and more"),
        ("decomposed", "e\u{301}e\u{301}e\u{301}e\u{301}"),
        ("long", &long),
    ] {
        let email = format!("{name}@example.com");
        service.person(name, &email, password).await;
        assert_eq!(
            service.log_in("192.0.2.1", &email, password).await.status,
            200
        );
        let trimmed = service.log_in("192.0.2.1", &email, password.trim()).await;
        assert_eq!(trimmed.status == 200, password.trim() == password);
        let composed = service
            .log_in("192.0.2.1", &email, "\u{e9}\u{e9}\u{e9}\u{e9}")
            .await;
        assert_eq!(composed.status, 401);
    }
    let cut: String = long.chars().take(255).collect();
    assert_eq!(
        service
            .log_in("192.0.2.2", "long@example.com", &cut)
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn an_invalid_body_gets_errors_for_its_fields_and_does_not_count_as_an_attempt() {
    let (service, _) = with_bob().await;
    let long = "x".repeat(9000);
    let address = "invalid email address";
    let most = "field must be at most 256 characters";
    for (body, path, message) in [
        (
            json!({ "password": PASSWORD }),
            "email",
            "field is required",
        ),
        (json!({ "email": BOB }), "password", "field is required"),
        (
            json!({ "email": "bob", "password": PASSWORD }),
            "email",
            address,
        ),
        (
            json!({ "email": 7, "password": PASSWORD }),
            "email",
            "expected field to be a string",
        ),
        (json!({ "email": BOB, "password": long }), "password", most),
        (
            json!({ "email": BOB, "password": 12_345_678 }),
            "password",
            "expected field to be a string",
        ),
        (
            json!({ "email": BOB, "password": null }),
            "password",
            "expected field to be a string",
        ),
        (
            json!({ "email": BOB, "password": PASSWORD, "ecosystemId": "C1" }),
            "ecosystemId",
            "invalid ecosystem id",
        ),
    ] {
        let answer = send(&service, &body).await;
        assert_invalid(&answer, &[("body", path, message)]);
    }
    let huge = json!({ "email": BOB, "password": "x".repeat(1_000_000) });
    assert_eq!(send(&service, &huge).await.status, 413);
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn a_new_password_must_have_8_to_256_characters() {
    let (service, bob) = with_bob().await;
    let path = format!("/api/users/{bob}");
    for password in [
        "",
        "1234567",
        "ééééééé",
        &"x".repeat(257),
        &"🦀".repeat(257),
        &"x".repeat(9000),
    ] {
        let body = json!({ "password": password }).to_string();
        let answer = service.manage("PUT", &path, &body).await;
        let message = if password.len() > 20 {
            "field must be at most 256 characters"
        } else {
            "field must be at least 8 characters"
        };
        assert_invalid(&answer, &[("body", "password", message)]);
    }
    for wrong in ["7", "true", "[]"] {
        let body = format!(r#"{{"password":{wrong}}}"#);
        let answer = service.manage("PUT", &path, &body).await;
        assert_invalid(
            &answer,
            &[("body", "password", "expected field to be a string")],
        );
    }
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_new_password_must_not_be_common_but_a_common_one_that_is_stored_still_logs_in() {
    let (service, bob) = with_bob().await;
    let path = format!("/api/users/{bob}");
    for password in ["password1", "PASSWORD1", "ｐａｓｓｗｏｒｄ１", "1q2w3e4r5t"] {
        let body = json!({ "password": password, "admin": true }).to_string();
        let answer = service.manage("PUT", &path, &body).await;
        assert_invalid(&answer, &[("body", "password", "password is too common")]);
    }
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);

    service
        .set_password_hash(&bob, &hash("password1", 19_456, 2, 32))
        .await;
    let answer = service.log_in("192.0.2.1", BOB, "password1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn the_minimum_length_is_for_new_passwords_only() {
    let service = Service::start_with(Settings {
        password_min_length: MinLength::new(15).unwrap(),
        ..Settings::default()
    })
    .await;
    let path = format!("/api/users/{};bob", service.ecosystem.id.as_str());
    let body = json!({ "email": BOB, "password": "correct horse " });
    let answer = service.manage("PUT", &path, &body.to_string()).await;
    let message = "field must be at least 15 characters";
    assert_invalid(&answer, &[("body", "password", message)]);
    let body = json!({ "email": BOB, "password": "correct horse b" });
    let answer = service.manage("PUT", &path, &body.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");

    let bob = path.trim_start_matches("/api/users/");
    service
        .set_password_hash(bob, &hash("a horse", 19_456, 2, 32))
        .await;
    let answer = service.log_in("192.0.2.1", BOB, "a horse").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_database_failure_causes_a_503_and_the_log_in_does_not_count_as_an_attempt() {
    let (service, _) = with_bob().await;
    for operation in ["GetItem", "TransactGetItems", "TransactWriteItems"] {
        for _ in 0..12 {
            service.database.fail([(operation, Fault::Rubbish)]);
            let answer = service.log_in("192.0.2.1", BOB, PASSWORD).await;
            assert_eq!(answer.status, 503, "{operation} {answer:?}");
        }
    }
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    let first = token(&service.log_in("192.0.2.1", BOB, PASSWORD).await);
    assert_eq!(
        token(&service.log_in("192.0.2.1", BOB, PASSWORD).await),
        first
    );
}
