//! Measures the time and the memory of log-ins with a password:
//! `cargo bench -p tests --bench log_in`. It runs only on Linux, because it reads `/proc`.
//!
//! Measurements that are compared take turns, so that other work on the machine slows both. The
//! embedded database runs in this process. The figures include the time and the memory of the
//! database, unless the output says `without the database`.

#![expect(clippy::disallowed_methods, reason = "a bench measures durations")]

use std::{
    fs,
    hint::black_box,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, UNIX_EPOCH},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};
use futures_util::FutureExt;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;
use shared::{
    App,
    domain::{
        email::Email,
        id::UserId,
        password::{MinLength, Password},
    },
    service::{
        access::{MayWrite, UserSlot},
        app::Clock,
        deployment,
        directory::{UserChange, create_account, create_ecosystem, put_user},
        sealing::ValueKey,
    },
    store::{ephemeral::Ephemeral, identity::Identity, schema::create_tables},
};
use tests::Event;
use tokenry::embedded::{self, EPHEMERAL, Embedded, IDENTITY};

/// The number of measurements of each kind.
const RUNS: usize = 200;

// Both e-mail addresses have the same length, so that the times of their log-ins can be compared.
const KNOWN: &str = "somebody@example.com";
const UNKNOWN: &str = "stranger@example.com";
const RIGHT: &str = "the right password";
const WRONG: &str = "the wrong password";

/// The number of attempts so far. This number, as an IPv4 address, is also the source address of
/// the next attempt. After every 50 attempts, the clock moves to the next time window of the
/// limits, so that no limit is reached.
static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
const WINDOW: Duration = Duration::from_mins(15);
/// The nanoseconds that the current log-in has spent in the database.
static INSIDE: AtomicU64 = AtomicU64::new(0);

// One thread, as in a Lambda function.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let client = embedded::client(Timed(
        Embedded::in_memory().expect("the database is created"),
    ));
    let tables = create_tables(&client, IDENTITY, EPHEMERAL).await;
    tables.expect("the tables are created");
    let identity = Identity::new(client.clone(), IDENTITY.to_owned());
    let clock = Clock::new(|| UNIX_EPOCH + WINDOW * (2_000_000 + ATTEMPTS.load(Relaxed) / 50));
    let mut rng = StdRng::seed_from_u64(0);
    let value_key = ValueKey::in_memory(&mut rng);
    let app = App::with(identity, clock, rng)
        .with_ephemeral(Some(Ephemeral::new(client, EPHEMERAL.to_owned())))
        .with_value_key(Some(value_key));
    // The memory is measured before `make_user` computes the first hash.
    let (before, _) = resident();
    make_user(&app).await;
    // The first log-in creates the e-mail token that the other log-ins return.
    log_in(&app, KNOWN, RIGHT, 200).await;

    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        known.push(log_in(&app, KNOWN, WRONG, 401).await);
        unknown.push(log_in(&app, UNKNOWN, WRONG, 401).await);
    }
    let ([known, known_inside], [unknown, unknown_inside]) = (medians(&known), medians(&unknown));
    println!(
        "wrong password: {known:.2} ms for a known address ({known_inside:.2} ms in the database), \
         {unknown:.2} ms for an unknown address ({unknown_inside:.2} ms in the database), \
         difference {:+.1} % (goal: from -5 % to +5 %)",
        (unknown / known - 1.0) * 100.0,
    );

    // The memory is measured before `bare_hash` allocates memory for its own hashes.
    let (after, peak) = resident();
    println!(
        "resident memory: {before:.1} MiB at the start, {after:.1} MiB after {} log-ins, \
         peak {peak:.1} MiB, which is {:.1} MiB more than at the start (goal: under 32)",
        2 * RUNS + 1,
        peak - before,
    );

    let (mut right, mut bare, mut hash) = (Vec::new(), Vec::new(), bare_hash());
    for _ in 0..RUNS {
        right.push(log_in(&app, KNOWN, RIGHT, 200).await);
        bare.push(hash());
    }
    let ([right, inside], [bare, wipe]) = (medians(&right), medians(&bare));
    let rest = right - bare;
    println!(
        "correct password: {right:.2} ms, of which {bare:.2} ms for the hash and {rest:.2} ms for \
         the rest (goal: under 2); the rest without the database: {:.2} ms, of which {wipe:.2} ms \
         to wipe the hash's memory",
        rest - inside,
    );
}

