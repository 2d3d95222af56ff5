//! Tests of the Lambda events of HTTP APIs and REST APIs, and of events that `lambda_http` cannot
//! convert.

use lambda_http::{Context, LambdaEvent, Request};
use serde_json::{Value, json, value::to_raw_value};
use shared::{
    App,
    http::{Answer, respond},
};
use tests::{Event, Service, invoke};

use crate::assert_invalid;

/// Returns the event that an HTTP API sends for a request to mint a user token.
pub(crate) async fn mint(service: &Service) -> Event {
    let bob = service.user("bob").await;
    Event::to("create-user-token")
        .header("authorization", &service.account_token)
        .parameter("id", &bob)
}

/// Returns the event that a REST API (payload 1.0) sends for a request to mint a user token.
pub(crate) async fn rest_mint(service: &Service) -> Value {
    let bob = service.user("bob").await;
    json!({
        "resource": "/api/users/{id}/tokens",
        "path": format!("/api/users/{bob}/tokens"),
        "httpMethod": "POST",
        "headers": { "authorization": service.account_token, "Host": "api.example.com" },
        "multiValueHeaders": {
            "authorization": [service.account_token],
            "Host": ["api.example.com"],
        },
        "queryStringParameters": { "ttl": "60" },
        "multiValueQueryStringParameters": { "ttl": ["60"] },
        "pathParameters": { "id": bob.replace(';', "%3B") },
        "stageVariables": null,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "domainName": "api.example.com",
            "httpMethod": "POST",
            "identity": { "sourceIp": "192.0.2.1" },
            "path": "/prod/api/users",
            "protocol": "HTTP/1.1",
            "requestId": "from-the-gateway",
            "resourceId": "r",
            "resourcePath": "/api/users/{id}/tokens",
            "stage": "prod",
        },
        "body": null,
        "isBase64Encoded": false,
    })
}

#[tokio::test]
async fn the_response_contains_the_request_id_of_lambda() {
    let service = Service::start().await;
    let answer = mint(&service).await.send(&service.app).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-request-id"), Some("from-lambda"));
}

#[tokio::test]
async fn unencoded_spaces_quotes_and_control_bytes_in_the_query_get_a_400() {
    let service = Service::start().await;
    let event = mint(&service).await;
    for raw in [
        "3600 ",
        "\"3600\"",
        "36\n00",
        "36\u{0}00",
        "3600\u{7f}",
        "３６００",
        "<>",
        "3600#",
    ] {
        let answer = event
            .clone()
            .query(&format!("ttl={raw}"))
            .send(&service.app)
            .await;
        assert_invalid(
            &answer,
            &[("query", "ttl", "expected field to be a number")],
        );
        let answer = event
            .clone()
            .query(&format!("{raw}=1"))
            .send(&service.app)
            .await;
        let message = format!("contains fields that are not allowed: [ {raw} ]");
        assert_invalid(&answer, &[("query", "additional parameters", &message)]);
    }
}

#[tokio::test]
async fn an_invalid_host_is_ignored() {
    let service = Service::start().await;
    for host in [
        "",
        " ",
        "a b",
        "[::1",
        "exa mple:port",
        "\u{fc}.example",
        "a/b?c#d",
    ] {
        let event = mint_once(&service, host).await;
        let answer = event.send(&service.app).await;
        assert_eq!(answer.status, 200, "{host:?}: {answer:?}");
    }
}

async fn mint_once(service: &Service, host: &str) -> Event {
    let bob = service.user(&format!("of-{}", host.len())).await;
    Event::to("create-user-token")
        .header("authorization", &service.account_token)
        .header("host", host)
        .header("x-forwarded-proto", "no scheme")
        .parameter("id", &bob)
}

#[tokio::test]
async fn a_body_with_invalid_base64_gets_a_400_after_the_credential_was_checked() {
    let service = Service::start().await;
    let event = |credential: &str| {
        let mut event = Event::to("introspect-token")
            .header("authorization", credential)
            .form("***not base64***");
        event.json["isBase64Encoded"] = true.into();
        event
    };
    let answer = event(&service.account_token).send(&service.app).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "InvalidBody");
    assert_eq!(event("|").send(&service.app).await.status, 401);
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_and_the_next_request_is_answered() {
    fn panics(_app: &App, _request: Request) -> Answer<'_> {
        Box::pin(async { panic!("a bug in a handler") })
    }
    let service = Service::start().await;
    let event = mint(&service).await;
    let sent = LambdaEvent::new(to_raw_value(&event.json).unwrap(), Context::default());
    let Ok(answer) = respond(&service.app, "create-user-token", panics, sent).await;
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["statusCode"], 500, "{answer}");
    let expected = r#"{"errorType":"InternalError","errors":[{"message":"the request failed"}]}"#;
    assert_eq!(answer["body"], expected);
    assert_eq!(event.send(&service.app).await.status, 200);
}

#[tokio::test]
async fn an_event_that_is_not_a_valid_request_gets_a_400_with_the_standard_error_body() {
    let service = Service::start().await;
    for event in [
        json!(null),
        json!(1),
        json!("text"),
        json!([]),
        json!({}),
        json!({ "Records": [{ "eventSource": "aws:sqs", "body": "x" }] }),
        json!({ "version": "2.0", "headers": { "authorization": "a\nb" } }),
        json!({ "version": "2.0", "requestContext": { "http": { "method": "B A D" } } }),
    ] {
        let answer = invoke(&service.app, "create-user-token", &event).await;
        assert_eq!(answer.status, 400, "{event}: {answer:?}");
        assert_eq!(answer.json()["errorType"], "InvalidBody", "{event}");
    }
}

#[tokio::test]
async fn a_missing_path_parameter_is_an_invalid_id() {
    let service = Service::start().await;
    let answer = Event::to("create-user-token")
        .header("authorization", &service.account_token)
        .send(&service.app)
        .await;
    assert_invalid(&answer, &[("path", "id", "invalid user id")]);
}

#[tokio::test]
async fn an_event_of_a_rest_api_is_accepted() {
    let service = Service::start().await;
    let mut event = rest_mint(&service).await;
    let answer = invoke(&service.app, "create-user-token", &event).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["expiresAt"], "2100-01-01T00:01:00Z");
    assert!(service.is_active(&answer.token()).await);

    event["multiValueQueryStringParameters"] = json!({ "ttl": ["60", "61"], "a b&": ["\n"] });
    let answer = invoke(&service.app, "create-user-token", &event).await;
    let message = "contains fields that are not allowed: [ a+b%26 ]";
    assert_invalid(
        &answer,
        &[
            ("query", "ttl", "field must be given once"),
            ("query", "additional parameters", message),
        ],
    );
}

#[tokio::test]
async fn two_authorization_headers_in_an_event_of_a_rest_api_get_a_400() {
    let service = Service::start().await;
    let mut event = rest_mint(&service).await;
    let token = &service.account_token;
    event["multiValueHeaders"]["authorization"] = json!(["tk_x", token]);
    let answer = invoke(&service.app, "create-user-token", &event).await;
    assert_invalid(
        &answer,
        &[("header", "Authorization", "field must be given once")],
    );
}
