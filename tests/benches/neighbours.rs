//! Shows that an attack on one tenant does not disturb another tenant:
//! `cargo bench -p tests --bench neighbours`.
//!
//! An attacker sends requests with forged, dead (revoked) or valid server tokens of tenant A, at
//! 10, 100 and 1,000 times the rate that a partition can serve. At the same time, the back end of
//! tenant A and the back end of tenant B introspect tokens of users. The database has DynamoDB's
//! limits for each partition. The time is virtual, so the results do not depend on the machine.
//!
//! The bench fails if a protection does not work, and names the protection: the tag of tokens, the
//! memory of dead tokens, or load shedding. It prints a table for
//! `docs/explanation/neighbours.md`.

#![expect(
    clippy::disallowed_methods,
    reason = "the bench measures and passes virtual time"
)]

use std::{process::ExitCode, time::Duration};

use functions::{Endpoint, endpoints};
use futures_util::future::{join_all, join3};
use lambda_http::{Context, LambdaEvent};
use serde_json::{json, value::to_raw_value};
use shared::{
    App,
    domain::{
        owner::Ecosystem,
        token::{ExpiryType, PlainToken},
    },
    http::respond,
    store::identity::Key,
};
use tests::{
    Call, Event, Service,
    partitions::{LATENCY, READS},
    pause,
};
use tokio::time::{Instant, sleep};

/// The number of execution environments. Unlike in Lambda, each one serves many requests at once.
/// So the bench does not simulate the limit on the concurrency of an AWS account.
const ENVIRONMENTS: u32 = 50;
/// The number of the attacker's requests in each attack.
const ATTACKS: u32 = 3_000;
/// The number of requests of each tenant's back end during an attack.
const REQUESTS: u32 = 50;
/// The verifications that a partition serves in a second: each one reads an owner and a token.
const CAPACITY: f64 = READS / 2.0;
/// The rates of the attacks, as multiples of [`CAPACITY`].
const RATES: [u32; 3] = [10, 100, 1000];

/// A tenant. For each request of the tenant's back end, the list contains the server token that is
/// the request's credential, and the user token that the request introspects. All these tokens
/// differ, so that the reads of the requests can be told apart.
struct Tenant(Vec<[String; 2]>);

impl Tenant {
    async fn new(service: &Service, ecosystem: &Ecosystem, account: &str) -> Self {
        let mut requests = Vec::new();
        for number in 0..REQUESTS {
            let id = format!("{};user{number}", ecosystem.id.as_str());
            let put = Event::to("put-user").json_body("{}");
            let mint = Event::to("create-user-token").query("expiryType=Infinite");
            let send = async |event: Event| {
                let event = event.header("authorization", account);
                event.parameter("id", &id).send(&service.app).await
            };
            assert_eq!(send(put).await.status, 201);
            let server = service.token_of(ecosystem, ExpiryType::Infinite).await;
            requests.push([server, send(mint).await.token()]);
        }
        Self(requests)
    }
}

/// A response to a back end, and how long it took.
struct Answered {
    status: u16,
    retry_after: bool,
    took: Duration,
}

/// Sends an introspection. Does not check the response against `openapi.yaml`, because the check
/// would take most of the bench's time.
async fn introspect(app: &App, credential: &str, token: &str) -> Answered {
    let event = Event::to("introspect-token").header("authorization", credential);
    let event = event.form(&format!("token={token}"));
    let payload = to_raw_value(&event.json).expect("an event is JSON");
    let Endpoint { name, handler, .. } = endpoints()
        .find(|endpoint| endpoint.name == "introspect-token")
        .expect("the endpoint exists");
    let started = Instant::now();
    let event = LambdaEvent::new(payload, Context::default());
    let Ok(answer) = respond(app, name, handler, event).await;
    let answer = json!(answer);
    let status = answer["statusCode"]
        .as_u64()
        .expect("the response has a status");
    Answered {
        status: u16::try_from(status).expect("the status is valid"),
        retry_after: !answer["headers"]["retry-after"].is_null(),
        took: started.elapsed(),
    }
}

/// Sends the requests of a tenant's back end, spread over this time.
async fn back_end(environments: &[App], tenant: &Tenant, during: Duration) -> Vec<Answered> {
    let requests = (0..).zip(&tenant.0).zip(environments.iter().cycle());
    let requests = requests.map(async |((number, [server, user]), app)| {
        sleep(during * number / REQUESTS).await;
        introspect(app, server, user).await
    });
    join_all(requests).await
}

/// Returns the number of reads that each request of a tenant's back end made. A read belongs to a
/// request if the read contains the id of one of the request's two tokens. This is also true for a
/// read that repeats only unprocessed keys, because a server token is in the same partition as its
/// owner.
fn reads(calls: &[Call], tenant: &Tenant) -> Vec<usize> {
    let texts: Vec<_> = calls.iter().map(|call| call.request.to_string()).collect();
    let id =
        |token: &str| Key::of(&PlainToken::parse(token).expect("the token is well-formed")).item;
    let reads = |[server, user]: &[String; 2]| {
        let ids = [id(server), id(user)];
        let is_own = |text: &&String| ids.iter().any(|id| text.contains(id));
        texts.iter().filter(is_own).count()
    };
    tenant.0.iter().map(reads).collect()
}

