//! Tests of `lastUsedAt` of tokens that are not sliding tokens. A use of such a token is stored
//! about once an hour. The tests of sliding tokens are in `expiry` and `calls`.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use shared::{
    App,
    config::Settings,
    domain::token::{ExpiryType, PlainToken},
    store::identity::Key,
};
use tests::{Event, Fault, Service, pause};
use tokio::time::Instant;

use crate::{
    create_email_token::{BOB, ask, value, with_bob},
    list_user_tokens::list,
};

const READ: &str = "BatchGetItem";
const WRITE: &str = "UpdateItem";
/// After this time, a use of any token is stored.
const LONG: u64 = 75 * 60;

/// Returns a request that introspects the token. The caller's token is new, so the request stores
/// no use of it. An account or server token introspects itself.
async fn introspection(service: &Service, token: &str) -> Event {
    let caller = if token.starts_with("tk_u") {
        service.server_token(&service.ecosystem).await.1
    } else {
        token.to_owned()
    };
    let event = service.introspection(token);
    event.header("authorization", &caller)
}

/// Introspects the token in this execution environment. Asserts that the token is active. Returns
/// the database operations.
async fn used(service: &Service, app: &App, token: &str) -> Vec<String> {
    let event = introspection(service, token).await;
    service.database.take_calls();
    let answer = event.send(app).await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");
    let calls = service.database.take_calls().into_iter();
    calls.map(|call| call.operation).collect()
}

/// Does the same as [`used`] in a new execution environment.
async fn used_anew(service: &Service, token: &str) -> Vec<String> {
    used(service, &service.another_environment(), token).await
}

/// Returns after how many seconds from now a use of the token is stored.
async fn seconds_until_stored(service: &Service, token: &str) -> u64 {
    let (mut stored, mut not_stored) = (LONG, 0);
    while stored - not_stored > 1 {
        let middle = u64::midpoint(stored, not_stored);
        service.clock.advance(middle);
        // The database denies the write, so nothing is stored.
        let event = introspection(service, token).await;
        service.database.take_calls();
        service.database.fail([(WRITE, Fault::Denied)]);
        let answer = event.send(&service.another_environment()).await;
        assert_eq!(answer.json()["active"], true, "{answer:?}");
        service.database.take_faults();
        if service.database.take_operations().len() > 1 {
            stored = middle;
        } else {
            not_stored = middle;
        }
        service.clock.go_back(middle);
    }
    stored
}

/// Returns the token's stored item.
async fn item(service: &Service, token: &str) -> Option<HashMap<String, AttributeValue>> {
    let token = PlainToken::parse(token).expect("the token is well-formed");
    let key = serde_dynamo::to_item(Key::of(&token)).expect("the key can be written as an item");
    let call = service.client.get_item().set_key(Some(key));
    let read = call.table_name(&service.tables.identity).send().await;
    read.expect("the item is read").item
}

/// Returns the stored time of the token's last use.
async fn last_use(service: &Service, token: &str) -> Option<u64> {
    let item = item(service, token).await.expect("the token is stored");
    let last = item.get("last_used_at")?;
    let seconds = last.as_n().expect("the time is a number");
    Some(seconds.parse().expect("the time is in seconds"))
}

/// Reads the table, so that calls with [`Fault::NotBefore`] and `Scan` are executed.
async fn scan(service: &Service) {
    let call = service.client.scan().table_name(&service.tables.identity);
    call.limit(1).send().await.expect("the table is read");
}

