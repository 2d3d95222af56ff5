//! Tests of the eraser, which erases what deletions leave in the tables.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use shared::{
    App,
    domain::{
        error::Result,
        token::{ExpiryType, Metadata, NewToken, TokenName},
    },
    service::{
        access::{Grant, MayWrite},
        deadline::Deadline,
        erase::Erased,
        migrate, tokens,
    },
    store::item::Item,
};
use tests::{Event, Fault, Fixture, Pause, Service, pause, rounds};

use crate::{
    consume_shortcode::{attempt, code},
    create_email_token::ask,
    list_user_tokens::ids,
    update_ecosystem::change,
};

const PASSWORD: &str = "marker of a password";
/// How long an erasure stays in the queue, in seconds.
const SETTLED: u64 = 20 * 60;
/// How long the function `erase` may run.
const RUN: Duration = Duration::from_secs(295);

pub(crate) async fn erase(app: &App) -> Result<Erased> {
    Box::pin(functions::erase::handle(app, Deadline::after(RUN))).await
}

/// Runs the eraser until it removes all erasures from the queue.
pub(crate) async fn erase_all(service: &Service) {
    let _paused = pause();
    service.clock.advance(SETTLED);
    while erase(&service.app).await.unwrap().queued > 0 {}
    service.database.take_calls();
}

