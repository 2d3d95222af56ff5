//! Runs `tokenry serve` as a process. The tests check the output of the command, how the command
//! ends, and which data a restart keeps.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// A server that is killed when the test ends.
struct Server {
    child: Child,
    /// The line that `--json` prints.
    line: Value,
    http: reqwest::Client,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = tokenry(arguments).spawn().expect("the command starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        stdout
            .read_line(&mut line)
            .expect("the command prints a line");
        Self {
            child,
            line: serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")),
            http: reqwest::Client::new(),
        }
    }

    fn on(data: &Path) -> Self {
        let data = data.to_str().expect("the path is UTF-8");
        Self::start(&["serve", "--data", data, "--port", "0", "--json"])
    }

    fn text(&self, name: &str) -> String {
        self.line[name]
            .as_str()
            .unwrap_or_else(|| panic!("no string {name} in {}", self.line))
            .to_owned()
    }

    /// Mints a token for the user demo. Returns `None` if the server has ended.
    async fn mint(&self, query: &str) -> Option<String> {
        let (url, user) = (self.text("url"), self.text("userId"));
        let answer = self
            .http
            .post(format!("{url}/api/users/{user}/tokens?{query}"))
            .header("authorization", self.text("accountToken"))
            .send()
            .await
            .ok()?;
        let minted: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        minted["token"].as_str().map(str::to_owned)
    }

    async fn is_active(&self, token: &str) -> bool {
        let answer = self
            .http
            .post(format!("{}/api/auth/introspect", self.text("url")))
            .header("authorization", self.text("accountToken"))
            .form(&[("token", token)])
            .send()
            .await
            .expect("the server sends a response");
        answer
            .text()
            .await
            .expect("the body is text")
            .contains(r#""active":true"#)
    }

    /// Stops the server, and returns its log.
    fn log(&mut self) -> String {
        self.signal("-TERM");
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("standard error is a pipe");
        stderr.read_to_string(&mut log).expect("the log is UTF-8");
        log
    }

    fn signal(&mut self, name: &str) -> ExitStatus {
        kill(name, self.child.id());
        self.child.wait().expect("the command ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal with the shell's built-in command `kill`.
fn kill(signal: &str, pid: u32) {
    let kill = format!("kill {signal} {pid}");
    let sent = Command::new("sh").args(["-c", &kill]).status();
    assert!(sent.expect("the shell runs").success());
}

fn tokenry(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command, checks that it fails, and returns its line of error output.
fn refusal(arguments: &[&str]) -> String {
    let output = tokenry(arguments).output().expect("the command runs");
    let line = String::from_utf8(output.stderr).expect("the error output is UTF-8");
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(output.stdout.is_empty());
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[tokio::test]
async fn a_restart_prints_the_same_ids_and_tokens_stay_valid() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Server::on(data.path());
    let keys: HashSet<_> = first.line.as_object().unwrap().keys().cloned().collect();
    let expected = ["url", "accountToken", "ecosystemId", "userId"];
    assert_eq!(keys, expected.map(str::to_owned).into());
    let token = first.mint("").await.expect("the server creates a token");
    assert!(first.signal("-INT").success());

    let second = Server::on(data.path());
    for name in ["accountToken", "ecosystemId", "userId"] {
        assert_eq!(first.text(name), second.text(name));
    }
    assert!(second.is_active(&token).await);
}

#[tokio::test]
async fn data_of_an_earlier_release_is_migrated_and_start_json_gets_a_new_account_token() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/schema-1");
    let data = tempfile::tempdir().expect("a directory");
    for file in ["database.sqlite", "value-key", "start.json"] {
        std::fs::copy(fixture.join(file), data.path().join(file)).expect("a copy");
    }
    let contents = std::fs::read(fixture.join("contents.json")).expect("the list");
    let contents: Value = serde_json::from_slice(&contents).expect("JSON");
    let read = |file: &str| {
        let text = std::fs::read(data.path().join(file)).expect("the file exists");
        serde_json::from_slice::<Value>(&text).expect("JSON")
    };
    let before = read("start.json");

    let mut server = Server::on(data.path());
    let token = server.text("accountToken");
    assert_eq!(server.line["ecosystemId"], before["ecosystemId"]);
    assert_ne!(before["accountToken"], token.as_str());
    assert_eq!(read("start.json")["accountToken"], token.as_str());
    for old in contents["tokens"].as_array().expect("a list") {
        assert!(
            !server
                .is_active(old["token"].as_str().expect("a token"))
                .await
        );
    }
    let minted = server.mint("").await.expect("a token");
    assert!(server.is_active(&minted).await);
    let log = server.log();
    assert!(
        log.contains("start.json contains a new account token"),
        "{log}"
    );
    assert!(log.contains("new-account-tokens.json"), "{log}");
    assert!(!log.contains("tk_"), "{log}");

    // The other account gets a new token in a file. A restart changes nothing.
    let other = contents["accounts"][1]["id"].as_str().expect("an id");
    let new = read("new-account-tokens.json");
    let server = Server::on(data.path());
    assert_eq!(server.text("accountToken"), token);
    assert_eq!(read("new-account-tokens.json"), new);
    let answer = server
        .http
        .post(format!("{}/api/ecosystems", server.text("url")))
        .header("authorization", new[other].as_str().expect("a token"))
        .send()
        .await;
    assert_eq!(answer.expect("a response").status(), 201);
    assert!(server.is_active(&minted).await);
}

#[test]
fn a_migration_from_version_2_is_logged_once() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/schema-2");
    let data = tempfile::tempdir().expect("a directory");
    for file in ["database.sqlite", "value-key", "start.json"] {
        std::fs::copy(fixture.join(file), data.path().join(file)).expect("a copy");
    }
    let migrated = || {
        let log = Server::on(data.path()).log();
        log.contains("the stored data was migrated from version 2 to version 3")
    };
    assert!(migrated());
    assert!(!migrated());
}

#[tokio::test]
async fn a_start_without_a_database_ignores_start_json_and_creates_a_new_account() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Server::on(data.path());
    first.signal("-KILL");
    for file in std::fs::read_dir(data.path()).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap() != "start.json" {
            std::fs::remove_file(path).unwrap();
        }
    }
    let second = Server::on(data.path());
    assert_ne!(first.text("accountToken"), second.text("accountToken"));
    assert!(second.mint("").await.is_some());
}

#[tokio::test]
async fn minted_tokens_are_still_valid_after_a_sigkill_and_are_in_no_file() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::on(data.path());
    let pid = server.child.id();
    let minted = Mutex::new(Vec::new());
    let count = Arc::new(AtomicUsize::new(0));
    let client = async |number: usize| {
        let query = ["expiryType=Infinite", "ttl=60", "expiryType=SlidingTtl"][number % 3];
        while let Some(token) = server.mint(query).await {
            minted.lock().await.push(token);
            if count.fetch_add(1, Ordering::Relaxed) == 200 {
                // Other requests are in progress at this moment.
                kill("-KILL", pid);
            }
        }
    };
    join_all((0..16).map(client)).await;
    server.child.wait().unwrap();
    let minted = minted.into_inner();
    assert!(minted.len() > 200);