#[tokio::test]
async fn a_use_of_each_kind_of_token_is_stored_once_in_60_to_75_minutes() {
    let (service, bob) = with_bob().await;
    let soon = (service.clock.seconds() + 1_000_000) * 1000;
    let ann = "ann@example.com";
    service.person("ann", ann, "correct horse").await;
    let e_mail_token = async |email: &str, body: Value| {
        let made = ask(&service, "POST", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        value(&service, email).await
    };
    let tokens = [
        service.mint(&bob, "expiryType=Infinite").await.token(),
        service.mint(&bob, "ttl=1000000").await.token(),
        e_mail_token(BOB, json!({ "email": BOB })).await,
        e_mail_token(ann, json!({ "email": ann, "expiration_date": soon })).await,
        service
            .token_of(&service.ecosystem, ExpiryType::Infinite)
            .await,
        service
            .token_of(&service.account, ExpiryType::Infinite)
            .await,
    ];
    for token in tokens {
        // The clock has advanced, so this use is stored, except for the first token.
        used_anew(&service, &token).await;
        let before = item(&service, &token).await.unwrap();
        let mut intervals = Vec::new();
        for _ in 0..2 {
            let seconds = seconds_until_stored(&service, &token).await;
            service.clock.advance(seconds - 1);
            assert_eq!(used_anew(&service, &token).await, [READ]);
            service.clock.advance(1);
            let app = service.another_environment();
            assert_eq!(used(&service, &app, &token).await, [READ, WRITE]);
            assert_eq!(used(&service, &app, &token).await, [READ]);
            assert_eq!(used_anew(&service, &token).await, [READ]);
            intervals.push(seconds);

            let now = AttributeValue::N(service.clock.seconds().to_string());
            let mut expected = before.clone();
            expected.insert("last_used_at".to_owned(), now);
            assert_eq!(item(&service, &token).await, Some(expected));
        }
        let [first, second] = intervals[..] else {
            panic!("expected two intervals");
        };
        assert!((3600..4500).contains(&second), "{second}");
        assert_eq!(first, second);
    }
}

#[tokio::test]
async fn last_used_at_is_null_until_a_use_an_hour_after_the_creation_and_only_a_use_counts() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = service.mint(&bob, "expiryType=Infinite&name=phone").await;
    let (token, id) = (minted.token(), minted.json()["tokenId"].clone());
    let path = format!("/api/users/{bob}/tokens/{}", id.as_str().unwrap());
    let shown = async || {
        let page = list(&service, &bob, "").await.json();
        let record = service.manage("GET", &path, "").await.json();
        assert_eq!(page["tokens"][0]["lastUsedAt"], record["lastUsedAt"]);
        record["lastUsedAt"].clone()
    };
    service.clock.advance(3599);
    assert_eq!(used_anew(&service, &token).await, [READ]);
    service.clock.advance(LONG - 3599);
    // These requests do not use the token.
    let renamed = service.manage("PATCH", &path, r#"{"name":"pad"}"#).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    assert_eq!(shown().await, Value::Null);
    assert_eq!(used_anew(&service, &token).await, [READ, WRITE]);
    assert_eq!(shown().await, "2100-01-01T01:15:00Z");
    // A token that is the credential of a request is used, too.
    service.clock.advance(LONG);
    let own = service.call(&token, "GET", &path, "").await;
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(shown().await, "2100-01-01T02:30:00Z");
    // The record of a revoked token still has the time.
    let revoked = service.manage("DELETE", &path, "").await;
    assert_eq!(revoked.status, 204);
    let record = service.manage("GET", &path, "").await.json();
    assert_eq!(record["state"], "revoked");
    assert_eq!(record["lastUsedAt"], "2100-01-01T02:30:00Z");
}

#[tokio::test]
async fn no_use_of_an_invalid_token_is_stored() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let path = format!("/api/users/{bob}");
    let expired = service.mint(&bob, "ttl=4000").await.token();
    let minted = service.mint(&bob, "expiryType=Infinite").await;
    let (disabled, id) = (minted.token(), minted.json()["tokenId"].clone());
    service.clock.advance(LONG);
    let token_path = format!("{path}/tokens/{}", id.as_str().unwrap());
    let disabling = service.manage("PATCH", &token_path, r#"{"disabled":true}"#);
    assert_eq!(disabling.await.status, 200);
    let check = async |token: &str| {
        let before = item(&service, token).await;
        let event = introspection(&service, token).await;
        service.database.take_calls();
        let answer = event.send(&service.another_environment()).await;
        assert_eq!(answer.json(), json!({ "active": false }));
        assert_eq!(service.database.take_operations(), [READ]);
        assert_eq!(item(&service, token).await, before);
    };
    check(&expired).await;
    check(&disabled).await;
    let kept = service.mint(&bob, "expiryType=Infinite").await.token();
    service.clock.advance(LONG);
    let inactive = service.manage("PUT", &path, r#"{"active":false}"#).await;
    assert_eq!(inactive.status, 200);
    check(&kept).await;
}

#[tokio::test]
async fn of_50_execution_environments_that_use_a_token_at_once_only_the_first_stores_its_use() {
    const ENVIRONMENTS: usize = 50;
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    service.clock.advance(LONG);
    let event = introspection(&service, &token).await;
    service.database.take_calls();
    // Each environment reads the token before one of them stores its use. The first write is stored
    // before the others arrive.
    let database = &service.database;
    database.fail(vec![
        (READ, Fault::NotBeforeAll(READ, ENVIRONMENTS));
        ENVIRONMENTS
    ]);
    database.fail([(WRITE, Fault::None)]);
    database.fail(vec![(WRITE, Fault::NotBefore("Scan")); ENVIRONMENTS - 1]);
    let paused = pause();
    let mut uses = Vec::new();
    for number in 1..=ENVIRONMENTS {
        let (event, app) = (event.clone(), service.another_environment());
        uses.push(tokio::spawn(async move { event.send(&app).await }));
        database.have_arrived(READ, number).await;
        service.clock.advance(1);
    }
    database.have_arrived(WRITE, ENVIRONMENTS).await;
    scan(&service).await;
    for answer in uses {
        assert_eq!(answer.await.unwrap().json()["active"], true);
    }
    drop(paused);
    let calls = database.take_calls();
    let first = calls.iter().find(|call| call.operation == WRITE).unwrap();
    let time = &first.request["ExpressionAttributeValues"][":now"]["N"];
    let stored = last_use(&service, &token).await.unwrap();
    assert_eq!(*time, stored.to_string());
    // Until an hour has passed, no environment writes again.
    service.clock.advance(3600 - ENVIRONMENTS as u64);
    for _ in 0..ENVIRONMENTS {
        assert_eq!(used_anew(&service, &token).await, [READ]);
    }
}

#[tokio::test]
async fn a_thousand_uses_of_a_token_in_one_execution_environment_make_one_write() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    service.clock.advance(LONG);
    let event = introspection(&service, &token).await;
    service.database.take_calls();
    // All uses read the token before its use is stored.
    let read_first = (READ, Fault::NotBeforeAll(READ, 1000));
    service.database.fail(vec![read_first; 1000]);
    let paused = pause();
    let uses = (0..1000).map(|_| event.send(&service.app));
    for answer in futures_util::future::join_all(uses).await {
        assert_eq!(answer.json()["active"], true, "{answer:?}");
    }
    drop(paused);
    let operations = service.database.take_operations();
    let writes = operations.iter().filter(|name| *name == WRITE).count();
    assert_eq!((operations.len(), writes), (1001, 1));
}

#[tokio::test]
async fn a_late_write_of_a_use_changes_no_token_that_was_revoked_disabled_or_deleted() {
    for (endpoint, body) in [
        ("revoke-user-token", ""),
        ("revoke-user-tokens", ""),
        ("delete-user", ""),
        ("put-user", r#"{"active":false}"#),
        ("update-user-token", r#"{"disabled":true}"#),
    ] {
        let service = Service::start().await;
        let bob = service.user("bob").await;
        let minted = service.mint(&bob, "expiryType=Infinite").await;
        let (token, id) = (minted.token(), minted.json()["tokenId"].clone());
        let change = |body: &str| {
            let change = Event::to(endpoint)
                .header("authorization", &service.account_token)
                .parameter("id", &bob)
                .parameter("tokenId", id.as_str().unwrap());
            if body.is_empty() {
                change
            } else {
                change.json_body(body)
            }
        };
        service.clock.advance(LONG);
        let event = introspection(&service, &token).await;
        service.database.take_calls();
        let held = (WRITE, Fault::NotBefore("Scan"));
        service.database.fail([held]);
        let paused = pause();
        let app = service.another_environment();
        let late = tokio::spawn(async move { event.send(&app).await });
        service.database.has_arrived(WRITE).await;
        let changed = change(body).send(&service.app).await;
        assert!([200, 204].contains(&changed.status), "{changed:?}");
        let before = item(&service, &token).await;
        scan(&service).await;
        // The token was valid when it was read.
        assert_eq!(late.await.unwrap().json()["active"], true);
        drop(paused);
        // If the user was deleted or is inactive, the token's item may still be stored. The token
        // is invalid, whatever its item contains.
        if !endpoint.ends_with("-user") {
            assert_eq!(item(&service, &token).await, before, "{endpoint}");
        }
        if endpoint == "update-user-token" {
            let enabled = change(r#"{"disabled":false}"#).send(&service.app).await;
            assert_eq!(enabled.status, 200, "{enabled:?}");
            assert_eq!(last_use(&service, &token).await, None);
            assert_eq!(used_anew(&service, &token).await, [READ, WRITE]);
        } else {
            assert!(!service.is_active(&token).await);
        }
    }
}

#[tokio::test]
async fn a_verification_succeeds_within_200_ms_if_its_use_cannot_be_stored() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for fault in [
        Fault::Throttled,
        Fault::TransactionConflict,
        Fault::ServerError,
        Fault::Unreachable,
        Fault::NoAnswer,
        Fault::Rubbish,
        Fault::Denied,
    ] {
        let token = service.mint(&bob, "expiryType=Infinite").await.token();
        service.clock.advance(LONG);
        let event = introspection(&service, &token).await;
        let app = service.another_environment();
        service.database.take_calls();
        service.database.fail(vec![(WRITE, fault.clone()); 3]);
        let paused = pause();
        #[expect(
            clippy::disallowed_methods,
            reason = "the test measures the time of tokio's paused clock"
        )]
        let started = Instant::now();
        let answer = event.send(&app).await;
        let took = started.elapsed();
        drop(paused);
        assert_eq!(answer.json()["active"], true, "{fault:?} {answer:?}");
        // A timer may be a millisecond late.
        assert!(took <= Duration::from_millis(201), "{fault:?} {took:?}");
        assert!(
            service
                .database
                .take_operations()
                .contains(&WRITE.to_owned())
        );
        service.database.take_faults();
        assert_eq!(last_use(&service, &token).await, None);
        // This execution environment tries again after 30 seconds.
        service.clock.advance(29);
        assert_eq!(used(&service, &app, &token).await, [READ]);
        service.clock.advance(1);
        assert_eq!(used(&service, &app, &token).await, [READ, WRITE]);
        let now = service.clock.seconds();
        assert_eq!(last_use(&service, &token).await, Some(now));
    }
    // The first attempt is stored, but its response is lost. The second attempt finds the first.
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    service.clock.advance(LONG);
    service
        .database
        .fail([(WRITE, Fault::None), (WRITE, Fault::AnswerLost)]);
    assert_eq!(used_anew(&service, &token).await, [READ, WRITE, WRITE]);
    assert_eq!(used_anew(&service, &token).await, [READ]);
}

#[tokio::test]
async fn no_use_is_stored_while_the_clock_is_behind_the_last_stored_use() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    service.clock.advance(LONG);
    let token = service.mint(&bob, "expiryType=Infinite").await.token();
    // The clock is behind the creation of the token.
    service.clock.go_back(LONG);
    assert_eq!(used_anew(&service, &token).await, [READ]);
    service.clock.advance(2 * LONG);
    let app = service.another_environment();
    assert_eq!(used(&service, &app, &token).await, [READ, WRITE]);
    let stored = last_use(&service, &token).await;
    service.clock.go_back(LONG);
    assert_eq!(used(&service, &app, &token).await, [READ]);
    assert_eq!(used_anew(&service, &token).await, [READ]);
    service.clock.advance(LONG + 3599);
    assert_eq!(used_anew(&service, &token).await, [READ]);
    assert_eq!(last_use(&service, &token).await, stored);
    service.clock.advance(LONG - 3599);
    assert_eq!(used(&service, &app, &token).await, [READ, WRITE]);
    let now = service.clock.seconds();
    assert_eq!(last_use(&service, &token).await, Some(now));
}

#[tokio::test]
async fn no_use_is_stored_for_a_caller_that_is_remembered() {
    let settings = Settings {
        caller_memory_seconds: 5,
        ..Settings::default()
    };
    let service = Service::start_with(settings).await;
    let server = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    let seconds = seconds_until_stored(&service, &server).await;
    let app = service.another_environment();
    let operations = async || {
        let event = service.introspection("x").header("authorization", &server);
        service.database.take_calls();
        assert_eq!(event.send(&app).await.status, 200);
        service.database.take_operations()
    };
    service.clock.advance(seconds - 1);
    assert_eq!(operations().await, [READ]);
    service.clock.advance(4);
    assert_eq!(operations().await, [""; 0]);
    service.clock.advance(1);
    assert_eq!(operations().await, [READ, WRITE]);
}