/// Changes the last random byte of a token, and corrects the checksum.
fn forged(token: &str) -> String {
    let (covered, _) = token.split_at(token.len() - 6);
    // The last 11 digits encode 4 random bytes and the tag.
    let (rest, last) = covered.split_at(covered.len() - 11);
    let number = base62::decode(last).expect("the digits are base62") ^ (1 << 32);
    let covered = format!("{rest}{:0>11}", base62::encode_fmt(number));
    let sum = crc32fast::hash(covered.as_bytes());
    format!("{covered}{:0>6}", base62::encode_fmt(sum))
}

/// Revokes this token and returns it.
async fn dead(service: &Service, token: String) -> String {
    let revoke = Event::to("revoke-token").form(&format!("token={token}"));
    assert_eq!(revoke.send(&service.app).await.status, 200);
    token
}

/// A row of the table, and the protections that did not work.
struct Outcome {
    row: String,
    failed: Vec<&'static str>,
}

/// Attacks tenant A with this token, at this multiple of [`CAPACITY`]. Measures the requests of the
/// back ends of both tenants during the attack.
async fn attack(
    service: &Service,
    [a, b]: [&Tenant; 2],
    (kind, token): (&str, &str),
    rate: u32,
) -> Outcome {
    let environments: Vec<_> = (0..ENVIRONMENTS)
        .map(|_| service.another_environment())
        .collect();
    for app in &environments {
        // Each environment is warm: it has read what it reads during init, and it has verified a
        // token of each tenant.
        for Tenant(requests) in [a, b] {
            let [server, user] = &requests[0];
            introspect(app, server, user).await;
        }
    }
    // Start a new second, so that the reads above do not count in the limits of the attack.
    service.clock.advance(1);
    service.database.take_calls();

    let during = Duration::from_secs_f64(f64::from(ATTACKS) / (CAPACITY * f64::from(rate)));
    let attacks = (0..ATTACKS).zip(environments.iter().cycle());
    let attacks = attacks.map(async |(number, app)| {
        sleep(during * number / ATTACKS).await;
        introspect(app, token, "none").await
    });
    let (_, of_a, of_b) = join3(
        join_all(attacks),
        back_end(&environments, a, during),
        back_end(&environments, b, during),
    )
    .await;

    let calls = service.database.take_calls();
    let (reads_a, reads_b) = (reads(&calls, a), reads(&calls, b));
    let own: usize = reads_a.iter().chain(&reads_b).sum();
    let attacker = u32::try_from(calls.len() - own).expect("fewer calls than 2^32");
    let slowest = |answers: &[Answered]| answers.iter().map(|answer| answer.took).max();
    let (slowest_a, slowest_b) = (slowest(&of_a).unwrap(), slowest(&of_b).unwrap());
    let most_a = reads_a.iter().max().copied().unwrap_or_default();
    let succeeded =
        |answers: &[Answered]| answers.iter().filter(|answer| answer.status == 200).count();

    let mut failed = Vec::new();
    if kind == "forged" && attacker > 0 {
        failed.push("the tag: forged tokens cause reads");
    }
    // Each environment may read the token again while its first read is in progress.
    if kind == "dead" && rate == RATES[0] && attacker > 3 * ENVIRONMENTS {
        failed.push("the memory of dead tokens: they cause reads again and again");
    }
    let is_shed =
        |answer: &Answered| answer.status == 200 || answer.status == 503 && answer.retry_after;
    if !of_a.iter().all(is_shed) || slowest_a > Duration::from_millis(400) || most_a > 3 {
        failed.push("load shedding: requests of tenant A wait or read too much");
    }
    // Timers have a resolution of a millisecond.
    let round_trip = LATENCY + Duration::from_millis(2);
    if succeeded(&of_b) < of_b.len() || slowest_b > round_trip || reads_b.iter().any(|n| *n != 1) {
        failed.push("the isolation of tenants: requests of tenant B fail or wait");
    }
    let percent = |answers: &[Answered]| 100 * succeeded(answers) / answers.len();
    let row = format!(
        "| {kind} | {rate} | {:.2} | {} % | {} ms | {most_a} | {} % | {} ms |",
        f64::from(attacker) / f64::from(ATTACKS),
        percent(&of_a),
        slowest_a.as_millis(),
        percent(&of_b),
        slowest_b.as_millis(),
    );
    Outcome { row, failed }
}

// The runtime has only one thread, because only such a runtime can pause its clock.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let service = Service::start().await;
    let (account_b, ecosystem_b) = service.another_account().await;
    let a = Tenant::new(&service, &service.ecosystem, &service.account_token).await;
    let b = Tenant::new(&service, &ecosystem_b, &account_b).await;
    let another = async || {
        service
            .token_of(&service.ecosystem, ExpiryType::Infinite)
            .await
    };
    let tokens = [
        ("forged", forged(&another().await)),
        ("dead", dead(&service, another().await).await),
        ("valid", another().await),
    ];
    let _paused = pause();
    service.database.limit_partitions(&service.clock);

    let mut exit_code = ExitCode::SUCCESS;
    for (kind, token) in &tokens {
        for rate in RATES {
            let Outcome { row, failed } = attack(&service, [&a, &b], (kind, token), rate).await;
            println!("{row}");
            for failure in failed {
                println!("FAILED: {failure}");
                exit_code = ExitCode::FAILURE;
            }
        }
    }
    exit_code
}