    let again = Server::on(data.path());
    for token in &minted {
        assert!(again.is_active(token).await);
    }

    let start_token = again.text("accountToken");
    for file in std::fs::read_dir(data.path()).unwrap() {
        let path = file.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&content);
        assert!(
            minted.iter().all(|token| !text.contains(token)),
            "{}",
            path.display()
        );
        let is_start = path.ends_with("start.json");
        assert_eq!(text.contains(&start_token), is_start, "{}", path.display());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_account_token() {
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("made/by/serve");
    let _server = Server::on(&data);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("start.json")), 0o600);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files_in_the_data_directory() {
    use std::{fs, os::unix::fs::PermissionsExt};

    let data = tempfile::tempdir().unwrap();
    let shared = fs::Permissions::from_mode(0o755);
    fs::set_permissions(data.path(), shared).unwrap();
    let modes = || {
        let files = fs::read_dir(data.path()).unwrap().map(Result::unwrap);
        let mode = |file: &fs::DirEntry| file.metadata().unwrap().permissions().mode() & 0o777;
        let modes = files.map(|file| (file.file_name().into_string().unwrap(), mode(&file)));
        modes.collect::<std::collections::BTreeMap<_, _>>()
    };
    for restart in [false, true] {
        let server = Server::on(data.path());
        assert!(server.mint("").await.is_some());
        // Creating an e-mail token creates the file `value-key`.
        let email = serde_json::json!({ "email": "demo@example.com" });
        for (method, path) in [
            ("PUT", format!("/api/users/{}", server.text("userId"))),
            ("POST", "/_/user-token".to_owned()),
        ] {
            let request = server
                .http
                .request(method.parse().unwrap(), server.text("url") + &path)
                .header("authorization", server.text("accountToken"))
                .header("content-type", "application/json");
            request.body(email.to_string()).send().await.unwrap();
        }
        let now = modes();
        for file in [
            "database.sqlite",
            "database.sqlite-wal",
            "start.json",
            "value-key",
        ] {
            assert!(now.contains_key(file), "{restart}: {now:?}");
        }
        assert!(
            now.values().all(|mode| *mode == 0o600),
            "{restart}: {now:?}"
        );
        // `drop` kills the server, so SQLite does not delete any of the files. The loop sets the
        // mode 0644, with which an earlier release created its files.
        drop(server);
        for name in now.keys() {
            let path = data.path().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_with_the_host_of_another_machine_gets_421() {
    let server = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
    let path = format!("/api/users/{}/tokens", server.text("userId"));
    let ask = async |method: reqwest::Method, path: &str, host: &str| {
        let request = server
            .http
            .request(method, server.text("url") + path)
            .header("authorization", server.text("accountToken"))
            .header("host", host);
        request.send().await.unwrap().status().as_u16()
    };
    for (host, is_served) in [
        ("localhost", true),
        ("LOCALHOST:3000", true),
        ("localhost.", true),
        ("app.localhost:3000", true),
        ("127.0.0.1", true),
        ("127.0.0.2:80", true),
        ("[::1]:3000", true),
        ("evil.example", false),
        ("evil.example:3000", false),
        ("localhost.evil.example", false),
        ("evillocalhost", false),
        ("127.0.0.1.evil.example", false),
        ("192.0.2.1", false),
        ("[2001:db8::1]:3000", false),
        ("0.0.0.0", false),
        ("", false),
        ("a b", false),
    ] {
        let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
        let expected = if is_served {
            [200, 200, 200, 404]
        } else {
            [421; 4]
        };
        let answers = [
            ask(post, &path, host).await,
            ask(get.clone(), "/", host).await,
            ask(get.clone(), "/openapi.yaml", host).await,
            ask(get, "/nothing", host).await,
        ];
        assert_eq!(answers, expected, "{host:?}");
    }
}

#[test]
fn a_request_gets_421_if_any_host_header_or_the_target_has_the_host_of_another_machine() {
    use std::io::{Read, Write};

    let server = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
    let url = server.text("url");
    let address = url.trim_start_matches("http://");
    for (target, hosts, status) in [
        ("/openapi.yaml", "Host: localhost", "200"),
        ("http://localhost/openapi.yaml", "Host: localhost", "200"),
        ("http://evil.example/openapi.yaml", "Host: localhost", "421"),
        (
            "/openapi.yaml",
            "Host: localhost\r\nHost: evil.example",
            "421",
        ),
    ] {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\n{hosts}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let said = answer.split(' ').nth(1);
        assert_eq!(said, Some(status), "{target} {hosts}");
    }
}

#[tokio::test]
async fn a_database_in_memory_is_lost_when_the_process_ends() {
    let mut first = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
    assert!(first.mint("").await.is_some());
    assert!(first.signal("-TERM").success());
    let second = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
    assert_ne!(first.text("accountToken"), second.text("accountToken"));
}

#[tokio::test]
async fn the_log_has_a_line_for_each_request_and_no_secret() {
    let mut server = Server::start(&[
        "serve", "--memory", "--port", "0", "--json", "--log", "trace",
    ]);
    let token = server.mint("").await.expect("the server creates a token");
    assert!(server.is_active(&token).await);
    assert!(!server.is_active("tk_uf_rubbish").await);
    server.signal("-INT");

    let mut log = String::new();
    let mut stderr: ChildStderr = server.child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    let requests: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line: &Value| line.get("endpoint").is_some())
        .collect();
    let endpoints: Vec<_> = requests
        .iter()
        .map(|line| line["endpoint"].clone())
        .collect();
    assert_eq!(
        endpoints,
        ["create-user-token", "introspect-token", "introspect-token"]
    );
    for line in &requests {
        assert_eq!(line["status"], 200);
        assert_eq!(line["level"], "INFO");
        assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()));
    }
    assert!(!log.contains(&token) && !log.contains(&server.text("accountToken")));
    assert!(!log.contains("tk_"), "{log}");
}

