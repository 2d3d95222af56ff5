//! Sends requests to the API, and turns its error responses into failures.

use std::{collections::HashMap, fmt, io::ErrorKind, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokenry_api::{ApiError, Secret};
use ureq::{
    Agent, Error, Proxy,
    config::AutoHeaderValue,
    http::{
        HeaderMap, HeaderName, Method, Request, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
        request::Builder,
    },
    tls::{RootCerts, TlsConfig},
};
use url::{Url, form_urlencoded::Serializer};
use zeroize::Zeroizing;

use super::{
    failure::{Failure, Kind, controls},
    hint::next_step,
    options::is_loopback,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The maximum length of a response, in bytes. The API's responses are shorter.
const MAX_ANSWER: u64 = 10 * 1024 * 1024;

/// A client for one API.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    /// The API's address, without a trailing `/`.
    url: String,
    token: Option<Secret>,
    timeout: Duration,
    /// What the user can do if the API rejects the token.
    advice: Option<String>,
}

/// The query or body of a request, which may contain a secret.
pub enum Payload {
    /// No query and no body.
    Nothing,
    /// A query string.
    Query(String),
    /// A JSON body.
    Json(Zeroizing<String>),
    /// A form with the field `token` (RFC 7662 and RFC 7009).
    Token(Secret),
}

impl Payload {
    /// Returns a query string with the fields that are not null.
    ///
    /// # Panics
    /// The value does not serialize to a JSON object. The arguments of all commands serialize to
    /// an object.
    pub fn query(given: &impl Serialize) -> Self {
        let given = serde_json::to_value(given).expect("arguments serialize to JSON");
        let fields = given.as_object().expect("arguments serialize to an object");
        let mut query = Serializer::new(String::new());
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let text = value.as_str().map(str::to_owned);
            query.append_pair(name, &text.unwrap_or_else(|| value.to_string()));
        }
        Self::Query(query.finish())
    }

    /// Returns a JSON body.
    ///
    /// # Panics
    /// The value cannot be serialized. All types of `tokenry-api` can be serialized.
    pub fn json(body: &impl Serialize) -> Self {
        Self::Json(
            serde_json::to_string(body)
                .expect("a body serializes to JSON")
                .into(),
        )
    }
}

