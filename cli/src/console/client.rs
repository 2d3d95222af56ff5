//! Requests to the API, and what its refusals mean to a person.

use std::{fmt, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
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
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::{
    failure::{Failure, Kind},
    secret::Secret,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// More than any answer of the API.
const MAX_ANSWER: u64 = 10 * 1024 * 1024;

/// The way to one API.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    /// Without a `/` at its end.
    url: String,
    token: Option<Secret>,
    timeout: Duration,
}

/// What is sent besides method and path, which may hold a secret.
pub enum Payload {
    /// Nothing.
    Nothing,
    /// A query string.
    Query(Map<String, Value>),
    /// A body in JSON.
    Json(Map<String, Value>),
    /// The form with a token, as RFC 7662 and RFC 7009 have it.
    Token(Secret),
}

impl Client {
    pub(super) fn new(url: String, token: Option<Secret>, timeout: Duration) -> Self {
        let roots = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let agent = Agent::config_builder()
            .tls_config(roots.build())
            // A proxy sees nothing of what goes over TLS, and all else.
            .proxy(if url.starts_with("https:") {
                Proxy::try_from_env()
            } else {
                None
            })
            // The token is for this address only.
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
        }
    }

    /// The address, without a `/` at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls an endpoint: the body of its answer.
    ///
    /// # Errors
    /// What is in the way, or why the API refuses.
    pub fn call(&self, method: Method, path: &str, payload: Payload) -> Result<Body, Failure> {
        let (status, headers, body) = self.exchange(method, path, payload)?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(self.refusal(status, &headers, &body))
        }
    }

    /// As [`Client::call`], but a refusal is an answer too.
    ///
    /// # Errors
    /// There is no answer.
    pub fn exchange(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<(StatusCode, HeaderMap, Body), Failure> {
        let mut uri = format!("{}{path}", self.url);
        let has_body = method == Method::POST || method == Method::PUT;
        let mut request = Request::builder().method(method);
        if let Some(token) = &self.token {
            let header = Zeroizing::new(format!("Bearer {}", token.reveal()));
            request = request.header(AUTHORIZATION, header.as_str());
        }
        let body = match payload {
            Payload::Nothing => has_body.then(Zeroizing::default),
            Payload::Query(fields) => {
                let mut query = Serializer::new(String::new());
                for (name, value) in &fields {
                    let value = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    query.append_pair(name, &value);
                }
                if !fields.is_empty() {
                    uri = format!("{uri}?{}", query.finish());
                }
                has_body.then(Zeroizing::default)
            }
            Payload::Json(fields) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Some(Value::Object(fields).to_string().into())
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
                let line = format!("{url} did not answer within {seconds} s");
                Failure::new(Kind::Unavailable, line)
            }
            // How rustls reports a certificate that it does not trust.
            Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Failure::new(Kind::Other, format!("{url} cannot be trusted: {error}"))
            }
            Error::Io(_) | Error::HostNotFound | Error::ConnectionFailed => {
                Failure::new(Kind::Unavailable, format!("cannot reach {url}: {error}"))
            }
            other => Failure::new(Kind::Other, format!("cannot talk to {url}: {other}")),
        }
    }

    /// What a status that is no success means, in the API's own words where it has some.
    pub fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &Body) -> Failure {
        let (url, body) = (&self.url, body.0.as_str());
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // API Gateway tells of a path that it does not know in JSON, other servers in pages.
        let is_text = header(CONTENT_TYPE).is_some_and(|it| it.starts_with("text/plain"));
        if status == StatusCode::NOT_FOUND && is_text && body.lines().count() == 1 {
            return Failure::new(Kind::NotFound, body);
        }
        let kind = match status.as_u16() {
            400 | 413 => Kind::Usage,
            401 | 403 | 409 | 429 => Kind::Refused,
            502..=504 => Kind::Unavailable,
            _ => Kind::Other,
        };
        let mut line = match serde_json::from_str::<Refusal>(body) {
            Ok(told) => told.line(),
            Err(_) if kind == Kind::Other && !status.is_server_error() => {
                format!("{url} answers {status} and not as Tokenry does: is it the API's address?")
            }
            // API Gateway's own.
            Err(_) => format!("{url} answers {status}"),
        };
        if let Some(seconds) = header(RETRY_AFTER) {
            line = format!("{line} (again in {seconds} s)");
        } else if status.is_server_error()
            && let Some(id) = header(REQUEST_ID)
        {
            line = format!("{line} (request {id})");
        }
        Failure::new(kind, line)
    }
}

/// The body of an answer, which may hold a secret.
pub struct Body(Zeroizing<String>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Body {
    /// What the body says.
    ///
    /// # Errors
    /// It is not JSON of that shape.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.0).map_err(|_may_quote_it| {
            let line = "the answer is not Tokenry's: is it the API's address?";
            Failure::new(Kind::Other, line)
        })
    }

    /// The JSON as it came, in one line.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn line(&self) -> Result<Zeroizing<String>, Failure> {
        let raw: &RawValue = self.parse()?;
        // Within a string JSON has no line break.
        Ok(raw.get().replace(['\r', '\n'], "").into())
    }
}

/// The API's error structure.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "errorType")]
    error_type: String,
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    path: Option<String>,
    message: String,
}

impl Refusal {
    fn line(&self) -> String {
        let problems = self.errors.iter().map(|problem| match &problem.path {
            Some(path) => format!("{path}: {}", problem.message),
            None => problem.message.clone(),
        });
        let problems: Vec<_> = problems.collect();
        format!("{}: {}", self.error_type, problems.join("; "))
    }
}

/// A segment of a path.
pub fn segment(text: impl fmt::Display) -> String {
    utf8_percent_encode(&text.to_string(), NON_ALPHANUMERIC).to_string()
}

/// The fields of a request, without those that are not given.
///
/// # Panics
/// What is given has no names, as no command's arguments are.
pub fn fields(given: &impl Serialize) -> Map<String, Value> {
    let given = serde_json::to_value(given).expect("arguments are JSON");
    let Value::Object(fields) = given else {
        unreachable!("arguments have names")
    };
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    given.collect()
}
