//! Builds the responses, with the statuses and the error structure that `openapi.yaml` describes.

use lambda_http::{
    Body, Request, Response,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;
use tokenry_api::{ApiError, Location, Problem};

use super::credential::is_basic;
use crate::domain::error::{self, Error, Result};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Returns 200 with a body.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn ok(value: &impl Serialize) -> Result<Response<Body>> {
    json_of(StatusCode::OK, value)
}

/// Returns 201 with a body.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn created(value: &impl Serialize) -> Result<Response<Body>> {
    json_of(StatusCode::CREATED, value)
}

/// Returns 204.
pub fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Returns 200 with a body that must not be cached, because it contains a secret or says whether a
/// secret is valid.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn ok_secret(value: &impl Serialize) -> Result<Response<Body>> {
    json_of(StatusCode::OK, value).map(not_stored)
}

/// Returns 201 with a body that must not be cached.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn created_secret(value: &impl Serialize) -> Result<Response<Body>> {
    json_of(StatusCode::CREATED, value).map(not_stored)
}

/// Returns 200 with a body that everyone may cache for this many seconds.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn ok_cached(value: &impl Serialize, seconds: u32) -> Result<Response<Body>> {
    let mut response = json_of(StatusCode::OK, value)?;
    let cached = HeaderValue::try_from(format!("public, max-age={seconds}"));
    let cached = cached.map_err(|error| Error::Internal {
        cause: format!("response: {error}"),
    })?;
    response.headers_mut().insert(CACHE_CONTROL, cached);
    Ok(response)
}

fn not_stored(mut response: Response<Body>) -> Response<Body> {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

fn wrong_current_password() -> Response<Body> {
    let problem = Problem {
        location: Some(Location::Body),
        message: "wrong password".to_owned(),
        path: Some("currentPassword".to_owned()),
    };
    with_problems(StatusCode::FORBIDDEN, "Forbidden", vec![problem])
}

/// Returns the response for an error. If the error has a cause, also returns the cause, for the
/// operator's log.
pub(super) fn of_error(error: Error) -> (Response<Body>, Option<String>) {
    match error {
        Error::Unauthorized { token_sent } => {
            let challenge = if token_sent {
                r#"Bearer realm="tokenry", error="invalid_token""#
            } else {
                BEARER
            };
            (unauthorized("a valid token is required", challenge), None)
        }
        Error::WrongPassword => (
            unauthorized("wrong email address or password", BEARER),
            None,
        ),
        Error::WrongCurrentPassword => (wrong_current_password(), None),
        Error::Forbidden => (forbidden(INSUFFICIENT_SCOPE), None),
        Error::InsufficientScope(scope) => {
            let challenge = format!("{INSUFFICIENT_SCOPE}, scope=\"{scope}\"");
            (forbidden(&challenge), None)
        }
        Error::Invalid(problems) => {
            let problems = problems.into_iter().map(Problem::from).collect();
            (bad_request("InvalidParams", problems), None)
        }
        Error::InvalidBody(message) => (
            structured(StatusCode::BAD_REQUEST, "InvalidBody", message),
            None,
        ),
        Error::InvalidCombination { path, message } => {
            let problem = Problem {
                location: None,
                message: message.to_owned(),
                path: Some(path.to_owned()),
            };
            (bad_request("InvalidBody", vec![problem]), None)
        }
        Error::PayloadTooLarge => (
            structured(
                StatusCode::PAYLOAD_TOO_LARGE,
                "PayloadTooLarge",
                "the body is over 16 KiB",
            ),
            None,
        ),
        Error::UnsupportedMediaType(expected) => (
            structured(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                &format!("the content type of the body must be {expected}"),
            ),
            None,
        ),
        Error::NotFound(text) => (with(StatusCode::NOT_FOUND, TEXT, text), None),
        Error::Conflict(message) => (structured(StatusCode::CONFLICT, "Conflict", message), None),
        Error::PreconditionFailed(message) => (
            structured(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                message,
            ),
            None,
        ),
        Error::TooManyRequests { retry_after } => {
            let mut response = structured(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                "too many failed attempts, try again later",
            );
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
            (response, None)
        }
        Error::Unavailable { cause } => {
            let mut response = structured(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "the service is not available, try again",
            );
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, second);
            (response, Some(cause))
        }
        Error::Internal { cause } => (
            structured(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "the request failed",
            ),
            Some(cause),
        ),
    }
}

