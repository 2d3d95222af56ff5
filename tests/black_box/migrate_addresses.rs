//! E-mail addresses in schema version 1, and their migration to version 2. Execution environments
//! learn of version 2 at different times.
//!
//! A record of an address is called old if the record's sort key is `OLD_ADDRESS_ITEM`, and new if
//! the record's sort key is `NEW_ADDRESS_ITEM`. In this file, an environment is an execution
//! environment.

use std::collections::HashMap;

use futures_util::future::{join, join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};
use shared::{
    App,
    domain::{id::AccountId, owner::Account},
    service::{
        access::MayWrite,
        migrate::{addresses::copy, clean_up, finish, prepare},
    },
    store::{
        identity::{Key, OLD_ADDRESS_ITEM},
        item::Item,
    },
};
use tests::{Answer, Event, Fault, Fixture, Service, rounds};

use tokenry::embedded::{self, IDENTITY};

use crate::create_email_token::{BOB, PASSWORD, datum};

const RIGHT: MayWrite = MayWrite::of_operator();
const NEW_ADDRESS_ITEM: &str = "account-address";

/// A deployment in schema version 1, with two accounts.
struct Scene {
    service: Service,
    /// An environment that knows only version 1.
    one: App,
    /// An account token and an ecosystem id of the first account.
    first: (String, String),
    /// An account token and an ecosystem id of the second account.
    second: (String, String),
}

impl Scene {
    async fn new() -> Self {
        let service = Service::start().await;
        let (stranger, ecosystem) = service.another_account().await;
        let first = (
            service.account_token.clone(),
            service.ecosystem.id.to_string(),
        );
        service.set_schema(1).await;
        let one = service.environment_of_stored_version().await;
        Self {
            service,
            one,
            first,
            second: (stranger, ecosystem.id.to_string()),
        }
    }

    /// Sets the schema version to 2. Returns a new environment, which knows version 2.
    /// [`Self::one`] still knows only version 1.
    async fn raise(&self) -> App {
        self.service.set_schema(2).await;
        self.service.environment_of_stored_version().await
    }

    /// Returns the user ids in the address records with this sort key, in alphabetical order.
    async fn records(&self, sort_key: &str) -> Vec<String> {
        let items = address_items(&self.service, sort_key).await;
        let mut users: Vec<_> = items
            .iter()
            .map(|item| item["user_id"].as_s().unwrap().clone())
            .collect();
        users.sort_unstable();
        users
    }

    /// Makes a change, and then restores the new records. So the stored data is the same as after a
    /// change by the previous release, which changes only old records.
    async fn as_previous_release(&self, change: impl Future<Output = Answer>) {
        let before = address_items(&self.service, NEW_ADDRESS_ITEM).await;
        let answer = change.await;
        assert!(answer.status < 300, "{answer:?}");
        forget(&self.service, NEW_ADDRESS_ITEM).await;
        for item in before {
            let put = self.service.client.put_item();
            let put = put.table_name(&self.service.tables.identity);
            put.set_item(Some(item)).send().await.unwrap();
        }
        self.service.database.take_calls();
    }

    /// Copies all old records.
    async fn copy_all(&self, app: &App) {
        for key in old_keys(&self.service).await {
            copy(app, RIGHT, &key).await.unwrap();
        }
    }

    /// Deletes all old records.
    async fn delete_all(&self, app: &App) {
        clean_up(app, RIGHT).await.unwrap();
    }
}

async fn address_items(service: &Service, sort_key: &str) -> Vec<Item> {
    let mut items = service.identity_items().await;
    items.retain(|item| item["item"].as_s().is_ok_and(|key| key == sort_key));
    items
}

fn key_of(item: Item) -> Key {
    serde_dynamo::from_item(item).expect("an item has a key")
}

/// Returns the keys of all old records.
async fn old_keys(service: &Service) -> Vec<Key> {
    let items = address_items(service, OLD_ADDRESS_ITEM).await;
    items.into_iter().map(key_of).collect()
}

/// Deletes all records of addresses that have this sort key.
async fn forget(service: &Service, sort_key: &str) {
    for item in address_items(service, sort_key).await {
        let key = serde_dynamo::to_item(key_of(item)).unwrap();
        let call = service.client.delete_item();
        let call = call.table_name(&service.tables.identity);
        call.set_key(Some(key)).send().await.unwrap();
    }
    service.database.take_calls();
}