#[tokio::test]
async fn no_email_token_or_password_is_in_the_log_or_in_a_file() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_str().unwrap();
    let mut server = Server::start(&[
        "serve", "--data", directory, "--port", "0", "--json", "--log", "trace",
    ]);
    let ask = async |method: reqwest::Method, path: &str, body: Value| {
        let request = server
            .http
            .request(method, format!("{}{path}", server.text("url")))
            .header("authorization", server.text("accountToken"))
            .header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    };
    let user = format!("/api/users/{}", server.text("userId"));
    let (email, password) = ("Demo@example.com", "correct horse");
    let person = json!({ "email": email, "password": password });
    let (put, post) = (reqwest::Method::PUT, reqwest::Method::POST);
    assert_eq!(ask(put, &user, person.clone()).await.0, 200);
    let path = "/_/user-token/value";
    let wrong = json!({ "email": email, "password": "another one" });
    assert_eq!(ask(post.clone(), path, wrong).await.0, 401);
    let unknown = json!({ "email": "Nobody@example.com", "password": password });
    assert_eq!(ask(post.clone(), path, unknown).await.0, 401);
    let (status, answer) = ask(post.clone(), path, person.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let value = answer["data"][0]["token"].as_str().unwrap().to_owned();
    assert!(server.is_active(&value).await);
    // Below, a new server starts without the file `value-key`. That server cannot decrypt the
    // stored value. Its error response must not contain the cause.
    server.signal("-TERM");
    let key = data.path().join("value-key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let mut log = String::new();
    let mut stderr: ChildStderr = server.child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();

    let secrets = [&value, &value[6..], password, "another one", "example.com"];
    let lower = log.to_lowercase();
    for secret in secrets {
        assert!(!lower.contains(&secret.to_lowercase()), "{log}");
    }
    for file in std::fs::read_dir(data.path()).unwrap() {
        let path = file.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&content);
        for secret in &secrets[..4] {
            assert!(!text.contains(secret), "{}", path.display());
        }
    }

    let again = Server::on(data.path());
    let log_in = || {
        let url = format!("{}/_/user-token/value", again.text("url"));
        let request = again
            .http
            .post(url)
            .header("content-type", "application/json");
        request.body(person.to_string()).send()
    };
    let answer = log_in().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(!answer.text().await.unwrap().contains("key"));
    assert!(
        !key.exists(),
        "the server created a new key, which cannot decrypt the stored values"
    );
    std::fs::write(&key, kept).unwrap();
    let answer = log_in().await.unwrap();
    assert!(answer.text().await.unwrap().contains(&value));
}

