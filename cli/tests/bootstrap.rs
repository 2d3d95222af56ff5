//! Runs `tokenry bootstrap` as a process, against a local server that implements DynamoDB.

mod common;

use std::{
    fs,
    process::{Command, Output},
};

use dynoxide::Database;
use serde_json::Value;

/// Runs `tokenry bootstrap` against an endpoint.
async fn bootstrap(endpoint: &str, arguments: &'static [&'static str]) -> Output {
    output(command(endpoint, arguments)).await
}

fn command(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command
        .arg("bootstrap")
        .args(arguments)
        .env("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("TOKENRY_IDENTITY_TABLE", "identity");
    command
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("the task does not panic")
        .expect("the command runs")
}

/// Starts a database server. Returns the database and the server's URL.
async fn database() -> (Database, String) {
    let database = Database::memory().expect("the database is created");
    let endpoint = common::serve(database.clone()).await;
    (database, endpoint)
}

fn one_line(output: &Output) -> String {
    let line = String::from_utf8(output.stderr.clone()).expect("the error output is UTF-8");
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(output.stdout.is_empty());
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

const CREATE: &[&str] = &[
    "--create-tables",
    "--ephemeral-table",
    "ephemeral",
    "--json",
];

#[tokio::test]
async fn bootstrap_creates_an_account_a_token_and_tables_with_a_ttl_attribute() {
    let (database, endpoint) = database().await;
    // In the second run, the tables already exist.
    let mut accounts = Vec::new();
    for _ in 0..2 {
        let output = bootstrap(&endpoint, CREATE).await;
        assert!(output.status.success(), "{output:?}");
        let made: Value =
            serde_json::from_slice(&output.stdout).expect("the output is one line of JSON");
        assert_eq!(made.as_object().unwrap().len(), 2);
        assert!(made["accountToken"].as_str().unwrap().starts_with("tk_ai_"));
        accounts.push(made["accountId"].as_str().unwrap().to_owned());
    }
    assert_ne!(accounts[0], accounts[1]);
    for table in ["identity", "ephemeral"] {
        let request = serde_json::json!({ "TableName": table });
        let ttl = database
            .describe_time_to_live(serde_json::from_value(request).unwrap())
            .unwrap();
        let ttl = serde_json::to_value(ttl).unwrap();
        assert_eq!(ttl["TimeToLiveDescription"]["AttributeName"], "expires_at");
        assert_eq!(ttl["TimeToLiveDescription"]["TimeToLiveStatus"], "ENABLED");
    }
}

#[tokio::test]
async fn an_account_can_get_another_token() {
    let (_database, endpoint) = database().await;
    let made = bootstrap(&endpoint, CREATE).await;
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let id: &'static str = made["accountId"].as_str().unwrap().to_owned().leak();

    let arguments = Vec::from(["--account", id, "--json"]).leak();
    let output = bootstrap(&endpoint, arguments).await;
    let more: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(more["accountId"], id);
    assert_ne!(more["accountToken"], made["accountToken"]);
}

/// Runs the command with credentials from an AWS profile. The profile has this content.
async fn with_profile(endpoint: &str, profile: &str) -> Output {
    let home = tempfile::tempdir().expect("the directory is created");
    let config = home.path().join("config");
    fs::write(&config, format!("[profile operator]\n{profile}\n")).expect("the file is written");
    let mut command = command(endpoint, CREATE);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", &config)
        .env("AWS_PROFILE", "operator")
        .env("HOME", home.path());
    output(command).await
}

#[tokio::test]
async fn an_operators_aws_profile_may_use_a_credential_process_or_sso() {
    let (_database, endpoint) = database().await;
    let credentials = tempfile::NamedTempFile::new().expect("the file is created");
    let json = r#"{"Version":1,"AccessKeyId":"id","SecretAccessKey":"secret"}"#;
    fs::write(&credentials, json).expect("the file is written");
    let process = format!("credential_process = cat {}", credentials.path().display());
    let output = with_profile(&endpoint, &process).await;
    assert!(output.status.success(), "{output:?}");

    let sso = "sso_start_url = https://example.awsapps.com/start\nsso_region = eu-central-1\n\
               sso_account_id = 111122223333\nsso_role_name = operator";
    let line = one_line(&with_profile(&endpoint, sso).await);
    assert!(
        line.contains("sso/cache"),
        "the error must name the missing file of the SSO cache: {line}"
    );
}

#[tokio::test]
async fn an_unknown_account_is_reported_in_one_line() {
    let (_database, endpoint) = database().await;
    bootstrap(&endpoint, CREATE).await;
    let unknown = &["--account", "A58521fd8a5d9b5cc21987501"];
    let line = one_line(&bootstrap(&endpoint, unknown).await);
    assert_eq!(
        line,
        "Account with id A58521fd8a5d9b5cc21987501 does not exist.\n"
    );
    let line = one_line(&bootstrap(&endpoint, &["--account", "bob"]).await);
    assert_eq!(
        line,
        "the account id must be \"A\" followed by 24 lowercase hex digits\n"
    );
}

#[tokio::test]
async fn a_missing_table_is_reported_in_one_line() {
    let (_database, endpoint) = database().await;
    let line = one_line(&bootstrap(&endpoint, &[]).await);
    assert!(
        line.starts_with("DynamoDB: ResourceNotFoundException"),
        "{line}"
    );
}

#[tokio::test]
async fn create_tables_requires_the_names_of_both_tables() {
    let (_database, endpoint) = database().await;
    let output = bootstrap(&endpoint, &["--create-tables"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