/// Creates or changes a user.
async fn put(app: &App, (token, ecosystem): &(String, String), name: &str, body: Value) -> Answer {
    let event = Event::to("put-user")
        .header("authorization", token)
        .parameter("id", &format!("{ecosystem};{name}"))
        .json_body(&body.to_string());
    Box::pin(event.send(app)).await
}

/// Creates or changes a user, who gets this address and the password [`PASSWORD`].
async fn person(app: &App, of: &(String, String), name: &str, email: &str) -> String {
    let answer = put(
        app,
        of,
        name,
        json!({ "email": email, "password": PASSWORD }),
    )
    .await;
    assert!(answer.status < 300, "{answer:?}");
    format!("{};{name}", of.1)
}

async fn log_in(app: &App, ecosystem: Option<&str>, email: &str) -> Answer {
    let mut body = json!({ "email": email, "password": PASSWORD });
    if let Some(id) = ecosystem {
        body["ecosystemId"] = id.into();
    }
    let event = Event::to("log-in-with-password").json_body(&body.to_string());
    event.send(app).await
}

/// Returns the user who logs in with this address, or `None` if the response is a 401.
async fn logged_in(
    app: &App,
    ecosystem: Option<&str>,
    email: &str,
    account: &str,
) -> Option<String> {
    let answer = log_in(app, ecosystem, email).await;
    if answer.status == 401 {
        return None;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = datum(&answer)["token"].as_str().unwrap().to_owned();
    let event = Event::to("introspect-token")
        .header("authorization", account)
        .form(&format!("token={token}"));
    let claims = event.send(app).await.json();
    Some(
        claims["sub"]
            .as_str()
            .expect("the token is valid")
            .to_owned(),
    )
}

/// Returns the user whom the endpoints for e-mail tokens find for this address.
async fn holder(app: &App, credential: &str, email: &str) -> Option<String> {
    let ask = async |endpoint| {
        let event = Event::to(endpoint).header("authorization", credential);
        let event = event.json_body(&json!({ "email": email }).to_string());
        event.send(app).await
    };
    let mut answer = ask("create-email-token").await;
    if answer.status == 409 {
        answer = ask("update-email-token").await;
    }
    match answer.status {
        404 => None,
        _ => Some(datum(&answer)["userId"].as_str().unwrap().to_owned()),
    }
}

fn assert_in_use(answer: &Answer) {
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.body.contains("email address is in use"));
}

#[tokio::test]
async fn in_version_1_each_change_of_an_address_changes_the_old_and_the_new_record() {
    let scene = Scene::new().await;
    let app = &scene.one;
    let bob = person(app, &scene.first, "bob", BOB).await;
    for change in [json!({}), json!({ "email": "b@example.com" })] {
        assert_eq!(put(app, &scene.first, "bob", change).await.status, 200);
        for sort_key in [OLD_ADDRESS_ITEM, NEW_ADDRESS_ITEM] {
            assert_eq!(scene.records(sort_key).await, [bob.as_str()]);
        }
    }
    let none = json!({ "email": null });
    assert_eq!(put(app, &scene.first, "bob", none).await.status, 200);
    let ann = person(app, &scene.first, "ann", BOB).await;
    let deletion = Event::to("delete-user").header("authorization", &scene.first.0);
    for sort_key in [OLD_ADDRESS_ITEM, NEW_ADDRESS_ITEM] {
        assert_eq!(scene.records(sort_key).await, [ann.as_str()]);
    }
    assert_eq!(deletion.parameter("id", &ann).send(app).await.status, 204);
    for sort_key in [OLD_ADDRESS_ITEM, NEW_ADDRESS_ITEM] {
        assert!(scene.records(sort_key).await.is_empty());
    }
}

#[tokio::test]
async fn in_version_1_an_address_is_unique_in_the_deployment_and_needs_no_ecosystem_id() {
    let scene = Scene::new().await;
    let app = &scene.one;
    let twin = person(app, &scene.second, "bob", BOB).await;
    let body = json!({ "email": BOB });
    assert_in_use(&put(app, &scene.first, "bob", body).await);
    let (account, ecosystem) = &scene.second;
    for id in [None, Some(ecosystem.as_str())] {
        assert_eq!(logged_in(app, id, BOB, account).await.as_ref(), Some(&twin));
    }
    assert_eq!(log_in(app, Some(&scene.first.1), BOB).await.status, 401);
    assert_eq!(holder(app, account, BOB).await, Some(twin));
    assert_eq!(holder(app, &scene.first.0, BOB).await, None);
}

