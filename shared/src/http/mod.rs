//! The HTTP edge: API Gateway's events in, responses out, and what every endpoint shares between.

mod credential;
pub mod cursor;
pub mod email_token;
mod event;
pub mod fields;
mod origin;
mod response;
pub mod token;
pub mod user;

use std::pin::Pin;

use lambda_http::{Body, Request, RequestExt, Response};
use tracing::Instrument;

pub use self::{
    credential::{credential, of_header},
    event::respond,
    origin::{Origin, back_end},
    response::{created, created_secret, no_content, ok, ok_empty, ok_secret},
};
use crate::{
    domain::{
        error::{Error, Result},
        id::{EcosystemId, EnvironmentId, InvalidId, UserId, decode_path_parameter},
        token::TokenId,
    },
    service::{app::App, deadline::Deadline},
};

/// The longest body that is read, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// How many fields of a form are read: forms are parsed before the caller is known.
pub const MAX_FORM_FIELDS: usize = 16;

/// What a handler answers with.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send + 'a>>;

/// An endpoint's handler, as a plain function.
pub type Handler = for<'a> fn(&'a App, Request) -> Answer<'a>;

/// Runs a handler to a response, whatever comes of it: an error, or too much time.
async fn answer(
    app: &App,
    handler: Handler,
    mut request: Request,
    endpoint: &str,
) -> Response<Body> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the log says how long a request took"
    )]
    let started = std::time::Instant::now();
    let request_id = request.lambda_context().request_id;

    let deadline = Deadline::of_now();
    request.extensions_mut().insert(deadline);
    // What is logged meanwhile says of which request it is.
    let span = tracing::info_span!("request", endpoint, request_id);
    let handling = handler(app, request).instrument(span);
    let outcome = tokio::time::timeout_at(deadline.0, handling).await;
    let result = outcome.unwrap_or_else(|_elapsed| Err(Error::out_of_time()));

    let (mut response, cause) = match result {
        Ok(response) => (response, None),
        Err(error) => response::of_error(error),
    };
    response::set_request_id(&mut response, &request_id);
    if let Some(metrics) = &app.metrics {
        metrics.count(response.status().as_u16(), &request_id, app.now());
    }
    let status = response.status().as_u16();
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    match cause {
        None => tracing::info!(endpoint, status, ms, request_id),
        Some(cause) => tracing::error!(endpoint, status, ms, request_id, cause),
    }
    response
}

/// When this request must have been answered.
pub fn deadline(request: &Request) -> Deadline {
    let deadline = request.extensions().get::<Deadline>();
    deadline.copied().unwrap_or_else(Deadline::of_now)
}

/// The user that the path parameter `{id}` names.
///
/// # Errors
/// It is no user's id.
pub fn user_id(request: &Request) -> Result<UserId> {
    path_id(request, "id", Error::USER_ID, UserId::parse)
}

/// The ecosystem of the user that the path parameter `{id}` names, though the name be none: whether
/// the caller has a right to it is decided before that.
pub fn user_ecosystem(request: &Request) -> Option<EcosystemId> {
    let of_user = |text: &str| EcosystemId::parse(text.split(';').next().unwrap_or_default());
    path_id(request, "id", "", of_user).ok()
}

/// The ecosystem that the path parameter `{ecosystemId}` names.
///
/// # Errors
/// It is no ecosystem's id.
pub fn ecosystem_id(request: &Request) -> Result<EcosystemId> {
    path_id(
        request,
        "ecosystemId",
        "invalid ecosystem id",
        EcosystemId::parse,
    )
}

/// The environment that the path parameter `{environmentId}` names.
///
/// # Errors
/// It is no environment's id.
pub fn environment_id(request: &Request) -> Result<EnvironmentId> {
    path_id(
        request,
        "environmentId",
        "invalid environment id",
        EnvironmentId::parse,
    )
}

/// The token that the path parameter `{tokenId}` names.
///
/// # Errors
/// It is no token's id.
pub fn token_id(request: &Request) -> Result<TokenId> {
    path_id(request, "tokenId", "invalid token id", TokenId::parse)
}

/// Reads a path parameter, from the gateway's parameters and not from the URI, which lambda_http
/// folds and re-encodes.
fn path_id<T>(
    request: &Request,
    name: &'static str,
    message: &'static str,
    parse: impl FnOnce(&str) -> Result<T, InvalidId>,
) -> Result<T> {
    let parameters = request.path_parameters();
    let raw = parameters.first(name).unwrap_or_default();
    decode_path_parameter(raw)
        .and_then(|text| parse(&text))
        .map_err(|InvalidId| Error::invalid_path(name, message))
}