async fn delete(service: &Service, path: &str) {
    let answer = service.manage("DELETE", path, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// Returns an item as a text that can be compared.
fn text_of(item: &Item) -> String {
    fn text(value: &AttributeValue) -> String {
        match value {
            AttributeValue::M(nested) => format!("{{{}}}", text_of(nested)),
            AttributeValue::L(list) => list.iter().map(text).collect(),
            value => format!("{value:?}"),
        }
    }
    let attributes = item
        .iter()
        .map(|(name, value)| format!("{name}={}", text(value)));
    let attributes: BTreeSet<_> = attributes.collect();
    attributes.into_iter().collect::<Vec<_>>().join(" ")
}

/// Returns all items of the identity table.
async fn identity(service: &Service) -> BTreeSet<String> {
    let items = service.identity_items().await;
    items.iter().map(text_of).collect()
}

/// Asserts that no item of the tables contains the word `marker`, and that the ephemeral table
/// contains no code.
async fn assert_no_marker(service: &Service) {
    let items = [
        service.identity_items().await,
        service.ephemeral_items().await,
    ]
    .concat();
    for item in &items {
        let text = text_of(item);
        assert!(!text.contains("marker"), "{text}");
        assert!(!text.contains("code#"), "{text}");
    }
}

/// Creates a token of an owner, with a label and with metadata that contain the word `marker`.
async fn mint(service: &Service, endpoint: &'static str, parameter: &str, owner: &str) -> Value {
    let body = json!({
        "expiryType": "Infinite", "name": "marker of a label", "metadata": { "a": "marker" },
    });
    let event = Event::to(endpoint)
        .header("authorization", &service.account_token)
        .parameter(parameter, owner)
        .json_body(&body.to_string());
    let answer = event.send(&service.app).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn put(service: &Service, id: &str, body: &Value) {
    let event = Event::to("put-user").header("authorization", &service.account_token);
    let event = event.parameter("id", id).json_body(&body.to_string());
    let answer = event.send(&service.app).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Creates an ecosystem with this many users, who have ten tokens each. Each user has an e-mail
/// address. Some users have a password and an e-mail token, a short code, or a token that another
/// token made.
async fn ecosystem_to_delete(service: &Service, users: u32) -> String {
    let ecosystem = service.another_ecosystem().await;
    let id = ecosystem.id.as_str();
    for _ in 0..5 {
        mint(service, "create-server-token", "ecosystemId", id).await;
    }
    for number in 0..users {
        let user = format!("{id};marker-{number}");
        let mut body = json!({ "email": format!("marker-{number}@example.com") });
        if number % 100 == 0 {
            body["password"] = PASSWORD.into();
        }
        put(service, &user, &body).await;
        let owner = service.token_owner(&user).await;
        for _ in 0..9 {
            let wanted = NewToken {
                name: Some(TokenName::parse("marker of a label").unwrap()),
                metadata: Some(Metadata::parse(json!({ "a": "marker" })).unwrap()),
                ..NewToken::default()
            };
            tokens::mint(&service.app, Grant::of_operator(owner, wanted))
                .await
                .unwrap();
        }
        let last = mint(service, "create-user-token", "id", &user).await;
        if number % 20 == 0 {
            let email = json!({ "email": body["email"] });
            assert_eq!(ask(service, "POST", &email).await.status, 201);
            // A token that was revoked individually, and a token that another one made.
            let token_id = last["tokenId"].as_str().unwrap();
            delete(service, &format!("/api/users/{user}/tokens/{token_id}")).await;
            let maker = mint(service, "create-user-token", "id", &user).await;
            let creation = Event::to("create-shortcode")
                .header("authorization", maker["token"].as_str().unwrap())
                .json_body(&json!({ "userId": user }).to_string());
            let made = creation.send(&service.app).await.json();
            let exchanged = attempt(made["shortcode"].as_str().unwrap());
            assert_eq!(exchanged.send(&service.app).await.status, 200);
            code(service, json!({ "userId": user, "shortCodeTtl": 3600 })).await;
        }
    }
    for _ in 0..3 {
        let environment = service.environment(&ecosystem).await;
        for _ in 0..10 {
            let of = json!({ "environmentId": environment });
            let (_, made) = code(service, of.clone()).await;
            assert_eq!(attempt(&made).send(&service.app).await.status, 200);
            code(service, of).await;
        }
    }
    id.to_owned()
}

/// Returns the keys of all items of the identity table.
async fn keys(service: &Service) -> BTreeSet<String> {
    let items = service.identity_items().await;
    let key = |item: &Item| format!("{:?} {:?}", item["owner"], item["item"]);
    items.iter().map(key).collect()
}

/// Limits the database as DynamoDB does, and lets the service's clock follow tokio's clock, which
/// is paused.
fn limit(service: &Service) -> Pause {
    let paused = pause();
    service.database.limit_partitions(&service.clock);
    let clock = service.clock.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(Duration::from_secs(1));
        loop {
            timer.tick().await;
            clock.advance(1);
        }
    });
    paused
}

#[tokio::test]
async fn nothing_of_a_deleted_ecosystem_stays_if_the_eraser_is_killed_and_others_are_not_throttled()
{
    let service = Service::start().await;
    let eve = service
        .person("eve", "eve@example.com", "password of eve")
        .await;
    let email = json!({ "email": "eve@example.com" });
    assert_eq!(ask(&service, "POST", &email).await.status, 201);
    let owner = service.token_owner(&eve).await;
    let token = service.token_of(owner, ExpiryType::Infinite).await;
    let before = keys(&service).await;
    let users = rounds(1000);
    let id = ecosystem_to_delete(&service, users).await;
    let all = keys(&service).await.len();
    assert!(all > before.len() + 12 * usize::try_from(users).unwrap());
    delete(&service, &format!("/api/ecosystems/{id}")).await;

    let paused = limit(&service);
    let introspection = service.introspection(&token);
    let change = Event::to("update-email-token")
        .header("authorization", &service.account_token)
        .json_body(&email.to_string());
    // The eraser works for about 40 milliseconds and makes about 10 calls for each user, so these
    // limits stop each of the runs.
    let (mut random, limit) = (StdRng::seed_from_u64(18), users / 2 + 1);
    for kill in 0..20 {
        if kill % 2 == 0 {
            // The eraser stops between two calls, or during a call.
            let time = Duration::from_millis(random.random_range(1..u64::from(limit) * 5));
            let run = tokio::time::timeout(time, erase(&service.app));
            let others = async {
                for _ in 0..20 {
                    for request in [&introspection, &change] {
                        let answer = request.send(&service.app).await;
                        assert_eq!(answer.status, 200, "{answer:?}");
                    }
                }
            };
            let (run, ()) = join(run, others).await;
            assert!(run.is_err(), "the run was not killed");
        } else {
            // A run reads the queue with 16 calls.
            let calls = 16 + random.random_range(1..limit);
            service.database.deny_after(Some(calls.try_into().unwrap()));
            let run = erase(&service.app).await;
            service.database.deny_after(None);
            assert!(run.is_err(), "the run was not killed");
        }
    }
    while erase(&service.app).await.unwrap().queued > 0 {
        let answer = introspection.send(&service.app).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        service.clock.advance(60);
    }
    drop(paused);
    assert_no_marker(&service).await;
    assert_eq!(keys(&service).await, before);
}

#[tokio::test]
async fn a_user_who_was_created_again_keeps_everything_of_the_new_life() {
    let service = Service::start().await;
    let bob = format!("{};bob", service.ecosystem.id);
    let path = format!("/api/users/{bob}");
    let body = json!({ "email": "bob@example.com", "password": PASSWORD });
    // In each life, the user has an e-mail token, a token that was revoked individually, and a
    // token that another one made.
    let live = async || {
        put(&service, &bob, &body).await;
        ask(&service, "POST", &json!({ "email": "bob@example.com" })).await;
        let ended = mint(&service, "create-user-token", "id", &bob).await;
        let ended = ended["tokenId"].as_str().unwrap();
        delete(&service, &format!("{path}/tokens/{ended}")).await;
        let maker = mint(&service, "create-user-token", "id", &bob).await;
        let maker = maker["token"].as_str().unwrap();
        let creation = Event::to("create-shortcode")
            .header("authorization", maker)
            .json_body(&json!({ "userId": bob }).to_string());
        let made = creation.send(&service.app).await.json();
        let exchanged = attempt(made["shortcode"].as_str().unwrap());
        assert_eq!(exchanged.send(&service.app).await.status, 200);
        service.clock.advance(1);
        let (_, code) = code(&service, json!({ "userId": bob, "shortCodeTtl": 3600 })).await;
        code
    };
    live().await;
    let old = identity(&service).await;
    delete(&service, &path).await;
    let deleted = identity(&service).await;
    assert!(deleted.len() + 3 < old.len(), "the deletion leaves items");
    service.clock.advance(1);
    let code = live().await;
    let tokens = ids(&service, &bob).await;
    let present = identity(&service).await;
    let new_life: BTreeSet<_> = present.difference(&deleted).collect();
    assert!(new_life.len() > 8, "{new_life:?}");

    erase_all(&service).await;
    let left = identity(&service).await;
    let gone: Vec<_> = new_life
        .iter()
        .filter(|item| !left.contains(**item))
        .collect();
    assert!(gone.is_empty(), "{gone:#?}");
    let rest: Vec<_> = left.difference(&present).collect();
    assert!(rest.is_empty(), "{rest:#?}");
    // Of the items of the old life, only those that do not belong to the user remain.
    let other = left.len() - new_life.len();
    assert_eq!(
        other, 6,
        "the account with its token, the ecosystem with its entry, the deployment, the value key"
    );
    assert_eq!(ids(&service, &bob).await, tokens);
    assert_eq!(attempt(&code).send(&service.app).await.status, 200);
}

/// Returns the items whose sort key is `sort_key`.
async fn items_named(service: &Service, sort_key: &str) -> Vec<Item> {
    let mut items = service.identity_items().await;
    items.retain(|item| item["item"].as_s().unwrap() == sort_key);
    items
}

/// Stores an item as the last write of a transaction. Before the write, waits until the eraser
/// sends a `TransactGetItems`, but at most a second. DynamoDB rejects this read while a transaction
/// is writing the item.
async fn complete_transaction(service: &Service, item: Item) {
    let waits = async { service.database.has_arrived("TransactGetItems").await };
    let _ = tokio::time::timeout(Duration::from_secs(1), waits).await;
    service.put_identity_item(item).await;
}

#[tokio::test]
async fn a_life_that_begins_while_the_eraser_reads_keeps_everything() {
    let service = Service::start().await;
    let bob = format!("{};bob", service.ecosystem.id);
    let path = format!("/api/users/{bob}");
    let body = json!({ "email": "bob@example.com", "password": PASSWORD });
    put(&service, &bob, &body).await;
    delete(&service, &path).await;
    service.clock.advance(SETTLED);
    let before = keys(&service).await;
    // A transaction creates the user again, with a password and a token. The eraser sees its writes
    // one after the other, and the user's record last.
    put(&service, &bob, &body).await;
    mint(&service, "create-user-token", "id", &bob).await;
    let all = keys(&service).await;
    assert_eq!(all.difference(&before).count(), 5);
    let record = service.owner_item(&bob).await.unwrap();
    service
        .delete_identity_items(std::slice::from_ref(&record))
        .await;
    let _paused = pause();
    service.database.fail([
        (
            "TransactGetItems",
            Fault::TransactionCancelled(&["TransactionConflict"]),
        ),
        ("TransactGetItems", Fault::NotBefore("PutItem")),
    ]);
    let (erased, ()) = join(erase(&service.app), complete_transaction(&service, record)).await;
    assert_eq!(erased.unwrap().finished, 1);
    let left = keys(&service).await;
    let gone: Vec<_> = all.difference(&left).collect();
    assert_eq!(gone.len(), 1, "only the erasure is gone: {gone:?}");
}

#[tokio::test]
async fn an_item_that_a_new_life_replaces_while_the_eraser_deletes_it_stays() {
    let service = Service::start().await;
    let bob = format!("{};bob", service.ecosystem.id);
    let path = format!("/api/users/{bob}");
    let body = json!({ "email": "bob@example.com", "password": PASSWORD });
    for has_incarnation in [true, false] {
        put(&service, &bob, &body).await;
        let mut old = items_named(&service, "password").await;
        delete(&service, &path).await;
        // A request from before the deletion stores the old password after the deletion.
        if !has_incarnation {
            old[0].remove("born");
        }
        service.put_identity_items(old).await;
        let _paused = pause();
        service
            .database
            .fail([("DeleteItem", Fault::NotBeforeAll("Scan", 2))]);
        let again = async {
            service.database.has_arrived("DeleteItem").await;
            put(&service, &bob, &body).await;
            // The first scan is that of the eraser, for short codes.
            service.identity_items().await;
        };
        let (erased, ()) = join(erase(&service.app), again).await;
        assert_eq!(erased.unwrap().queued, 1);
        assert_eq!(items_named(&service, "password").await.len(), 1);
        delete(&service, &path).await;
        erase_all(&service).await;
    }
}

#[tokio::test]
async fn erasures_that_are_older_than_12_hours_after_a_run_are_late() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    mint(&service, "create-user-token", "id", &bob).await;
    delete(&service, &format!("/api/users/{bob}")).await;
    let _paused = pause();
    for (advance, late) in [(12 * 60 * 60 - 1, 0), (1, 1)] {
        service.clock.advance(advance);
        // The time of the run is over at its start.
        let until = Deadline::after(Duration::ZERO);
        let erased = functions::erase::handle(&service.app, until).await.unwrap();
        assert_eq!((erased.queued, erased.finished, erased.late), (1, 0, late));
    }
    let erased = erase(&service.app).await.unwrap();
    assert_eq!((erased.queued, erased.finished, erased.late), (1, 1, 0));
}

#[tokio::test]
async fn every_erasure_of_a_long_queue_is_worked_on() {
    let service = Service::start().await;
    // A user whose erasure comes after many others.
    let (bob, mut erasure) = {
        let mut number = 0;
        loop {
            let user = service.user(&format!("user-{number}")).await;
            mint(&service, "create-user-token", "id", &user).await;
            delete(&service, &format!("/api/users/{user}")).await;
            let mut items = service.identity_items().await;
            items.retain(|item| item.contains_key("erase"));
            let erasure = items.swap_remove(0);
            if erasure["item"].as_s().unwrap().as_str() > "8" {
                break (user, erasure);
            }
            service.delete_identity_items(&[erasure]).await;
            number += 1;
        }
    };
    let place = u64::from_str_radix(&erasure["item"].as_s().unwrap()[..8], 16).unwrap();
    // These erasures can never be read, so they stay in the queue.
    erasure.insert("erase".to_owned(), AttributeValue::Bool(true));
    let others = (0..5300).map(|number| {
        let mut other = erasure.clone();
        let key = format!("{:08x}{number:024x}", place * number / 5300);
        other.insert("item".to_owned(), AttributeValue::S(key));
        other
    });
    service.put_identity_items(others.collect()).await;
    let _paused = pause();
    let mut runs = 0;
    while !service.token_items(&bob).await.is_empty() {
        assert!(erase(&service.app).await.is_err());
        runs += 1;
        assert!(runs < 30, "the erasure is never worked on");
    }
}

#[tokio::test]
async fn the_links_of_ended_tokens_are_erased_after_a_revocation_of_all_tokens() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let child_of = async |maker: &Value| {
        let maker = maker["token"].as_str().unwrap();
        let body = json!({ "userId": bob }).to_string();
        let path = "/api/auth/shortcode/create";
        let made = service.call(maker, "POST", path, &body).await.json();
        let exchanged = attempt(made["shortcode"].as_str().unwrap());
        let answer = exchanged.send(&service.app).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let links = async || {
        let items = service.identity_items().await;
        let keys = items.iter().map(|item| item["item"].as_s().unwrap());
        let links = keys.filter(|key| key.starts_with("child#"));
        links.cloned().collect::<BTreeSet<_>>()
    };
    let root = mint(&service, "create-user-token", "id", &bob).await;
    let child = child_of(&root).await;
    child_of(&child).await;
    assert_eq!(links().await.len(), 2);
    delete(&service, &format!("/api/users/{bob}/tokens")).await;
    assert_eq!(erase(&service.app).await.unwrap().queued, 1);

    // In another family, two children of the root have ended. One of them has made a token that is
    // still valid.
    let root = mint(&service, "create-user-token", "id", &bob).await;
    let (ended, maker) = (child_of(&root).await, child_of(&root).await);
    let made = child_of(&maker).await;
    let mut items = service.token_items(&bob).await;
    let id = |token: &Value| format!("token#{}", token["tokenId"].as_str().unwrap());
    let gone = [id(&ended), id(&maker)];
    items.retain(|item| gone.contains(item["item"].as_s().unwrap()));
    assert_eq!(items.len(), 2);
    service.delete_identity_items(&items).await;
    let link = |child: &Value| {
        let (root, child) = (root["tokenId"].as_str(), child["tokenId"].as_str());
        format!("child#{}#{}", root.unwrap(), child.unwrap())
    };
    erase_all(&service).await;
    assert_eq!(links().await, BTreeSet::from([link(&maker), link(&made)]));
    assert!(service.is_active(made["token"].as_str().unwrap()).await);
}

/// Deletes the record of a user, and every other item in the user's partition whose sort key does
/// not begin with `kept`. Also deletes the user's entry, because earlier releases stored none.
async fn leave_only(service: &Service, user: &str, kept: &str) {
    let record = service.owner_item(user).await.unwrap();
    let mut items = service.identity_items().await;
    items.retain(|item| {
        let sort_key = item["item"].as_s().unwrap();
        let is_entry = item
            .get("listed")
            .is_some_and(|id| id.as_s().unwrap() == user);
        is_entry || item["owner"] == record["owner"] && !sort_key.starts_with(kept)
    });
    service.delete_identity_items(&items).await;
}

#[tokio::test]
async fn whatever_is_left_of_a_user_is_erased_after_the_migration() {
    let service = Service::start().await;
    let settings = json!({ "maxTokensPerUser": 9 });
    assert_eq!(change(&service, &settings).await.status, 200);
    for kept in ["token#", "child#", "email-token", "limit", "password"] {
        let before = keys(&service).await;
        let bob = format!("{};bob", service.ecosystem.id);
        let body = json!({ "email": "bob@example.com", "password": PASSWORD });
        put(&service, &bob, &body).await;
        let email = json!({ "email": "bob@example.com" });
        assert_eq!(ask(&service, "POST", &email).await.status, 201);
        let maker = mint(&service, "create-user-token", "id", &bob).await;
        let (maker, body) = (maker["token"].as_str().unwrap(), json!({ "userId": bob }));
        let path = "/api/auth/shortcode/create";
        let made = service.call(maker, "POST", path, &body.to_string()).await;
        let made = made.json()["shortcode"].as_str().unwrap().to_owned();
        assert_eq!(attempt(&made).send(&service.app).await.status, 200);
        leave_only(&service, &bob, kept).await;
        let left = keys(&service).await;
        assert!(left.iter().any(|key| key.contains(kept)), "{kept}");
        // The migration can also run if the version is already 3.
        let right = MayWrite::of_operator();
        migrate::lists::list_all(&service.app, right).await.unwrap();
        erase_all(&service).await;
        let left = keys(&service).await;
        let new: Vec<_> = left.difference(&before).collect();
        // The first e-mail token of the deployment also creates the value key.
        assert!(
            new.iter().all(|key| key.contains("value-key")),
            "{kept} {new:?}"
        );
    }
}

#[tokio::test]
async fn an_environment_of_a_deleted_ecosystem_without_users_is_erased_after_the_migration() {
    let service = Service::start().await;
    let before = keys(&service).await;
    let ecosystem = service.another_ecosystem().await;
    let environment = service.environment(&ecosystem).await;
    let mut items = service.identity_items().await;
    // An earlier release deleted the ecosystem, and stored no entries.
    items.retain(|item| {
        let text = text_of(item);
        let is_of_environment = text.contains(&environment);
        let is_entry = item.contains_key("listed");
        text.contains(ecosystem.id.as_str()) && !is_of_environment || is_of_environment && is_entry
    });
    service.delete_identity_items(&items).await;
    let left = keys(&service).await;
    assert_eq!(left.difference(&before).count(), 1);
    let right = MayWrite::of_operator();
    migrate::lists::list_all(&service.app, right).await.unwrap();
    erase_all(&service).await;
    assert_eq!(keys(&service).await, before);
}

#[tokio::test]
async fn the_migration_keeps_the_erasures_that_are_in_the_queue() {
    let service = Service::start().await;
    let ecosystem = service.another_ecosystem().await;
    let environment = service.environment(&service.ecosystem).await;
    for of in [service.environment(&ecosystem).await, environment.clone()] {
        let (_, made) = code(&service, json!({ "environmentId": of })).await;
        assert_eq!(attempt(&made).send(&service.app).await.status, 200);
    }
    let bob = service.user("bob").await;
    mint(&service, "create-user-token", "id", &bob).await;
    delete(&service, &format!("/api/environments/{environment}")).await;
    delete(&service, &format!("/api/ecosystems/{}", ecosystem.id)).await;
    delete(&service, &format!("/api/users/{bob}")).await;
    let queued = async || {
        let mut items = service.identity_items().await;
        items.retain(|item| item.contains_key("erase"));
        items.iter().map(text_of).collect::<BTreeSet<_>>()
    };
    let before = queued().await;
    assert_eq!(before.len(), 3);
    service.clock.advance(60);
    let right = MayWrite::of_operator();
    migrate::lists::list_all(&service.app, right).await.unwrap();
    assert_eq!(queued().await, before);
}

#[tokio::test]
async fn what_a_revocation_of_all_tokens_leaves_is_erased() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for _ in 0..60 {
        mint(&service, "create-user-token", "id", &bob).await;
    }
    let first = ids(&service, &bob).await;
    delete(&service, &format!("/api/users/{bob}/tokens/{}", first[0])).await;
    let (_, made) = code(&service, json!({ "userId": bob, "shortCodeTtl": 3600 })).await;
    service
        .database
        .fail([("BatchWriteItem", Fault::Denied); 1]);
    delete(&service, &format!("/api/users/{bob}/tokens")).await;
    assert_eq!(service.count_tokens().await, 61);
    let token = mint(&service, "create-user-token", "id", &bob).await;

    erase_all(&service).await;
    // The account's token, the new token, and the record of the token that was revoked individually.
    assert_eq!(service.count_tokens().await, 3);
    assert!(service.is_active(token["token"].as_str().unwrap()).await);
    assert_eq!(
        service.ephemeral_items().await.len(),
        0,
        "{made} was erased"
    );
    // A revocation that leaves no items queues no erasure.
    delete(&service, &format!("/api/users/{bob}/tokens")).await;
    assert_eq!(erase(&service.app).await.unwrap().queued, 0);
}

