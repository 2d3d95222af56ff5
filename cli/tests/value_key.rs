//! Runs `tokenry value-key` as a process on the data directory of `tokenry serve`. A local server
//! that implements DynamoDB serves the database file.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use dynoxide::Database;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const EMAIL: &str = "demo@example.com";

/// A running `tokenry serve`. It is killed when it is dropped.
struct Server {
    child: Child,
    start: Value,
}

impl Server {
    fn on(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokenry"))
            .args(["serve", "--port", "0", "--json", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output is a pipe");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server prints a line");
        let start = serde_json::from_str(&line).expect("the line is JSON");
        Self { child, start }
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let text = |name: &str| self.start[name].as_str().unwrap().to_owned();
        let path = path.replace("USER", &text("userId"));
        let answer = reqwest::Client::new()
            .request(method.parse().unwrap(), text("url") + &path)
            .header("authorization", text("accountToken"))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .expect("the server sends a response");
        let status = answer.status().as_u16();
        let body = answer.text().await.expect("the body is text");
        (
            status,
            serde_json::from_str(&body).expect("the body is JSON"),
        )
    }

    /// Logs in and returns the value of the e-mail token.
    async fn log_in(&self) -> String {
        let body = json!({ "email": EMAIL, "password": PASSWORD });
        let (status, answer) = self.ask("POST", "/_/user-token/value", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"][0]["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the database of a data directory. Returns the URL. No other process may use the database.
async fn database(data: &Path) -> String {
    let file = data.join("database.sqlite");
    let database = Database::new(file.to_str().unwrap()).expect("the database can be opened");
    common::serve(database).await
}

/// Runs `tokenry value-key`. The value key is the file `key` in the directory `data`.
async fn value_key(endpoint: &str, data: &Path, key: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command
        .arg("value-key")
        .args(arguments)
        .env("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("TOKENRY_IDENTITY_TABLE", "tokenry-identity")
        .env(
            "TOKENRY_VALUE_KEY",
            format!("file:{}", data.join(key).display()),
        );
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("the task does not panic")
        .expect("the command runs")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("the output is UTF-8")
}

fn refused(output: &Output) -> String {
    let line = String::from_utf8(output.stderr.clone()).expect("the error output is UTF-8");
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(output.stdout.is_empty());
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[tokio::test]
async fn the_value_of_an_email_token_stays_the_same_when_the_keys_are_replaced() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let server = Server::on(data);
    let person = json!({ "email": EMAIL, "password": PASSWORD });
    assert_eq!(server.ask("PUT", "/api/users/USER", &person).await.0, 200);
    let value = server.log_in().await;
    drop(server);

    let endpoint = database(data).await;
    let to = format!("file:{}", data.join("other").display());
    let (rewrap, again) = (
        ["rewrap", "--to", to.as_str()],
        ["rewrap", "--to", to.as_str(), "--json"],
    );
    let run = async |key, arguments| value_key(&endpoint, data, key, arguments).await;
    let added = printed(&run("value-key", &["add", "--json"]).await);
    let added: Value = serde_json::from_str(&added).unwrap();
    assert_eq!(added.as_object().unwrap().len(), 1);
    let id = added["dataKeyId"].as_str().unwrap();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));

    assert_eq!(
        printed(&run("value-key", &["reseal"]).await),
        "Values encrypted again: 1\nValues that needed no change: 0\n\
         Values that cannot be decrypted any more: 0\nData keys removed: 0\n"
    );
    let twice = printed(&run("value-key", &["reseal", "--json"]).await);
    assert_eq!(
        serde_json::from_str::<Value>(&twice).unwrap(),
        json!({ "resealed": 0, "current": 1, "lost": 0, "removedDataKeys": 0 })
    );
    let early = refused(&run("value-key", &["reseal", "--remove-old"]).await);
    assert!(early.contains("10 minutes"), "{early}");

    assert_eq!(
        printed(&run("value-key", &rewrap).await),
        "Data keys wrapped with the other value key: 2\n"
    );
    assert_eq!(printed(&run("other", &again).await), "{\"wrapped\":0}\n");
    // If the value key is wrong, the command fails and changes nothing.
    fs::write(data.join("wrong"), "0".repeat(64)).unwrap();
    let wrong = refused(&run("wrong", &["add"]).await);
    assert!(wrong.contains("not the value key"), "{wrong}");

    for key in ["value-key", "other"] {
        fs::copy(data.join(key), data.join("value-key.used")).unwrap();
        fs::rename(data.join("value-key.used"), data.join("value-key")).unwrap();
        let server = Server::on(data);
        assert_eq!(server.log_in().await, value);
    }
}

#[tokio::test]
async fn a_data_key_is_not_added_before_the_migration() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/schema-1");
    for file in ["database.sqlite", "value-key"] {
        fs::copy(fixture.join(file), data.join(file)).unwrap();
    }
    let endpoint = database(data).await;
    let run = async |arguments| value_key(&endpoint, data, "value-key", arguments).await;
    let line = refused(&run(&["add"]).await);
    assert!(line.contains("run `tokenry migrate` first"), "{line}");
    let counts = |output| -> Value { serde_json::from_str(&printed(&output)).unwrap() };
    let done = counts(run(&["reseal", "--remove-old", "--json"]).await);
    assert!(done["current"].as_u64() > Some(0), "{done}");
    for name in ["resealed", "lost", "removedDataKeys"] {
        assert_eq!(done[name], 0, "{done}");
    }
}

#[tokio::test]
async fn a_value_key_that_is_not_an_arn_or_a_file_is_a_usage_error() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["add", "--value-key", "secret"];
    let output = value_key("http://127.0.0.1:1", data.path(), "key", &arguments).await;
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(
        line.contains("the ARN of a KMS key, or file:PATH"),
        "{line}"
    );
}
