//! Tests of `POST /_/user-token`.

use serde_json::{Value, json};
use shared::domain::{owner::Ecosystem, token::ExpiryType};
use tests::{Answer, Service, TestClock};

use crate::{assert_forbidden, assert_invalid, assert_scope_missing, assert_unknown};

pub(crate) const BOB: &str = "bob@example.com";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const PATH: &str = "/_/user-token";
pub(crate) const VALUE: &str = "/_/user-token/value";

/// Starts a service with a user `bob`, who has an e-mail address and a password. Returns the
/// service and the user's id.
pub(crate) async fn with_bob() -> (Service, String) {
    let service = Service::start().await;
    let bob = service.person("bob", BOB, PASSWORD).await;
    (service, bob)
}

/// Sends a request to [`PATH`] with this JSON body. The credential is the account token.
pub(crate) async fn ask(service: &Service, method: &str, body: &Value) -> Answer {
    service.manage(method, PATH, &body.to_string()).await
}

/// Returns the only element of a response's `data`.
pub(crate) fn datum(answer: &Answer) -> Value {
    let json = answer.json();
    let data = json["data"].as_array().expect("`data` is a list");
    assert_eq!(data.len(), 1, "{answer:?}");
    data[0].clone()
}

/// Returns the value of the e-mail token of this address.
pub(crate) async fn value(service: &Service, email: &str) -> String {
    let answer = service
        .manage("GET", &format!("{VALUE}?email={email}"), "")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let datum = datum(&answer);
    assert_eq!(
        datum.as_object().expect("the element is an object").len(),
        1,
        "{answer:?}"
    );
    datum["token"]
        .as_str()
        .expect("the token is a string")
        .to_owned()
}

/// Mints a token for this user. The credential of the request is the account token.
pub(crate) async fn token_of_user(service: &Service, user: &str) -> String {
    service.mint(user, "expiryType=Infinite").await.token()
}