#[tokio::test]
async fn an_erasure_stays_in_the_queue_for_20_minutes_and_erases_what_is_stored_late() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    mint(&service, "create-user-token", "id", &bob).await;
    let late = service.token_items(&bob).await;
    delete(&service, &format!("/api/users/{bob}")).await;
    let _paused = pause();
    for _ in 0..3 {
        let erased = erase(&service.app).await.unwrap();
        assert_eq!(
            erased,
            Erased {
                queued: 1,
                finished: 0,
                late: 0
            }
        );
        assert_eq!(service.token_items(&bob).await.len(), 0);
        service.clock.advance(SETTLED / 3 - 1);
        // A request from before the deletion stores the token again.
        service.put_identity_items(late.clone()).await;
    }
    service.clock.advance(3);
    let erased = erase(&service.app).await.unwrap();
    assert_eq!(
        erased,
        Erased {
            queued: 1,
            finished: 1,
            late: 0
        }
    );
    assert_eq!(service.token_items(&bob).await.len(), 0);
    assert_eq!(erase(&service.app).await.unwrap().queued, 0);
}

#[tokio::test]
async fn an_erasure_that_fails_does_not_keep_others_from_being_erased() {
    let service = Service::start().await;
    let ecosystem = service.another_ecosystem().await;
    let broken = ecosystem.id.to_string();
    let environment = service.environment(&ecosystem).await;
    let (made, device) = code(&service, json!({ "environmentId": environment })).await;
    assert_eq!(attempt(&device).send(&service.app).await.status, 200);
    for name in ["ann", "bob", "cleo"] {
        put(&service, &format!("{broken};{name}"), &json!({})).await;
    }
    // The record of this user cannot be read.
    service
        .set_owner_id(&format!("{broken};bob"), "not an id")
        .await;
    let users = [service.user("dan").await, service.user("eva").await];
    for user in &users {
        mint(&service, "create-user-token", "id", user).await;
    }
    delete(&service, &format!("/api/ecosystems/{broken}")).await;
    for user in &users {
        delete(&service, &format!("/api/users/{user}")).await;
    }
    let _paused = pause();
    service.clock.advance(SETTLED);
    assert!(erase(&service.app).await.is_err());
    for user in &users {
        assert_eq!(service.token_items(user).await.len(), 0);
    }
    for (name, exists) in [("ann", false), ("bob", true), ("cleo", false)] {
        let item = service.owner_item(&format!("{broken};{name}")).await;
        assert_eq!(item.is_some(), exists, "{name}");
    }
    let device = made["userId"].as_str().unwrap();
    assert!(service.owner_item(device).await.is_none());
    // Only the erasure that failed is still in the queue.
    service
        .set_owner_id(&format!("{broken};bob"), &format!("{broken};bob"))
        .await;
    let erased = erase(&service.app).await.unwrap();
    assert_eq!(
        erased,
        Erased {
            queued: 1,
            finished: 1,
            late: 0
        }
    );
}

