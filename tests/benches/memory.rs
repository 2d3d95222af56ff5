//! Measures the memory of `tokenry serve` at the start and after it has created 100,000 tokens:
//! `cargo bench -p tests --bench memory`. It runs only on Linux, because it reads `/proc`.

mod common {
    pub(crate) mod load;
}

use std::{
    env, fs,
    path::PathBuf,
    process::{self, Stdio},
};

use common::load::{post, posts};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

const TOKENS: usize = 100_000;
/// The goal for the memory of the process, in MiB. The bench prints the goal, but does not fail if
/// the memory is larger.
const GOAL: f64 = 60.0;

#[tokio::main]
async fn main() {
    let data = tempfile::tempdir().expect("the directory is created");
    let mut serve = Command::new(tokenry())
        .args(["serve", "--port", "0", "--json", "--data"])
        .arg(data.path())
        .stdout(Stdio::piped())
        // Discard the log, because it has one line per request.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("tokenry runs");
    let pid = serve.id().expect("the process still runs");
    let mut line = String::new();
    let mut out = BufReader::new(serve.stdout.take().expect("standard output is a pipe"));
    out.read_line(&mut line)
        .await
        .expect("tokenry prints a line");
    let start: Value = serde_json::from_str(&line).expect("the line is JSON");
    let text = |name: &str| start[name].as_str().expect("the field is a string");
    let at_start = resident(pid);

    let path = format!("/api/users/{}/tokens", text("userId"));
    let request = post(&path, text("accountToken"), "");
    let address = text("url").trim_start_matches("http://");
    let rate = posts(TOKENS, address, request).await;

    println!(
        "resident memory of tokenry serve: {at_start:.1} MiB at the start, {:.1} MiB after \
         {TOKENS} new tokens (goal: under {GOAL}); {rate:.0} new tokens/s",
        resident(pid),
    );
}

/// Builds the `tokenry` command and returns its path. The build uses the profile of this bench. The
/// build also selects the package `tests`. So cargo enables the same features of the dependencies
/// as in the build of this bench, and can reuse most of the compiled dependencies.
fn tokenry() -> PathBuf {
    let mut build = process::Command::new(env!("CARGO"));
    build
        .args(["build", "--profile", "bench", "--message-format", "json"])
        .args(["-p", "tests", "-p", "tokenry", "--bin", "tokenry"])
        .stderr(Stdio::inherit());
    // The environment variables that cargo sets for a bench would make some build scripts run
    // again.
    for (name, _) in env::vars().filter(|(name, _)| of_package(name)) {
        build.env_remove(name);
    }
    let build = build.output().expect("cargo runs");
    assert!(build.status.success(), "the build of tokenry failed");
    let messages = str::from_utf8(&build.stdout)
        .expect("the output of cargo is text")
        .lines();
    messages
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| Some(message["executable"].as_str()?.into()))
        .expect("cargo prints the path of the command")
}

fn of_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// Returns the resident memory of a process (`VmRSS`), in MiB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("the status of the process can be read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .expect("the status contains the size in kB")
        / 1024.0
}
