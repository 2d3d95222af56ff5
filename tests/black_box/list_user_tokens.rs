//! Tests of `GET /api/users/{id}/tokens`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use shared::{
    App,
    domain::token::{ExpiryType, NewToken, Ttl},
    service::{access::Grant, app::Clock, tokens::mint},
};
use tests::{Answer, Event, Service, rounds};

use crate::{assert_invalid, assert_unknown};

pub(crate) async fn list(service: &Service, user: &str, query: &str) -> Answer {
    let path = format!("/api/users/{user}/tokens{query}");
    service.manage("GET", &path, "").await
}

/// Returns the token ids on the first page.
pub(crate) async fn ids(service: &Service, user: &str) -> Vec<String> {
    let page = list(service, user, "").await.json();
    let tokens = page["tokens"].as_array().expect("the page has `tokens`");
    let id = |token: &Value| {
        token["tokenId"]
            .as_str()
            .expect("the token has an id")
            .to_owned()
    };
    tokens.iter().map(id).collect()
}

#[tokio::test]
async fn a_new_token_is_in_the_next_list_without_its_secret() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let empty = list(&service, &bob, "").await;
    assert_eq!(empty.json(), json!({ "tokens": [], "cursor": null }));

    let infinite = service.mint(&bob, "expiryType=Infinite").await.json();
    service.clock.advance(1);
    let sliding = service
        .mint(&bob, "expiryType=SlidingTtl&ttl=60&name=laptop")
        .await
        .json();
    service.clock.advance(1);
    assert!(service.is_active(sliding["token"].as_str().unwrap()).await);
    let page = list(&service, &bob, "").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(
        page.json(),
        json!({
            "tokens": [
                {
                    "tokenId": sliding["tokenId"],
                    "name": "laptop",
                    "expiryType": "SlidingTtl",
                    "createdAt": "2100-01-01T00:00:01Z",
                    "lastUsedAt": "2100-01-01T00:00:02Z",
                    "expiresAt": "2100-01-01T00:01:02Z",
                    "scope": "read write",
                    "disabled": false,
                },
                {
                    "tokenId": infinite["tokenId"],
                    "name": null,
                    "expiryType": "Infinite",
                    "createdAt": "2100-01-01T00:00:00Z",
                    "lastUsedAt": null,
                    "expiresAt": null,
                    "scope": "read write",
                    "disabled": false,
                },
            ],
            "cursor": null,
        })
    );
    assert!(!page.body.contains("tk_"));
    service.clock.advance(60);
    assert_eq!(
        ids(&service, &bob).await,
        [infinite["tokenId"].as_str().unwrap()]
    );
}