#[tokio::test]
async fn a_short_code_delays_only_the_erasures_of_its_own_owners() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    mint(&service, "create-user-token", "id", &bob).await;
    let eve = service.user("eve").await;
    let ecosystem = service.another_ecosystem().await;
    let lost = format!("{};lost", ecosystem.id);
    put(&service, &lost, &json!({})).await;
    let environment = service.environment(&service.ecosystem).await;
    for body in [
        json!({ "userId": eve, "shortCodeTtl": 3600 }),
        json!({ "userId": lost, "shortCodeTtl": 3600 }),
        json!({ "environmentId": environment, "shortCodeTtl": 3600 }),
    ] {
        code(&service, body).await;
    }
    for path in [
        format!("users/{bob}"),
        format!("users/{eve}"),
        format!("ecosystems/{}", ecosystem.id),
        format!("environments/{environment}"),
    ] {
        delete(&service, &format!("/api/{path}")).await;
    }
    let _paused = pause();
    service.clock.advance(SETTLED);
    // The first run finds the codes of all but bob, and so it finishes only the erasure of bob.
    for (queued, finished) in [(4, 1), (3, 3), (0, 0)] {
        let erased = erase(&service.app).await.unwrap();
        assert_eq!((erased.queued, erased.finished), (queued, finished));
    }
    assert_eq!(service.ephemeral_items().await.len(), 0);
}