/// Creates an admin user, who may manage the ecosystem's e-mail tokens. Returns a token of the
/// user.
pub(crate) async fn administrator(service: &Service) -> String {
    let admin = service.user("admin").await;
    let path = format!("/api/users/{admin}");
    let made = service.manage("PUT", &path, r#"{"admin":true}"#).await;
    assert_eq!(made.status, 200, "{made:?}");
    token_of_user(service, &admin).await
}

/// Creates a server token of this ecosystem.
pub(crate) async fn server(service: &Service, ecosystem: &Ecosystem) -> String {
    service.token_of(ecosystem, ExpiryType::Infinite).await
}

#[tokio::test]
async fn the_documented_example_with_its_past_date_creates_an_expired_token() {
    let (service, bob) = with_bob().await;
    let body = json!({ "email": BOB, "write": true, "expiration_date": 1_444_514_400_000_u64 });
    let made = ask(&service, "POST", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let record = datum(&made);
    let now = TestClock::START * 1000 + 500;
    assert_eq!(
        record,
        json!({
            "email": BOB,
            "userId": bob,
            "tokenId": record["tokenId"],
            "write": true,
            "expiration_date": 1_444_514_400_000_u64,
            "expiryType": "FixedTtl",
            "created_at": now,
            "updated_at": now,
        })
    );
    assert_eq!(record["tokenId"].as_str().unwrap().len(), 26);
    let token = value(&service, BOB).await;
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn an_email_token_without_an_expiration_date_never_expires_and_has_the_scope_write() {
    let (service, bob) = with_bob().await;
    service.clock.advance(10);
    let made = ask(&service, "POST", &json!({ "email": BOB })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let record = datum(&made);
    assert_eq!(record["write"], true);
    assert_eq!(record["expiryType"], "Infinite");
    assert_eq!(record["expiration_date"], record["updated_at"]);
    assert_eq!(record["updated_at"], (TestClock::START + 10) * 1000 + 500);

    let token = value(&service, BOB).await;
    let claims = service.introspect(&token).await.json();
    assert_eq!(
        claims,
        json!({
            "active": true,
            "sub": bob,
            "username": bob,
            "ecosystem_id": service.ecosystem.id.as_str(),
            "jti": record["tokenId"],
            "holder": "user",
            "scope": "read write",
            "expiry_type": "Infinite",
            "iat": TestClock::START + 10,
        })
    );
}

#[tokio::test]
async fn an_email_token_expires_at_its_expiration_date_and_its_value_stays_readable() {
    let (service, _) = with_bob().await;
    // The token expires at this date, rounded down to whole seconds.
    let date = (TestClock::START + 60) * 1000 + 999;
    let body = json!({ "email": BOB, "write": false, "expiration_date": date });
    let made = ask(&service, "POST", &body).await;
    assert_eq!(datum(&made)["expiration_date"], date);
    let token = value(&service, BOB).await;
    service.clock.advance(59);
    let claims = service.introspect(&token).await.json();
    assert_eq!(claims["scope"], "read");
    assert_eq!(claims["expiry_type"], "FixedTtl");
    assert_eq!(claims["exp"], TestClock::START + 60);
    service.clock.advance(1);
    assert!(!service.is_active(&token).await);
    assert_eq!(value(&service, BOB).await, token);
}

#[tokio::test]
async fn a_request_replaces_an_expired_token_but_gets_a_409_if_a_valid_token_exists() {
    let (service, _) = with_bob().await;
    let date = (TestClock::START + 60) * 1000;
    let body = json!({ "email": BOB, "expiration_date": date });
    let first = datum(&ask(&service, "POST", &body).await);
    let old = value(&service, BOB).await;
    let again = ask(&service, "POST", &json!({ "email": BOB })).await;
    assert_eq!(again.status, 409, "{again:?}");
    assert_eq!(again.json()["errorType"], "Conflict");
    assert_eq!(value(&service, BOB).await, old);

    service.clock.advance(60);
    let second = ask(&service, "POST", &json!({ "email": BOB })).await;
    assert_eq!(second.status, 201, "{second:?}");
    assert_ne!(datum(&second)["tokenId"], first["tokenId"]);
    let new = value(&service, BOB).await;
    assert_ne!(new, old);
    assert!(service.is_active(&new).await);
    assert!(!service.is_active(&old).await);
    // The old token is deleted, not only expired. So it stays invalid even if the clock goes back.
    service.clock.go_back(60);
    assert!(!service.is_active(&old).await);
}

#[tokio::test]
async fn exactly_one_of_sixteen_concurrent_requests_creates_the_token() {
    let (service, _) = with_bob().await;
    let body = json!({ "email": BOB });
    let asked = (0..16).map(|_| ask(&service, "POST", &body));
    let answers = futures_util::future::join_all(asked).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [409; 15]);
}

#[tokio::test]
async fn an_inactive_user_gets_a_409_and_an_unknown_address_gets_a_404() {
    let (service, bob) = with_bob().await;
    let unknown = ask(&service, "POST", &json!({ "email": "Eve@example.com" })).await;
    assert_unknown(&unknown, "User with email Eve@example.com does not exist.");
    service.set_active(&bob, false).await;
    let answer = ask(&service, "POST", &json!({ "email": BOB })).await;
    assert_eq!(answer.status, 409, "{answer:?}");
}

#[tokio::test]
async fn a_server_and_an_admin_of_the_ecosystem_may_create_an_email_token() {
    let (service, _) = with_bob().await;
    let server = server(&service, &service.ecosystem).await;
    let body = json!({ "email": BOB }).to_string();
    assert_eq!(service.call(&server, "POST", PATH, &body).await.status, 201);
    assert_eq!(
        service.call(&server, "DELETE", PATH, &body).await.status,
        200
    );
    let admin = administrator(&service).await;
    assert_eq!(service.call(&admin, "POST", PATH, &body).await.status, 201);
}

#[tokio::test]
async fn other_accounts_and_ecosystems_get_a_404_and_a_user_who_is_not_an_admin_gets_a_403() {
    let (service, bob) = with_bob().await;
    let other = service.another_ecosystem().await;
    let (stranger, _) = service.another_account().await;
    let outside = server(&service, &other).await;
    let body = json!({ "email": BOB }).to_string();
    let nobody = json!({ "email": "nobody@example.com" }).to_string();
    for method in ["POST", "PUT", "DELETE"] {
        for credential in [&stranger, &outside] {
            service.database.take_calls();
            let answer = service.call(credential, method, PATH, &body).await;
            assert_unknown(&answer, "User with email bob@example.com does not exist.");
            // The database operations are the same as for an address that does not exist.
            let reads = service.database.take_operations();
            service.call(credential, method, PATH, &nobody).await;
            assert_eq!(service.database.take_operations(), reads);
        }
        let user = token_of_user(&service, &bob).await;
        assert_forbidden(&service.call(&user, method, PATH, &body).await);
    }
    for credential in [&stranger, &outside] {
        let path = format!("{VALUE}?email={BOB}");
        let answer = service.call(credential, "GET", &path, "").await;
        assert_unknown(&answer, "User with email bob@example.com does not exist.");
    }
}

#[tokio::test]
async fn a_read_only_token_gets_a_403_for_changes_and_for_the_value_of_another_user() {
    let service = Service::start().await;
    let admin = service.person("admin", "admin@example.com", PASSWORD).await;
    service.person("bob", BOB, PASSWORD).await;
    let path = format!("/api/users/{admin}");
    service.manage("PUT", &path, r#"{"admin":true}"#).await;
    let body = json!({ "email": "admin@example.com", "write": false });
    ask(&service, "POST", &body).await;
    let reader = value(&service, "admin@example.com").await;
    let bob = json!({ "email": BOB }).to_string();
    for method in ["POST", "PUT", "DELETE"] {
        let answer = service.call(&reader, method, PATH, &bob).await;
        assert_scope_missing(&answer, "tokenry:email-tokens:write");
    }
    let of_bob = format!("{VALUE}?email={BOB}");
    let answer = service.call(&reader, "GET", &of_bob, "").await;
    assert_scope_missing(&answer, "tokenry:email-tokens:write");
    assert_eq!(service.call(&reader, "GET", PATH, "").await.status, 200);
    let own = format!("{VALUE}?email=admin@example.com");
    assert_eq!(service.call(&reader, "GET", &own, "").await.status, 200);
}

#[tokio::test]
async fn a_whole_number_is_accepted_in_every_json_notation() {
    let (service, _) = with_bob().await;
    for raw in ["1893456000000", "1893456000000.0", "1.893456e12"] {
        let body = format!(r#"{{"email":"{BOB}","expiration_date":{raw}}}"#);
        let answer = service.manage("POST", PATH, &body).await;
        assert_eq!(answer.status, 201, "{raw}: {answer:?}");
        let record = &answer.json()["data"][0];
        assert_eq!(record["expiration_date"], 1_893_456_000_000_u64, "{raw}");
        let body = json!({ "email": BOB }).to_string();
        assert_eq!(service.manage("DELETE", PATH, &body).await.status, 200);
    }
}

#[tokio::test]
async fn an_invalid_body_is_reported_and_changes_nothing() {
    let (service, _) = with_bob().await;
    let long = format!("{}@example.com", "a".repeat(10_000));
    let number = "expected field to be a number";
    let positive = "field must be a positive number";
    let most = "field must be at most 253402300799999";
    let address = "invalid email address";
    let string = "expected field to be a string";
    for (body, path, message) in [
        (json!({}), "email", "field is required"),
        (json!({ "email": 1 }), "email", string),
        (json!({ "email": null }), "email", string),
        (json!({ "email": "bob" }), "email", address),
        (json!({ "email": "b\0ob@example.com" }), "email", address),
        (json!({ "email": " bob@example.com" }), "email", address),
        (json!({ "email": long }), "email", address),
        (
            json!({ "email": BOB, "write": "yes" }),
            "write",
            "expected field to be a boolean",
        ),
        (
            json!({ "email": BOB, "expiration_date": "1" }),
            "expiration_date",
            number,
        ),
        (
            json!({ "email": BOB, "expiration_date": null }),
            "expiration_date",
            number,
        ),
        (
            json!({ "email": BOB, "expiration_date": 1.5 }),
            "expiration_date",
            number,
        ),
        (
            json!({ "email": BOB, "expiration_date": -1 }),
            "expiration_date",
            positive,
        ),
        (
            json!({ "email": BOB, "expiration_date": 253_402_300_800_000_u64 }),
            "expiration_date",
            most,
        ),
        (
            json!({ "email": BOB, "user": 1 }),
            "additional parameters",
            "contains fields that are not allowed: [ user ]",
        ),
    ] {
        for method in ["POST", "PUT"] {
            let answer = ask(&service, method, &body).await;
            assert_invalid(&answer, &[("body", path, message)]);
        }
    }
    let both = service
        .manage("POST", &format!("{PATH}?write=1"), r#"{"write":1}"#)
        .await;
    assert_invalid(
        &both,
        &[
            (
                "query",
                "additional parameters",
                "contains fields that are not allowed: [ write ]",
            ),
            ("body", "email", "field is required"),
            ("body", "write", "expected field to be a boolean"),
        ],
    );
    for body in ["", "[]", "{"] {
        let answer = service.manage("POST", PATH, body).await;
        assert_eq!(
            (answer.status, answer.json()["errorType"].as_str()),
            (400, Some("InvalidBody"))
        );
    }
    // If a request above had created a token, this request would get a 409. The date of this
    // request is the latest valid date.
    let body = json!({ "email": BOB, "expiration_date": 253_402_300_799_999_u64 });
    assert_eq!(ask(&service, "POST", &body).await.status, 201);
}
