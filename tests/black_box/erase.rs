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
};

const PASSWORD: &str = "marker of a password";
/// How long an erasure stays in the queue, in seconds.
const SETTLED: u64 = 20 * 60;
/// How long the function `erase` may run.
const RUN: Duration = Duration::from_secs(295);

async fn erase(app: &App) -> Result<Erased> {
    Box::pin(functions::erase::handle(app, Deadline::after(RUN))).await
}

/// Runs the eraser until it removes all erasures from the queue.
async fn erase_all(service: &Service) {
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
            // A token that was revoked singly, and a token that another one made.
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
    // A life has an e-mail token, a token that was revoked singly, and a token that another one
    // made.
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
    // Of the old life, only the items remain that do not belong to the user.
    let other = left.len() - new_life.len();
    assert_eq!(
        other, 6,
        "the account with its token, the ecosystem with its entry, the deployment, the value key"
    );
    assert_eq!(ids(&service, &bob).await, tokens);
    assert_eq!(attempt(&code).send(&service.app).await.status, 200);
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
    // The account's token, the new token, and the record of the token that was revoked singly.
    assert_eq!(service.count_tokens().await, 3);
    assert!(service.is_active(token["token"].as_str().unwrap()).await);
    assert_eq!(
        service.ephemeral_items().await.len(),
        0,
        "{made} was erased"
    );
    // A revocation that leaves nothing queues nothing.
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
                finished: 0
            }
        );
        assert_eq!(service.token_items(&bob).await.len(), 0);
        service.clock.advance(SETTLED / 3 - 1);
        // A request of before the deletion stores the token again.
        service.put_identity_items(late.clone()).await;
    }
    service.clock.advance(3);
    let erased = erase(&service.app).await.unwrap();
    assert_eq!(
        erased,
        Erased {
            queued: 1,
            finished: 1
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
            finished: 1
        }
    );
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
        panic!("there are two environments");
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
    // The other environment and its entry, and of each of its users the record, the entry and the
    // token.
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
