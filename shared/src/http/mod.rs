//! The HTTP layer: converts API Gateway's events to requests, and results to responses.

mod address;
mod credential;
pub mod cursor;
pub mod ecosystem;
pub mod email_token;
mod event;
pub mod fields;
pub mod list;
pub mod log_in;
mod origin;
mod response;
pub mod token;
pub mod user;

use std::{pin::Pin, time::Duration};

use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{Method, header::IF_NONE_MATCH},
};
use tracing::Instrument;

use self::event::Raw;
pub use self::{
    address::{is_this_machine, public_url},
    credential::{client_credential, credential, of_header},
    event::respond,
    origin::{Origin, back_end},
    response::{created, created_secret, no_content, oauth, ok, ok_cached, ok_secret},
};
use crate::{
    domain::{
        error::{Error, Location, Problem, Result},
        id::{EcosystemId, EnvironmentId, InvalidId, UserId, decode_path_parameter},
        token::TokenId,
    },
    service::{app::App, caller_log, deadline::Deadline, verify::Verified},
};

/// The maximum length of a body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// The future of a handler's result.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send + 'a>>;

/// The handler of an endpoint, as a function pointer.
pub type Handler = for<'a> fn(&'a App, Request) -> Answer<'a>;

/// Runs a handler. Returns the handler's response, or an error response if the handler fails or
/// takes too long.
async fn answer(
    app: &App,
    handler: Handler,
    mut request: Request,
    endpoint: &str,
) -> Response<Body> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the log contains the duration of a request"
    )]
    let started = std::time::Instant::now();
    let request_id = request.lambda_context().request_id;
    let is_head = request.method() == Method::HEAD;
    let route = request.extensions().get::<Raw>();
    let route = route.map(|raw| (raw.method.clone(), raw.route.clone()));
    let (method, path) = route.unwrap_or_default();

    let deadline = Deadline::of_now();
    request.extensions_mut().insert(deadline);
    // The span adds the request id to each log line of the handler.
    let span = tracing::info_span!("request", endpoint, request_id);
    let handling = handler(app, request).instrument(span);
    let outcome = tokio::time::timeout_at(deadline.0, handling).await;
    let result = outcome.unwrap_or_else(|_elapsed| Err(Error::out_of_time()));

    let (mut response, cause) = match result {
        Ok(response) => (response, None),
        Err(error) => response::of_error(error),
    };
    if is_head {
        *response.body_mut() = Body::Empty;
    }
    response::set_request_id(&mut response, &request_id);
    if let Some(metrics) = &app.metrics {
        metrics.count(response.status().as_u16(), &request_id, app.now());
    }
    let status = response.status().as_u16();
    let ms = whole_millis(started.elapsed());
    let caller = caller_log::caller();
    let account = caller.as_ref().map(|caller| caller.account.as_str());
    let ecosystem = caller.as_ref().and_then(Verified::ecosystem);
    let ecosystem = ecosystem.map(EcosystemId::as_str);
    let token_id = caller.as_ref().map(|caller| caller.id.to_string());
    match cause {
        None => {
            tracing::info!(
                method, path, status, ms, endpoint, request_id, account, ecosystem, token_id
            );
        }
        Some(cause) => {
            tracing::error!(
                method, path, status, ms, endpoint, request_id, account, ecosystem, token_id, cause
            );
        }
    }
    response
}

/// Returns a duration in milliseconds, rounded.
pub fn whole_millis(time: Duration) -> u64 {
    let rounded = time + Duration::from_micros(500);
    u64::try_from(rounded.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time by which this request must be answered.
pub fn deadline(request: &Request) -> Deadline {
    let deadline = request.extensions().get::<Deadline>();
    deadline.copied().unwrap_or_else(Deadline::of_now)
}

/// Parses the user id in the path parameter `{id}`.
///
/// # Errors
/// The parameter is not a user id.
pub fn user_id(request: &Request) -> Result<UserId> {
    path_id(request, "id", Error::USER_ID, UserId::parse)
}

/// Returns the ecosystem id at the start of the path parameter `{id}`. The rest of the parameter
/// may be invalid: authorization needs only the ecosystem id, and the caller is authorized before
/// the whole parameter is checked.
pub fn user_ecosystem(request: &Request) -> Option<EcosystemId> {
    let of_user = |text: &str| EcosystemId::parse(text.split(';').next().unwrap_or_default());
    path_id(request, "id", "", of_user).ok()
}

/// Parses the ecosystem id in the path parameter `{ecosystemId}`.
///
/// # Errors
/// The parameter is not an ecosystem id.
pub fn ecosystem_id(request: &Request) -> Result<EcosystemId> {
    path_id(
        request,
        "ecosystemId",
        "invalid ecosystem id",
        EcosystemId::parse,
    )
}

/// Parses the environment id in the path parameter `{environmentId}`.
///
/// # Errors
/// The parameter is not an environment id.
pub fn environment_id(request: &Request) -> Result<EnvironmentId> {
    path_id(
        request,
        "environmentId",
        "invalid environment id",
        EnvironmentId::parse,
    )
}

/// Parses the token id in the path parameter `{tokenId}`.
///
/// # Errors
/// The parameter is not a token id.
pub fn token_id(request: &Request) -> Result<TokenId> {
    path_id(request, "tokenId", "invalid token id", TokenId::parse)
}

/// Returns whether the request has the header `If-None-Match: *`. Then it must only create, not
/// change (RFC 9110 §13.1.2).
///
/// # Errors
/// The header has another value.
pub fn only_if_none_exists(request: &Request) -> Result<bool> {
    let mut values = request.headers().get_all(IF_NONE_MATCH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().trim_ascii() == b"*" => Ok(true),
        _ => Err(Error::from(Problem {
            location: Location::Header,
            path: "If-None-Match",
            message: "field must be *".into(),
        })),
    }
}

/// Parses a path parameter. The text comes from the path parameters in API Gateway's event, not
/// from the URI, because lambda_http normalizes and re-encodes the URI.
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
