//! The HTTP edge: API Gateway's events in, responses out, and what every endpoint shares between.

mod credential;
mod event;
pub mod fields;
mod response;

use std::{panic::AssertUnwindSafe, pin::Pin, time::Duration};

use futures_util::FutureExt;
use lambda_http::{Body, Request, RequestExt, Response};

pub use self::{credential::credential, event::respond, response::ok_secret};
use crate::{
    app::App,
    error::{Error, Location, Problem, Result},
    id::{UserId, decode_path_parameter},
};

/// How long a request may take before it is answered 503: whatever the database does, a client
/// hears within 3 seconds.
pub const BUDGET: Duration = Duration::from_millis(2800);

/// The longest body that is read, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// What a handler answers with.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send + 'a>>;

/// An endpoint's handler, as a plain function.
pub type Handler = for<'a> fn(&'a App, Request) -> Answer<'a>;

/// Runs a handler to a response, whatever happens in it: an error, a panic, too much time.
async fn answer(app: &App, handler: Handler, request: Request, endpoint: &str) -> Response<Body> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the log says how long a request took"
    )]
    let started = std::time::Instant::now();
    let request_id = request.lambda_context().request_id;

    let run = AssertUnwindSafe(async { handler(app, request).await }).catch_unwind();
    let result = match tokio::time::timeout(BUDGET, run).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => Err(Error::Internal {
            cause: "a panic".to_owned(),
        }),
        Err(_elapsed) => Err(Error::Unavailable {
            cause: "no answer in time".to_owned(),
        }),
    };

    let (mut response, cause) = match result {
        Ok(response) => (response, None),
        Err(error) => response::of_error(error),
    };
    response::set_request_id(&mut response, &request_id);
    let status = response.status().as_u16();
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    match cause {
        None => tracing::info!(endpoint, status, ms, request_id),
        Some(cause) => tracing::error!(endpoint, status, ms, request_id, cause),
    }
    response
}

/// The user that the path parameter `{id}` names.
///
/// # Errors
/// It is no user's id.
pub fn user_id(request: &Request) -> Result<UserId, Problem> {
    // From the gateway's parameters and not from the URI, which lambda_http folds and re-encodes.
    let parameters = request.path_parameters();
    let raw = parameters.first("id").unwrap_or_default();
    decode_path_parameter(raw)
        .and_then(|text| UserId::parse(&text))
        .map_err(|_invalid| Problem {
            location: Location::Path,
            path: "id",
            message: "invalid user id".into(),
        })
}
