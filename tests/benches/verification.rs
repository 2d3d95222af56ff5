//! Measures how many microseconds one verification takes outside the database, on one thread:
//! `cargo bench -p tests --bench verification`. Run this command in `functions/`, so that cargo
//! optimises the bench like the Lambda binary.
//!
//! A verification is the introspection of a user's FixedTtl token with the account's token, from
//! the event to the bytes of the response. Time inside the SDK's HTTP connector belongs to the
//! database and is not counted. To find the SDK's share of the time, the bench also makes the same
//! database call directly with the AWS SDK, and measures this call in the same way. The bench also
//! measures a decision of the Lambda authorizer `authorize`, in the same way.
//!
//! The bench uses two databases: the embedded database, and a database that only repeats a
//! response. The work of the embedded database evicts data from the processor's caches, so this
//! work also slows the code outside the database.

#![expect(clippy::disallowed_methods, reason = "a bench measures durations")]

mod common {
    pub(crate) mod demo;
    pub(crate) mod reads;
}

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use common::{
    demo,
    reads::{self, read, verification},
};
use functions::{authorize, endpoints};
use futures_util::FutureExt;
use lambda_http::{Context, LambdaEvent};
use serde_json::{Value, json, value::to_raw_value};
use shared::{domain::token::PlainToken, http::respond, store::identity::Key};
use tests::Event;
use tokenry::embedded::{self, Embedded};

/// The number of measurements of each kind.
const RUNS: usize = 10_000;
/// The goal: our own work in a verification, which is the median time without the SDK's share,
/// should take less than this number of microseconds.
const GOAL: f64 = 50.0;

// One thread, as in a Lambda function.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let database = Timed::new(Embedded::in_memory().expect("the database is created"));
    let client = embedded::client(database.clone());
    let (app, account_token, _, user_token) = demo::start(client.clone()).await;
    let keys = verification(&account_token, &user_token);

    let endpoint = endpoints()
        .find(|endpoint| endpoint.name == "introspect-token")
        .expect("the endpoint exists");
    let event = Event::to(endpoint.name)
        .header("authorization", account_token.reveal())
        .form(&format!("token={}", user_token.reveal()));
    let payload = to_raw_value(&event.json).expect("the event serializes to JSON");
    let verify = async || {
        let event = LambdaEvent::new(payload.clone(), Context::default());
        let Ok(answer) = respond(&app, endpoint.name, endpoint.handler, event).await;
        serde_json::to_string(&answer).expect("the response serializes to JSON")
    };

    // The event that an HTTP API sends to the authorizer, with the user's token.
    let text = include_str!("../events/authorizer-http-2.0.json");
    let mut event: Value = serde_json::from_str(text).expect("the example event is JSON");
    event["identitySource"] = json!([user_token.reveal()]);
    let payload = to_raw_value(&event).expect("the event serializes to JSON");
    let authorize = async || {
        let event = LambdaEvent::new(payload.clone(), Context::default());
        let decision = authorize::handle(&app, event)
            .await
            .expect("the authorizer returns a decision");
        serde_json::to_string(&decision).expect("the decision serializes to JSON")
    };
    let own = [Key::owner(user_token.owner()), Key::of(&user_token)];

    let whole = database.median_outside(authorize).await;
    assert!(authorize().await.contains(r#""isAuthorized":true"#));
    let own = reads::keys(own);
    let sdk = database
        .median_outside(async || read(&client, &own, 2).await)
        .await;
    print("authorize", "the embedded database", whole, sdk);

    for what in ["the embedded database", "a repeated response"] {
        let whole = database.median_outside(verify).await;
        let answer = verify().await;
        assert!(answer.contains(r#"\"active\":true"#), "{answer}");
        let sdk = database
            .median_outside(async || read(&client, &keys, 4).await)
            .await;
        print("introspect-token", what, whole, sdk);
        database.repeat();
    }
    let parse = async || PlainToken::parse(user_token.reveal()).map(|token| token.hashed());
    let parse = database.median_outside(parse).await;
    println!("our own work includes {parse:.1} us to parse and hash each token");
}

fn print(endpoint: &str, what: &str, whole: f64, sdk: f64) {
    println!(
        "{endpoint} with {what}: {whole:.1} us outside the database, of which {sdk:.1} us for the \
         SDK's call and {:.1} us for our own work (goal: under {GOAL})",
        whole - sdk,
    );
}

/// The embedded database. Measures the time of each call.
#[derive(Clone, Debug)]
struct Timed {
    embedded: Embedded,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    nanoseconds: AtomicU64,
    /// The last response.
    last: Mutex<Vec<u8>>,
    /// Whether every call from now on gets the last response.
    repeats: AtomicBool,
}

impl Timed {
    fn new(embedded: Embedded) -> Self {
        let state = Arc::default();
        Self { embedded, state }
    }

    fn repeat(&self) {
        self.state.repeats.store(true, Ordering::Relaxed);
    }

    /// Returns the median time of the work outside the database, in microseconds.
    async fn median_outside<T>(&self, work: impl AsyncFn() -> T) -> f64 {
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            self.state.nanoseconds.store(0, Ordering::Relaxed);
            let started = Instant::now();
            black_box(work().await);
            let took = started.elapsed();
            let inside = self.state.nanoseconds.load(Ordering::Relaxed);
            times.push(took.saturating_sub(Duration::from_nanos(inside)));
        }
        times.sort_unstable();
        times[RUNS / 2].as_secs_f64() * 1e6
    }

    fn answer(&self, request: HttpRequest) -> Vec<u8> {
        let mut last = self.state.last.lock().expect("no call panics");
        if !self.state.repeats.load(Ordering::Relaxed) {
            let answer = self.embedded.call(request).now_or_never();
            let answer = answer
                .expect("the database answers at once")
                .expect("the database returns a response");
            *last = answer
                .body()
                .bytes()
                .expect("the body is in memory")
                .to_vec();
        }
        last.clone()
    }
}

impl HttpConnector for Timed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let started = Instant::now();
        let answer = SdkBody::from(self.answer(request));
        let ok = StatusCode::try_from(200).expect("the status is valid");
        let answer = HttpConnectorFuture::ready(Ok(HttpResponse::new(ok, answer)));
        let inside =
            u64::try_from(started.elapsed().as_nanos()).expect("the time is less than 500 years");
        self.state.nanoseconds.store(inside, Ordering::Relaxed);
        answer
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
