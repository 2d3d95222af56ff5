//! Requests in the form of API Gateway's events. Tests use events for requests that cannot be sent
//! through a socket. Tests also use events to test timeouts. Such a test pauses tokio's clock. A
//! socket cannot be used then, because a paused clock jumps to the next timer while a task waits
//! for a socket.

use std::collections::BTreeMap;

use functions::{Endpoint, endpoints};
use lambda_http::{Context, LambdaEvent};
use serde_json::{Value, json, value::to_raw_value};
use shared::{App, http::respond};

use crate::{Answer, openapi, pause};

/// An HTTP API event (payload 2.0) under construction.
#[derive(Clone, Debug)]
pub struct Event {
    endpoint: &'static str,
    /// The event's JSON.
    pub json: Value,
}

impl Event {
    /// Returns a request to this endpoint, without parameters, headers or a body.
    pub fn to(endpoint: &'static str) -> Self {
        let endpoint_row = row(endpoint);
        let route = format!("{} {}", endpoint_row.method, endpoint_row.path);
        let json = json!({
            "version": "2.0",
            "routeKey": route,
            "rawPath": "/",
            "rawQueryString": "",
            "headers": {},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "domainName": "api.example.com",
                "http": {
                    "method": endpoint_row.method.as_str(),
                    "path": "/",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                },
                "requestId": "from-the-gateway",
                "routeKey": route,
                "stage": "$default",
                "timeEpoch": 0,
            },
            "isBase64Encoded": false,
        });
        Self { endpoint, json }
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.json["headers"][name] = value.into();
        self
    }

    /// Sets a path parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.json["pathParameters"][name] = value.into();
        self
    }

    /// Sets the raw query string.
    #[must_use]
    pub fn query(mut self, raw: &str) -> Self {
        self.json["rawQueryString"] = raw.into();
        self
    }

    /// Sets a form body that is not encoded in base64, and its content type.
    #[must_use]
    pub fn form(mut self, body: &str) -> Self {
        self.json["body"] = body.into();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    /// Sets a JSON body and its content type.
    #[must_use]
    pub fn json_body(mut self, body: &str) -> Self {
        self.json["body"] = body.into();
        self.header("content-type", "application/json")
    }

    /// Sets the IP address from which the request comes.
    #[must_use]
    pub fn source(mut self, address: &str) -> Self {
        self.json["requestContext"]["http"]["sourceIp"] = address.into();
        self
    }

    /// Sends the request to its endpoint.
    pub async fn send(&self, app: &App) -> Answer {
        invoke(app, self.endpoint, &self.json).await
    }
}

/// Sends any JSON to an endpoint, as Lambda would. Tokio's clock is paused during the request, so
/// that only timers advance the clock.
///
/// # Panics
/// If API Gateway could not read the response, or if the response differs from `openapi.yaml`.
pub async fn invoke(app: &App, endpoint: &str, sent: &Value) -> Answer {
    let endpoint = row(endpoint);
    let mut context = Context::default();
    context.request_id = "from-lambda".into();
    let payload = to_raw_value(sent).expect("a JSON value can be serialized");
    let event = LambdaEvent::new(payload, context);
    let _pause = pause();
    let Ok(answer) = respond(app, endpoint.name, endpoint.handler, event).await;
    let answer = serde_json::to_value(answer).expect("a response can be serialized");
    // An HTTP API reads the headers from `headers`. A REST API reads them from `multiValueHeaders`.
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for field in ["headers", "multiValueHeaders"] {
        for (name, value) in answer[field].as_object().into_iter().flatten() {
            let value = value.as_str().or_else(|| value[0].as_str());
            headers.insert(
                name.clone(),
                value.expect("a header has a value").to_owned(),
            );
        }
    }
    let answer = Answer {
        status: u16::try_from(
            answer["statusCode"]
                .as_u64()
                .expect("the response has a status"),
        )
        .expect("the status is valid"),
        headers,
        body: answer["body"].as_str().unwrap_or_default().to_owned(),
    };
    openapi::check(app, &endpoint, &openapi::Sent::as_event(sent), &answer);
    answer
}

fn row(endpoint: &str) -> Endpoint {
    endpoints()
        .find(|row| row.name == endpoint)
        .expect("the endpoint exists")
}