#[tokio::test]
async fn in_version_1_the_addresses_that_the_previous_release_stored_are_valid() {
    let scene = Scene::new().await;
    let (app, of) = (&scene.one, &scene.first);
    let bob = person(app, of, "bob", BOB).await;
    let eve = person(app, of, "eve", "eve@example.com").await;
    forget(&scene.service, NEW_ADDRESS_ITEM).await;

    // The users have old records only.
    let taken = json!({ "email": BOB });
    for (email, user) in [(BOB, &bob), ("eve@example.com", &eve)] {
        for id in [None, Some(of.1.as_str())] {
            assert_eq!(logged_in(app, id, email, &of.0).await.as_ref(), Some(user));
        }
        assert_eq!(holder(app, &of.0, email).await.as_ref(), Some(user));
    }
    assert_in_use(&put(app, of, "eve", taken.clone()).await);

    // Now this release stores both records of each user. Then the previous release changes the old
    // records, so the new records are out of date.
    for (name, email) in [("bob", "b@example.com"), ("eve", "e@example.com")] {
        person(app, of, name, email).await;
    }
    let swap = [
        ("bob", "x@example.com"),
        ("eve", "b@example.com"),
        ("bob", "e@example.com"),
    ];
    for (name, email) in swap {
        let change = put(app, of, name, json!({ "email": email }));
        scene.as_previous_release(change).await;
    }
    let two = async |app: &App| {
        for (email, user) in [
            ("b@example.com", Some(&eve)),
            ("e@example.com", Some(&bob)),
            ("x@example.com", None),
            (BOB, None),
        ] {
            let found = logged_in(app, Some(&of.1), email, &of.0).await;
            assert_eq!(found.as_ref(), user, "{email}");
            assert_eq!(holder(app, &of.0, email).await.as_ref(), user, "{email}");
        }
    };
    two(app).await;
    for email in ["b@example.com", "e@example.com"] {
        assert_in_use(&put(app, of, "ann", json!({ "email": email })).await);
    }
    scene.copy_all(app).await;
    two(app).await;
    two(&scene.raise().await).await;
}

#[tokio::test]
async fn an_old_record_is_deleted_even_if_the_new_record_belongs_to_another_user() {
    let scene = Scene::new().await;
    let (app, of) = (&scene.one, &scene.first);
    let bob = person(app, of, "bob", BOB).await;
    person(app, of, "eve", "eve@example.com").await;
    for (name, email) in [("bob", "b@example.com"), ("eve", BOB)] {
        let change = put(app, of, name, json!({ "email": email }));
        scene.as_previous_release(change).await;
    }
    let none = json!({ "email": null });
    assert_eq!(put(app, of, "eve", none).await.status, 200);
    assert_eq!(scene.records(OLD_ADDRESS_ITEM).await, [bob]);
}

#[tokio::test]
async fn in_version_1_every_cause_of_a_401_makes_the_same_calls() {
    let scene = Scene::new().await;
    let (app, of) = (&scene.one, &scene.first);
    person(app, of, "both", "both@example.com").await;
    person(app, of, "old", "old@example.com").await;
    let keys = address_items(&scene.service, NEW_ADDRESS_ITEM).await;
    let is_old = |item: &&Item| item["user_id"].as_s().unwrap().ends_with(";old");
    let key = key_of(keys.iter().find(is_old).unwrap().clone());
    let call = scene.service.client.delete_item();
    let call = call.table_name(&scene.service.tables.identity);
    let key = serde_dynamo::to_item(key).unwrap();
    call.set_key(Some(key)).send().await.unwrap();
    person(app, &scene.second, "twin", "twin@example.com").await;
    // After these changes, the old record of `moved@example.com` belongs to the user `after`, and
    // the new record of this address belongs to the user `before`.
    person(app, of, "before", "moved@example.com").await;
    person(app, of, "after", "after@example.com").await;
    for (name, email) in [("before", "y@example.com"), ("after", "moved@example.com")] {
        let change = put(app, of, name, json!({ "email": email }));
        scene.as_previous_release(change).await;
    }

    for (id, emails) in [
        (None, &["both", "old", "twin", "moved", "nobody"][..]),
        (
            Some(of.1.as_str()),
            &["both", "old", "twin", "moved", "nobody"],
        ),
        (
            Some("C58521fd8a5d9b5cc21987501"),
            &["both", "twin", "nobody"],
        ),
    ] {
        let mut expected = None;
        for email in emails {
            let mut body =
                json!({ "email": format!("{email}@example.com"), "password": "a wrong one" });
            if let Some(id) = id {
                body["ecosystemId"] = json!(id);
            }
            let event = Event::to("log-in-with-password").json_body(&body.to_string());
            scene.service.database.take_calls();
            assert_eq!(event.send(app).await.status, 401);
            let calls = scene.service.database.take_calls();
            let calls: Vec<_> = calls.into_iter().map(|call| call.operation).collect();
            assert_eq!(calls, *expected.get_or_insert(calls.clone()), "{email}");
        }
        assert_eq!(expected.unwrap().len(), if id.is_some() { 10 } else { 9 });
    }
}

