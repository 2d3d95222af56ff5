//! Runs `tokenry serve` as a process. The tests check the output of the command, how the command
//! ends, and which data a restart keeps.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
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
    /// Reads the log. If nobody read it, a server that logs much would stop, because a pipe holds
    /// only 64 KiB.
    log: Option<JoinHandle<String>>,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(tokenry(arguments))
    }

    /// Starts a server that may open only a limited number of files. `limit` is the option and the
    /// argument of the shell's built-in command `ulimit`.
    fn with_files(limit: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!(r#"ulimit {limit} && exec "$0" "$@""#)])
            .arg(env!("CARGO_BIN_EXE_tokenry"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        let mut stderr = child.stderr.take().expect("standard error is a pipe");
        let log = thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).expect("the log is UTF-8");
            log
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        stdout
            .read_line(&mut line)
            .expect("the command prints a line");
        Self {
            child,
            line: serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")),
            http: reqwest::Client::new(),
            log: Some(log),
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

    /// Sends a request of the account, and returns the response's status.
    async fn status(&self, method: &str, path: &str) -> u16 {
        let request = self
            .http
            .request(method.parse().unwrap(), self.text("url") + path)
            .header("authorization", self.text("accountToken"));
        request.send().await.unwrap().status().as_u16()
    }

    /// Stops the server and returns its log.
    fn stop(&mut self) -> String {
        assert!(self.signal("-TERM").success());
        self.log()
    }

    /// Returns the log of a server that has ended.
    fn log(&mut self) -> String {
        let log = self.log.take().expect("nobody has taken the log");
        log.join().expect("the log is UTF-8")
    }

    /// Opens a connection, and sends the start of a request.
    fn connect(&self, start: &str) -> TcpStream {
        let url = self.text("url");
        let address = url.trim_start_matches("http://").parse().unwrap();
        // If the server accepts no connections, further clients wait for a place in its queue.
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        stream
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
    let mut child = tokenry(arguments).spawn().expect("the command starts");
    // If the server starts, it prints a line and does not end. Then kill it.
    let mut printed = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    stdout.read_line(&mut printed).expect("the output is UTF-8");
    if !printed.is_empty() {
        child.kill().expect("the command is killed");
        panic!("the command is not refused: {printed}");
    }
    let output = child.wait_with_output().expect("the command ends");
    let line = String::from_utf8(output.stderr).expect("the error output is UTF-8");
    assert_eq!(output.status.code(), Some(1), "{line}");
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
    let data = tempfile::tempdir().expect("the directory is created");
    for file in ["database.sqlite", "value-key", "start.json"] {
        std::fs::copy(fixture.join(file), data.path().join(file))
            .expect("the fixture can be copied");
    }
    let contents = std::fs::read(fixture.join("contents.json")).expect("the list exists");
    let contents: Value = serde_json::from_slice(&contents).expect("the list is JSON");
    let read = |file: &str| {
        let text = std::fs::read(data.path().join(file)).expect("the file exists");
        serde_json::from_slice::<Value>(&text).expect("the file is JSON")
    };
    let before = read("start.json");

    let mut server = Server::on(data.path());
    let token = server.text("accountToken");
    assert_eq!(server.line["ecosystemId"], before["ecosystemId"]);
    assert_ne!(before["accountToken"], token.as_str());
    assert_eq!(read("start.json")["accountToken"], token.as_str());
    for old in contents["tokens"].as_array().expect("the field is a list") {
        assert!(
            !server
                .is_active(old["token"].as_str().expect("the token is a string"))
                .await
        );
    }
    let minted = server.mint("").await.expect("the server creates a token");
    assert!(server.is_active(&minted).await);
    let log = server.stop();
    assert!(
        log.contains("start.json contains a new account token"),
        "{log}"
    );
    assert!(log.contains("new-account-tokens.json"), "{log}");
    assert!(!log.contains("tk_"), "{log}");

    // The other account gets a new token in a file. A restart changes nothing.
    let other = contents["accounts"][1]["id"]
        .as_str()
        .expect("the id is a string");
    let new = read("new-account-tokens.json");
    let server = Server::on(data.path());
    assert_eq!(server.text("accountToken"), token);
    assert_eq!(read("new-account-tokens.json"), new);
    let answer = server
        .http
        .post(format!("{}/api/ecosystems", server.text("url")))
        .header(
            "authorization",
            new[other].as_str().expect("the token is a string"),
        )
        .send()
        .await;
    assert_eq!(answer.expect("the server sends a response").status(), 201);
    assert!(server.is_active(&minted).await);
}

#[test]
fn a_migration_from_version_2_is_logged_once() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/schema-2");
    let data = tempfile::tempdir().expect("the directory is created");
    for file in ["database.sqlite", "value-key", "start.json"] {
        std::fs::copy(fixture.join(file), data.path().join(file))
            .expect("the fixture can be copied");
    }
    let migrated = || {
        let log = Server::on(data.path()).stop();
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
            ".gitignore",
            "lock",
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
    let log = server.log();
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
    let log = server.stop();
    let key = data.path().join("value-key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();

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
        assert!(line.ends_with(" with --port 0\n"), "{line}");
    }
    // 192.0.2.1 is for documentation only (RFC 5737).
    let line = refusal(&["serve", "--memory", "--port", "0", "--host", "192.0.2.1"]);
    assert!(
        line.starts_with("cannot listen on 192.0.2.1:0: ") && line.ends_with(" --host ADDRESS\n"),
        "{line}"
    );
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

/// Parses the lines of a log that satisfy a condition.
fn lines(log: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(wanted)
        .collect()
}

#[tokio::test]
async fn each_request_has_one_log_line_with_its_route_and_rounded_milliseconds() {
    let mut server = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
    let secret = "tk_uf_0123456789abcdef";
    let user = server.text("userId");
    let unknown = format!("{user}x");
    let mut expected = Vec::new();
    for (method, path, logged, template, status) in [
        (
            "POST",
            format!("/api/users/{user}/tokens"),
            "POST",
            "/api/users/{id}/tokens",
            200,
        ),
        (
            "POST",
            format!("/api/users/{unknown}/tokens"),
            "POST",
            "/api/users/{id}/tokens",
            404,
        ),
        (
            "DELETE",
            format!("/api/users/{user}/tokens/{secret}"),
            "DELETE",
            "/api/users/{id}/tokens/{tokenId}",
            400,
        ),
        (
            "BREW",
            format!("/api/users/{secret}/tokens"),
            "other",
            "/api/users/{id}/tokens",
            404,
        ),
        (
            "GET",
            format!("/api/users//tokens?{secret}"),
            "GET",
            "/api/users/{id}/tokens",
            404,
        ),
        (
            "HEAD",
            "/api/auth/whoami".to_owned(),
            "HEAD",
            "/api/auth/whoami",
            200,
        ),
        ("GET", "/".to_owned(), "GET", "/", 200),
        ("GET", format!("/{secret}"), "GET", "/{file}", 404),
        ("GET", format!("/unknown/{secret}"), "GET", "unknown", 404),
        (
            secret,
            format!("/{secret}/{secret}"),
            "other",
            "unknown",
            404,
        ),
    ] {
        assert_eq!(
            server.status(method, &path).await,
            status,
            "{method} {path}"
        );
        expected.push(json!([logged, template, status]));
    }
    let foreign = format!("{}/{secret}/", server.text("url"));
    let foreign = server.http.get(foreign).header("host", "evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 421);
    expected.push(json!(["GET", "unknown", 421]));
    let upload = format!("{}/api/auth/revoke", server.text("url"));
    let upload = server.http.post(upload).body(vec![0; 10 * 1024 * 1024 + 1]);
    assert_eq!(upload.send().await.unwrap().status(), 413);
    expected.push(json!(["POST", "/api/auth/revoke", 413]));

    let log = server.stop();
    let requests = lines(&log, |line| line.get("status").is_some());
    let seen: Vec<_> = requests
        .iter()
        .map(|line| json!([line["method"], line["path"], line["status"]]))
        .collect();
    assert_eq!(seen, expected);
    assert!(requests.iter().all(|line| line["ms"].is_u64()), "{log}");
    for secret in [secret, &user, "evil"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_signal_ends_the_command_with_0_and_one_line() {
    for (signal, name) in [("-INT", "ctrl-C"), ("-TERM", "SIGTERM")] {
        // The signal arrives as soon as the server has announced itself.
        let mut server = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
        assert!(server.signal(signal).success());
        let log = server.log();
        let [last] = &lines(&log, |_| true)[..] else {
            panic!("{log}");
        };
        assert_eq!(last["message"], format!("stopped by {name}"));
    }
}

#[test]
fn a_second_server_on_a_data_directory_is_refused_until_the_first_ends() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_str().unwrap();
    let mut first = Server::on(data.path());
    let line = refusal(&["serve", "--data", directory, "--port", "0"]);
    let start = format!("cannot use the directory {directory}: another server uses it. ");
    assert!(
        line.starts_with(&start) && line.ends_with(" with --data DIR\n"),
        "{line}"
    );
    // A server that could not clean up leaves no lock behind.
    first.signal("-KILL");
    let second = Server::on(data.path());
    assert_eq!(first.text("accountToken"), second.text("accountToken"));
}

#[test]
fn git_ignores_a_new_data_directory_but_not_the_files_of_somebody_else() {
    let parent = tempfile::tempdir().unwrap();
    let (own, shared) = (parent.path().join("own"), parent.path().join("shared"));
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("main.rs"), "fn main() {}").unwrap();
    for _ in 0..2 {
        Server::on(&own).stop();
        Server::on(&shared).stop();
    }
    assert_eq!(fs::read_to_string(own.join(".gitignore")).unwrap(), "*\n");
    assert!(!shared.join(".gitignore").exists());

    // The server does not change a file that its user has changed.
    fs::write(own.join(".gitignore"), "").unwrap();
    Server::on(&own).stop();
    assert_eq!(fs::read_to_string(own.join(".gitignore")).unwrap(), "");
}

#[tokio::test]
async fn a_start_whose_account_token_was_revoked_says_that_it_creates_a_new_account() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Server::on(data.path());
    let minted = first.mint("").await.unwrap();
    let revoke = first
        .http
        .post(format!("{}/api/auth/revoke", first.text("url")))
        .form(&[("token", first.text("accountToken"))]);
    assert_eq!(revoke.send().await.unwrap().status(), 200);
    let log = first.stop();
    assert!(!log.contains("a new account"), "{log}");

    let mut second = Server::on(data.path());
    assert_ne!(first.text("accountToken"), second.text("accountToken"));
    assert!(second.mint("").await.is_some());
    let whoami = format!("{}/api/auth/whoami", second.text("url"));
    let whoami = second.http.get(whoami).bearer_auth(minted);
    assert_eq!(whoami.send().await.unwrap().status(), 200);
    let log = second.stop();
    assert!(log.contains("the token of a new account"), "{log}");
    let log = Server::on(data.path()).stop();
    assert!(!log.contains("a new account"), "{log}");
}

#[tokio::test]
async fn a_start_whose_user_or_ecosystem_was_deleted_creates_and_names_a_new_one() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::on(data.path());
    let (account, ecosystem) = (server.text("accountToken"), server.text("ecosystemId"));
    for (deleted, words) in [
        (
            format!("/api/users/{}", server.text("userId")),
            "a new user now",
        ),
        (
            format!("/api/ecosystems/{ecosystem}"),
            "a new ecosystem and a new user now",
        ),
    ] {
        assert_eq!(server.status("DELETE", &deleted).await, 204);
        assert!(server.mint("").await.is_none());
        let log = server.stop();
        assert!(!log.contains("was deleted"), "{log}");

        let mut again = Server::on(data.path());
        assert_eq!(again.text("accountToken"), account);
        assert!(again.mint("").await.is_some());
        let log = again.stop();
        assert!(log.contains("was deleted") && log.contains(words), "{log}");

        // The next start finds what this start has created.
        server = Server::on(data.path());
        assert_eq!(again.text("userId"), server.text("userId"));
    }
    assert_ne!(server.text("ecosystemId"), ecosystem);
}

#[tokio::test]
async fn with_a_host_that_other_machines_can_reach_serve_warns_and_accepts_their_host_names() {
    let serve =
        |host| Server::start(&["serve", "--memory", "--port", "0", "--json", "--host", host]);
    for (host, status, warnings) in [("0.0.0.0", 200, 1), ("127.0.0.2", 421, 0)] {
        let mut server = serve(host);
        let ask = server
            .http
            .get(server.text("url"))
            .header("host", "tokenry.example");
        assert_eq!(ask.send().await.unwrap().status(), status, "{host}");
        let log = server.stop();
        let warned = lines(&log, |line| line["level"] == "WARN");
        assert_eq!(warned.len(), warnings, "{log}");
        assert!(warned.iter().all(|line| line["host"] == host), "{log}");
    }
}

/// How long the tests below let a server wait for a slow client, in milliseconds.
const PATIENCE: &str = "500";
/// The arguments of a server that waits only this long.
const IMPATIENT: &[&str] = &[
    "serve",
    "--memory",
    "--port",
    "0",
    "--json",
    "--client-patience",
    PATIENCE,
];

/// Sends one byte after the other until the server closes the connection. Returns what the server
/// sent before that.
fn trickle(mut stream: TcpStream) -> String {
    let pause = Some(Duration::from_millis(20));
    stream.set_read_timeout(pause).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    // This takes at most twenty seconds.
    for _ in 0..1000 {
        // The server may have closed the connection already. Then the next read reports it.
        let _ = stream.write_all(b"x");
        match stream.read(&mut buffer) {
            Ok(0) => return String::from_utf8(answer).unwrap(),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return String::from_utf8(answer).unwrap();
            }
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "{error}"
            ),
        }
    }
    panic!("the server keeps the connection open");
}

#[test]
fn slow_headers_a_slow_body_and_an_idle_connection_have_a_deadline() {
    let mut server = Server::start(IMPATIENT);
    assert_eq!(trickle(server.connect("GET /")), "");

    let post = "POST /api/auth/revoke HTTP/1.1\r\nHost: localhost\r\n";
    let answer = trickle(server.connect(&format!("{post}Content-Length: 100000\r\n\r\n")));
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");

    let mut idle = server.connect("GET /openapi.yaml HTTP/1.1\r\nHost: localhost\r\n\r\n");
    idle.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answer = String::new();
    idle.read_to_string(&mut answer)
        .expect("the server closes the connection");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let log = server.stop();
    let slow = lines(&log, |line| line["status"] == 408);
    assert_eq!(slow.len(), 1, "{log}");
    assert_eq!(slow[0]["path"], "/api/auth/revoke");
}

#[test]
fn a_malformed_chunk_gets_400() {
    let server = Server::start(&["serve", "--memory", "--port", "0", "--json"]);
    let post = "POST /api/auth/revoke HTTP/1.1\r\nHost: localhost\r\n";
    let mut stream = server.connect(&format!("{post}Transfer-Encoding: chunked\r\n\r\nno\r\n"));
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
}

#[test]
fn a_client_that_does_not_read_the_response_has_a_deadline() {
    let server = Server::start(IMPATIENT);
    // The responses are larger than all buffers between the server and this client.
    let get = "GET /swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = server.connect(&get.repeat(20));
    let (_never, paused) = std::sync::mpsc::channel::<()>();
    // After the server has closed the connection, the client cannot send.
    let closed = (0..1000).any(|_| {
        let _ = paused.recv_timeout(Duration::from_millis(20));
        stream.write_all(b"x").is_err()
    });
    assert!(closed, "the server keeps the connection open");
}

#[tokio::test]
async fn two_thousand_slow_clients_do_not_block_other_clients() {
    const SLOW: usize = 2000;
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    assert!(
        files > 2 * SLOW as u64,
        "this test needs more open files: {files}"
    );
    let mut server = Server::with_files("-Sn 256", &["serve", "--memory", "--port", "0", "--json"]);
    let body = "token=tk_uf_unknown&token_type_hint=access_token";
    let head = "POST /api/auth/revoke HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n";
    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    // Half of the clients send their headers slowly, and half of them their body.
    let mut slow: Vec<_> = (0..SLOW)
        .map(|number| {
            let start = if number % 2 == 0 { "" } else { head.as_str() };
            let rest = if number % 2 == 0 { &*head } else { body };
            (server.connect(start), rest.bytes())
        })
        .collect();
    for _ in 0..10 {
        for (stream, rest) in &mut slow {
            stream.write_all(&[rest.next().unwrap()]).unwrap();
        }
        // A new HTTP client opens a new connection.
        server.http = reqwest::Client::builder()
            .timeout(Duration::from_secs(3))
            .build()
            .unwrap();
        let token = server
            .mint("")
            .await
            .expect("a response within three seconds");
        assert!(server.is_active(&token).await);
    }
    // The server still waits for the slow clients.
    let (mut last, rest) = slow.pop().unwrap();
    last.write_all(&rest.collect::<Vec<_>>()).unwrap();
    let mut status = [0; 15];
    last.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn new_clients_wait_while_the_server_has_no_free_connection() {
    // 100 open files, of which 64 are reserved.
    let mut server = Server::with_files("-n 100", IMPATIENT);
    let slow: Vec<_> = (0..200).map(|_| server.connect("G")).collect();
    assert!(server.mint("").await.is_some());
    drop(slow);
    let log = server.stop();
    let full = lines(&log, |line| line["connections"] == 36);
    assert!(!full.is_empty(), "{log}");
}
