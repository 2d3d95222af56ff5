//! The local gateway: serves every endpoint on one listener, like an HTTP API of API Gateway.
//!
//! The gateway converts each request to an event of API Gateway (payload format 2.0), and passes
//! the event to the code that also runs in a deployment.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, MatchedPath, Request},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{CONNECTION, CONTENT_TYPE, HOST},
        request::Parts,
        uri::Authority,
    },
    middleware::{Next, from_fn},
    response::Response,
    routing::{MethodFilter, on},
    serve::Listener,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use functions::{Endpoint, endpoints};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use lambda_http::{
    Body as EventBody, Context, LambdaEvent, aws_lambda_events::apigw::ApiGatewayV2httpResponse,
};
use percent_encoding::percent_decode_str;
use rand::Rng;
use serde::Serialize;
use serde_json::{json, value::to_raw_value};
use shared::{
    App,
    http::{is_this_machine, respond, whole_millis},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::page;

/// The maximum length of a request body in API Gateway, in bytes.
const MAX_PAYLOAD: usize = 10 * 1024 * 1024;

/// What the gateway allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A client has this much time to send the headers of a request, and the same time to send the
    /// body. An idle connection is closed after this time. A connection is also closed if its
    /// client reads no byte of a response for this time.
    pub patience: Duration,
    /// The maximum number of connections at the same time. Further connections wait.
    pub connections: usize,
    /// Whether the `Host` of a request may name another machine.
    pub any_host: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Connection pools of clients expect that an idle connection stays open for some
            // seconds. A slow network needs less than this time for a page of Swagger UI.
            patience: Duration::from_secs(30),
            // Fewer than 1,024, the default limit of open files on many systems.
            connections: 900,
            any_host: false,
        }
    }
}

/// Serves every endpoint and the API's page on this listener. After `stop` completes, answers the
/// requests in progress and returns.
pub async fn run(
    app: Arc<App>,
    mut listener: TcpListener,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let routes = routes(&app, limits);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.patience);
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut is_full = false;
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            if places.available_permits() > 0 {
                is_full = false;
            } else if !is_full {
                is_full = true;
                let connections = limits.connections;
                tracing::warn!(connections, "no connection is free: new connections wait");
            }
            let place = places.clone().acquire_owned().await;
            // If accept fails, axum's implementation tries again after a second.
            (Listener::accept(&mut listener).await, place)
        };
        let ((stream, peer), place) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.patience));
        let routes = routes.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            routes.clone().oneshot(request.map(Body::new))
        });
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // An error means that the client is slow, went away, or does not speak HTTP.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

fn routes(app: &Arc<App>, limits: Limits) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let method = MethodFilter::try_from(endpoint.method.clone())
            .expect("axum can route the method of every endpoint");
        let method = if endpoint.head {
            method.or(MethodFilter::HEAD)
        } else {
            method
        };
        let app = app.clone();
        let handle = async move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request| {
            pass(&app, endpoint, peer, request, limits.patience).await
        };
        router = router.route(endpoint.path, on(method, handle));
    }
    let router = router
        .merge(page::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found);
    let router = if limits.any_host {
        router
    } else {
        router.layer(from_fn(only_this_machine))
    };
    router.layer(from_fn(log_line))
}

/// Marks the response to a request that already has its log line.
#[derive(Clone, Copy)]
struct Logged;

/// Writes the log line of a request that reaches no endpoint. The path and the method of such a
/// request may contain a secret, so the line contains only words that Tokenry knows.
async fn log_line(request: Request, next: Next) -> Response {
    #[expect(
        clippy::disallowed_methods,
        reason = "the log contains the duration of a request"
    )]
    let started = std::time::Instant::now();
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = methods
        .into_iter()
        .find(|method| request.method() == *method)
        .unwrap_or("other");
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if response.extensions().get::<Logged>().is_none() {
        let path = path.as_ref().map_or("unknown", MatchedPath::as_str);
        let (status, ms) = (response.status().as_u16(), whole_millis(started.elapsed()));
        tracing::info!(method, path, status, ms);
    }
    response
}

/// Returns 421 if a host name of the request belongs to another machine. Without this check, a web
/// site could make its host name resolve to 127.0.0.1 (DNS rebinding). Then the pages of the web
/// site could read and change all data of this server.
async fn only_this_machine(request: Request, next: Next) -> Response {
    let of_uri = request.uri().authority().map(Authority::as_str);
    let of_headers = request.headers().get_all(HOST).iter();
    let mut hosts = of_headers
        .map(|host| host.to_str().unwrap_or_default())
        .chain(of_uri);
    if hosts.all(is_this_machine) {
        next.run(request).await
    } else {
        let text = "Misdirected Request: this server answers for localhost and 127.0.0.1";
        message(StatusCode::MISDIRECTED_REQUEST, text)
    }
}

/// Returns API Gateway's response for a request that matches no route.
pub(crate) async fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Not Found")
}

