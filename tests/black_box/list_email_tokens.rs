//! Tests of `GET /_/user-token`.

use serde_json::{Value, json};
use shared::{
    domain::{email_token::ListKey, owner::OwnerKey},
    http::cursor::list_key_cursor,
};
use tests::{Answer, Service};

use crate::{
    assert_forbidden, assert_invalid,
    create_email_token::{
        BOB, PASSWORD, PATH, administrator, ask, datum, server, token_of_user, with_bob,
    },
};

async fn list(service: &Service, credential: &str, query: &str) -> Answer {
    service
        .call(credential, "GET", &format!("{PATH}{query}"), "")
        .await
}

/// Returns the records of all pages. Each page has at most `limit` records.
async fn all(service: &Service, credential: &str, limit: u32) -> Vec<Value> {
    let mut records = Vec::new();
    let mut query = format!("?limit={limit}");
    loop {
        let page = list(service, credential, &query).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let data = page["data"].as_array().expect("the page has `data`");
        assert!(data.len() <= limit as usize);
        records.extend(data.iter().cloned());
        match page["cursor"].as_str() {
            Some(cursor) => query = format!("?limit={limit}&cursor={cursor}"),
            None => return records,
        }
    }
}

#[tokio::test]
async fn an_account_lists_e_mail_tokens_of_all_its_ecosystems_and_a_server_only_of_its_ecosystem() {
    let (service, _) = with_bob().await;
    let bob = datum(&ask(&service, "POST", &json!({ "email": BOB })).await);
    let other = service.another_ecosystem().await;
    let path = format!("/api/users/{};eve", other.id.as_str());
    let body = json!({ "email": "eve@example.com" }).to_string();
    service.manage("PUT", &path, &body).await;
    let eve = datum(
        &ask(
            &service,
            "POST",
            &json!({ "email": "eve@example.com", "expiration_date": 1 }),
        )
        .await,
    );
    let (stranger, _) = service.another_account().await;

    let mut records = all(&service, &service.account_token, 1).await;
    records.sort_by_key(|record| record["email"].as_str().unwrap().to_owned());
    assert_eq!(records, [bob, eve]);
    let server = (
        server(&service, &service.ecosystem).await,
        server(&service, &other).await,
    );
    assert_eq!(all(&service, &server.0, 100).await, records[..1]);
    assert_eq!(all(&service, &server.1, 100).await, records[1..]);
    let admin = administrator(&service).await;
    assert_eq!(all(&service, &admin, 100).await, records[..1]);
    assert_eq!(
        list(&service, &stranger, "").await.json(),
        json!({ "data": [], "cursor": null })
    );
}

#[tokio::test]
async fn each_of_250_e_mail_tokens_is_on_exactly_one_page() {
    let service = Service::start().await;
    let mut made = Vec::new();
    for number in 0..250 {
        let email = format!("user{number}@example.com");
        let path = format!("/api/users/{};user{number}", service.ecosystem.id.as_str());
        let body = json!({ "email": email }).to_string();
        assert_eq!(service.manage("PUT", &path, &body).await.status, 201);
        made.push(datum(
            &ask(&service, "POST", &json!({ "email": email })).await,
        ));
    }
    let key = |record: &Value| record["userId"].as_str().unwrap().to_owned();
    made.sort_by_key(key);
    for limit in [100, 7] {
        let mut listed = all(&service, &service.account_token, limit).await;
        listed.sort_by_key(key);
        assert!(
            listed == made,
            "{} of {} e-mail tokens were listed",
            listed.len(),
            made.len()
        );
        let text = Value::from(listed).to_string();
        assert!(!text.contains("tk_"));
    }
}

