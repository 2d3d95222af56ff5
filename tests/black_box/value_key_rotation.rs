//! Tests of new data keys and of resealing. Resealing seals (encrypts) the values of e-mail tokens
//! again with the newest data key. Meanwhile, other execution environments seal and open values.
//!
//! Rotation loses no value. A value is lost only if its data key is removed too early, or if the
//! stored value is changed. A log-in then replaces the e-mail token.

use std::path::Path;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use futures_util::future::join;
use serde_json::json;
use shared::{
    App,
    domain::error::Error,
    service::{
        access::MayWrite,
        rotation::{Resealed, SETTLED, add, reseal, rewrap},
        sealing::ValueKey,
    },
    store::{
        identity::{PARTITION_KEY, SORT_KEY},
        item::Item,
    },
};
use tempfile::TempDir;
use tests::{Event, Fault, Service};

use crate::{
    create_email_token::{BOB, PASSWORD, with_bob},
    value_key::{
        EVE, assert_lost, assert_unavailable, environment, kept, log_in, made, make, put, read,
        text, token, wrapped,
    },
};

const RIGHT: MayWrite = MayWrite::of_operator();

/// The number of seconds after which an execution environment reads the data keys again before it
/// seals a value.
const READ_AGAIN: u64 = 60;

/// Starts a service with the users bob and eve. Returns the service, bob's id, eve's id, and a
/// directory for key files.
async fn with_bob_and_eve() -> (Service, String, String, TempDir) {
    let (service, bob) = with_bob().await;
    let eve = service.person("eve", EVE, PASSWORD).await;
    (service, bob, eve, tempfile::tempdir().unwrap())
}

/// Returns the id of the data key that sealed the value in this item. The first data key has no id.
fn sealed_with(item: &Item) -> Option<String> {
    let id = item.get("sealed_with")?;
    Some(id.as_s().expect("the id is a string").clone())
}

