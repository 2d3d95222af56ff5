//! Tests of the e-mail addresses of users, which `PUT /api/users/{id}` sets. Two users of one
//! account never have the same address, even if concurrent requests set the same address for both
//! users.

use futures_util::future::join_all;
use serde_json::json;
use shared::domain::token::ExpiryType;
use tests::{Answer, Event, Fault, Service, pause};

use crate::{
    assert_invalid,
    create_email_token::{BOB, PASSWORD, datum, with_bob},
};

async fn put(service: &Service, user: &str, body: &serde_json::Value) -> Answer {
    let event = Event::to("put-user")
        .header("authorization", &service.account_token)
        .parameter("id", user)
        .json_body(&body.to_string());
    event.send(&service.app).await
}

/// Returns the number of stored items that map an address to its user.
async fn look_ups(service: &Service) -> usize {
    let items = service.identity_items().await;
    let is_address = |item: &&shared::store::item::Item| {
        item["item"]
            .as_s()
            .is_ok_and(|item| item == "account-address")
    };
    items.iter().filter(is_address).count()
}

fn assert_in_use(answer: &Answer) {
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(
        answer.json()["errors"][0]["message"],
        "email address is in use"
    );
}

#[tokio::test]
async fn an_address_that_is_in_use_in_the_account_gets_a_409_in_any_spelling_and_ecosystem() {
    let (service, _) = with_bob().await;
    let eve = service.user("eve").await;
    for spelling in [BOB, "BOB@example.com", "bob@ＥXAMPLE.com"] {
        assert_in_use(&put(&service, &eve, &json!({ "email": spelling })).await);
    }
    let other = service.another_ecosystem().await;
    let path = format!("/api/users/{};bob", other.id.as_str());
    let body = json!({ "email": BOB, "password": "another one" }).to_string();
    assert_in_use(&service.manage("PUT", &path, &body).await);
    // The refused request created no user and did not change the password of bob, who has the
    // address.
    assert_eq!(service.manage("GET", &path, "").await.status, 404);
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 200);
    assert_eq!(
        service.log_in("192.0.2.1", BOB, "another one").await.status,
        401
    );
}

/// Logs in with the e-mail address [`BOB`] and this password. If `ecosystem` is not `None`, the
/// request also contains this ecosystem id.
async fn log_in(service: &Service, ecosystem: Option<&str>, password: &str) -> Answer {
    let mut body = json!({ "email": BOB, "password": password });
    if let Some(id) = ecosystem {
        body["ecosystemId"] = id.into();
    }
    let event = Event::to("log-in-with-password").json_body(&body.to_string());
    event.send(&service.app).await
}

/// Returns the user of the token in a response. The function introspects the token, and
/// `credential` is the credential of the introspection.
async fn user_in(service: &Service, answer: &Answer, credential: &str) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = datum(answer)["token"].as_str().unwrap().to_owned();
    let claims = service.introspect_as(credential, &token).await.json();
    claims["sub"]
        .as_str()
        .expect("the token is valid")
        .to_owned()
}

