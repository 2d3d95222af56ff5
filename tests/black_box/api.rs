//! Checks that the service accepts request bodies that are serialized from the types of
//! `tokenry-api`.
//!
//! The response types need no tests here. `tests::openapi` parses every JSON response of every test
//! as the type that belongs to its schema.

use serde::Serialize;
use serde_json::from_str;
use tests::{Answer, Event, Service, TestClock, pause};
use tokenry_api::{
    Change, ChangedEmailToken, CreatedShortcode, EmailTokenData, EmailTokenValueData,
    EndedEmailToken, ExchangedToken, ExpiryType, LogIn, NewEmailToken, NewShortcode,
    TypedShortcode, User, UserChange,
};

const ADDRESS: &str = "Bob@example.com";
const CLIENT: &str = "2001:db8::1";

/// Sends this body to this endpoint, and asserts that the request succeeds. The path of `put-user`
/// contains the id of the user `bob`.
async fn send(
    service: &Service,
    credential: &str,
    endpoint: &'static str,
    body: &impl Serialize,
) -> Answer {
    let user = format!("{};bob", service.ecosystem.id.as_str());
    let event = Event::to(endpoint)
        .header("authorization", credential)
        .json_body(&serde_json::to_string(body).unwrap());
    let event = match endpoint {
        "put-user" => event.parameter("id", &user),
        _ => event,
    };
    let answer = event.send(&service.app).await;
    assert!(answer.status < 300, "{answer:?}");
    answer
}

#[tokio::test]
async fn a_user_change_creates_a_user_and_sets_keeps_or_clears_its_fields() {
    let _paused = pause();
    let service = Service::start().await;
    let id = format!("{};bob", service.ecosystem.id.as_str());
    let everything = UserChange {
        email: Change::Set(ADDRESS.into()),
        password: Change::Set("correct horse battery".to_owned().into()),
        admin: Some(true),
        active: Some(false),
    };
    let cleared = UserChange {
        email: Change::Clear,
        password: Change::Clear,
        admin: None,
        active: Some(true),
    };
    for (change, email, active) in [
        (everything, Some(ADDRESS), false),
        (UserChange::default(), Some(ADDRESS), false),
        (cleared, None, true),
    ] {
        let answer = send(&service, &service.account_token, "put-user", &change).await;
        let user = User {
            id: id.clone(),
            email: email.map(Into::into),
            admin: true,
            active,
        };
        assert_eq!(from_str::<User>(&answer.body).unwrap(), user, "{change:?}");
    }
}

#[tokio::test]
async fn a_short_code_is_created_for_a_user_or_an_environment_and_exchanged() {
    let _paused = pause();
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let of_user = NewShortcode {
        environment_id: None,
        user_id: Some(bob.clone()),
        short_code_ttl: Some(60),
        token_expiry_type: Some(ExpiryType::SlidingTtl),
        token_ttl: Some(900),
    };
    let of_environment = NewShortcode {
        environment_id: Some(environment.clone()),
        ..NewShortcode::default()
    };
    for (wanted, client_address, expiry_type) in [
        (of_user, None, ExpiryType::SlidingTtl),
        (
            of_environment,
            Some(CLIENT.parse().unwrap()),
            ExpiryType::FixedTtl,
        ),
    ] {
        let made = send(&service, &server, "create-shortcode", &wanted).await;
        let made: CreatedShortcode = from_str(&made.body).unwrap();
        let typed = TypedShortcode {
            shortcode: made.shortcode,
            client_address,
        };
        let got = send(&service, &server, "consume-shortcode", &typed).await;
        let got: ExchangedToken = from_str(&got.body).unwrap();
        assert_eq!(got.expiry_type, expiry_type);
        assert_eq!(got.user_id, made.user_id);
        assert_eq!(got.environment_id, wanted.environment_id);
        assert!(service.is_active(got.token.reveal()).await);
    }
}

#[tokio::test]
async fn an_email_token_is_created_updated_returned_by_a_log_in_and_deleted() {
    let _paused = pause();
    let service = Service::start().await;
    service
        .person("bob", ADDRESS, "correct horse battery")
        .await;
    let (_, server) = service.server_token(&service.ecosystem).await;
    let date = (TestClock::START + 60) * 1000;
    let dated = |write| NewEmailToken {
        email: ADDRESS.into(),
        write: Some(write),
        expiration_date: Some(date),
    };
    let by_default = || ChangedEmailToken {
        email: ADDRESS.into(),
        ..ChangedEmailToken::default()
    };
    let ended = EndedEmailToken {
        email: ADDRESS.into(),
    };
    for (endpoint, body, write, expiry_type) in [
        (
            "create-email-token",
            dated(false),
            false,
            ExpiryType::FixedTtl,
        ),
        (
            "update-email-token",
            dated(true),
            true,
            ExpiryType::FixedTtl,
        ),
        (
            "update-email-token",
            by_default(),
            false,
            ExpiryType::Infinite,
        ),
    ] {
        let answer = send(&service, &server, endpoint, &body).await;
        let EmailTokenData { data: [record] } = from_str(&answer.body).unwrap();
        assert_eq!((record.write, record.expiry_type), (write, expiry_type));
        assert_eq!(record.email.reveal(), ADDRESS);
    }
    let ecosystem = service.ecosystem.id.to_string();
    for (ecosystem_id, client_address) in [
        (None, None),
        (None, Some(CLIENT.parse().unwrap())),
        (Some(ecosystem), None),
    ] {
        let log_in = LogIn {
            email: ADDRESS.into(),
            password: "correct horse battery".to_owned().into(),
            ecosystem_id,
            client_address,
        };
        let answer = send(&service, &server, "log-in-with-password", &log_in).await;
        let EmailTokenValueData { data: [value] } = from_str(&answer.body).unwrap();
        assert!(service.is_active(value.token.reveal()).await);
    }
    let answer = send(&service, &server, "delete-email-token", &ended).await;
    let EmailTokenData { data: [record] } = from_str(&answer.body).unwrap();
    assert_eq!(record.email.reveal(), ADDRESS);
    send(&service, &server, "create-email-token", &by_default()).await;
}