#[tokio::test]
async fn environments_of_both_versions_see_the_addresses_of_each_other() {
    let scene = Scene::new().await;
    let (one, first, second) = (&scene.one, &scene.first, &scene.second);
    let bob = person(one, first, "bob", BOB).await;
    scene.copy_all(one).await;
    let two = &scene.raise().await;

    // Version 2 stores only the new record.
    let eve = person(two, first, "eve", "eve@example.com").await;
    assert_eq!(scene.records(OLD_ADDRESS_ITEM).await, [bob.as_str()]);
    for app in [one, two] {
        for (email, user) in [(BOB, &bob), ("eve@example.com", &eve)] {
            let found = logged_in(app, None, email, &first.0).await;
            assert_eq!(found.as_ref(), Some(user));
            assert_eq!(holder(app, &first.0, email).await.as_ref(), Some(user));
            let ann = put(app, first, "ann", json!({ "email": email })).await;
            assert_in_use(&ann);
        }
    }
    // Version 2 allows the same address in another account, and version 1 finds both users.
    let twin = person(two, second, "bob", BOB).await;
    for app in [one, two] {
        for (of, user) in [(first, &bob), (second, &twin)] {
            let found = logged_in(app, Some(&of.1), BOB, &of.0).await;
            assert_eq!(found.as_ref(), Some(user));
            assert_eq!(holder(app, &of.0, BOB).await.as_ref(), Some(user));
        }
        let found = logged_in(app, None, BOB, &first.0).await;
        assert_eq!(found.as_ref(), Some(&bob));
    }
    // In version 2, bob gets another address, but the old record of the former address stays. In
    // version 1, ann then gets the former address, and both versions find ann.
    person(two, first, "bob", "b@example.com").await;
    assert_eq!(log_in(one, Some(&first.1), BOB).await.status, 401);
    let ann = person(one, first, "ann", BOB).await;
    for app in [one, two] {
        let found = logged_in(app, Some(&first.1), BOB, &first.0).await;
        assert_eq!(found.as_ref(), Some(&ann));
        let found = logged_in(app, Some(&second.1), BOB, &second.0).await;
        assert_eq!(found.as_ref(), Some(&twin));
    }
    // The old records can be deleted while an environment knows only version 1.
    scene.delete_all(two).await;
    for app in [one, two] {
        for (of, email, user) in [
            (first, BOB, &ann),
            (first, "b@example.com", &bob),
            (first, "eve@example.com", &eve),
            (second, BOB, &twin),
        ] {
            let found = logged_in(app, Some(&of.1), email, &of.0).await;
            assert_eq!(found.as_ref(), Some(user), "{email}");
            assert_eq!(holder(app, &of.0, email).await.as_ref(), Some(user));
        }
    }
    // The environment `one` learns of version 2 within 10 seconds. Then this environment finds a
    // user of the second account only with an ecosystem id.
    scene.service.clock.advance(10);
    let found = logged_in(one, None, BOB, &first.0).await;
    assert_eq!(found.as_ref(), Some(&ann));
    let twin = person(one, second, "carl", "carl@example.com").await;
    assert!(scene.records(OLD_ADDRESS_ITEM).await.is_empty());
    assert_eq!(log_in(one, None, "carl@example.com").await.status, 401);
    let found = logged_in(one, Some(&second.1), "carl@example.com", &second.0).await;
    assert_eq!(found, Some(twin));
}