#[tokio::test]
async fn partitions_are_erased_even_if_the_codes_cannot_be_scanned() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    code(&service, json!({ "userId": bob, "shortCodeTtl": 3600 })).await;
    let mut unreadable = service.ephemeral_items().await.swap_remove(0);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    unreadable.insert("grantee".to_owned(), text("not a grantee"));
    let key = shared::store::ephemeral::PARTITION_KEY;
    // One comes before the code of bob, and one after it.
    let unreadable = ["code#", "code#~"].map(|place| {
        let mut item = unreadable.clone();
        item.insert(key.to_owned(), text(place));
        item
    });
    mint(&service, "create-user-token", "id", &bob).await;
    delete(&service, &format!("/api/users/{bob}")).await;
    assert_eq!(service.token_items(&bob).await.len(), 1);
    let _paused = pause();
    service.clock.advance(SETTLED);
    service
        .database
        .fail((0..3).map(|_| ("Scan", Fault::Denied)));
    assert!(erase(&service.app).await.is_err());
    service.database.take_faults();
    assert_eq!(service.token_items(&bob).await.len(), 0);
    assert_eq!(service.ephemeral_items().await.len(), 1);

    let table = &service.tables.ephemeral;
    for item in &unreadable {
        let put = service.client.put_item().table_name(table);
        let put = put.set_item(Some(item.clone()));
        put.send().await.unwrap();
    }
    // The run deletes the code that it can read. The owners of the others are unknown.
    for _ in 0..2 {
        assert!(erase(&service.app).await.is_err());
        assert_eq!(service.ephemeral_items().await.len(), 2);
    }
    for item in &unreadable {
        let deletion = service.client.delete_item().table_name(table);
        let deletion = deletion.key(key, item[key].clone());
        deletion.send().await.unwrap();
    }
    let erased = erase(&service.app).await.unwrap();
    assert_eq!((erased.queued, erased.finished), (1, 1));
}