async fn make_user(app: &App) {
    let right = MayWrite::of_operator();
    let record = deployment::create_if_none(app, right).await;
    record.expect("the record of the deployment is created");
    let account = create_account(app, right)
        .await
        .expect("the account is created");
    let first = deployment::set_first_account(app, right, &account.id).await;
    first.expect("the first account is set");
    let ecosystem = create_ecosystem(app, right, &account.id).await;
    let ecosystem = ecosystem.expect("the ecosystem is created").id;
    let id = UserId::parse(&format!("{ecosystem};user")).expect("the id is valid");
    let change = UserChange {
        email: Some(Some(Email::parse(KNOWN).expect("the address is valid"))),
        password: Some(Some(
            Password::parse_new(RIGHT, MinLength::default()).expect("the password is valid"),
        )),
        ..UserChange::default()
    };
    let user = put_user(app, right, UserSlot::of_new(&id, &account.id), change).await;
    user.expect("the user is created");
}

/// Returns the time of a log-in, and the part of this time that the database took.
async fn log_in(app: &App, email: &str, password: &str, status: u16) -> [Duration; 2] {
    let source = Ipv4Addr::from_bits(ATTEMPTS.fetch_add(1, Relaxed));
    let event = Event::to("log-in-with-password")
        .source(&source.to_string())
        .json_body(&json!({ "email": email, "password": password }).to_string());
    INSIDE.store(0, Relaxed);
    let started = Instant::now();
    let answer = event.send(app).await;
    let times = [
        started.elapsed(),
        Duration::from_nanos(INSIDE.load(Relaxed)),
    ];
    assert_eq!(answer.status, status, "{answer:?}");
    times
}

/// Returns a function that computes a hash with the service's parameters, in memory that is already
/// allocated, and then wipes the memory, as the service does. This function returns the time of the
/// hash and the time of the wiping.
fn bare_hash() -> impl FnMut() -> [Duration; 2] {
    let params = Params::new(19_456, 2, 1, None).expect("the parameters are valid");
    let mut memory = vec![Block::new(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    move || {
        let (password, mut out) = (RIGHT.as_bytes(), [0; 32]);
        let started = Instant::now();
        argon2
            .hash_password_into_with_memory(password, &[0; 16], &mut out, &mut memory)
            .expect("the hash is computed");
        let hashed = Instant::now();
        black_box(&mut memory).fill(Block::new());
        [hashed - started, hashed.elapsed()]
    }
}

/// Each item of `times` is a pair. Returns two medians in milliseconds: of the first values of all
/// pairs, and of their second values.
fn medians(times: &[[Duration; 2]]) -> [f64; 2] {
    [0, 1].map(|of| {
        let mut times: Vec<_> = times.iter().map(|both| both[of]).collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    })
}

/// The embedded database. Adds the time of each call to `INSIDE`.
#[derive(Clone, Debug)]
struct Timed(Embedded);

impl HttpConnector for Timed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let started = Instant::now();
        let answer = self.0.call(request).now_or_never();
        let inside =
            u64::try_from(started.elapsed().as_nanos()).expect("the time is less than 500 years");
        INSIDE.fetch_add(inside, Relaxed);
        HttpConnectorFuture::ready(answer.expect("the embedded database answers at once"))
    }
}

impl HttpClient for Timed {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Returns the resident memory of this process and its peak (`VmRSS` and `VmHWM`), in MiB.
fn resident() -> (f64, f64) {
    let status =
        fs::read_to_string("/proc/self/status").expect("the status of the process can be read");
    let read = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<f64>().ok())
            .expect("the status contains the size in kB")
            / 1024.0
    };
    (read("VmRSS:"), read("VmHWM:"))
}
