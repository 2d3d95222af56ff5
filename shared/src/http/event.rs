//! Prepares API Gateway's events so that lambda_http can convert all of them.
//!
//! lambda_http 1.3 panics if it cannot convert a query string, a host name or a base64 body. So the
//! query string, the host name and a body that cannot be decoded are removed from the event before
//! the conversion. [`Raw`] contains the removed query string, and whether a body was removed.

use std::{convert::Infallible, panic::AssertUnwindSafe};

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::Serializer;
use futures_util::FutureExt;
use lambda_http::{
    Adapter, LambdaEvent, Request, Service,
    aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest},
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, HOST},
    },
    request::LambdaRequest,
    service_fn,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Answer, Handler, answer};
use crate::{
    domain::error::Error,
    service::{app::App, caller_log},
};

/// The parts of an event that the conversion to an `http::Request` loses, or that make the
/// conversion fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    /// The query string. For an HTTP API, it is the one that the client sent. For a REST API, it is
    /// encoded again from the fields of the event.
    pub(super) query: String,
    /// Whether the event says that the body is base64, but the body cannot be decoded.
    pub(super) undecodable_body: bool,
    /// The host to which the request was sent, as API Gateway reports it.
    pub(super) host: Option<String>,
    /// The path to which the request was sent. It begins with the stage, if the address does.
    pub(super) path: Option<String>,
    /// The method of the route. The log contains it.
    pub(super) method: Option<String>,
    /// The path of the route, with the names of its parameters in braces. The log contains it.
    pub(super) route: Option<String>,
}

/// Handles one event of an API Gateway route, for REST and HTTP APIs.
///
/// If the handler panics, only this request fails, with a 500. The execution environment continues
/// with the next request.
///
/// # Errors
/// This function never returns an error, because API Gateway turns an error of the Lambda runtime
/// into a 502.
pub async fn respond(
    app: &App,
    endpoint: &str,
    handler: Handler,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<impl Serialize + use<>, Infallible> {
    let (payload, raw, handler) = match parse(event.payload.get()) {
        Ok(LambdaRequest::ApiGatewayV2(mut http_api)) => {
            let raw = Raw::of_http_api(&mut http_api);
            (LambdaRequest::ApiGatewayV2(http_api), raw, handler)
        }
        Ok(LambdaRequest::ApiGatewayV1(mut rest_api)) => {
            let raw = Raw::of_rest_api(&mut rest_api);
            (LambdaRequest::ApiGatewayV1(rest_api), raw, handler)
        }
        _ => (nothing(), Raw::default(), not_a_request as Handler),
    };
    let context = event.context;
    let run = async |payload, handler| {
        let event = LambdaEvent::new(payload, context.clone());
        Adapter::from(service_fn(|mut request: Request| {
            request.extensions_mut().insert(raw.clone());
            async move { Ok(answer(app, handler, request, endpoint).await) }
        }))
        .call(event)
        .await
    };
    caller_log::with_caller(async {
        match AssertUnwindSafe(run(payload, handler)).catch_unwind().await {
            Ok(response) => response,
            Err(_panic) => run(nothing(), panicked).await,
        }
    })
    .await
}

/// Parses an event, and tries the format of HTTP APIs first. lambda_http tries the format of REST
/// APIs first, which doubles the time for an HTTP API.
fn parse(payload: &str) -> serde_json::Result<LambdaRequest> {
    if payload.contains(r#""version":"2.0""#)
        && let Ok(http_api) = serde_json::from_str(payload)
    {
        return Ok(LambdaRequest::ApiGatewayV2(http_api));
    }
    serde_json::from_str(payload)
}

/// Returns an empty event, for a handler that does not read its request.
fn nothing() -> LambdaRequest {
    LambdaRequest::ApiGatewayV2(ApiGatewayV2httpRequest::default())
}

fn not_a_request(_app: &App, _request: Request) -> Answer<'_> {
    Box::pin(async { Err(Error::InvalidBody("the event is not an HTTP request")) })
}

fn panicked(_app: &App, _request: Request) -> Answer<'_> {
    let cause = "the handler panicked".to_owned();
    Box::pin(async { Err(Error::Internal { cause }) })
}

impl Raw {
    fn of_http_api(event: &mut ApiGatewayV2httpRequest) -> Self {
        event.raw_path = None;
        event.headers.remove(HOST);
        let key = event.request_context.route_key.as_deref();
        let (method, route) = key.and_then(|key| key.split_once(' ')).unzip();
        Self {
            method: method.map(str::to_owned),
            route: route.map(str::to_owned),
            host: event.request_context.domain_name.take(),
            path: event.request_context.http.path.clone(),
            query: event.raw_query_string.take().unwrap_or_default(),
            undecodable_body: take_undecodable(&mut event.body, event.is_base64_encoded),
        }
    }

    fn of_rest_api(event: &mut ApiGatewayProxyRequest) -> Self {
        event.path = None;
        event.headers.remove(HOST);
        event.multi_value_headers.remove(HOST);
        join_authorization(&event.multi_value_headers, &mut event.headers);

        let several = std::mem::take(&mut event.multi_value_query_string_parameters);
        let single = std::mem::take(&mut event.query_string_parameters);
        let fields = if several.is_empty() { single } else { several };
        let mut query = Serializer::new(String::new());
        query.extend_pairs(fields.iter());
        let context = &event.request_context;
        Self {
            method: Some(context.http_method.to_string()),
            route: context.resource_path.clone(),
            host: event.request_context.domain_name.take(),
            path: event.request_context.path.clone(),
            query: query.finish(),
            undecodable_body: take_undecodable(&mut event.body, event.is_base64_encoded),
        }
    }
}

/// Removes the body if the event says that the body is base64 but the body cannot be decoded.
/// Returns whether the body was removed.
fn take_undecodable(body: &mut Option<String>, is_base64: bool) -> bool {
    let undecodable = |text: &mut String| is_base64 && BASE64_STANDARD.decode(text).is_err();
    body.take_if(undecodable).is_some()
}

/// Joins several `Authorization` headers of a REST API with a comma, as HTTP APIs do. lambda_http
/// would use only the last header.
fn join_authorization(several: &HeaderMap, headers: &mut HeaderMap) {
    let values: Vec<_> = several
        .get_all(AUTHORIZATION)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if values.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&values.join(&b','))
    {
        headers.insert(AUTHORIZATION, joined);
    }
}