#[tokio::test]
async fn copying_a_record_can_be_interrupted_and_repeated_and_ignores_stale_records() {
    let scene = Scene::new().await;
    let (app, first, second) = (&scene.one, &scene.first, &scene.second);
    let bob = person(app, first, "bob", BOB).await;
    let twin = person(app, second, "twin", "twin@example.com").await;
    // Stale records: of a deleted user, of a user who was created again, of a user with another
    // address, and of a deleted ecosystem.
    let gone = scene.service.another_ecosystem().await;
    let in_gone = (first.0.clone(), gone.id.to_string());
    for (of, name) in [
        (first, "deleted"),
        (first, "again"),
        (first, "moved"),
        (&in_gone, "lost"),
    ] {
        person(app, of, name, &format!("{name}@example.com")).await;
    }
    let stale = address_items(&scene.service, OLD_ADDRESS_ITEM).await;
    let delete_user = async |name: &str| {
        let event = Event::to("delete-user").header("authorization", &first.0);
        let event = event.parameter("id", &format!("{};{name}", first.1));
        assert_eq!(event.send(app).await.status, 204);
    };
    delete_user("deleted").await;
    delete_user("again").await;
    person(app, first, "again", "another@example.com").await;
    person(app, first, "moved", "elsewhere@example.com").await;
    let event = Event::to("delete-ecosystem").header("authorization", &first.0);
    let event = event.parameter("ecosystemId", gone.id.as_str());
    assert_eq!(event.send(app).await.status, 204);
    // Only old records remain.
    forget(&scene.service, NEW_ADDRESS_ITEM).await;
    for item in stale {
        let call = scene.service.client.put_item();
        let call = call.table_name(&scene.service.tables.identity);
        call.set_item(Some(item)).send().await.unwrap();
    }
    let again = format!("{};again", first.1);
    let moved = format!("{};moved", first.1);
    let mut expected = [&bob, &twin, &again, &moved].map(String::as_str);
    expected.sort_unstable();

    // Each old record is copied once for each pair of an operation and a fault. If the copying
    // makes this operation, the operation gets the fault.
    let keys = old_keys(&scene.service).await;
    for operation in ["GetItem", "BatchGetItem", "TransactWriteItems"] {
        for fault in [Fault::Rubbish, Fault::AnswerLost, Fault::Denied] {
            for key in &keys {
                scene.service.database.fail([(operation, fault.clone())]);
                let _ = copy(app, RIGHT, key).await;
                scene.service.database.take_faults();
            }
        }
    }
    scene.copy_all(app).await;
    assert_eq!(scene.records(NEW_ADDRESS_ITEM).await, expected);
    // A repetition writes nothing.
    let before = address_items(&scene.service, NEW_ADDRESS_ITEM).await;
    scene.copy_all(app).await;
    let operations = scene.service.database.take_operations();
    assert!(
        !operations.contains(&"TransactWriteItems".to_owned()),
        "{operations:?}"
    );
    assert_eq!(
        address_items(&scene.service, NEW_ADDRESS_ITEM).await,
        before
    );

    let two = scene.raise().await;
    for (of, email, user) in [
        (first, BOB, Some(&bob)),
        (second, "twin@example.com", Some(&twin)),
        (first, "another@example.com", Some(&again)),
        (first, "elsewhere@example.com", Some(&moved)),
        (first, "deleted@example.com", None),
        (first, "again@example.com", None),
        (first, "moved@example.com", None),
        (first, "lost@example.com", None),
    ] {
        let found = logged_in(&two, Some(&of.1), email, &of.0).await;
        assert_eq!(found.as_ref(), user, "{email}");
    }
    for _ in 0..2 {
        scene.delete_all(&two).await;
        assert!(scene.records(OLD_ADDRESS_ITEM).await.is_empty());
        assert_eq!(scene.records(NEW_ADDRESS_ITEM).await, expected);
    }
}

