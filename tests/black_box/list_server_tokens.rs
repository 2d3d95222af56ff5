//! Tests of `GET /api/ecosystems/{ecosystemId}/tokens`.

use serde_json::{Value, json};
use tests::Service;

use crate::{assert_invalid, assert_unknown};

fn path(service: &Service) -> String {
    format!("/api/ecosystems/{}/tokens", service.ecosystem.id.as_str())
}

#[tokio::test]
async fn a_new_token_is_in_the_next_list_without_its_secret() {
    let service = Service::start().await;
    let path = path(&service);
    assert_eq!(
        service.manage("GET", &path, "").await.json(),
        json!({ "tokens": [], "cursor": null })
    );
    let query = "?expiryType=SlidingTtl&ttl=60&maxTtl=90&name=build";
    let sliding = service.manage("POST", &format!("{path}{query}"), "").await;
    service.clock.advance(1);
    let infinite = service
        .manage("POST", &format!("{path}?expiryType=Infinite"), "")
        .await;
    assert!(service.is_active(&sliding.token()).await);

    let answer = service.manage("GET", &path, "").await;
    assert_eq!(answer.status, 200);
    let expected = json!({
        "tokens": [
            {
                "tokenId": infinite.json()["tokenId"],
                "name": null,
                "expiryType": "Infinite",
                "createdAt": "2100-01-01T00:00:01Z",
                "lastUsedAt": null,
                "expiresAt": null,
                "scope": "read write",
                "disabled": false,
            },
            {
                "tokenId": sliding.json()["tokenId"],
                "name": "build",
                "expiryType": "SlidingTtl",
                "createdAt": "2100-01-01T00:00:00Z",
                "lastUsedAt": "2100-01-01T00:00:01Z",
                "expiresAt": "2100-01-01T00:01:01Z",
                "scope": "read write",
                "disabled": false,
            },
        ],
        "cursor": null,
    });
    assert_eq!(answer.json(), expected);
    for token in [sliding.token(), infinite.token()] {
        assert!(!answer.body.contains(&token));
    }
}

#[tokio::test]
async fn each_valid_token_is_on_exactly_one_page_and_the_newest_token_is_first() {
    let service = Service::start().await;
    let path = path(&service);
    let mut live = Vec::new();
    for number in 0..25 {
        let ttl = if number % 5 == 0 { 1 } else { 3600 };
        let made = service
            .manage("POST", &format!("{path}?ttl={ttl}"), "")
            .await
            .json();
        if number % 5 != 0 {
            live.insert(0, made["tokenId"].clone());
        }
        service.clock.advance(1);
    }
    let mut listed: Vec<Value> = Vec::new();
    let mut page = service
        .manage("GET", &format!("{path}?limit=7"), "")
        .await
        .json();
    for _ in 0..10 {
        let tokens = page["tokens"].as_array().unwrap();
        assert!(tokens.len() <= 7);
        listed.extend(tokens.iter().map(|token| token["tokenId"].clone()));
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        let next = format!("{path}?limit=7&cursor={cursor}");
        page = service.manage("GET", &next, "").await.json();
    }
    assert!(page["cursor"].is_null());
    assert_eq!(listed, live);
}

#[tokio::test]
async fn an_invalid_limit_a_changed_cursor_and_a_cursor_of_another_list_get_a_400() {
    let service = Service::start().await;
    let other = service.another_ecosystem().await;
    let other = format!("/api/ecosystems/{}/tokens", other.id.as_str());
    let mut cursors = vec![
        String::new(),
        "x".to_owned(),
        "0".repeat(33),
        "\u{e9}".repeat(20),
    ];
    for path in [&other, &path(&service)] {
        for _ in 0..2 {
            service.manage("POST", path, "").await;
        }
        let page = service
            .manage("GET", &format!("{path}?limit=1"), "")
            .await
            .json();
        cursors.push(page["cursor"].as_str().unwrap().to_owned());
    }
    let path = path(&service);
    let own = cursors.pop().unwrap();
    let answer = service
        .manage("GET", &format!("{path}?cursor={own}"), "")
        .await;
    assert_eq!(answer.json()["tokens"].as_array().unwrap().len(), 1);

    cursors.push(own[1..].to_owned());
    cursors.push(format!("{own}0"));
    for cursor in cursors {
        let answer = service
            .manage("GET", &format!("{path}?cursor={cursor}"), "")
            .await;
        assert_invalid(&answer, &[("query", "cursor", "invalid cursor")]);
    }
    for (limit, message) in [
        ("0", "field must be a positive number"),
        ("101", "field must be at most 100"),
        ("ten", "expected field to be a number"),
    ] {
        let answer = service
            .manage("GET", &format!("{path}?limit={limit}"), "")
            .await;
        assert_invalid(&answer, &[("query", "limit", message)]);
    }
}

#[tokio::test]
async fn an_unknown_ecosystem_gets_a_404_and_a_malformed_ecosystem_id_gets_a_400() {
    let service = Service::start().await;
    let unknown = "C58521fd8a5d9b5cc21987501";
    let answer = service
        .manage("GET", &format!("/api/ecosystems/{unknown}/tokens"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {unknown} does not exist."),
    );
    let answer = service
        .manage("GET", "/api/ecosystems/C1/tokens?cursor=x", "")
        .await;
    assert_invalid(&answer, &[("path", "ecosystemId", "invalid ecosystem id")]);
}
