//! Runs the console as a process, against a real `tokenry serve`.

mod canned;
mod commands;
mod help;
mod https;
mod login;
mod refusals;
#[path = "../../../functions/tests/self_signed/mod.rs"]
mod self_signed;
mod session;
#[cfg(unix)]
mod terminal;

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// A running server and an empty home directory. The server is killed when the test ends.
struct Serve {
    child: Child,
    url: String,
    account_token: String,
    ecosystem_id: String,
    user_id: String,
    home: TempDir,
}

impl Serve {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokenry"))
            .args(["serve", "--memory", "--port", "0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        stdout
            .read_line(&mut line)
            .expect("the server prints a line");
        let start: Value = serde_json::from_str(&line).expect("the line is JSON");
        let text = |name: &str| {
            start[name]
                .as_str()
                .expect("the field is a string")
                .to_owned()
        };
        Self {
            child,
            url: text("url"),
            account_token: text("accountToken"),
            ecosystem_id: text("ecosystemId"),
            user_id: text("userId"),
            home: tempfile::tempdir().expect("the directory is created"),
        }
    }

    /// Returns the command with the server's address and the account's token in its environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tokenry(self.home.path(), arguments);
        command
            .env("TOKENRY_URL", &self.url)
            .env("TOKENRY_TOKEN", &self.account_token);
        command
    }

    /// Runs a command, checks that it succeeds, and returns its output.
    fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with("", arguments)
    }

    /// Like [`Serve::ok`], but with these lines as standard input.
    fn ok_with(&self, input: &str, arguments: &[&str]) -> String {
        let ran = run(self.command(arguments), input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        ran.stdout
    }

    /// Like [`Serve::ok`], but with `--json`. Returns the parsed line of output.
    fn json(&self, arguments: &[&str]) -> Value {
        self.json_with("", arguments)
    }

    /// Like [`Serve::json`], but with these lines as standard input.
    fn json_with(&self, input: &str, arguments: &[&str]) -> Value {
        let line = self.ok_with(input, &[arguments, &["--json"]].concat());
        assert_eq!(line.lines().count(), 1, "{line}");
        serde_json::from_str(&line).expect("the line is JSON")
    }

    /// Runs a command, checks that it fails with this exit code, and returns its line of error
    /// output.
    fn refusal(&self, code: i32, arguments: &[&str]) -> String {
        refusal(self.command(arguments), code, "")
    }

    /// Mints a token for the user demo.
    fn token(&self, arguments: &[&str]) -> String {
        let made = self.json(&[&["user", "create-token", &self.user_id], arguments].concat());
        text(&made, "token")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a command.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Returns the command with an environment that contains only the variable `HOME`.
fn tokenry(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command with these lines as standard input, and checks that the output of the command
/// does not contain any of the lines.
fn run(mut command: Command, input: &str) -> Ran {
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // Ignores the error: a command that does not read its input may already have ended.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the command ends");
    let ran = Ran {
        code: output.status.code().expect("no signal ends the command"),
        stdout: String::from_utf8(output.stdout).expect("the output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("the error output is UTF-8"),
    };
    for secret in input.lines().filter(|line| !line.is_empty()) {
        let repeated = ran.stdout.contains(secret) || ran.stderr.contains(secret);
        assert!(!repeated, "{secret}: {ran:?}");
    }
    ran
}

/// Runs a command, checks that it fails with this exit code and one line of error output, and
/// returns the line.
fn refusal(command: Command, code: i32, input: &str) -> String {
    let ran = run(command, input);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(!ran.stderr.contains("tk_"), "{ran:?}");
    ran.stderr.trim_end().to_owned()
}

/// Returns the default path of the profile.
fn profile(home: &Path) -> PathBuf {
    home.join(".config/tokenry/profile.json")
}

fn text(value: &Value, name: &str) -> String {
    let text = value[name].as_str();
    text.unwrap_or_else(|| panic!("no string {name} in {value}"))
        .to_owned()
}

/// Splits a table into rows and cells. At least two spaces separate two cells.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect()
}