fn message(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(json!({ "message": text }).to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

async fn pass(
    app: &App,
    endpoint: Endpoint,
    peer: SocketAddr,
    request: Request,
    patience: Duration,
) -> Response {
    let (parts, body) = request.into_parts();
    let params = path_parameters(endpoint.path, parts.uri.path());
    let is_routed =
        parts.method == *endpoint.method || endpoint.head && parts.method == Method::HEAD;
    if params.values().any(|value| value.is_empty()) || !is_routed {
        // In API Gateway, a path parameter is never empty, and a GET route does not match HEAD.
        return not_found().await;
    }
    let body = Limited::new(body, MAX_PAYLOAD).collect();
    let Ok(body) = tokio::time::timeout(patience, body).await else {
        let mut response = message(StatusCode::REQUEST_TIMEOUT, "Request Timeout");
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        return response;
    };
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        }
        // The client went away, or a chunk is malformed.
        Err(_) => return message(StatusCode::BAD_REQUEST, "Bad Request"),
    };
    let mut context = Context::default();
    context.request_id = format!("{:016x}", app.rng().next_u64());
    let route_key = format!("{} {}", parts.method, endpoint.path);
    let (text, is_base64_encoded) = event_body(&parts.headers, &body);
    let event = Event {
        version: "2.0",
        route_key: &route_key,
        raw_path: percent_decode_str(parts.uri.path()).decode_utf8_lossy(),
        raw_query_string: parts.uri.query().unwrap_or_default(),
        headers: joined(&parts.headers),
        path_parameters: params,
        request_context: RequestContext {
            account_id: "local",
            api_id: "local",
            domain_name: host(&parts),
            http: Http {
                method: parts.method.as_str(),
                path: parts.uri.path(),
                protocol: "HTTP/1.1",
                source_ip: peer.ip(),
            },
            request_id: &context.request_id,
            route_key: &route_key,
            stage: "$default",
            time_epoch: app.now().millis(),
        },
        body: text,
        is_base64_encoded,
    };
    let payload = to_raw_value(&event).expect("an event serializes to JSON");

    let event = LambdaEvent::new(payload, context);
    let Ok(answer) = respond(app, endpoint.name, endpoint.handler, event).await;
    let answer = serde_json::to_vec(&answer).and_then(|json| serde_json::from_slice(&json));
    let mut response = from_event(answer.expect("an endpoint's response has API Gateway's format"));
    response.extensions_mut().insert(Logged);
    response
}

/// The payload 2.0 event of a request.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: Cow<'a, str>,
    raw_query_string: &'a str,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    path_parameters: BTreeMap<&'a str, Cow<'a, str>>,
    request_context: RequestContext<'a>,
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'static str,
    domain_name: Option<&'a str>,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'a str,
    stage: &'static str,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: IpAddr,
}

/// Returns the request body for an event, and whether the returned body is base64.
fn event_body<'a>(headers: &HeaderMap, body: &'a Bytes) -> (Option<Cow<'a, str>>, bool) {
    match str::from_utf8(body) {
        _ if body.is_empty() => (None, false),
        Ok(text) if is_text(headers) => (Some(text.into()), false),
        _ => (Some(BASE64_STANDARD.encode(body).into()), true),
    }
}

/// Returns the decoded parameters of a path that matches a template. A parameter that cannot be
/// decoded is left unchanged, so that the endpoint rejects it.
fn path_parameters<'a>(template: &'a str, path: &'a str) -> BTreeMap<&'a str, Cow<'a, str>> {
    let segments = template.split('/').zip(path.split('/'));
    segments
        .filter_map(|(name, raw)| {
            let name = name.strip_prefix('{')?.strip_suffix('}')?;
            let decoded = percent_decode_str(raw).decode_utf8();
            Some((name, decoded.unwrap_or(Cow::Borrowed(raw))))
        })
        .collect()
}

/// Returns the host to which a request was sent.
fn host(parts: &Parts) -> Option<&str> {
    let of_uri = parts.uri.authority().map(Authority::as_str);
    let of_header = || parts.headers.get(HOST)?.to_str().ok();
    of_uri.or_else(of_header)
}

/// Returns the headers in API Gateway's format: the names are in lower case, and several values of
/// one header are joined with commas.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, Cow<'_, str>> {
    let mut joined = BTreeMap::<&str, Cow<'_, str>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        joined
            .entry(name.as_str())
            .and_modify(|values| values.to_mut().extend([",", &value]))
            .or_insert(value);
    }
    joined
}

/// Returns whether API Gateway forwards a body with these headers as text. API Gateway forwards the
/// bodies of all other content types, including forms, as base64.
fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_none_or(|content_type| {
        let texts = [
            "text/",
            "application/json",
            "application/javascript",
            "application/xml",
        ];
        texts.iter().any(|text| content_type.starts_with(text))
    })
}

fn from_event(answer: ApiGatewayV2httpResponse) -> Response {
    let body = match answer.body {
        Some(EventBody::Text(text)) if answer.is_base64_encoded => {
            Body::from(BASE64_STANDARD.decode(text).unwrap_or_default())
        }
        Some(EventBody::Text(text)) => Body::from(text),
        Some(EventBody::Binary(bytes)) => Body::from(bytes),
        _ => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = u16::try_from(answer.status_code)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = answer.headers;
    response
}