#[tokio::test]
async fn the_users_of_a_deleted_environment_are_erased_and_others_stay() {
    let service = Service::start().await;
    let before = keys(&service).await;
    let mut environments = Vec::new();
    for _ in 0..2 {
        let environment = service.environment(&service.ecosystem).await;
        let mut users = Vec::new();
        for _ in 0..20 {
            let (_, made) = code(&service, json!({ "environmentId": environment })).await;
            let answer = attempt(&made).send(&service.app).await.json();
            users.push(answer["userId"].as_str().unwrap().to_owned());
        }
        environments.push((environment, users));
    }
    let [(deleted, gone), (_, stay)] = &environments[..] else {
        panic!("expected two environments");
    };
    let (_, unused) = code(&service, json!({ "environmentId": deleted })).await;
    delete(&service, &format!("/api/environments/{deleted}")).await;
    erase_all(&service).await;
    for user in gone {
        assert_eq!(service.token_items(user).await.len(), 0);
    }
    for user in stay {
        assert_eq!(service.token_items(user).await.len(), 1);
    }
    // The other environment and its entry remain. The record, the entry and the token of each of
    // its users remain too.
    assert_eq!(keys(&service).await.difference(&before).count(), 2 + 20 * 3);
    assert_eq!(attempt(&unused).send(&service.app).await.status, 404);
}

