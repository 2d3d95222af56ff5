//! Tests of the data key that seals (encrypts) the values of e-mail tokens. All execution
//! environments of a deployment share one data key. A file contains another key, which wraps
//! (encrypts) the data key. The table contains the wrapped data key. If the file contains a wrong
//! key, the service does not create another data key.

use std::{fs, path::Path};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use serde_json::json;
use shared::{
    App,
    service::sealing::ValueKey,
    store::{
        identity::{PARTITION_KEY, SORT_KEY},
        item::Item,
    },
};
use tests::{Answer, Event, Fault, Service};

use crate::create_email_token::{BOB, PASSWORD, datum, with_bob};

pub(crate) const EVE: &str = "eve@example.com";

/// Returns a new execution environment that unwraps the data key with the key in this file.
pub(crate) fn environment(service: &Service, file: &Path) -> App {
    let key = ValueKey::file(file.to_owned());
    service.another_environment().with_value_key(Some(key))
}

pub(crate) async fn make(service: &Service, app: &App, email: &str) -> Answer {
    Event::to("create-email-token")
        .header("authorization", &service.account_token)
        .json_body(&json!({ "email": email }).to_string())
        .send(app)
        .await
}

pub(crate) async fn read(service: &Service, app: &App, email: &str) -> Answer {
    Event::to("get-email-token-value")
        .header("authorization", &service.account_token)
        .query(&format!("email={email}"))
        .send(app)
        .await
}

pub(crate) async fn log_in(app: &App, email: &str) -> Answer {
    Event::to("log-in-with-password")
        .json_body(&json!({ "email": email, "password": PASSWORD }).to_string())
        .send(app)
        .await
}

pub(crate) fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    datum(answer)["token"]
        .as_str()
        .expect("the response contains a token")
        .to_owned()
}

/// Creates an e-mail token and returns its value.
pub(crate) async fn made(service: &Service, app: &App, email: &str) -> String {
    let answer = make(service, app, email).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    token(&read(service, app, email).await)
}

/// Asserts that the response is a 503 with a `Retry-After` header and no other details.
pub(crate) fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(
        answer.body,
        r#"{"errorType":"ServiceUnavailable","errors":[{"message":"the service is not available, try again"}]}"#
    );
    let headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json"),
            ("retry-after", "1"),
            ("x-request-id", "from-lambda"),
        ]
    );
}

/// Asserts that the response is a 409 which says that the value can never be decrypted.
pub(crate) fn assert_lost(answer: &Answer) {
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(
        answer.body,
        r#"{"errorType":"Conflict","errors":[{"message":"the value cannot be decrypted; delete the token, or log in to get another one"}]}"#
    );
}

/// Returns the stored item of the wrapped data keys.
pub(crate) async fn wrapped(service: &Service) -> Option<Item> {
    let items = service.identity_items().await.into_iter();
    let is_wrapped = |item: &Item| item[SORT_KEY] == text("value-key");
    let mut found: Vec<_> = items.filter(is_wrapped).collect();
    assert!(found.len() < 2, "the table has at most one data key");
    found.pop()
}

/// Returns the stored record of a user's e-mail token.
pub(crate) async fn kept(service: &Service, user: &str) -> Item {
    let items = service.identity_items().await;
    let is_kept = |item: &Item| {
        item[SORT_KEY] == text("email-token") && item.get("user_id") == Some(&text(user))
    };
    let found = items.into_iter().find(is_kept);
    found.expect("the user has an e-mail token")
}

