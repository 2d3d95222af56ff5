//! A DynamoDB-compatible database at a URL. The whole test suite can run against this database.

use std::sync::{LazyLock, mpsc};

use aws_smithy_runtime_api::{
    client::{
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use tokio::{runtime::Runtime, task::spawn_blocking};

use crate::pause;

/// One HTTP client for all tests, so that all tests share its connections.
static HTTP: LazyLock<(Runtime, reqwest::Client)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    (runtime.expect("the runtime starts"), reqwest::Client::new())
});

/// The database at the URL in `TOKENRY_TEST_ENDPOINT` (for example, `http://127.0.0.1:8000`). This
/// database must not check the signatures of requests, because the tests send invalid signatures.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// Returns the database of this test run, or `None` if the run uses the embedded database.
    pub(crate) fn of_this_run() -> Option<Self> {
        std::env::var("TOKENRY_TEST_ENDPOINT").ok().map(Self)
    }

    /// Forwards a request. Tokio's clock stands still until the response arrives, so that no test
    /// depends on the speed of the database. To stop the clock, this function pauses it and starts
    /// a blocking task: a paused clock does not jump to the next timer while a blocking task runs.
    pub(crate) async fn call(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let _pause = pause();
        let (_until_dropped, blocked) = mpsc::channel::<()>();
        spawn_blocking(move || blocked.recv());
        let answer = HTTP.0.spawn(send(self.0.clone(), request)).await;
        let answer = answer.expect("the call does not panic");
        answer.map_err(|error| ConnectorError::io(error.into()))
    }
}

async fn send(url: String, request: HttpRequest) -> reqwest::Result<HttpResponse> {
    let mut call = HTTP.1.post(url);
    for (name, value) in request.headers() {
        // reqwest sets these two headers itself.
        if !["content-length", "host"].contains(&name) {
            call = call.header(name, value);
        }
    }
    let body = request.body().bytes().unwrap_or_default().to_vec();
    let answer = call.body(body).send().await?;
    let status = StatusCode::try_from(answer.status().as_u16()).expect("the status is valid");
    let body = answer.bytes().await?;
    Ok(HttpResponse::new(status, SdkBody::from(body.to_vec())))
}
