//! Tests of `DELETE /api/users/{id}`.

use tests::{Event, Fault, Service, pause};

use crate::assert_unknown;

#[tokio::test]
async fn tokens_of_a_deleted_user_are_invalid_even_after_the_user_is_created_again() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = format!("/api/users/{bob}");
    let mut tokens = Vec::new();
    for kind in ["Infinite", "FixedTtl", "SlidingTtl"] {
        tokens.push(
            service
                .mint(&bob, &format!("expiryType={kind}"))
                .await
                .token(),
        );
    }
    let answer = service.manage("DELETE", &path, "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (204, ""),
        "{answer:?}"
    );
    for token in &tokens {
        assert!(!service.is_active(token).await);
    }
    let text = format!("User with id {bob} does not exist.");
    assert_unknown(&service.manage("GET", &path, "").await, &text);
    assert_unknown(&service.manage("DELETE", &path, "").await, &text);
    assert_unknown(&service.mint(&bob, "").await, &text);

    assert_eq!(service.manage("PUT", &path, "{}").await.status, 201);
    for token in &tokens {
        assert!(!service.is_active(token).await);
    }
    let token = service.mint(&bob, "").await.token();
    assert!(service.is_active(&token).await);
}

#[tokio::test]
async fn a_retried_deletion_does_not_delete_a_user_that_was_created_meanwhile() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = format!("/api/users/{bob}");
    // The first transaction succeeds, but its response is lost. Tokio's clock is paused, so the SDK
    // sends the transaction again only after the other request has created the user again.
    service
        .database
        .fail([("TransactWriteItems", Fault::AnswerLost)]);
    let _paused = pause();
    let to = |endpoint| {
        Event::to(endpoint)
            .header("authorization", &service.account_token)
            .parameter("id", &bob)
    };
    let (deletion, put) = (to("delete-user"), to("put-user").json_body("{}"));
    let delete = deletion.send(&service.app);
    let meanwhile = async {
        service.database.has_arrived("TransactWriteItems").await;
        while service.owner_item(&bob).await.is_some() {}
        put.send(&service.app).await
    };
    let (deleted, made) = tokio::join!(delete, meanwhile);
    assert_eq!((deleted.status, made.status), (204, 201));
    assert_eq!(service.manage("GET", &path, "").await.status, 200);
}

#[tokio::test]
async fn a_user_that_changes_during_its_deletion_is_deleted() {
    let service = Service::start().await;
    for round in 0..10 {
        let bob = service.user(&format!("bob{round}")).await;
        let path = format!("/api/users/{bob}");
        let (deleted, changed) = tokio::join!(
            service.manage("DELETE", &path, ""),
            service.manage("PUT", &path, r#"{"active":false}"#),
        );
        assert_eq!(deleted.status, 204, "{deleted:?}");
        // The second request changed the user before the deletion, or created the user again after
        // the deletion.
        let there = service.manage("GET", &path, "").await.status;
        assert!(
            [(200, 404), (201, 200)].contains(&(changed.status, there)),
            "{changed:?} {there}"
        );
    }
}

#[tokio::test]
async fn a_user_who_has_an_address_is_deleted_even_if_the_user_changes_during_the_deletion() {
    let service = Service::start().await;
    let bob = service
        .person("bob", "bob@example.com", "correct horse")
        .await;
    let to = |endpoint| {
        Event::to(endpoint)
            .header("authorization", &service.account_token)
            .parameter("id", &bob)
    };
    let change = to("put-user").json_body(r#"{"admin":true}"#);
    // Delay the transaction that deletes the user until the other request is done. The `GetItem` of
    // `owner_item` ends the delay.
    let held_up = ("TransactWriteItems", Fault::NotBefore("GetItem"));
    service.database.fail([held_up]);
    let _paused = pause();
    let meanwhile = async {
        service.database.has_arrived("TransactWriteItems").await;
        assert_eq!(change.send(&service.app).await.status, 200);
        assert!(service.owner_item(&bob).await.is_some());
    };
    let deletion = to("delete-user");
    let (deleted, ()) = tokio::join!(deletion.send(&service.app), meanwhile);
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert!(service.owner_item(&bob).await.is_none());
}

#[tokio::test]
async fn a_deletion_removes_every_item_of_a_user_with_or_without_an_address_or_a_password() {
    let service = Service::start().await;
    let path = format!("/api/users/{};bob", service.ecosystem.id.as_str());
    // The deletion stores an erasure.
    let count = async || {
        let items = service.identity_items().await;
        let items = items.iter().filter(|item| !item.contains_key("erase"));
        items.count()
    };
    let before = count().await;
    for body in [
        "{}",
        r#"{"email":"bob@example.com"}"#,
        r#"{"password":"correct horse"}"#,
    ] {
        assert_eq!(service.manage("PUT", &path, body).await.status, 201);
        assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
        assert_eq!(count().await, before, "{body}");
    }
}