#[tokio::test]
async fn serve_without_json_prints_a_curl_command_that_works_unchanged() {
    let mut child = tokenry(&["serve", "--memory", "--port", "0"])
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let curl = stdout
        .lines()
        .map(|line| line.unwrap())
        .find(|line| line.trim().starts_with("curl "))
        .expect("the output contains a curl command");
    let parts: Vec<&str> = curl.trim().split('\'').collect();
    let ["curl -X POST -H ", header, " ", url, ""] = parts[..] else {
        panic!("{curl}");
    };
    let (name, value) = header.split_once(": ").unwrap();
    let answer = reqwest::Client::new()
        .post(url)
        .header(name, value)
        .send()
        .await
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_port_in_use_is_reported_in_one_line_and_leaves_no_files() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    for arguments in [&["--memory"][..], &["--data", data.to_str().unwrap()]] {
        let line = refusal(&[&["serve", "--port", &port], arguments].concat());
        assert!(
            line.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")),
            "{line}"
        );
    }
    assert!(!data.exists(), "a failed start must not create files");
}

#[test]
fn an_invalid_setting_is_reported_and_leaves_no_files() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let mut command = tokenry(&["serve", "--port", "0", "--data", data.to_str().unwrap()]);
    let output = command.env("TOKENRY_NOT_BEFORE", "yesterday").output();
    let output = output.expect("the command runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("TOKENRY_NOT_BEFORE"));
    assert!(!data.exists());
}

#[test]
fn an_unusable_directory_is_reported_in_one_line() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let broken = parent.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(
        broken.join("database.sqlite"),
        "not a database, but long enough",
    )
    .unwrap();
    let half = parent.path().join("half");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("start.json"), "{").unwrap();

    for data in [&file, &file.join("below"), &broken, &half] {
        let data = data.to_str().unwrap();
        let line = refusal(&["serve", "--port", "0", "--data", data]);
        assert!(
            line.starts_with("cannot use ") && line.contains(data),
            "{line}"
        );
    }
}