#[tokio::test]
async fn nothing_is_erased_before_the_lists_are_complete() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    mint(&service, "create-user-token", "id", &bob).await;
    delete(&service, &format!("/api/users/{bob}")).await;
    service.clock.advance(SETTLED);
    service.set_schema(2).await;
    let app = service.environment_of_stored_version().await;
    assert_eq!(erase(&app).await.unwrap().queued, 0);
    assert_eq!(service.token_items(&bob).await.len(), 1);
}

#[tokio::test]
async fn what_earlier_releases_left_is_erased_after_the_migration() {
    let fixture = Fixture::copy_of("schema-2");
    let right = MayWrite::of_operator();
    let app = fixture.environment();
    let left = ["otto@example.com", "pia@example.com", "name\": S(\"deleted"];
    let scanned = fixture.scan().await;
    assert!(scanned.contains("pia@example.com"));
    migrate::lists::list_all(&app, right).await.unwrap();
    let _paused = pause();
    fixture.clock.advance(SETTLED);
    while erase(&app).await.unwrap().queued > 0 {}
    let scanned = fixture.scan().await;
    for text in left {
        assert!(!scanned.contains(text), "{text}");
    }
    let deleted = |item: &&Value| item["exists"] == false;
    let environments = fixture.list("environments").iter().filter(deleted);
    let ecosystems = fixture.list("ecosystems").iter().filter(deleted);
    let mut gone = environments.chain(ecosystems).peekable();
    assert!(gone.peek().is_some());
    for item in gone {
        let id = item["id"].as_str().unwrap();
        assert!(!scanned.contains(id), "{id}");
    }
    // What exists is as before.
    let environments = fixture.list("environments").iter().filter(deleted);
    let environments: Vec<_> = environments.map(|item| &item["id"]).collect();
    let exists =
        |user: &&Value| user["exists"] == true && !environments.contains(&&user["environmentId"]);
    for user in fixture.list("users").iter().filter(exists) {
        let account = user["accountId"].as_str().unwrap();
        let accounts = fixture.list("accounts").iter();
        let mut accounts = accounts.filter(|item| item["id"] == account);
        let caller = accounts.next().unwrap()["accountToken"].as_str().unwrap();
        let list = Event::to("list-user-tokens").header("authorization", caller);
        let list = list.parameter("id", user["id"].as_str().unwrap());
        let answer = list.send(&app).await.json();
        let tokens = [fixture.list("tokens"), fixture.list("emailTokens")].concat();
        let is_valid = |token: &&Value| token["sub"] == user["id"] && token["active"] == true;
        let expected = tokens.iter().filter(is_valid).count();
        assert_eq!(
            answer["tokens"].as_array().unwrap().len(),
            expected,
            "{user}"
        );
    }
}
