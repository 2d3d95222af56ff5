//! Measures the times of the start and of the first request of a function. Compares them with the
//! same times of a minimal `lambda_http` binary, `functions/examples/bare.rs`. Both binaries are
//! built with the same profile and use the same Runtime API. Run the bench with
//! `cargo bench -p tests --bench start`.
//!
//! The start lasts from the creation of the process until the process asks for its first event. The
//! start includes one database call, the warm-up call. This call opens the connection while Lambda
//! still provides a whole processor. The bench also measures the warm-up call separately: the
//! process of the bench creates a new client and makes the first call of this client. The bench
//! also prints the size of the artifact, because a cold start reads the artifact.

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

/// The number of starts of each binary, and the number of warm requests after each first request.
const RUNS: usize = 20;
/// The goal: the median start time of a function, without the warm-up call, should be at most this
/// many times the median start time of the bare binary.
const GOAL_START: f64 = 1.5;
/// The goal: the median first request should take at most this many milliseconds longer than the
/// median warm request.
const GOAL_FIRST: f64 = 5.0;
/// The goals for the size of the artifact in megabytes. The uncompressed size should be less than
/// the first number. The size when compressed as in a zip file should be less than the second
/// number.
const GOAL_SIZE: [f64; 2] = [7.5, 3.5];

#[tokio::main]
async fn main() {
    let binaries = built();
    let artifact = fs::read(binaries.join("functions")).expect("the artifact can be read");
    println!(
        "artifact: {:.2} MB, compressed {:.2} MB (goals: under {} MB and under {} MB)",
        megabytes(artifact.len()),
        megabytes(deflated(&artifact)),
        GOAL_SIZE[0],
        GOAL_SIZE[1],
    );
    let embedded = Embedded::in_memory().expect("the database is created");
    let (_, account_token, _, user_token) = demo::start(embedded::client(embedded.clone())).await;
    let database = Database::serve(embedded).await;
    let event = Event::to("introspect-token")
        .header("authorization", account_token.reveal())
        .form(&format!("token={}", user_token.reveal()))
        .json;

    let mut bare = Times::default();
    let mut ours = Times::default();
    let mut call = Vec::new();
    // The measurements take turns, so that other work on the machine slows all of them.
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
        "start: {:.2} ms; start of the bare lambda_http binary: {:.2} ms; warm-up call and its \
         client: {call:.2} ms; start without the warm-up call: {:.2} times the start of the bare \
         binary (goal: at most {GOAL_START})",
        ours.start,
        bare.start,
        (ours.start - call) / bare.start,
    );
    println!(
        "first request: {:.2} ms; warm request: {:.2} ms; difference: {:.2} ms \
         (goal: at most {GOAL_FIRST}); bare binary: first request {:.2} ms, warm request {:.2} ms",
        ours.first,
        ours.warm,
        ours.first - ours.warm,
        bare.first,
        bare.warm,
    );
}

/// The measured times of one binary, in milliseconds.
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

#[expect(
    clippy::cast_precision_loss,
    reason = "a file's size is far below 2^52"
)]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Returns the size of these bytes when they are compressed as in a zip file.
fn deflated(bytes: &[u8]) -> usize {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .expect("a write to memory succeeds");
    encoder.finish().expect("a write to memory succeeds").len()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Creates a database client and makes the warm-up call of a function. Returns the time of both
/// steps together, in milliseconds.
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
    identity
        .deployment()
        .await
        .expect("the database returns a response");
    millis(started.elapsed())
}

/// Builds both binaries with the options of a deployment. Returns the directory that contains them.
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
        // In this directory, cargo reads functions/.cargo/config.toml. `sam build` uses this file
        // too, so both builds have the same options.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../functions"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the functions do not build");
    // The bench is the file target/release/deps/start-….
    let bench = env::current_exe().expect("the bench has a path");
    bench
        .ancestors()
        .nth(2)
        .expect("the bench is in target")
        .to_owned()
}
