//! Tests of `DELETE /_/user-token`.

use serde_json::json;

use crate::{
    assert_invalid, assert_unknown,
    create_email_token::{BOB, PASSWORD, PATH, VALUE, ask, datum, value, with_bob},
};

#[tokio::test]
async fn a_deletion_revokes_the_token_and_returns_the_record_of_the_token() {
    let (service, _) = with_bob().await;
    let body = json!({ "email": BOB });
    let made = datum(&ask(&service, "POST", &body).await);
    let token = value(&service, BOB).await;
    let deleted = ask(&service, "DELETE", &body).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(datum(&deleted), made);
    assert!(!service.is_active(&token).await);
    let path = format!("{VALUE}?email={BOB}");
    let none = "User with email bob@example.com has no token.";
    assert_unknown(&service.manage("GET", &path, "").await, none);
    assert_unknown(&ask(&service, "DELETE", &body).await, none);

    let answer = service.log_in("192.0.2.1", BOB, PASSWORD).await;
    let new = datum(&answer)["token"].as_str().unwrap().to_owned();
    assert_ne!(new, token);
    assert!(service.is_active(&new).await);
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn the_address_may_be_in_the_body_or_the_query_but_not_in_both() {
    let (service, _) = with_bob().await;
    let body = json!({ "email": BOB });
    ask(&service, "POST", &body).await;
    let path = format!("{PATH}?email=BOB%40example.com");
    let twice = service.manage("DELETE", &path, &body.to_string()).await;
    assert_invalid(&twice, &[("query", "email", "field must be given once")]);
    assert_eq!(service.manage("DELETE", &path, "").await.status, 200);
    ask(&service, "POST", &body).await;
    assert_eq!(service.manage("DELETE", &path, "{}").await.status, 200);

    for (path, body, place, message) in [
        ("?email=bob", "", "query", "invalid email address"),
        ("?email=", "{}", "query", "invalid email address"),
        ("", "", "query", "field is required"),
        ("", "{}", "body", "field is required"),
        ("", r#"{"email":"bob"}"#, "body", "invalid email address"),
    ] {
        let answer = service
            .manage("DELETE", &format!("{PATH}{path}"), body)
            .await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let error = &answer.json()["errors"][0];
        assert_eq!(
            (&error["in"], &error["path"], &error["message"]),
            (&json!(place), &json!("email"), &json!(message)),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn after_a_deletion_during_a_log_in_a_second_deletion_leaves_no_token_item() {
    let (service, bob) = with_bob().await;
    let body = json!({ "email": BOB });
    for round in 0..20 {
        ask(
            &service,
            "POST",
            &json!({ "email": BOB, "expiration_date": 1 }),
        )
        .await;
        let source = format!("192.0.2.{round}");
        let both = futures_util::future::join(
            ask(&service, "DELETE", &body),
            service.log_in(&source, BOB, PASSWORD),
        );
        let (deleted, logged_in) = Box::pin(both).await;
        // The deletion finds either the expired token or the token that the log-in created. So both
        // requests succeed.
        assert_eq!(deleted.status, 200, "{deleted:?}");
        assert_eq!(logged_in.status, 200, "{logged_in:?}");
        ask(&service, "DELETE", &body).await;
        let items = service.token_items(&bob).await;
        assert!(!items.iter().any(|item| item.contains_key("token_hash")));
    }
}

#[tokio::test]
async fn an_unknown_address_is_a_404() {
    let (service, _) = with_bob().await;
    let answer = ask(&service, "DELETE", &json!({ "email": "eve@example.com" })).await;
    assert_unknown(&answer, "User with email eve@example.com does not exist.");
}
