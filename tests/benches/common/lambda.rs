//! Simulates Lambda's [Runtime API][1]. Through this API, the process of a function asks for events
//! and responds to them.
//!
//! [1]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

#![expect(clippy::disallowed_methods, reason = "a bench measures durations")]

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::client::{http::HttpConnector, orchestrator::HttpRequest};
use aws_smithy_types::body::SdkBody;
use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode},
    routing::{get, post},
};
use tokenry::embedded::{EPHEMERAL, Embedded, IDENTITY};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::{Mutex, mpsc},
};

/// The embedded database, served over HTTP.
pub(crate) struct Database {
    /// The URL of the database.
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn serve(database: Embedded) -> Self {
        let url = serve(Router::new().fallback(call).with_state(database)).await;
        Self {
            url: format!("http://{url}"),
        }
    }
}

async fn call(State(database): State<Embedded>, request: Request) -> Response<axum::body::Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX)
        .await
        .expect("the body can be read");
    let request = axum::http::Request::from_parts(parts, SdkBody::from(body));
    let request = HttpRequest::try_from(request).expect("the request is valid");
    let answer = database
        .call(request)
        .await
        .expect("the database returns a response");
    let status = answer.status().as_u16();
    let body = answer
        .body()
        .bytes()
        .expect("the body is in memory")
        .to_vec();
    Response::builder()
        .status(status)
        .body(body.into())
        .expect("the response is valid")
}

/// Serves on a free port until the process ends. Returns the address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener
        .local_addr()
        .expect("the listener has an address")
        .to_string();
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

/// The process of a function, and the channels to the process. The process starts in the same way
/// as in Lambda.
pub(crate) struct Function {
    _process: Child,
    events: mpsc::Sender<String>,
    questions: mpsc::Receiver<()>,
    answers: mpsc::Receiver<Bytes>,
}

/// The ends of the channels that the simulation of Lambda uses.
struct Runtime {
    events: Mutex<mpsc::Receiver<String>>,
    questions: mpsc::Sender<()>,
    answers: mpsc::Sender<Bytes>,
}

impl Function {
    /// Starts the binary. Returns when the process asks for its first event.
    pub(crate) async fn start(binary: &Path, handler: &str, database: &str) -> Self {
        let (events, to_come) = mpsc::channel(1);
        let (asked, questions) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let runtime = Arc::new(Runtime {
            events: Mutex::new(to_come),
            questions: asked,
            answers: answered,
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{id}/response",
                post(response),
            )
            .with_state(runtime);
        let api = serve(router).await;
        let process = Command::new(binary)
            // The process gets only environment variables that Lambda, the template or this bench
            // sets.
            .env_clear()
            .env("_HANDLER", handler)
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .env("AWS_LAMBDA_FUNCTION_NAME", handler)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_ENDPOINT_URL_DYNAMODB", database)
            .env("TOKENRY_IDENTITY_TABLE", IDENTITY)
            .env("TOKENRY_EPHEMERAL_TABLE", EPHEMERAL)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let mut function = Self {
            _process: process,
            events,
            questions,
            answers,
        };
        function
            .questions
            .recv()
            .await
            .expect("the process asks for an event");
        function
    }

    /// Sends an event and returns the time until the response arrives. The response must have the
    /// status 200.
    pub(crate) async fn invoke(&mut self, event: &str) -> Duration {
        let started = Instant::now();
        self.events
            .send(event.to_owned())
            .await
            .expect("the function waits for an event");
        let answer = self
            .answers
            .recv()
            .await
            .expect("the function sends a response");
        let took = started.elapsed();
        let text = str::from_utf8(&answer).expect("the response is text");
        assert!(text.contains(r#""statusCode":200"#), "{text}");
        self.questions
            .recv()
            .await
            .expect("the process asks for the next event");
        took
    }
}

async fn next(State(runtime): State<Arc<Runtime>>) -> (HeaderMap, String) {
    runtime
        .questions
        .send(())
        .await
        .expect("the bench is still running");
    let event = runtime.events.lock().await.recv().await;
    let headers = [
        (
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        ),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:f",
        ),
    ];
    let headers = headers.map(|(name, value)| {
        (
            name.parse().expect("the name of the header is valid"),
            value.parse().expect("the value of the header is valid"),
        )
    });
    (headers.into_iter().collect(), event.unwrap_or_default())
}

async fn response(State(runtime): State<Arc<Runtime>>, answer: Bytes) -> StatusCode {
    // Sending fails if the `Function` was dropped. Nobody waits for the response then.
    let _ = runtime.answers.send(answer).await;
    StatusCode::ACCEPTED
}