#[tokio::test]
async fn a_list_of_10_000_tokens_contains_each_valid_token_once_and_no_expired_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let owner = service.token_owner(&bob).await;
    let mut live = Vec::new();
    for number in 0..rounds(10_000) {
        // One token in five expires before the list is requested.
        let expires_early = number % 5 == 0;
        let wanted = NewToken {
            expiry_type: ExpiryType::FixedTtl,
            ttl: Ttl::parse(if expires_early { "1" } else { "3600" }).unwrap(),
            ..NewToken::default()
        };
        let made = mint(&service.app, Grant::of_operator(owner, wanted)).await;
        let (token, _) = made.unwrap();
        if !expires_early {
            live.push(token.id.to_string());
        }
    }
    service.clock.advance(1);
    service.database.take_calls();
    live.sort_unstable_by(|a, b| b.cmp(a));

    let mut seen = Vec::new();
    let mut query = "?limit=100".to_owned();
    loop {
        let page = list(&service, &bob, &query).await.json();
        let calls = service.database.take_calls();
        let cost: f64 = calls.iter().map(|call| call.capacity).sum();
        let tokens = page["tokens"].as_array().unwrap();
        seen.extend(
            tokens
                .iter()
                .map(|token| token["tokenId"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        // The last page has no cursor. All other pages are full. The cost of a page does not depend
        // on the number of tokens before it: the database reads about 125 records, because one
        // token in five is expired.
        assert_eq!(tokens.len(), 100);
        assert!((11.0..=16.0).contains(&cost), "a page costs {cost} units");
        query = format!("?limit=100&cursor={cursor}");
    }
    assert!(
        seen == live,
        "the list must contain each valid token once, newest first: {} listed, {} valid",
        seen.len(),
        live.len()
    );
}

#[tokio::test]
async fn a_changed_cursor_and_a_cursor_of_another_user_get_a_400() {
    let service = Service::start().await;
    let (bob, eve) = (service.user("bob").await, service.user("eve").await);
    for _ in 0..2 {
        service.mint(&bob, "").await;
        service.mint(&eve, "").await;
    }
    let page = list(&service, &bob, "?limit=1").await.json();
    let cursor = page["cursor"].as_str().unwrap();
    let invalid = [("query", "cursor", "invalid cursor")];
    assert_invalid(
        &list(&service, &eve, &format!("?cursor={cursor}")).await,
        &invalid,
    );
    let (stranger, ecosystem) = service.another_account().await;
    let path = format!("/api/users/{};bob", ecosystem.id.as_str());
    service.call(&stranger, "PUT", &path, "{}").await;
    let path = format!("{path}/tokens?cursor={cursor}");
    assert_invalid(&service.call(&stranger, "GET", &path, "").await, &invalid);
    for at in 0..cursor.len() {
        let mut changed = cursor.to_owned();
        let other = if &cursor[at..=at] == "0" { "1" } else { "0" };
        changed.replace_range(at..=at, other);
        let answer = list(&service, &bob, &format!("?cursor={changed}")).await;
        assert_invalid(&answer, &invalid);
    }
}

#[tokio::test]
async fn a_cursor_still_works_after_the_last_token_on_its_page_is_revoked() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for _ in 0..3 {
        service.mint(&bob, "").await;
        service.clock.advance(1);
    }
    let all = ids(&service, &bob).await;
    let page = list(&service, &bob, "?limit=1").await.json();
    let path = format!("/api/users/{bob}/tokens/{}", all[0]);
    service.manage("DELETE", &path, "").await;
    let query = format!("?cursor={}", page["cursor"].as_str().unwrap());
    let rest = list(&service, &bob, &query).await.json();
    let rest: Vec<_> = rest["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["tokenId"].as_str().unwrap())
        .collect();
    assert_eq!(rest, all[1..]);
}

#[tokio::test]
async fn the_user_of_a_short_code_has_no_tokens_after_the_environment_is_deleted() {
    let service = Service::start().await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment }).to_string();
    let code = service
        .manage("POST", "/api/auth/shortcode/create", &body)
        .await
        .json();
    let body = json!({ "shortcode": code["shortcode"] }).to_string();
    service
        .manage("POST", "/api/auth/shortcode/consume", &body)
        .await;
    let user = code["userId"].as_str().unwrap();
    assert_eq!(ids(&service, user).await.len(), 1);
    let path = format!("/api/environments/{environment}");
    assert_eq!(service.manage("DELETE", &path, "").await.status, 204);
    assert_eq!(ids(&service, user).await.len(), 0);
}

#[tokio::test]
async fn an_unknown_user_or_ecosystem_gets_a_404_and_an_invalid_query_gets_a_400() {
    let service = Service::start().await;
    let ecosystem = service.ecosystem.id.as_str();
    let nobody = format!("{ecosystem};nobody");
    let text = format!("User with id {nobody} does not exist.");
    assert_unknown(&list(&service, &nobody, "").await, &text);
    let (stranger, _) = service.another_account().await;
    let bob = service.user("bob").await;
    let answer = service
        .call(&stranger, "GET", &format!("/api/users/{bob}/tokens"), "")
        .await;
    assert_unknown(
        &answer,
        &format!("Ecosystem with id {ecosystem} does not exist."),
    );
    for (query, path, message) in [
        ("?limit=0", "limit", "field must be a positive number"),
        ("?limit=101", "limit", "field must be at most 100"),
        ("?limit=ten", "limit", "expected field to be a number"),
        (
            "?page=1",
            "additional parameters",
            "contains fields that are not allowed: [ page ]",
        ),
    ] {
        assert_invalid(
            &list(&service, &bob, query).await,
            &[("query", path, message)],
        );
    }
}

/// Stores this many tokens that are older than all others of the user, and that a change of the
/// user's epoch ended. Returns a lower bound of their size in bytes.
async fn put_dead_tokens(service: &Service, user: &str, count: u32) -> usize {
    let template = service.token_items(user).await.remove(0);
    let mut bytes = 0;
    let dead = |number: u32| {
        let mut item = template.clone();
        let id = AttributeValue::S(format!("token#01KDVDNAFM{number:0>16}"));
        item.insert("item".to_owned(), id);
        item.insert("epoch".to_owned(), AttributeValue::B(Blob::new([0; 16])));
        item
    };
    let items: Vec<_> = (0..count).map(dead).collect();
    // Counts only the names of the attributes, and the hash.
    for item in &items {
        bytes += item.keys().map(String::len).sum::<usize>() + 32;
    }
    service.put_identity_items(items).await;
    bytes
}