#[tokio::test]
async fn invalidated_e_mail_tokens_are_not_listed() {
    let (service, bob) = with_bob().await;
    let body = json!({ "email": BOB });
    let path = format!("/api/users/{bob}");
    let mut round = 0;
    for change in [
        json!({ "active": false }),
        json!({ "active": true, "password": "another one" }),
        json!({ "email": "robert@example.com" }),
        json!({ "email": null }),
    ] {
        round += 1;
        let made = service
            .manage(
                "PUT",
                &path,
                &json!({ "active": true, "email": BOB }).to_string(),
            )
            .await;
        assert_eq!(made.status, 200, "{round} {made:?}");
        assert_eq!(ask(&service, "POST", &body).await.status, 201, "{round}");
        assert_eq!(all(&service, &service.account_token, 10).await.len(), 1);
        service.manage("PUT", &path, &change.to_string()).await;
        assert_eq!(
            all(&service, &service.account_token, 10).await.len(),
            0,
            "{change}"
        );
    }
    service.manage("PUT", &path, &body.to_string()).await;
    ask(&service, "POST", &body).await;
    service.manage("DELETE", &path, "").await;
    assert_eq!(all(&service, &service.account_token, 10).await.len(), 0);

    service.person("bob", BOB, PASSWORD).await;
    ask(&service, "POST", &body).await;
    let ecosystem = format!("/api/ecosystems/{}", service.ecosystem.id.as_str());
    assert_eq!(service.manage("DELETE", &ecosystem, "").await.status, 204);
    assert_eq!(all(&service, &service.account_token, 10).await.len(), 0);
}

#[tokio::test]
async fn an_invalid_limit_a_changed_cursor_and_a_cursor_of_another_list_get_a_400() {
    let (service, _) = with_bob().await;
    service.person("eve", "eve@example.com", PASSWORD).await;
    for email in [BOB, "eve@example.com"] {
        ask(&service, "POST", &json!({ "email": email })).await;
    }
    let page = list(&service, &service.account_token, "?limit=1")
        .await
        .json();
    let cursor = page["cursor"].as_str().expect("the page has a cursor");
    let server = server(&service, &service.ecosystem).await;
    let (stranger, _) = service.another_account().await;
    let invalid = [("query", "cursor", "invalid cursor")];
    for credential in [&server, &stranger] {
        let answer = list(&service, credential, &format!("?cursor={cursor}")).await;
        assert_invalid(&answer, &invalid);
    }
    let account = &service.account_token;
    let cut = &cursor[..cursor.len() - 1];
    for wrong in [cut, "x", "", &format!("{cursor}A")] {
        let answer = list(&service, account, &format!("?cursor={wrong}")).await;
        assert_invalid(&answer, &invalid);
    }
    for (limit, message) in [
        ("0", "field must be a positive number"),
        ("101", "field must be at most 100"),
        ("x", "expected field to be a number"),
    ] {
        let answer = list(&service, account, &format!("?limit={limit}")).await;
        assert_invalid(&answer, &[("query", "limit", message)]);
    }
}

#[tokio::test]
async fn a_forged_cursor_gives_no_access_to_another_list() {
    let (service, _) = with_bob().await;
    let other = service.another_ecosystem().await;
    let server = server(&service, &service.ecosystem).await;
    let key = OwnerKey::from(&other.id);
    let mut of_user = *key.as_bytes();
    of_user[8..].fill(1);
    let hex = hex::encode(of_user);
    let place = ListKey::parse(&format!("{};{hex}", other.id.as_str())).unwrap();
    let cursor = list_key_cursor(service.ecosystem.id.as_str(), &place);
    let answer = list(&service, &server, &format!("?cursor={cursor}")).await;
    assert_invalid(&answer, &[("query", "cursor", "invalid cursor")]);
}

#[tokio::test]
async fn a_user_with_an_id_of_the_maximum_length_can_have_an_e_mail_token() {
    let service = Service::start().await;
    let path = format!(
        "/api/users/{};{}",
        service.ecosystem.id.as_str(),
        "🔑".repeat(256)
    );
    let body = json!({ "email": BOB }).to_string();
    assert_eq!(service.manage("PUT", &path, &body).await.status, 201);
    let made = ask(&service, "POST", &json!({ "email": BOB })).await;
    assert_eq!(made.status, 201, "{made:?}");
    // DynamoDB limits the sort key of an index to 1,024 bytes. The embedded database does not check
    // this limit, so the test checks it.
    for item in service.identity_items().await {
        for name in ["item", "email_user"] {
            let key = item.get(name).and_then(|value| value.as_s().ok());
            assert!(key.is_none_or(|key| key.len() <= 1024));
        }
    }
    assert_eq!(
        all(&service, &service.account_token, 10).await,
        [datum(&made)]
    );
}

#[tokio::test]
async fn a_user_who_is_not_an_administrator_gets_a_403() {
    let (service, bob) = with_bob().await;
    let user = token_of_user(&service, &bob).await;
    assert_forbidden(&list(&service, &user, "").await);
}