#[tokio::test]
async fn two_accounts_may_have_the_same_address_and_each_finds_only_its_own_user() {
    let (service, bob) = with_bob().await;
    let (stranger, ecosystem) = service.another_account().await;
    let (own, other) = (service.ecosystem.id.as_str(), ecosystem.id.as_str());
    let twin = format!("{other};bob");
    let path = format!("/api/users/{twin}");
    let body = json!({ "email": "Bob@example.com", "password": "another one" }).to_string();
    let made = service.call(&stranger, "PUT", &path, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(look_ups(&service).await, 2);

    // Without an ecosystem id, the user of the first account is found.
    let account = &service.account_token;
    for (ecosystem, right, wrong, credential, user) in [
        (None, PASSWORD, "another one", account, &bob),
        (Some(own), PASSWORD, "another one", account, &bob),
        (Some(other), "another one", PASSWORD, &stranger, &twin),
    ] {
        let answer = log_in(&service, ecosystem, right).await;
        assert_eq!(user_in(&service, &answer, credential).await, *user);
        assert_eq!(log_in(&service, ecosystem, wrong).await.status, 401);
    }
    let server = service.token_of(&ecosystem, ExpiryType::Infinite).await;
    let value = format!("/_/user-token/value?email={BOB}");
    for (credential, user) in [(account, &bob), (&stranger, &twin), (&server, &twin)] {
        let answer = service.call(credential, "GET", &value, "").await;
        assert_eq!(user_in(&service, &answer, credential).await, *user);
    }

    // A change in one account does not affect the other account.
    let body = json!({ "email": BOB }).to_string();
    let deleted = service
        .call(&stranger, "DELETE", "/_/user-token", &body)
        .await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(service.manage("GET", &value, "").await.status, 200);
    assert_eq!(service.call(&stranger, "GET", &value, "").await.status, 404);
    let deleted = service.call(&stranger, "DELETE", &path, "").await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_eq!(look_ups(&service).await, 1);
    let answer = log_in(&service, Some(own), PASSWORD).await;
    assert_eq!(user_in(&service, &answer, account).await, bob);
    let answer = log_in(&service, Some(other), "another one").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn look_alike_addresses_are_distinct_unless_they_differ_only_in_case() {
    let service = Service::start().await;
    let addresses = [
        "i@example.com",
        "İ@example.com",
        "ı@example.com",
        "ss@example.com",
        "ß@example.com",
        "k@example.com",
        "ｋ@example.com",
    ];
    for (number, email) in addresses.iter().enumerate() {
        service
            .person(&format!("user{number}"), email, PASSWORD)
            .await;
    }
    for email in [
        "K@example.com",
        "\u{212a}@example.com",
        "ẞ@example.com",
        "Ｋ@example.com",
    ] {
        let eve = service.user("eve").await;
        assert_in_use(&put(&service, &eve, &json!({ "email": email })).await);
        assert_eq!(
            service.log_in("192.0.2.1", email, PASSWORD).await.status,
            200
        );
    }
}

#[tokio::test]
async fn an_address_is_free_after_it_is_cleared_or_changed_or_after_its_user_is_deleted() {
    let (service, bob) = with_bob().await;
    let eve = service.user("eve").await;
    let take = json!({ "email": BOB, "password": "eve's own one" });
    for give_up in [
        json!({ "email": null }),
        json!({ "email": "robert@example.com" }),
    ] {
        assert_eq!(put(&service, &bob, &give_up).await.status, 200);
        assert_eq!(put(&service, &eve, &take).await.status, 200);
        assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 401);
        assert_eq!(
            service
                .log_in("192.0.2.1", BOB, "eve's own one")
                .await
                .status,
            200
        );
        assert_in_use(&put(&service, &bob, &json!({ "email": BOB })).await);
        assert_eq!(
            put(&service, &eve, &json!({ "email": null })).await.status,
            200
        );
        assert_eq!(
            put(&service, &bob, &json!({ "email": BOB })).await.status,
            200
        );
    }
    let path = format!("/api/users/{bob}");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert_eq!(look_ups(&service).await, 0);
    assert_eq!(put(&service, &eve, &take).await.status, 200);
    // The password of the deleted user is invalid for a new user with the same id.
    let again = put(&service, &bob, &json!({ "email": "bob2@example.com" })).await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(
        service
            .log_in("192.0.2.1", "bob2@example.com", PASSWORD)
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn users_of_a_deleted_ecosystem_cannot_log_in_and_their_addresses_are_free() {
    let (service, _) = with_bob().await;
    let path = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    let other = service.another_ecosystem().await;
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 401);
    let bob = format!("{};bob", other.id.as_str());
    let made = put(
        &service,
        &bob,
        &json!({ "email": BOB, "password": "another one" }),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(
        service.log_in("192.0.2.1", BOB, "another one").await.status,
        200
    );
    assert_eq!(service.log_in("192.0.2.1", BOB, PASSWORD).await.status, 401);
    assert_eq!(look_ups(&service).await, 1);
}

#[tokio::test]
async fn if_several_users_request_the_same_address_concurrently_exactly_one_user_gets_it() {
    let service = Service::start().await;
    for round in 0..10 {
        let email = format!("round{round}@example.com");
        let mut users = Vec::new();
        for number in 0..6 {
            users.push(service.user(&format!("user{round}-{number}")).await);
        }
        let body = json!({ "email": email });
        let answers = join_all(users.iter().map(|user| put(&service, user, &body))).await;
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
        let mut owners = 0;
        for user in &users {
            let path = format!("/api/users/{user}");
            let shown = service.manage("GET", &path, "").await.json();
            owners += usize::from(shown["email"] == email.as_str());
        }
        assert_eq!(owners, 1);
        assert_eq!(look_ups(&service).await, round + 1);
    }
}

#[tokio::test]
async fn a_user_has_exactly_one_address_after_concurrent_requests_to_change_it() {
    let (service, bob) = with_bob().await;
    for round in 0..10 {
        let emails: Vec<_> = (0..6)
            .map(|n| format!("bob{round}-{n}@example.com"))
            .collect();
        let bodies: Vec<_> = emails
            .iter()
            .map(|email| json!({ "email": email }))
            .collect();
        let answers = join_all(bodies.iter().map(|body| put(&service, &bob, body))).await;
        assert!(
            answers.iter().all(|answer| answer.status == 200),
            "{answers:?}"
        );
        assert_eq!(look_ups(&service).await, 1);
        let path = format!("/api/users/{bob}");
        let shown = service.manage("GET", &path, "").await.json();
        let mut right = 0;
        for (number, email) in emails.iter().enumerate() {
            let source = format!("192.0.2.{number}");
            let answer = service.log_in(&source, email, PASSWORD).await;
            assert_eq!(answer.status == 200, shown["email"] == email.as_str());
            right += usize::from(answer.status == 200);
        }
        assert_eq!(right, 1);
        service.clock.advance(900);
    }
}

#[tokio::test]
async fn changing_the_address_of_a_user_during_the_deletion_of_the_user_leaves_no_stale_address() {
    let service = Service::start().await;
    for round in 0..20 {
        let name = format!("user{round}");
        let email = format!("{name}@example.com");
        let user = service.person(&name, &email, PASSWORD).await;
        let delete = Event::to("delete-user")
            .header("authorization", &service.account_token)
            .parameter("id", &user);
        let other = json!({ "email": format!("other-{email}") });
        let (put, deleted) =
            futures_util::future::join(put(&service, &user, &other), delete.send(&service.app))
                .await;
        assert!([200, 201].contains(&put.status), "{put:?}");
        assert!([204, 404].contains(&deleted.status), "{deleted:?}");
        let exists = service
            .manage("GET", &format!("/api/users/{user}"), "")
            .await
            .status
            == 200;
        for email in [&email, other["email"].as_str().unwrap()] {
            assert_eq!(
                service.log_in("192.0.2.1", email, PASSWORD).await.status == 200,
                exists && put.status == 200 && email.starts_with("other")
            );
        }
        let eve = service.user(&format!("eve{round}")).await;
        let free = crate::addresses::put(&service, &eve, &json!({ "email": email })).await;
        assert_eq!(free.status, 200, "{free:?}");
        service.clock.advance(900);
    }
}

#[tokio::test]
async fn a_delayed_deletion_of_a_user_does_not_free_the_address_if_another_user_has_taken_it() {
    let (service, bob) = with_bob().await;
    let ecosystem = service.another_ecosystem().await;
    let eve = format!("{};eve", ecosystem.id.as_str());
    let to = |endpoint, token: &str| Event::to(endpoint).header("authorization", token);
    let deletion = to("delete-user", &service.account_token).parameter("id", &bob);
    // The deletion of bob's ecosystem makes bob's address free.
    let of_ecosystem = to("delete-ecosystem", &service.account_token)
        .parameter("ecosystemId", service.ecosystem.id.as_str());
    let takes_over = to("put-user", &service.account_token)
        .parameter("id", &eve)
        .json_body(&json!({ "email": BOB }).to_string());
    // Delay the transaction that deletes bob until both other requests are done. `look_ups` reads
    // the table with a `Scan`. So the first call of `look_ups`, at the end of `meanwhile`, ends the
    // delay.
    let held_up = ("TransactWriteItems", Fault::NotBefore("Scan"));
    service.database.fail([held_up]);
    let _paused = pause();
    let meanwhile = async {
        service.database.has_arrived("TransactWriteItems").await;
        assert_eq!(of_ecosystem.send(&service.app).await.status, 204);
        assert_eq!(takes_over.send(&service.app).await.status, 201);
        assert_eq!(look_ups(&service).await, 1);
    };
    let (deleted, ()) = tokio::join!(deletion.send(&service.app), meanwhile);
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert!(service.owner_item(&bob).await.is_none());
    assert_eq!(look_ups(&service).await, 1);
}

#[tokio::test]
async fn an_invalid_address_is_reported_and_changes_nothing() {
    let (service, bob) = with_bob().await;
    for wrong in ["bob", "", "a@b@c", "b\0b@example.com"] {
        let answer = put(&service, &bob, &json!({ "email": wrong, "admin": true })).await;
        assert_invalid(&answer, &[("body", "email", "invalid email address")]);
    }
    let shown = service
        .manage("GET", &format!("/api/users/{bob}"), "")
        .await;
    let expected = json!({ "id": bob, "email": BOB, "admin": false, "active": true });
    assert_eq!(shown.json(), expected);
}