#[tokio::test]
async fn users_with_a_password_log_in_before_and_after_the_migration_of_real_data() {
    let fixture = Fixture::copy_of("schema-1");
    let text = |user: &Value, field: &str| user[field].as_str().map(str::to_owned);
    let first = text(&fixture.list("accounts")[0], "id");
    let log_in = async |app: &App, user: &Value, id: Option<&str>| {
        let mut body = json!({ "email": user["email"], "password": user["password"] });
        if let Some(id) = id {
            body["ecosystemId"] = id.into();
        }
        let event = Event::to("log-in-with-password").json_body(&body.to_string());
        event.send(app).await.status
    };
    let mut addresses = 0;
    for migrated in [false, true] {
        let app = fixture.environment();
        if migrated {
            let choose = |_: &[Account], _| Ok(AccountId::parse(first.as_ref().unwrap()).unwrap());
            prepare(&app, RIGHT, choose).await.unwrap();
            finish(&app, RIGHT).await.unwrap();
            clean_up(&app, RIGHT).await.unwrap();
        }
        for user in fixture.list("users") {
            addresses += usize::from(user["exists"] == true && user["email"].is_string());
            if user["email"].is_null() || user["password"].is_null() {
                continue;
            }
            let id = text(user, "id").unwrap();
            let ecosystem = id.split(';').next();
            let found = if user["exists"] == true && user["active"] == true {
                200
            } else {
                401
            };
            assert_eq!(log_in(&app, user, ecosystem).await, found, "{user}");
            // Before the migration, the users of every account are found without an ecosystem id.
            let is_found = !migrated || text(user, "accountId") == first;
            let found = if is_found { found } else { 401 };
            assert_eq!(log_in(&app, user, None).await, found, "{user}");
        }
    }
    // Each address has exactly one record, and it is a new one.
    let scan = embedded::client(fixture.database.clone())
        .scan()
        .table_name(IDENTITY);
    let items = scan.send().await.unwrap().items.unwrap();
    let count = |sort_key: &str| {
        let of = |item: &&Item| item["item"].as_s().is_ok_and(|key| key == sort_key);
        items.iter().filter(of).count()
    };
    assert_eq!(
        (count(OLD_ADDRESS_ITEM), count(NEW_ADDRESS_ITEM)),
        (0, addresses / 2)
    );
}

