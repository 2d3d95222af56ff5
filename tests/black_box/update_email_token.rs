//! Tests of `PUT /_/user-token`.

use serde_json::json;
use tests::{Fault, TestClock};

use crate::{
    assert_forbidden, assert_unknown,
    create_email_token::{BOB, PATH, VALUE, administrator, ask, datum, value, with_bob},
};

#[tokio::test]
async fn a_change_replaces_the_scope_and_the_expiration_date_and_keeps_the_value() {
    let (service, _) = with_bob().await;
    let made = datum(&ask(&service, "POST", &json!({ "email": BOB })).await);
    let token = value(&service, BOB).await;
    service.clock.advance(5);
    let date = (TestClock::START + 100) * 1000;
    let body = json!({ "email": BOB, "write": true, "expiration_date": date });
    let changed = ask(&service, "PUT", &body).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let record = datum(&changed);
    assert_eq!(record["tokenId"], made["tokenId"]);
    assert_eq!(record["created_at"], made["created_at"]);
    assert_eq!(record["updated_at"], (TestClock::START + 5) * 1000 + 500);
    assert_eq!(record["expiration_date"], date);
    assert_eq!(record["expiryType"], "FixedTtl");
    let claims = service.introspect(&token).await.json();
    assert_eq!(
        (&claims["scope"], &claims["exp"]),
        (&json!("read write"), &json!(TestClock::START + 100))
    );

    // Omitted properties get their defaults: scope `read`, no expiration date.
    let record = datum(&ask(&service, "PUT", &json!({ "email": BOB })).await);
    assert_eq!(record["write"], false);
    assert_eq!(record["expiryType"], "Infinite");
    assert_eq!(record["expiration_date"], record["updated_at"]);
    let claims = service.introspect(&token).await.json();
    assert_eq!(
        (&claims["scope"], &claims["expiry_type"]),
        (&json!("read"), &json!("Infinite"))
    );
    assert!(claims.get("exp").is_none());
    assert_eq!(value(&service, BOB).await, token);
}

#[tokio::test]
async fn a_past_date_invalidates_the_token_at_once_and_a_future_date_makes_it_valid_again() {
    let (service, bob) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let token = value(&service, BOB).await;
    let past = json!({ "email": BOB, "expiration_date": 1 });
    assert_eq!(ask(&service, "PUT", &past).await.status, 200);
    assert!(!service.is_active(&token).await);
    let future = json!({ "email": BOB, "expiration_date": (TestClock::START + 100) * 1000 });
    assert_eq!(ask(&service, "PUT", &future).await.status, 200);
    assert!(service.is_active(&token).await);

    // A change can make the token valid again long after the expiration date. So no item of the
    // token has an attribute that tells DynamoDB when to delete the item.
    service.clock.advance(100_000_000);
    let items = service.token_items(&bob).await;
    assert!(items.iter().all(|item| !item.contains_key("expires_at")));
    assert!(!service.is_active(&token).await);
    assert_eq!(
        ask(&service, "PUT", &json!({ "email": BOB })).await.status,
        200
    );
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn an_unknown_address_or_a_user_without_an_e_mail_token_gets_a_404() {
    let (service, bob) = with_bob().await;
    let body = json!({ "email": BOB });
    let none = "User with email bob@example.com has no token.";
    assert_unknown(&ask(&service, "PUT", &body).await, none);
    ask(&service, "POST", &body).await;
    let path = format!("/api/users/{bob}");
    for active in [r#"{"active":false}"#, r#"{"active":true}"#] {
        assert_eq!(service.manage("PUT", &path, active).await.status, 200);
    }
    assert_unknown(&ask(&service, "PUT", &body).await, none);
    ask(&service, "POST", &body).await;
    ask(&service, "DELETE", &body).await;
    assert_unknown(&ask(&service, "PUT", &body).await, none);
    let eve = json!({ "email": "eve@example.com" });
    let unknown = "User with email eve@example.com does not exist.";
    assert_unknown(&ask(&service, "PUT", &eve).await, unknown);
}

#[tokio::test]
async fn a_change_never_restores_a_token_that_is_deleted_concurrently() {
    let (service, _) = with_bob().await;
    for _ in 0..20 {
        let body = json!({ "email": BOB });
        ask(&service, "POST", &body).await;
        let token = value(&service, BOB).await;
        let (updated, deleted) =
            futures_util::future::join(ask(&service, "PUT", &body), ask(&service, "DELETE", &body))
                .await;
        assert_eq!(deleted.status, 200, "{deleted:?}");
        assert!([200, 404].contains(&updated.status), "{updated:?}");
        assert!(!service.is_active(&token).await);
    }
}

#[tokio::test]
async fn a_change_takes_effect_even_if_the_database_response_is_lost() {
    let (service, _) = with_bob().await;
    ask(&service, "POST", &json!({ "email": BOB })).await;
    let token = value(&service, BOB).await;
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    let past = json!({ "email": BOB, "expiration_date": 1 });
    let changed = ask(&service, "PUT", &past).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert!(!service.is_active(&token).await);
}

#[tokio::test]
async fn an_admin_user_cannot_set_a_later_expiry_than_that_of_its_own_token() {
    let (service, _) = with_bob().await;
    let admin = administrator(&service).await;
    let admin = service.introspect(&admin).await.json()["sub"].clone();
    let short = service.mint(admin.as_str().unwrap(), "ttl=100").await;
    let short = short.token();
    let call = async |method: &str, date: Option<u64>| {
        let mut body = json!({ "email": BOB, "write": true });
        if let Some(seconds) = date {
            body["expiration_date"] = ((TestClock::START + seconds) * 1000).into();
        }
        service.call(&short, method, PATH, &body.to_string()).await
    };
    ask(&service, "POST", &json!({ "email": BOB })).await;
    // The admin user's token expires after 100 seconds. With this token, the admin user may set an
    // earlier expiration date, and may then read the value. A later date is not allowed.
    assert_eq!(call("PUT", Some(0)).await.status, 200);
    let path = format!("{VALUE}?email={BOB}");
    assert_eq!(service.call(&short, "GET", &path, "").await.status, 200);
    for method in ["PUT", "POST"] {
        for date in [None, Some(101)] {
            assert_forbidden(&call(method, date).await);
        }
    }
    assert!(!service.is_active(&value(&service, BOB).await).await);
    assert_eq!(call("PUT", Some(100)).await.status, 200);
    assert_eq!(call("DELETE", None).await.status, 400);
    let body = json!({ "email": BOB }).to_string();
    let deleted = service.call(&short, "DELETE", PATH, &body).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(call("POST", Some(100)).await.status, 201);
}