/// The challenge to a request without a token. Every challenge has a realm (RFC 9110 §11.5).
const BEARER: &str = r#"Bearer realm="tokenry""#;
const INSUFFICIENT_SCOPE: &str = r#"Bearer realm="tokenry", error="insufficient_scope""#;

fn forbidden(challenge: &str) -> Response<Body> {
    let message = "the token does not allow this";
    let response = structured(StatusCode::FORBIDDEN, "Forbidden", message);
    challenged(response, challenge)
}

/// Returns the result of an endpoint that OAuth libraries call. If the result is an error of the
/// client, returns the response that these libraries expect: its body contains the error code
/// `error` in addition to the other fields (RFC 6749 section 5.2). If an OAuth client sent an
/// invalid secret, the challenge is `Basic`.
///
/// # Errors
/// An error that is not an error of the client.
pub fn oauth(request: &Request, result: Result<Response<Body>>) -> Result<Response<Body>> {
    let error = match result {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    let (code, sent_secret) = match error {
        Error::Invalid(_)
        | Error::InvalidBody(_)
        | Error::PayloadTooLarge
        | Error::UnsupportedMediaType(_) => ("invalid_request", false),
        // If there is no header, the token was the secret in the form.
        Error::Unauthorized { token_sent } => {
            let has_header = request.headers().contains_key(AUTHORIZATION);
            (
                "invalid_client",
                is_basic(request) || token_sent && !has_header,
            )
        }
        Error::Forbidden | Error::InsufficientScope(_) => ("insufficient_scope", false),
        other => return Err(other),
    };
    let response = with_code(of_error(error).0, code);
    Ok(if sent_secret {
        challenged(response, r#"Basic realm="tokenry""#)
    } else {
        response
    })
}

/// Adds the error code of OAuth to the body of an error response.
fn with_code(mut response: Response<Body>, code: &str) -> Response<Body> {
    let body = serde_json::from_slice(response.body());
    let body = ApiError {
        error: Some(code.to_owned()),
        ..body.expect("the body of the error is JSON")
    };
    *response.body_mut() = Body::Text(json(&body));
    response
}

fn unauthorized(message: &str, challenge: &str) -> Response<Body> {
    let response = structured(StatusCode::UNAUTHORIZED, "Unauthorized", message);
    challenged(response, challenge)
}

/// Adds the `WWW-Authenticate` challenge, which RFC 6750 §3 requires for a missing or invalid token
/// and for a token without the needed scope.
fn challenged(mut response: Response<Body>, challenge: &str) -> Response<Body> {
    // A scope contains only characters that are allowed in a header.
    if let Ok(challenge) = HeaderValue::from_str(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

pub(super) fn set_request_id(response: &mut Response<Body>, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

fn json_of(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>> {
    let text = serde_json::to_string(value).map_err(|error| Error::Internal {
        cause: format!("response: {error}"),
    })?;
    Ok(with(status, JSON, text))
}

/// Returns the standard error structure with one problem, which is about the whole request.
fn structured(status: StatusCode, error_type: &str, message: &str) -> Response<Body> {
    let problem = Problem {
        location: None,
        message: message.to_owned(),
        path: None,
    };
    with_problems(status, error_type, vec![problem])
}

fn bad_request(error_type: &str, problems: Vec<Problem>) -> Response<Body> {
    with_problems(StatusCode::BAD_REQUEST, error_type, problems)
}

fn with_problems(status: StatusCode, error_type: &str, errors: Vec<Problem>) -> Response<Body> {
    let body = ApiError {
        error_type: error_type.to_owned(),
        errors,
        error: None,
    };
    with(status, JSON, json(&body))
}

fn json(body: &ApiError) -> String {
    serde_json::to_string(body).expect("strings can be written as JSON")
}

impl From<error::Problem> for Problem {
    fn from(problem: error::Problem) -> Self {
        Self {
            location: Some(problem.location),
            message: problem.message.into_owned(),
            path: Some(problem.path.to_owned()),
        }
    }
}

fn with(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Body> {
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