async fn delete(service: &Service, app: &App, email: &str) {
    let answer = Event::to("delete-email-token")
        .header("authorization", &service.account_token)
        .query(&format!("email={email}"))
        .send(app)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Deletes the item of the data keys.
async fn delete_data_keys(service: &Service) {
    let item = wrapped(service).await.expect("the table has a data key");
    let call = service
        .client
        .delete_item()
        .table_name(&service.tables.identity);
    let call = [PARTITION_KEY, SORT_KEY]
        .into_iter()
        .fold(call, |call, name| call.key(name, item[name].clone()));
    call.send().await.expect("the item is deleted");
}

/// Returns a copy of this item in which one byte of the sealed value is different.
fn changed(item: &Item) -> Item {
    let mut item = item.clone();
    let sealed = item["sealed"]
        .as_b()
        .expect("the sealed value is binary")
        .clone();
    let mut sealed = sealed.into_inner();
    sealed[20] ^= 1;
    let sealed = AttributeValue::B(Blob::new(sealed));
    item.insert("sealed".to_owned(), sealed);
    item
}

fn done(resealed: u64, current: u64, removed: u64) -> Resealed {
    Resealed {
        resealed,
        current,
        removed,
        lost: 0,
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.expect_err("the command fails") {
        Error::Conflict(text) => text.to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Makes the call for which `Fault::NotBefore("DescribeTable")` waits.
async fn arrive(service: &Service) {
    let call = service.client.describe_table();
    let call = call.table_name(&service.tables.identity).send();
    call.await.expect("the table exists");
}

/// Moves the clock forward by the time after which old data keys may be removed.
fn settle(service: &Service) {
    service.clock.advance(SETTLED / 1000);
}

#[tokio::test]
async fn execution_environments_with_different_data_keys_open_each_others_values_in_every_order() {
    // The execution environment `warm` reads the data keys before the new data key is added, and
    // `cold` reads them later.
    for (warm_seals, warm_reads_first, seconds) in [
        (true, true, 1),
        (true, false, 1),
        (false, true, 1),
        (false, false, 1),
        (true, true, READ_AGAIN + 1),
        (true, false, READ_AGAIN + 1),
        (false, true, READ_AGAIN + 1),
        (false, false, READ_AGAIN + 1),
    ] {
        let case = format!("{warm_seals} {warm_reads_first} {seconds}");
        let (service, bob, eve, directory) = with_bob_and_eve().await;
        let file = directory.path().join("key");
        let warm = environment(&service, &file);
        let bobs = made(&service, &warm, BOB).await;
        let id = add(&environment(&service, &file), RIGHT).await.unwrap();
        service.clock.advance(seconds);
        let cold = environment(&service, &file);

        let sealing = if warm_seals { &warm } else { &cold };
        assert_eq!(make(&service, sealing, EVE).await.status, 201, "{case}");
        let key = sealed_with(&kept(&service, &eve).await);
        let still_old = warm_seals && seconds <= READ_AGAIN;
        assert_eq!(key, (!still_old).then_some(id), "{case}");

        let mut order = [&cold, &warm];
        if warm_reads_first {
            order.reverse();
        }
        let mut eves = Vec::new();
        for app in order {
            eves.push(token(&read(&service, app, EVE).await));
            assert_eq!(token(&log_in(app, EVE).await), eves[0], "{case}");
            assert_eq!(token(&read(&service, app, BOB).await), bobs, "{case}");
            assert_eq!(token(&log_in(app, BOB).await), bobs, "{case}");
        }
        assert_eq!(eves[0], eves[1], "{case}");
        assert!(service.is_active(&eves[0]).await, "{case}");
        assert_eq!(sealed_with(&kept(&service, &bob).await), None);
    }
}

#[tokio::test]
async fn until_a_data_key_is_added_the_previous_release_can_read_all_items() {
    let (service, bob, eve, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let app = environment(&service, &file);
    let value = made(&service, &app, BOB).await;
    let names = |item: &Item| {
        let mut names: Vec<_> = item.keys().cloned().collect();
        names.sort();
        names
    };
    // The previous release reads `wrapped`, and ignores attributes that it does not know.
    let keys = wrapped(&service).await.unwrap();
    assert_eq!(names(&keys), ["item", "key_check", "owner", "wrapped"]);
    let record = [
        "created_at",
        "email_account",
        "email_user",
        "epoch",
        "item",
        "owner",
        "revision",
        "scope",
        "sealed",
        "token_id",
        "updated_at",
        "user_id",
    ];
    assert_eq!(names(&kept(&service, &bob).await), record);

    // Even after a data key is added, `wrapped` still contains the first data key.
    add(&app, RIGHT).await.unwrap();
    let after = wrapped(&service).await.unwrap();
    assert_eq!(after["wrapped"], keys["wrapped"]);
    assert_eq!(names(&kept(&service, &bob).await), record);
    let other = environment(&service, &file);
    assert_eq!(token(&read(&service, &other, BOB).await), value);
    made(&service, &other, EVE).await;
    let mut with_id = record.to_vec();
    with_id.insert(9, "sealed_with");
    assert_eq!(names(&kept(&service, &eve).await), with_id);
}

#[tokio::test]
async fn resealing_can_be_interrupted_at_every_write_and_run_again() {
    let (service, bob, eve, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let warm = environment(&service, &file);
    let users = ["ann", "joe", "sue"].map(|name| (name, format!("{name}@example.com")));
    for (name, email) in &users {
        service.person(name, email, PASSWORD).await;
    }
    let emails: Vec<_> = users.iter().map(|(_, email)| email.as_str()).collect();
    let emails = [&[BOB, EVE], emails.as_slice()].concat();
    let mut values = Vec::new();
    for email in &emails {
        values.push(made(&service, &warm, email).await);
    }
    let all = emails.len() as u64;
    let id = add(&environment(&service, &file), RIGHT).await.unwrap();
    settle(&service);

    let mut resealed_before = 0;
    for written in 0..emails.len() {
        // The first `written` writes of this run succeed, and all later writes fail. So the run
        // fails if more than `written` values are left to reseal.
        let succeed = (0..written).map(|_| ("UpdateItem", Fault::None));
        let fail = (written..emails.len()).map(|_| ("UpdateItem", Fault::Denied));
        service.database.fail(succeed.chain(fail));
        let failed = reseal(&environment(&service, &file), RIGHT, true).await;
        let left = emails.len() - resealed_before;
        if written >= left {
            assert!(failed.is_ok(), "{failed:?}");
            break;
        }
        assert!(failed.is_err());
        service.database.take_faults();
        let mut resealed = 0;
        for item in service.identity_items().await {
            resealed += usize::from(item.contains_key("sealed_with"));
        }
        assert_eq!(resealed, resealed_before + written);
        resealed_before = resealed;
        for app in [&warm, &environment(&service, &file)] {
            for (email, value) in emails.iter().zip(&values) {
                assert_eq!(token(&read(&service, app, email).await), *value);
            }
        }
    }
    service.database.take_faults();

    // In the next run, all values are resealed, but the write that removes the old data key fails.
    let service = &service;
    let (again, bob, eve) = (environment(service, &file), &bob, &eve);
    for user in [bob, eve] {
        assert_eq!(sealed_with(&kept(service, user).await), Some(id.clone()));
    }
    add(&again, RIGHT).await.unwrap();
    settle(service);
    service
        .database
        .fail([("TransactWriteItems", Fault::Denied)]);
    assert!(reseal(&again, RIGHT, true).await.is_err());
    let finished = reseal(&again, RIGHT, true).await.unwrap();
    assert_eq!(finished.resealed + finished.current, all);
    assert_eq!((finished.lost, finished.resealed), (0, 0));
    assert!(finished.removed > 0);
    for app in [&warm, &environment(service, &file)] {
        for (email, value) in emails.iter().zip(&values) {
            assert_eq!(token(&read(service, app, email).await), *value);
            assert_eq!(token(&log_in(app, email).await), *value);
        }
    }
}

#[tokio::test]
async fn a_value_is_resealed_only_once_even_if_the_database_response_is_lost() {
    let (service, bob, _, directory) = with_bob_and_eve().await;
    let app = environment(&service, &directory.path().join("key"));
    let value = made(&service, &app, BOB).await;
    let id = add(&app, RIGHT).await.unwrap();
    service.database.fail([("UpdateItem", Fault::AnswerLost)]);
    assert_eq!(reseal(&app, RIGHT, false).await.unwrap(), done(1, 0, 0));
    assert_eq!(sealed_with(&kept(&service, &bob).await), Some(id));
    assert_eq!(token(&read(&service, &app, BOB).await), value);
    assert_eq!(reseal(&app, RIGHT, false).await.unwrap(), done(0, 1, 0));
}

#[tokio::test]
async fn a_log_in_that_reads_the_value_before_and_the_keys_after_resealing_returns_the_same_token()
{
    let (service, _, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let value = made(&service, &environment(&service, &file), BOB).await;
    let operator = environment(&service, &file);
    add(&operator, RIGHT).await.unwrap();
    settle(&service);
    service.database.take_calls();

    // In a log-in, the first `GetItem` reads the e-mail address, and the second one the data keys.
    service.database.fail([
        ("GetItem", Fault::None),
        ("GetItem", Fault::NotBefore("DescribeTable")),
    ]);
    let cold = environment(&service, &file);
    let resealing = async {
        service.database.have_arrived("GetItem", 2).await;
        let resealed = reseal(&operator, RIGHT, true).await;
        arrive(&service).await;
        resealed
    };
    let (logged_in, resealed) = join(log_in(&cold, BOB), resealing).await;
    assert_eq!(resealed.unwrap(), done(1, 0, 1));
    assert_eq!(token(&logged_in), value);
    assert!(service.is_active(&value).await);
    // One transaction removed the old data key. The transaction of the log-in changed nothing,
    // because its condition was false.
    let operations = service.database.take_operations();
    let transactions = operations.iter().filter(|one| *one == "TransactWriteItems");
    assert_eq!(transactions.count(), 2);
}

#[tokio::test]
async fn resealing_keeps_changes_that_other_requests_make_at_the_same_time() {
    let (service, bob, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let warm = environment(&service, &file);
    made(&service, &warm, BOB).await;
    let operator = environment(&service, &file);
    let id = add(&operator, RIGHT).await.unwrap();
    let old = kept(&service, &bob).await;

    // After the resealing has read all items, another request replaces the token. This request
    // still seals with the old data key.
    service.database.take_calls();
    service
        .database
        .fail([("UpdateItem", Fault::NotBefore("DescribeTable"))]);
    let replacing = async {
        service.database.has_arrived("UpdateItem").await;
        delete(&service, &warm, BOB).await;
        let value = made(&service, &warm, BOB).await;
        let new = kept(&service, &bob).await;
        arrive(&service).await;
        (value, new)
    };
    let (resealed, (value, new)) = Box::pin(join(reseal(&operator, RIGHT, false), replacing)).await;
    assert_eq!(resealed.unwrap(), done(1, 0, 0));
    assert_ne!(new["token_id"], old["token_id"]);
    assert_eq!(sealed_with(&new), None);
    let resealed = kept(&service, &bob).await;
    assert_eq!(resealed["token_id"], new["token_id"]);
    assert_eq!(sealed_with(&resealed), Some(id));
    for app in [&warm, &operator] {
        assert_eq!(token(&read(&service, app, BOB).await), value);
    }
    assert!(service.is_active(&value).await);
}

#[tokio::test]
async fn an_old_data_key_is_removed_only_when_no_execution_environment_can_seal_with_it() {
    let (service, bob, eve, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let (warm, idle) = (environment(&service, &file), environment(&service, &file));
    let bobs = made(&service, &warm, BOB).await;
    assert_eq!(token(&log_in(&idle, BOB).await), bobs);
    let operator = environment(&service, &file);
    let id = add(&operator, RIGHT).await.unwrap();
    let before = wrapped(&service).await;

    // Resealing is possible at once, but `warm` may still seal new values with the old data key.
    assert_eq!(
        reseal(&operator, RIGHT, false).await.unwrap(),
        done(1, 0, 0)
    );
    service.clock.advance(READ_AGAIN - 1);
    let eves = made(&service, &warm, EVE).await;
    assert_eq!(sealed_with(&kept(&service, &eve).await), None);

    service.clock.advance(SETTLED / 1000 - READ_AGAIN);
    assert!(refusal(reseal(&operator, RIGHT, true).await).contains("10 minutes"));
    assert_eq!(sealed_with(&kept(&service, &eve).await), None);
    assert_eq!(wrapped(&service).await, before);
    service.clock.advance(1);
    assert_eq!(reseal(&operator, RIGHT, true).await.unwrap(), done(1, 1, 1));
    assert!(!wrapped(&service).await.unwrap().contains_key("wrapped"));
    // No old data key is left.
    assert_eq!(reseal(&operator, RIGHT, true).await.unwrap(), done(0, 2, 0));

    // `idle` has handled no request since the data key was added, so it reads the data keys before
    // it seals.
    delete(&service, &idle, BOB).await;
    let bobs = made(&service, &idle, BOB).await;
    assert_eq!(sealed_with(&kept(&service, &bob).await), Some(id));
    for app in [&warm, &idle, &environment(&service, &file)] {
        assert_eq!(token(&read(&service, app, EVE).await), eves);
        assert_eq!(token(&log_in(app, BOB).await), bobs);
    }
}

#[tokio::test]
async fn a_data_key_is_added_only_with_the_correct_key_file_and_no_data_key_is_lost() {
    let (service, _, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let app = environment(&service, &file);
    assert!(refusal(add(&app, RIGHT).await).contains("there is no data key"));
    assert!(refusal(reseal(&app, RIGHT, false).await).contains("there is no data key"));
    assert_eq!(wrapped(&service).await, None);
    let value = made(&service, &app, BOB).await;
    let before = wrapped(&service).await;

    std::fs::write(directory.path().join("wrong"), "0".repeat(64)).unwrap();
    let wrong = environment(&service, &directory.path().join("wrong"));
    assert!(refusal(add(&wrong, RIGHT).await).contains("not the value key"));
    let none = directory.path().join("none");
    add(&environment(&service, &none), RIGHT).await.unwrap_err();
    assert!(!none.exists());
    assert_eq!(wrapped(&service).await, before);

    // Two concurrent commands find the same data keys. Only one of the commands succeeds.
    let both = || {
        let write = "TransactWriteItems";
        (write, Fault::NotBeforeAll(write, 2))
    };
    service.database.take_calls();
    service.database.fail([both(), both()]);
    let apps = [environment(&service, &file), environment(&service, &file)];
    let [first, second] = apps.each_ref().map(|app| Box::pin(add(app, RIGHT)));
    let (first, second) = join(first, second).await;
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
    // A third command adds another data key.
    let third = add(&app, RIGHT).await.unwrap();
    let keys = wrapped(&service).await.unwrap();
    let keys = keys["keys"].as_l().unwrap();
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[2].as_m().unwrap()["id"], text(&third));
    assert_eq!(
        token(&read(&service, &environment(&service, &file), BOB).await),
        value
    );
}

#[tokio::test]
async fn after_rewrapping_both_key_files_work_until_the_old_data_keys_are_removed() {
    let (service, bob, eve, directory) = with_bob_and_eve().await;
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    let before = environment(&service, &old);
    let bobs = made(&service, &before, BOB).await;
    assert_unavailable(&read(&service, &environment(&service, &new), BOB).await);
    let to = |file: &Path| ValueKey::file(file.to_owned());
    assert_eq!(rewrap(&before, RIGHT, &to(&new)).await.unwrap(), 1);
    assert_eq!(rewrap(&before, RIGHT, &to(&new)).await.unwrap(), 0);
    assert_eq!(rewrap(&before, RIGHT, &to(&old)).await.unwrap(), 0);

    for file in [&old, &new] {
        let app = environment(&service, file);
        assert_eq!(token(&read(&service, &app, BOB).await), bobs);
    }
    let eves = made(&service, &environment(&service, &old), EVE).await;
    let after = environment(&service, &new);
    assert_eq!(token(&log_in(&after, EVE).await), eves);

    // From here on, the deployment uses only the new key file.
    let id = add(&after, RIGHT).await.unwrap();
    settle(&service);
    assert_eq!(reseal(&after, RIGHT, true).await.unwrap(), done(2, 0, 1));
    for user in [&bob, &eve] {
        assert_eq!(sealed_with(&kept(&service, user).await), Some(id.clone()));
    }
    assert_eq!(token(&log_in(&after, BOB).await), bobs);
    assert_unavailable(&read(&service, &environment(&service, &old), BOB).await);
    assert_unavailable(&log_in(&environment(&service, &old), BOB).await);
    assert_eq!(token(&log_in(&after, BOB).await), bobs);
}

#[tokio::test]
async fn a_log_in_replaces_a_token_whose_value_is_lost_but_keeps_its_scope_and_expiration_date() {
    let (service, bob, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let app = environment(&service, &file);
    let date = 1_000 * (5_000_000_000_u64);
    let limited = || {
        Event::to("create-email-token")
            .header("authorization", &service.account_token)
            .json_body(
                &json!({ "email": BOB, "write": false, "expiration_date": date }).to_string(),
            )
    };
    for key_is_gone in [false, true] {
        assert_eq!(limited().send(&app).await.status, 201);
        let old = token(&read(&service, &app, BOB).await);
        if key_is_gone {
            delete_data_keys(&service).await;
        } else {
            let item = kept(&service, &bob).await;
            put(&service, changed(&item)).await;
        }
        let apps = [environment(&service, &file), environment(&service, &file)];
        // If the data key was deleted, `app` still has it in memory. So the test then uses only new
        // execution environments.
        let apps = if key_is_gone {
            apps.iter().collect()
        } else {
            vec![&app, &apps[0]]
        };
        for app in &apps {
            assert_lost(&read(&service, app, BOB).await);
        }
        assert!(service.is_active(&old).await, "{key_is_gone}");

        let new = token(&log_in(apps[0], BOB).await);
        assert_ne!(new, old);
        assert!(!service.is_active(&old).await);
        assert!(service.is_active(&new).await);
        let record = kept(&service, &bob).await;
        assert_eq!(
            record["expiration_date"],
            AttributeValue::N(date.to_string())
        );
        assert_eq!(record["scope"], text("read"));
        for app in apps {
            assert_eq!(token(&read(&service, app, BOB).await), new);
            assert_eq!(token(&log_in(app, BOB).await), new);
        }
        let last = environment(&service, &file);
        delete(&service, &last, BOB).await;
    }
}

#[tokio::test]
async fn eight_log_ins_that_replace_a_lost_value_at_the_same_time_return_one_token() {
    let (service, bob, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let old = made(&service, &environment(&service, &file), BOB).await;
    let item = kept(&service, &bob).await;
    put(&service, changed(&item)).await;
    let apps: Vec<_> = (0..8).map(|_| environment(&service, &file)).collect();
    let answers = futures_util::future::join_all(apps.iter().map(|app| log_in(app, BOB))).await;
    let new = token(&answers[0]);
    assert!(answers.iter().all(|answer| token(answer) == new));
    assert_ne!(new, old);
    assert_eq!(service.token_items(&bob).await.len(), 1);
}

#[tokio::test]
async fn no_token_is_replaced_while_the_data_keys_or_the_key_file_are_unavailable() {
    let (service, bob, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let warm = environment(&service, &file);
    let value = made(&service, &warm, BOB).await;
    let operator = environment(&service, &file);
    add(&operator, RIGHT).await.unwrap();
    assert_eq!(
        reseal(&operator, RIGHT, false).await.unwrap(),
        done(1, 0, 0)
    );
    let record = kept(&service, &bob).await;

    // `warm` does not know the new data key, and cannot read the data keys: the second `GetItem` of
    // a log-in reads them, and this `GetItem` fails.
    for fault in [Fault::Denied, Fault::Rubbish] {
        let faults = [("GetItem", Fault::None), ("GetItem", fault.clone())];
        service.database.fail(faults);
        let answer = log_in(&warm, BOB).await;
        let status = if matches!(fault, Fault::Denied) {
            500
        } else {
            503
        };
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(kept(&service, &bob).await, record);
    }
    // The key file is not available.
    let away = directory.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    for app in [&warm, &environment(&service, &file)] {
        assert_unavailable(&log_in(app, BOB).await);
        assert_unavailable(&read(&service, app, BOB).await);
        assert_eq!(kept(&service, &bob).await, record);
    }
    std::fs::rename(&away, &file).unwrap();
    for app in [&warm, &environment(&service, &file)] {
        assert_eq!(token(&log_in(app, BOB).await), value);
    }
}

#[tokio::test]
async fn resealing_does_not_change_lost_values_but_counts_them() {
    let (service, bob, eve, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let app = environment(&service, &file);
    made(&service, &app, BOB).await;
    let eves = made(&service, &app, EVE).await;
    let broken = changed(&kept(&service, &bob).await);
    put(&service, broken.clone()).await;
    let id = add(&app, RIGHT).await.unwrap();
    settle(&service);
    let expected = Resealed {
        lost: 1,
        ..done(1, 0, 1)
    };
    assert_eq!(reseal(&app, RIGHT, true).await.unwrap(), expected);
    assert_eq!(kept(&service, &bob).await, broken);
    assert_eq!(sealed_with(&kept(&service, &eve).await), Some(id));
    assert_eq!(token(&read(&service, &app, EVE).await), eves);
}

#[tokio::test]
async fn no_token_is_replaced_if_the_unwrapped_data_key_is_not_the_expected_data_key() {
    let (service, bob, _, directory) = with_bob_and_eve().await;
    let file = directory.path().join("key");
    let app = environment(&service, &file);
    let value = made(&service, &app, BOB).await;
    let (keys, record) = (wrapped(&service).await.unwrap(), kept(&service, &bob).await);
    // Replace the wrapped data key with another data key that the same key file wrapped. It can be
    // unwrapped, but it does not match `key_check`.
    delete_data_keys(&service).await;
    made(&service, &environment(&service, &file), EVE).await;
    let mut mixed = keys.clone();
    let other = wrapped(&service).await.unwrap();
    mixed.insert("wrapped".to_owned(), other["wrapped"].clone());
    put(&service, mixed).await;
    let cold = environment(&service, &file);
    assert_unavailable(&log_in(&cold, BOB).await);
    assert_unavailable(&read(&service, &cold, BOB).await);
    assert_eq!(kept(&service, &bob).await, record);
    put(&service, keys).await;
    let cold = environment(&service, &file);
    assert_eq!(token(&log_in(&cold, BOB).await), value);
}