#[tokio::test]
async fn a_page_is_short_only_after_a_megabyte_of_dead_tokens_was_read() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let oldest = service.mint(&bob, "expiryType=Infinite").await.json();
    let oldest_id = oldest["tokenId"].as_str().unwrap();
    // The oldest token comes last in the list.
    let mut item = service.token_items(&bob).await.remove(0);
    let first = "00000000000000000000000000";
    item.insert(
        "item".to_owned(),
        AttributeValue::S(format!("token#{first}")),
    );
    let count = rounds(83_000);
    let bytes = put_dead_tokens(&service, &bob, count).await;
    service.put_identity_items(vec![item]).await;
    let (mut pages, mut seen, mut query) = (0, Vec::new(), String::new());
    loop {
        let page = list(&service, &bob, &query).await.json();
        let calls = service.database.take_calls();
        let queries = calls.iter().filter(|call| call.operation == "Query");
        let units: f64 = queries.map(|call| call.capacity).sum();
        // The last query of a page may read 1,000 records more.
        assert!(units < 256.0 + 128.0, "a page used {units} units");
        pages += 1;
        let tokens = page["tokens"].as_array().unwrap().iter();
        seen.extend(tokens.map(|token| token["tokenId"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        assert!(units >= 256.0 || page["tokens"].as_array().unwrap().len() == 100);
        query = format!("?cursor={cursor}");
    }
    assert_eq!(seen, [oldest_id, first]);
    let megabytes = bytes / 1024 / 1024;
    assert!(
        pages <= 2 * megabytes + 2,
        "{count} dead tokens, {pages} pages"
    );
}

#[tokio::test]
async fn a_page_among_dead_tokens_is_full_and_no_page_repeats_a_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let owner = service.token_owner(&bob).await;
    let mut live = Vec::new();
    for number in 0..600 {
        let wanted = NewToken {
            ttl: Ttl::parse(if number % 20 == 0 { "3600" } else { "1" }).unwrap(),
            ..NewToken::default()
        };
        let made = mint(&service.app, Grant::of_operator(owner, wanted)).await;
        if number % 20 == 0 {
            live.push(made.unwrap().0.id.to_string());
        }
    }
    live.sort_unstable_by(|a, b| b.cmp(a));
    service.clock.advance(1);
    let (mut seen, mut query) = (Vec::new(), "?limit=7".to_owned());
    loop {
        let page = list(&service, &bob, &query).await.json();
        let tokens = page["tokens"].as_array().unwrap().iter();
        let ids: Vec<_> = tokens
            .map(|token| token["tokenId"].as_str().unwrap().to_owned())
            .collect();
        let cursor = page["cursor"].as_str();
        assert!(ids.len() == 7 || cursor.is_none(), "{} tokens", ids.len());
        seen.extend(ids);
        let Some(cursor) = cursor else { break };
        query = format!("?limit=7&cursor={cursor}");
    }
    assert_eq!(seen, live);
}

#[tokio::test]
async fn a_page_is_short_after_half_a_second() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.mint(&bob, "expiryType=Infinite").await;
    put_dead_tokens(&service, &bob, 4000).await;
    let list = Event::to("list-user-tokens")
        .header("authorization", &service.account_token)
        .parameter("id", &bob)
        .query("limit=50");
    let mut queries = Vec::new();
    for millis in [0, 200] {
        // Each time the service reads the clock, this much time passes.
        let looks = AtomicU64::new(0);
        let start = service.clock.seconds() * 1000;
        let clock = Clock::new(move || {
            let passed = looks.fetch_add(millis, Ordering::Relaxed);
            UNIX_EPOCH + Duration::from_millis(start + passed)
        });
        let identity = service.app.identity().clone();
        let app = App::with(identity, clock, StdRng::seed_from_u64(millis));
        let page = list.send(&app).await.json();
        assert_eq!(page["tokens"].as_array().unwrap().len(), 1);
        let calls = service.database.take_calls();
        queries.push(
            calls
                .iter()
                .filter(|call| call.operation == "Query")
                .count(),
        );
    }
    assert!(queries[1] <= 4 && queries[1] < queries[0], "{queries:?}");
}