#[tokio::test]
async fn a_change_of_the_address_during_a_copy_is_kept() {
    for change in [
        json!({ "email": "b@example.com" }),
        json!({ "email": null }),
        json!({ "password": "another one" }),
    ] {
        let scene = Scene::new().await;
        let (app, of) = (&scene.one, &scene.first);
        let bob = person(app, of, "bob", BOB).await;
        forget(&scene.service, NEW_ADDRESS_ITEM).await;
        let [key] = &old_keys(&scene.service).await[..] else {
            panic!("expected one old record");
        };
        // The copy has read everything. Its transaction waits for the `Scan`.
        let held_up = ("TransactWriteItems", Fault::NotBefore("Scan"));
        scene.service.database.fail([held_up]);
        let meanwhile = async {
            scene
                .service
                .database
                .has_arrived("TransactWriteItems")
                .await;
            let answer = put(app, of, "bob", change.clone()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            scene.service.identity_items().await;
        };
        let (copied, ()) = Box::pin(join(copy(app, RIGHT, key), meanwhile)).await;
        copied.unwrap();
        let two = scene.raise().await;
        let email = change.get("email").map_or(Some(BOB), Value::as_str);
        let records = scene.records(NEW_ADDRESS_ITEM).await;
        assert_eq!(records.len(), usize::from(email.is_some()), "{change}");
        for asked in [BOB, "b@example.com"] {
            let expected = (Some(asked) == email).then_some(&bob);
            assert_eq!(
                holder(&two, &of.0, asked).await.as_ref(),
                expected,
                "{change}"
            );
        }
    }
}

#[tokio::test]
async fn a_change_by_the_previous_release_during_a_copy_is_kept() {
    let scene = Scene::new().await;
    let (app, of) = (&scene.one, &scene.first);
    let bob = person(app, of, "bob", BOB).await;
    let eve = person(app, of, "eve", "eve@example.com").await;
    forget(&scene.service, NEW_ADDRESS_ITEM).await;
    let keys = old_keys(&scene.service).await;
    // The transactions of the copies wait for the `Query`.
    let held_up = ("TransactWriteItems", Fault::NotBefore("Query"));
    scene.service.database.fail([held_up.clone(), held_up]);
    let copies = join_all(keys.iter().map(|key| copy(app, RIGHT, key)));
    let meanwhile = async {
        scene
            .service
            .database
            .has_arrived("TransactWriteItems")
            .await;
        for (name, email) in [("bob", "b@example.com"), ("eve", BOB)] {
            let change = put(app, of, name, json!({ "email": email }));
            scene.as_previous_release(change).await;
        }
        scene.service.token_items(&bob).await;
    };
    let (results, ()) = join(copies, meanwhile).await;
    results.into_iter().for_each(Result::unwrap);
    let two = scene.raise().await;
    assert_eq!(holder(&two, &of.0, BOB).await, Some(eve));
}

#[tokio::test]
async fn an_address_that_the_previous_release_stored_late_is_copied_before_its_record_is_deleted() {
    let scene = Scene::new().await;
    let (one, of) = (&scene.one, &scene.first);
    for (schema, name) in [(2, "bob"), (3, "eve")] {
        scene.service.set_schema(schema).await;
        let app = scene.service.environment_of_stored_version().await;
        let email = format!("{name}@example.com");
        let body = json!({ "email": email, "password": PASSWORD });
        scene.as_previous_release(put(one, of, name, body)).await;
        let found = logged_in(&app, Some(&of.1), &email, &of.0).await;
        assert_eq!(found, None, "{name}");
        scene.delete_all(&app).await;
        assert!(scene.records(OLD_ADDRESS_ITEM).await.is_empty());
        let found = logged_in(&app, Some(&of.1), &email, &of.0).await;
        assert_eq!(found, Some(format!("{};{name}", of.1)));
        assert_in_use(&put(&app, of, "other", json!({ "email": email })).await);
    }
}

#[tokio::test]
async fn an_old_record_that_changes_while_it_is_deleted_is_copied_by_the_next_run() {
    let scene = Scene::new().await;
    let (one, of) = (&scene.one, &scene.first);
    person(one, of, "bob", BOB).await;
    assert_eq!(put(one, of, "eve", json!({})).await.status, 201);
    let two = scene.raise().await;
    let bob = format!("{};bob", of.1);
    let held_up = ("DeleteItem", Fault::NotBefore("Query"));
    scene.service.database.fail([held_up]);
    let meanwhile = async {
        scene.service.database.has_arrived("DeleteItem").await;
        for (name, email) in [("bob", "b@example.com"), ("eve", BOB)] {
            let change = put(one, of, name, json!({ "email": email }));
            scene.as_previous_release(change).await;
        }
        scene.service.token_items(&bob).await;
    };
    Box::pin(join(scene.delete_all(&two), meanwhile)).await;
    scene.delete_all(&two).await;
    assert!(scene.records(OLD_ADDRESS_ITEM).await.is_empty());
    let eve = format!("{};eve", of.1);
    assert_eq!(holder(&two, &of.0, BOB).await, Some(eve));
    assert_eq!(holder(&two, &of.0, "b@example.com").await, Some(bob));
}

/// Users, and the addresses from which a random change chooses the new address of a user.
struct Race<'a> {
    scene: &'a Scene,
    users: Vec<(&'a (String, String), String)>,
    emails: Vec<String>,
}

impl Race<'_> {
    /// Lets other tasks run, `steps` times.
    async fn wait(steps: u32) {
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
    }

    /// Sends one request for each user, all at the same time. At random, each request changes or
    /// removes the user's address, and goes to one of the environments `apps`. If `migrates` is
    /// true, all old records are meanwhile copied (if there is one environment) or deleted (if
    /// there are two environments).
    async fn change(&self, rng: &mut StdRng, apps: &[&App], migrates: bool) {
        let mut changes = Vec::new();
        for (of, name) in &self.users {
            let app = apps[rng.random_range(..apps.len())];
            let body = match rng.random_range(..self.emails.len() + 1) {
                0 => json!({ "email": null }),
                n => json!({ "email": self.emails[n - 1] }),
            };
            let steps = rng.random_range(..12);
            changes.push(async move {
                Self::wait(steps).await;
                let answer = put(app, of, name, body).await;
                assert!([200, 409].contains(&answer.status), "{answer:?}");
            });
        }
        changes.shuffle(rng);
        let keys = if migrates {
            old_keys(&self.scene.service).await
        } else {
            Vec::new()
        };
        let steps: Vec<u32> = keys.iter().map(|_| rng.random_range(..8)).collect();
        let copies = join_all(keys.iter().zip(steps).map(async |(key, steps)| {
            Self::wait(steps).await;
            if let [one] = apps {
                copy(one, RIGHT, key).await.unwrap();
            }
        }));
        let deletion = async {
            if let ([_, two], true) = (apps, migrates) {
                self.scene.delete_all(two).await;
            }
        };
        let migration = join(copies, deletion);
        join(join_all(changes), migration).await;
    }

    /// Checks that no two users of an account have the same address. Checks that each environment
    /// finds a user for an address if, and only if, a user has this address.
    async fn check(&self, apps: &[&App]) {
        let mut holders = HashMap::new();
        for (of, name) in &self.users {
            let id = format!("{};{name}", of.1);
            let user = self.scene.service.owner(&id).await;
            if let Some(email) = user.email {
                let key = (&of.0, email.as_given().to_owned());
                let other = holders.insert(key, id);
                assert_eq!(other, None, "two users have the same address");
            }
        }
        for email in &self.emails {
            for of in [&self.scene.first, &self.scene.second] {
                let expected = holders.get(&(&of.0, email.clone()));
                for app in apps {
                    // The users have no e-mail tokens, so the status is always 404. The text says
                    // whether a user has the address.
                    let event = Event::to("get-email-token-value")
                        .header("authorization", &of.0)
                        .query(&format!("email={email}"));
                    let answer = event.send(app).await;
                    let is_found = answer.body == format!("User with email {email} has no token.");
                    assert_eq!(answer.status, 404, "{answer:?}");
                    assert_eq!(is_found, expected.is_some(), "{answer:?} {expected:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn during_a_migration_nobody_gets_the_address_of_another_user_and_no_log_in_fails() {
    let scene = Scene::new().await;
    let (first, second) = (&scene.first, &scene.second);
    let users = [(first, "a"), (first, "b"), (first, "c"), (second, "d")];
    let race = Race {
        scene: &scene,
        users: users.map(|(of, name)| (of, name.to_owned())).to_vec(),
        emails: ["x", "y"]
            .map(|name| format!("{name}@example.com"))
            .to_vec(),
    };
    let bob = person(&scene.one, first, "bob", BOB).await;
    for (of, name) in &race.users {
        assert!(put(&scene.one, of, name, json!({})).await.status < 300);
    }
    let mut rng = StdRng::seed_from_u64(0);
    let all = rounds(200);
    for round in 0..all {
        // In version 1, this release stores the addresses. In about half of the rounds, the new
        // records are then deleted, as if the previous release had stored the addresses.
        scene.service.set_schema(1).await;
        let one = &scene.service.environment_of_stored_version().await;
        race.change(&mut rng, &[one], false).await;
        if rng.random() {
            forget(&scene.service, NEW_ADDRESS_ITEM).await;
        }
        // A few log-ins are enough, because each of them computes a hash.
        let log_ins = async |apps: &[&App]| {
            for app in apps {
                if round % 10 == 0 {
                    let found = logged_in(app, None, BOB, &first.0).await;
                    assert_eq!(found.as_ref(), Some(&bob));
                }
            }
        };
        join(
            Box::pin(race.change(&mut rng, &[one], true)),
            log_ins(&[one]),
        )
        .await;
        scene.copy_all(one).await;

        // The version is raised, and some environments do not know this yet.
        scene.service.set_schema(2).await;
        let two = &scene.service.environment_of_stored_version().await;
        race.check(&[one, two]).await;
        let deletes = rng.random();
        join(
            Box::pin(race.change(&mut rng, &[one, two], deletes)),
            log_ins(&[one, two]),
        )
        .await;
        race.check(&[one, two]).await;
        scene.delete_all(two).await;
        race.check(&[two]).await;
        // The next round starts in version 1. Version 1 needs addresses that are unique in the
        // deployment, and an old record of bob's address.
        for (of, name) in &race.users {
            put(two, of, name, json!({ "email": null })).await;
        }
        scene.service.set_schema(1).await;
        let one = &scene.service.environment_of_stored_version().await;
        for email in ["b@example.com", BOB] {
            let answer = put(one, first, "bob", json!({ "email": email })).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}
