//! The local gateway: serves every endpoint on one listener, like an HTTP API of API Gateway.
//!
//! The gateway converts each request to an event of API Gateway (payload format 2.0), and passes
//! the event to the code that also runs in a deployment.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{CONTENT_TYPE, HOST},
        request::Parts,
        uri::Authority,
    },
    middleware::{Next, from_fn},
    response::Response,
    routing::{MethodFilter, on},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use functions::{Endpoint, endpoints};
use lambda_http::{
    Body as EventBody, Context, LambdaEvent, aws_lambda_events::apigw::ApiGatewayV2httpResponse,
};
use percent_encoding::percent_decode_str;
use rand::Rng;
use serde::Serialize;
use serde_json::{json, value::to_raw_value};
use shared::{
    App,
    http::{is_this_machine, respond},
};
use tokio::net::TcpListener;

use crate::page;

/// The maximum length of a request body in API Gateway, in bytes.
const MAX_PAYLOAD: usize = 10 * 1024 * 1024;

/// Serves every endpoint and the API's page on this listener. After `stop` completes, answers the
/// requests in progress and returns.
///
/// # Errors
/// If the listener fails, the error is the listener's error.
pub async fn run(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = routes(&app).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
}

fn routes(app: &Arc<App>) -> Router {
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
            pass(&app, endpoint, peer, request).await
        };
        router = router.route(endpoint.path, on(method, handle));
    }
    router
        .merge(page::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn(only_this_machine))
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

async fn pass(app: &App, endpoint: Endpoint, peer: SocketAddr, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let params = path_parameters(endpoint.path, parts.uri.path());
    let is_routed =
        parts.method == *endpoint.method || endpoint.head && parts.method == Method::HEAD;
    if params.values().any(|value| value.is_empty()) || !is_routed {
        // In API Gateway, a path parameter is never empty, and a GET route does not match HEAD.
        return not_found().await;
    }
    let Ok(body) = axum::body::to_bytes(body, MAX_PAYLOAD).await else {
        return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
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
    from_event(answer.expect("an endpoint's response has API Gateway's format"))
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