pub(crate) async fn put(service: &Service, item: Item) {
    let put = service
        .client
        .put_item()
        .table_name(&service.tables.identity);
    let put = put.set_item(Some(item)).send().await;
    put.expect("the item is written");
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Returns whether the bytes contain a key, raw or in hex. The parameter `hex` is the key in hex.
fn hold(bytes: &[u8], hex: &str) -> bool {
    let digits = hex.as_bytes().chunks(2);
    let byte =
        |digits| u8::from_str_radix(str::from_utf8(digits).expect("the digits are ASCII"), 16);
    let key: Vec<_> = digits
        .map(|digits| byte(digits).expect("the text is hexadecimal"))
        .collect();
    let is_in = |key: &[u8]| bytes.windows(key.len()).any(|part| part == key);
    is_in(&key) || is_in(hex.as_bytes())
}

#[tokio::test]
async fn all_execution_environments_with_the_same_key_file_can_open_a_value() {
    let (service, _) = with_bob().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let value = made(&service, &environment(&service, &file), BOB).await;
    assert!(service.is_active(&value).await);
    let other = environment(&service, &file);
    assert_eq!(token(&read(&service, &other, BOB).await), value);
    assert_eq!(
        token(&log_in(&environment(&service, &file), BOB).await),
        value
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_key_file_contains_one_key_and_is_readable_only_by_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    let (service, _) = with_bob().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let value = made(&service, &environment(&service, &file), BOB).await;
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap();
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    assert!(key.len() == 64 && key.bytes().all(is_hex));
    assert!(!hold(value.as_bytes(), &key));
    // The directory contains no other file.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_key_file_cannot_restore_a_lost_data_key_and_the_table_does_not_contain_the_files_key() {
    let (service, bob) = with_bob().await;
    service.person("eve", EVE, PASSWORD).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let value = made(&service, &environment(&service, &file), BOB).await;
    let key = fs::read_to_string(&file).unwrap();
    let first = wrapped(&service).await.expect("the table has a data key");
    for item in [&first, &kept(&service, &bob).await] {
        for attribute in item.values() {
            assert!(match attribute {
                AttributeValue::B(bytes) => !hold(bytes.as_ref(), &key),
                AttributeValue::S(text) => !hold(text.as_bytes(), &key),
                _ => true,
            });
        }
    }

    // If the wrapped data key is lost, a new data key is created. The file cannot restore the lost
    // data key.
    let delete = service
        .client
        .delete_item()
        .table_name(&service.tables.identity);
    let delete = [PARTITION_KEY, SORT_KEY]
        .into_iter()
        .fold(delete, |delete, name| delete.key(name, first[name].clone()));
    delete.send().await.expect("the item is deleted");
    let other = environment(&service, &file);
    made(&service, &other, EVE).await;
    assert_ne!(wrapped(&service).await, Some(first.clone()));
    assert_lost(&read(&service, &other, BOB).await);
    assert_eq!(fs::read_to_string(&file).unwrap(), key);

    put(&service, first).await;
    let value_again = token(&read(&service, &environment(&service, &file), BOB).await);
    assert_eq!(value_again, value);
}

#[tokio::test]
async fn execution_environments_that_create_a_data_key_concurrently_all_use_the_same_data_key() {
    let service = Service::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let emails: Vec<_> = (0..8).map(|n| format!("user{n}@example.com")).collect();
    for (n, email) in emails.iter().enumerate() {
        service.person(&format!("user{n}"), email, PASSWORD).await;
    }
    let environments: Vec<_> = emails
        .iter()
        .map(|_| environment(&service, &file))
        .collect();

    // No execution environment stores a data key until all eight try to store one. So all eight
    // execution environments find no data key.
    let all = || ("PutItem", Fault::NotBeforeAll("PutItem", 8));
    service.database.fail((0..8).map(|_| all()));
    let pairs = environments.iter().zip(&emails);
    let answers = join_all(pairs.map(|(app, email)| make(&service, app, email))).await;
    for answer in &answers {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let calls = service.database.take_calls();
    let puts = calls.iter().filter(|call| call.operation == "PutItem");
    assert_eq!(puts.count(), 8);

    let late = environment(&service, &file);
    for email in &emails {
        let value = token(&read(&service, &late, email).await);
        assert!(service.is_active(&value).await);
        for app in &environments {
            assert_eq!(token(&read(&service, app, email).await), value);
        }
    }
}

#[tokio::test]
async fn a_data_key_is_used_even_if_the_database_response_to_its_insert_was_lost() {
    let (service, _) = with_bob().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    service.database.fail([("PutItem", Fault::AnswerLost)]);
    let value = made(&service, &environment(&service, &file), BOB).await;
    let calls = service.database.take_calls();
    let puts = calls.iter().filter(|call| call.operation == "PutItem");
    assert_eq!(puts.count(), 2);
    let other = environment(&service, &file);
    assert_eq!(token(&read(&service, &other, BOB).await), value);
}

#[tokio::test]
async fn with_a_wrong_key_file_no_value_is_read_no_token_is_created_and_no_key_is_lost() {
    let (service, _) = with_bob().await;
    service.person("eve", EVE, PASSWORD).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let before = environment(&service, &file);
    let value = made(&service, &before, BOB).await;
    let key = fs::read_to_string(&file).unwrap();
    let (data_key, tokens) = (wrapped(&service).await, service.count_tokens().await);

    let mut other = key.clone().into_bytes();
    other[0] = if other[0] == b'0' { b'1' } else { b'0' };
    let (garbled, long) = ("g".repeat(64), format!("{key}00"));
    let wrong: [&[u8]; 7] = [
        &other,
        &key.as_bytes()[..63],
        &key.as_bytes()[..32],
        garbled.as_bytes(),
        long.as_bytes(),
        b"\xff\xfe",
        b"",
    ];
    for wrong in wrong {
        fs::write(&file, wrong).unwrap();
        let app = environment(&service, &file);
        app.warm_up_value_key().await;
        assert_unavailable(&read(&service, &app, BOB).await);
        assert_unavailable(&log_in(&app, BOB).await);
        assert_unavailable(&make(&service, &app, EVE).await);
        assert_unavailable(&log_in(&app, EVE).await);
        assert_eq!(fs::read(&file).unwrap(), wrong);
        // An execution environment that has already unwrapped the data key does not need the file.
        assert_eq!(token(&read(&service, &before, BOB).await), value);

        fs::write(&file, &key).unwrap();
        for app in [&environment(&service, &file), &app] {
            assert_eq!(token(&read(&service, app, BOB).await), value);
        }
    }
    assert_eq!(wrapped(&service).await, data_key);
    assert_eq!(service.count_tokens().await, tokens);
}

#[tokio::test]
async fn a_lost_key_file_is_not_created_again_if_there_is_a_data_key() {
    let (service, _) = with_bob().await;
    service.person("eve", EVE, PASSWORD).await;
    let directory = tempfile::tempdir().unwrap();
    let (file, away) = (directory.path().join("key"), directory.path().join("away"));
    let value = made(&service, &environment(&service, &file), BOB).await;
    let data_key = wrapped(&service).await;

    fs::rename(&file, &away).unwrap();
    let app = environment(&service, &file);
    app.warm_up_value_key().await;
    assert_unavailable(&read(&service, &app, BOB).await);
    assert_unavailable(&make(&service, &app, EVE).await);
    assert_unavailable(&log_in(&app, BOB).await);
    assert!(!file.exists());

    fs::rename(&away, &file).unwrap();
    assert_eq!(wrapped(&service).await, data_key);
    for app in [&environment(&service, &file), &app] {
        assert_eq!(token(&read(&service, app, BOB).await), value);
    }
}

#[tokio::test]
async fn no_data_key_is_created_if_the_key_file_is_invalid_or_cannot_be_created() {
    let (service, _) = with_bob().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, "no key").unwrap();
    let nowhere = directory.path().join("nowhere/key");
    for file in [file.as_path(), &nowhere, directory.path()] {
        let app = environment(&service, file);
        app.warm_up_value_key().await;
        assert_unavailable(&make(&service, &app, BOB).await);
        assert_eq!(wrapped(&service).await, None);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "no key");
    assert_eq!(service.count_tokens().await, 1);
}

#[tokio::test]
async fn a_sealed_value_cannot_be_opened_in_another_users_record_or_for_another_token() {
    let (service, bob) = with_bob().await;
    let eve = service.person("eve", EVE, PASSWORD).await;
    let directory = tempfile::tempdir().unwrap();
    let app = environment(&service, &directory.path().join("key"));
    let bobs = made(&service, &app, BOB).await;
    let eves = made(&service, &app, EVE).await;
    let (bobs_item, eves_item) = (kept(&service, &bob).await, kept(&service, &eve).await);

    let with = |item: &Item, name: &str, value: &AttributeValue| {
        let mut item = item.clone();
        item.insert(name.to_owned(), value.clone());
        item
    };
    let moved = with(&eves_item, "sealed", &bobs_item["sealed"]);
    put(&service, moved.clone()).await;
    assert_lost(&read(&service, &app, EVE).await);
    // The value belongs to bob's token. It cannot be opened even if eve's record contains the id of
    // that token.
    put(&service, with(&moved, "token_id", &bobs_item["token_id"])).await;
    assert_lost(&read(&service, &app, EVE).await);
    // A log-in of eve returns a new token, which is not bob's token.
    let new = token(&log_in(&app, EVE).await);
    assert!(new != bobs && new != eves);
    assert_eq!(token(&read(&service, &app, EVE).await), new);

    put(&service, eves_item).await;
    assert_eq!(token(&read(&service, &app, EVE).await), eves);
    assert_eq!(token(&read(&service, &app, BOB).await), bobs);

    // The value of a deleted token of the same user cannot be opened for a new token.
    let delete = Event::to("delete-email-token")
        .header("authorization", &service.account_token)
        .query(&format!("email={BOB}"));
    assert_eq!(delete.send(&app).await.status, 200);
    made(&service, &app, BOB).await;
    let new = kept(&service, &bob).await;
    put(&service, with(&new, "sealed", &bobs_item["sealed"])).await;
    assert_lost(&read(&service, &app, BOB).await);
}

#[tokio::test]
async fn a_record_that_is_copied_to_another_user_does_not_reveal_its_value() {
    let (service, bob) = with_bob().await;
    let eve = service.person("eve", EVE, PASSWORD).await;
    let directory = tempfile::tempdir().unwrap();
    let app = environment(&service, &directory.path().join("key"));
    let bobs = made(&service, &app, BOB).await;
    made(&service, &app, EVE).await;

    // The copy gets eve's partition key and epoch, so that the copy looks like eve's record.
    let (mut moved, eves) = (kept(&service, &bob).await, kept(&service, &eve).await);
    for name in [PARTITION_KEY, "epoch"] {
        moved.insert(name.to_owned(), eves[name].clone());
    }
    put(&service, moved).await;
    assert_lost(&read(&service, &app, EVE).await);
    let new = token(&log_in(&app, EVE).await);
    assert_ne!(new, bobs);
    assert_eq!(token(&read(&service, &app, EVE).await), new);
    assert_eq!(token(&read(&service, &app, BOB).await), bobs);
}

#[tokio::test]
async fn an_execution_environment_reads_the_data_key_only_once() {
    let (service, _) = with_bob().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let calls = || -> Vec<String> {
        let calls = service.database.take_calls().into_iter();
        let of_key = calls.filter(|call| call.request.to_string().contains(r#""value-key""#));
        of_key.map(|call| call.operation).collect()
    };

    let first = environment(&service, &file);
    make(&service, &first, BOB).await;
    assert_eq!(calls(), ["GetItem", "PutItem"]);
    for _ in 0..3 {
        assert_eq!(read(&service, &first, BOB).await.status, 200);
        assert_eq!(log_in(&first, BOB).await.status, 200);
    }
    assert_eq!(calls(), [""; 0]);

    // Of many concurrent requests, only one reads the data key.
    let second = environment(&service, &file);
    let reads = (0..16).map(|_| read(&service, &second, BOB));
    assert!(join_all(reads).await.iter().all(|read| read.status == 200));
    assert_eq!(calls(), ["GetItem"]);

    // `warm_up_value_key` reads the data key before the first request.
    let third = environment(&service, &file);
    third.warm_up_value_key().await;
    assert_eq!(calls(), ["GetItem"]);
    for _ in 0..3 {
        assert_eq!(read(&service, &third, BOB).await.status, 200);
        assert_eq!(log_in(&third, BOB).await.status, 200);
    }
    assert_eq!(calls(), [""; 0]);
}