impl Client {
    pub(super) fn new(url: String, token: Option<Secret>, timeout: Duration) -> Self {
        let roots = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let agent = Agent::config_builder()
            .tls_config(roots.build())
            // A proxy could read the token of an http:// request, but not of an https:// request.
            .proxy(if url.starts_with("https:") {
                Proxy::try_from_env()
            } else {
                None
            })
            // A redirect must not send the token to another address.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .user_agent(AutoHeaderValue::Provided(
                concat!("tokenry/", env!("CARGO_PKG_VERSION"))
                    .to_owned()
                    .into(),
            ))
            .build();
        Self {
            agent: Agent::new_with_config(agent),
            url,
            token,
            timeout,
            advice: None,
        }
    }

    /// Adds this advice to the message of a 401.
    #[must_use]
    pub(super) fn with_advice(mut self, advice: Option<String>) -> Self {
        self.advice = advice;
        self
    }

    /// Returns the API's address, without a trailing `/`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls an endpoint and returns the body of its response.
    ///
    /// # Errors
    /// There is no response, or the response is an error.
    pub fn call(&self, method: Method, path: &str, payload: Payload) -> Result<Body, Failure> {
        let (status, headers, body) = self.exchange(method, path, payload)?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(self.refusal(status, &headers, &body))
        }
    }

    /// Calls an endpoint whose response contains nothing: 204, or `{}`.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Any other response is not from Tokenry, so it does not prove
    /// that the request had an effect.
    pub fn tell(&self, method: Method, path: &str, payload: Payload) -> Result<(), Failure> {
        let (status, headers, body) = self.exchange(method, path, payload)?;
        match (status, body.0.as_str()) {
            (StatusCode::NO_CONTENT, "") | (StatusCode::OK, "{}") => Ok(()),
            _ if status.is_success() => Err(not_tokenry()),
            _ => Err(self.refusal(status, &headers, &body)),
        }
    }

    /// Calls an endpoint like [`Client::call`], but also returns error responses.
    fn exchange(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<(StatusCode, HeaderMap, Body), Failure> {
        let mut uri = format!("{}{path}", self.url);
        let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        let mut request = Request::builder().method(method);
        if let Some(token) = &self.token {
            let header = Zeroizing::new(format!("Bearer {}", token.reveal()));
            request = request.header(AUTHORIZATION, header.as_str());
        }
        let body = match payload {
            Payload::Nothing => has_body.then(Zeroizing::default),
            Payload::Query(query) => {
                if !query.is_empty() {
                    uri = format!("{uri}?{query}");
                }
                has_body.then(Zeroizing::default)
            }
            Payload::Json(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Some(body)
            }
            Payload::Token(token) => {
                request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                let mut form = Serializer::new(String::new());
                form.append_pair("token", token.reveal());
                Some(form.finish().into())
            }
        };
        self.run(request.uri(uri), body)
            .map_err(|error| self.no_answer(&error))
    }

    fn run(
        &self,
        request: Builder,
        body: Option<Zeroizing<String>>,
    ) -> Result<(StatusCode, HeaderMap, Body), Error> {
        let mut answer = match body {
            Some(body) => self.agent.run(request.body(body.as_str())?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let limited = answer.body_mut().with_config().limit(MAX_ANSWER);
        let body = Body(limited.lossy_utf8(true).read_to_string()?.into());
        Ok((answer.status(), answer.headers().clone(), body))
    }

    fn no_answer(&self, error: &Error) -> Failure {
        let url = &self.url;
        match error {
            Error::Timeout(_) => {
                let seconds = self.timeout.as_secs();
                let line = format!("{url} did not respond within {seconds} s");
                Failure::new(Kind::Unavailable, line)
            }
            // rustls reports this error if a server without TLS responds.
            Error::Io(error) if error.to_string().contains("InvalidContentType") => {
                let line = format!("{url} does not use TLS: use http:// for this address");
                Failure::new(Kind::Other, line)
            }
            // rustls reports an untrusted certificate with this kind of error.
            Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                Failure::new(Kind::Other, format!("{url} cannot be trusted: {error}"))
            }
            Error::Io(_) | Error::HostNotFound | Error::ConnectionFailed => {
                let refused = matches!(error, Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused);
                let is_local = Url::parse(url).is_ok_and(|url| is_loopback(&url));
                let advice = if refused && is_local {
                    "; `tokenry serve` starts a local server"
                } else {
                    ""
                };
                let line = format!("cannot reach {url}: {error}{advice}");
                Failure::new(Kind::Unavailable, line)
            }
            other => Failure::new(Kind::Other, format!("the request to {url} failed: {other}")),
        }
    }

    /// Returns the failure for an error response. The failure contains the API's message if the
    /// response has one.
    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &Body) -> Failure {
        let (url, body) = (&self.url, body.0.as_str());
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // A 404 of Tokenry is one line of plain text. For an unknown path, API Gateway responds
        // with JSON, and another server responds with a web page.
        let is_text = header(CONTENT_TYPE).is_some_and(|it| it.starts_with("text/plain"));
        if status == StatusCode::NOT_FOUND && is_text && body.lines().count() == 1 {
            return Failure::new(Kind::NotFound, body).of_response(status, Vec::new());
        }
        let kind = match status.as_u16() {
            400 | 413 => Kind::Usage,
            401 | 403 | 409 | 429 => Kind::Refused,
            502..=504 => Kind::Unavailable,
            _ => Kind::Other,
        };
        let told = serde_json::from_str::<ApiError>(body);
        let mut line = match &told {
            Ok(told) => match next_step(told, headers) {
                Some(step) => format!("{told} ({step})"),
                None => told.to_string(),
            },
            Err(_) if kind == Kind::Other && !status.is_server_error() => {
                format!(
                    "{url} returned {status}, which is not from Tokenry: check the API's address"
                )
            }
            // This response comes from API Gateway, not from a function.
            Err(_) => format!("{url} returned {status}"),
        };
        if let Some(seconds) = header(RETRY_AFTER) {
            line = format!("{line} (retry in {seconds} s)");
        } else if status == StatusCode::UNAUTHORIZED
            && let Some(advice) = &self.advice
        {
            line = format!("{line} ({advice})");
        } else if status.is_server_error()
            && let Some(id) = header(REQUEST_ID)
        {
            line = format!("{line} (request {id})");
        }
        let problems = told.map_or_else(|_| Vec::new(), |told| told.errors);
        Failure::new(kind, line).of_response(status, problems)
    }
}

/// The body of a response, which may contain a secret.
pub struct Body(Zeroizing<String>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Body {
    /// Parses the body.
    ///
    /// # Errors
    /// The body is not JSON of this type.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.0).map_err(|_may_quote_a_secret| not_tokenry())
    }

    /// Returns whether the body is an object with a token or a short code.
    pub fn contains_secret(&self) -> bool {
        let fields = self.parse::<HashMap<String, &RawValue>>();
        fields.is_ok_and(|fields| fields.contains_key("token") || fields.contains_key("shortcode"))
    }

    /// Returns the JSON of the body in one line.
    ///
    /// # Errors
    /// The body is not JSON.
    pub fn line(&self) -> Result<Zeroizing<String>, Failure> {
        let raw: &RawValue = self.parse()?;
        Ok(one_line(raw).into())
    }
}

/// Returns the same JSON in one line that cannot control a terminal: without line breaks, and with
/// the escape sequences of JSON in strings.
pub fn one_line(json: &RawValue) -> String {
    let mut line = String::with_capacity(json.get().len());
    for c in json.get().chars() {
        match c {
            // A JSON string escapes its line breaks and tabs, so these characters are outside
            // strings.
            '\r' | '\n' | '\t' => {}
            c if controls(c) => line.extend(["\\u", &format!("{:04x}", u32::from(c))]),
            c => line.push(c),
        }
    }
    line
}

/// Returns the failure for a response that is not in the API's format.
pub(super) fn not_tokenry() -> Failure {
    let line = "the response is not from Tokenry: check the API's address";
    Failure::new(Kind::Other, line)
}

/// Percent-encodes a segment of a path.
pub fn segment(text: impl fmt::Display) -> String {
    utf8_percent_encode(&text.to_string(), NON_ALPHANUMERIC).to_string()
}
