//! Runs `tokenry migrate` as a process, against a local server that implements DynamoDB.

mod common;

use std::process::{Command, Output};

use dynoxide::Database;
use serde_json::{Value, json};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/schema-1");

/// Runs the command against an endpoint. Returns its exit code and its lines of output.
async fn tokenry(endpoint: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command
        .args(arguments)
        .env("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("TOKENRY_IDENTITY_TABLE", "tokenry-identity");
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output
        .expect("the task does not panic")
        .expect("the command runs");
    let text = if status.success() { stdout } else { stderr };
    let text = String::from_utf8(text).expect("the output is UTF-8");
    (status.code(), text.lines().map(str::to_owned).collect())
}

async fn migrate(endpoint: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    tokenry(endpoint, &[&["migrate"], arguments].concat()).await
}

/// Serves a copy of the fixture. Returns the URL, and the directory of the copy.
async fn served() -> (String, tempfile::TempDir) {
    served_copy(FIXTURE).await
}

/// Serves a copy of a fixture. Returns the URL, and the directory of the copy.
async fn served_copy(fixture: &str) -> (String, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory can be created");
    for file in ["database.sqlite", "value-key"] {
        let copy = directory.path().join(file);
        std::fs::copy(format!("{fixture}/{file}"), copy).expect("the fixture can be copied");
    }
    let file = directory.path().join("database.sqlite");
    let database = Database::new(file.to_str().expect("the path is UTF-8"));
    let endpoint = common::serve(database.expect("the database can be opened")).await;
    (endpoint, directory)
}

fn json_of(lines: &[String]) -> Vec<Value> {
    let json = |line: &String| serde_json::from_str(line).expect("the line is JSON");
    lines.iter().map(json).collect()
}

#[tokio::test]
async fn a_migration_prints_a_new_token_for_each_account_once_and_then_the_result() {
    let (endpoint, directory) = served().await;
    let contents = std::fs::read(format!("{FIXTURE}/contents.json")).expect("the list exists");
    let contents: Value = serde_json::from_slice(&contents).expect("the list is JSON");
    let account = |n: usize| {
        contents["accounts"][n]["id"]
            .as_str()
            .expect("the id is a string")
    };

    let (code, lines) = migrate(&endpoint, &["--prepare"]).await;
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].contains("--first-account"), "{lines:?}");
    let (code, lines) = migrate(&endpoint, &["--first-account", "bob"]).await;
    assert_eq!(code, Some(2), "{lines:?}");

    let prepare = ["--prepare", "--json", "--first-account", account(1)];
    let (code, lines) = migrate(&endpoint, &prepare).await;
    assert_eq!(code, Some(0), "{lines:?}");
    let printed = json_of(&lines);
    let mut ids: Vec<_> = printed[..2]
        .iter()
        .filter_map(|line| line["accountId"].as_str())
        .collect();
    ids.sort_unstable();
    let mut accounts = [account(0), account(1)];
    accounts.sort_unstable();
    assert_eq!(ids, accounts);
    assert_eq!(printed[2..], [json!({ "prepared": true })]);

    // The last run with `--prepare` printed all new tokens, so this run prints none. This run
    // fails, because no e-mail token can get a new value without the value key.
    let (code, lines) = migrate(&endpoint, &["--json"]).await;
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    let key = format!("file:{}/value-key", directory.path().display());
    let (code, lines) = migrate(&endpoint, &["--json", "--value-key", &key]).await;
    assert_eq!(code, Some(0), "{lines:?}");
    let [result] = &json_of(&lines)[..] else {
        panic!("more than the result was printed: {lines:?}");
    };
    assert_eq!(result["schema"], 3);
    assert!(result["endedTokens"].as_u64() > Some(10), "{result}");
    assert!(result["replacedEmailTokens"].as_u64() > Some(3), "{result}");
    let again = json!({ "schema": 3, "replacedEmailTokens": 0, "endedTokens": 0 });
    let (_, lines) = migrate(&endpoint, &["--json", "--value-key", &key]).await;
    assert_eq!(json_of(&lines), [again]);
}

#[tokio::test]
async fn a_tag_key_can_be_added_only_after_the_first_step_of_the_migration() {
    let (endpoint, _directory) = served().await;
    let add = async || tokenry(&endpoint, &["tag-key", "add", "--json"]).await;
    let (code, lines) = add().await;
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].contains("tokenry migrate"), "{lines:?}");
    let contents = std::fs::read(format!("{FIXTURE}/contents.json")).expect("the list exists");
    let contents: Value = serde_json::from_slice(&contents).expect("the list is JSON");
    let account = contents["accounts"][0]["id"]
        .as_str()
        .expect("the id is a string");
    let prepare = ["--prepare", "--json", "--first-account", account];
    assert_eq!(migrate(&endpoint, &prepare).await.0, Some(0));
    let (code, lines) = add().await;
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(json_of(&lines), [json!({ "tagKeyId": 2 })]);
}

#[tokio::test]
async fn an_export_contains_what_is_stored_about_a_user_and_no_secret() {
    let fixture = FIXTURE.replace("schema-1", "schema-2");
    let (endpoint, directory) = served_copy(&fixture).await;
    let contents = std::fs::read(format!("{fixture}/contents.json")).expect("the list exists");
    let contents: Value = serde_json::from_slice(&contents).expect("the list is JSON");
    let key = format!("file:{}/value-key", directory.path().display());
    let (code, lines) = migrate(&endpoint, &["--json", "--value-key", &key]).await;
    assert_eq!(code, Some(0), "{lines:?}");
    let list = |name: &str| {
        contents[name]
            .as_array()
            .expect("the field is a list")
            .clone()
    };
    let users = list("users");
    let named = |name: &str| {
        let id = |user: &&Value| user["id"].as_str().is_some_and(|id| id.ends_with(name));
        users.iter().find(id).expect("the user exists")
    };
    for (name, tokens) in [(";ben", 1), (";cleo", 1), (";ada", 7)] {
        let user = named(name);
        let id = user["id"].as_str().expect("the id is a string");
        let (code, lines) = tokenry(&endpoint, &["user", "export", id]).await;
        assert_eq!(code, Some(0), "{lines:?}");
        let text = lines.join("\n");
        let export: Value = serde_json::from_str(&text).expect("the export is JSON");
        assert_eq!(export["user"]["id"], id);
        assert_eq!(export["listEntry"]["listed"], id);
        assert_eq!(export["user"]["email"]["given"], user["email"], "{export}");
        let exported = export["tokens"].as_array().expect("the field is a list");
        assert!(exported.len() >= tokens, "{export}");
        assert_eq!(export["password"].is_object(), user["password"].is_string());
        for secret in ["hash", "sealed\"", "epoch", "born", "tk_", "argon2"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    let gone = named(";otto")["id"].as_str().expect("the id is a string");
    let (code, lines) = tokenry(&endpoint, &["user", "export", gone]).await;
    assert_eq!(
        (code, lines),
        (
            Some(4),
            vec![format!("User with id {gone} does not exist.")]
        )
    );
}
