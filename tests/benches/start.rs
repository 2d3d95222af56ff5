//! How long a function takes to start, and with its first request, beside a bare `lambda_http` binary of the same
//! profile under the same Runtime API: `cargo bench -p tests --bench start`.
//!
//! Start is from the process to its first question for an event. It holds one call of the database, which opens the
//! connection while Lambda gives a whole processor. What that costs is measured beside, in a process that is warm: a new
//! client and its first call. The artifact's size stands beside too, which a cold start has to read.

#![expect(clippy::disallowed_methods, reason = "a bench measures durations")]

mod common {
    pub(crate) mod demo;
    pub(crate) mod lambda;
}

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::config::{Credentials, Region, SharedCredentialsProvider};
use common::{
    demo,
    lambda::{Database, Function},
};
use flate2::{Compression, write::DeflateEncoder};
use shared::store::{
    client::{dynamodb, lambda_environment},
    identity::Identity,
};
use tests::Event;
use tokenry::embedded::{self, Embedded, IDENTITY};

/// How often each is started, and how many warm requests follow its first.
const RUNS: usize = 20;
/// How many times the bare binary's start a function's may be, the warm-up call left out.
const GOAL_START: f64 = 1.5;
/// What a first request may take beyond a warm one.
const GOAL_FIRST: f64 = 5.0;
/// What the artifact, and that compressed as a zip file has it, are to stay under, in megabytes.
const GOAL_SIZE: [f64; 2] = [7.0, 3.5];

#[tokio::main]
async fn main() {
    let binaries = built();
    let artifact = fs::read(binaries.join("functions")).expect("the artifact");
    println!(
        "artifact: {:.2} MB, compressed {:.2} MB (goal: under {} and {})",
        megabytes(artifact.len()),
        megabytes(deflated(&artifact)),
        GOAL_SIZE[0],
        GOAL_SIZE[1],
    );
    let embedded = Embedded::in_memory().expect("a database");
    let (_, account_token, _, user_token) = demo::start(embedded::client(embedded.clone())).await;
    let database = Database::serve(embedded).await;
    let event = Event::to("introspect-token")
        .header("authorization", account_token.reveal())
        .form(&format!("token={}", user_token.reveal()))
        .json;

    let mut bare = Times::default();
    let mut ours = Times::default();
    let mut call = Vec::new();
    // In turns, so that what else the machine does slows both.
    for _ in 0..RUNS {
        bare.add(
            &binaries.join("examples/bare"),
            &database,
            &event.to_string(),
        )
        .await;
        ours.add(&binaries.join("functions"), &database, &event.to_string())
            .await;
        call.push(warm_up(&database).await);
    }
    let call = median(call);
    let [bare, ours] = [bare, ours].map(Times::medians);
    println!(
        "start: {:.2} ms, of a bare lambda_http binary {:.2} ms, one warm-up call with its client {call:.2} ms: {:.2} times the bare \
         one beside the call (goal: at most {GOAL_START})",
        ours.start,
        bare.start,
        (ours.start - call) / bare.start,
    );
    println!(
        "first request: {:.2} ms, warm {:.2} ms: {:.2} ms beyond (goal: at most {GOAL_FIRST}); bare: {:.2} and {:.2} ms",
        ours.first,
        ours.warm,
        ours.first - ours.warm,
        bare.first,
        bare.warm,
    );
}

/// What was measured of one binary, in milliseconds.
#[derive(Default)]
struct Times {
    start: Vec<f64>,
    first: Vec<f64>,
    warm: Vec<f64>,
}

struct Medians {
    start: f64,
    first: f64,
    warm: f64,
}

impl Times {
    async fn add(&mut self, binary: &Path, database: &Database, event: &str) {
        let started = Instant::now();
        let mut function = Function::start(binary, "introspect-token", &database.url).await;
        self.start.push(millis(started.elapsed()));
        self.first.push(millis(function.invoke(event).await));
        for _ in 0..RUNS {
            self.warm.push(millis(function.invoke(event).await));
        }
    }

    fn medians(self) -> Medians {
        Medians {
            start: median(self.start),
            first: median(self.first),
            warm: median(self.warm),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a file's size is far from 2^52")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// How many bytes they are as a zip file's entry.
fn deflated(bytes: &[u8]) -> usize {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory").len()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The call that a function makes while it starts, and the client that it makes for it; in milliseconds.
async fn warm_up(database: &Database) -> f64 {
    let started = Instant::now();
    let credentials = Credentials::new("test", "test", None, None, "bench");
    let environment = lambda_environment()
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::from_static("eu-central-1"))
        .endpoint_url(&database.url)
        .build();
    let identity = Identity::new(dynamodb(&environment), IDENTITY.to_owned());
    identity.warm_up().await.expect("an answer");
    millis(started.elapsed())
}

/// Builds both binaries as they are deployed; returns where they are.
fn built() -> PathBuf {
    let status = process::Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "-p",
            "functions",
            "--bins",
            "--example",
            "bare",
        ])
        // Where functions/.cargo/config.toml holds, as for `sam build`.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../functions"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the functions do not build");
    // This is target/release/deps/start-….
    let bench = env::current_exe().expect("a bench is a file");
    bench
        .ancestors()
        .nth(2)
        .expect("it is in target")
        .to_owned()
}
