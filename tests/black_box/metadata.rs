//! Tests of `GET /.well-known/oauth-authorization-server`.

use serde_json::json;
use shared::config::Settings;
use tests::{Answer, Event, Service, invoke};

use crate::assert_invalid;

const PATH: &str = "/.well-known/oauth-authorization-server";

/// Asserts that the addresses in the response begin with `issuer`.
fn assert_issuer(answer: &Answer, issuer: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(
        answer.json(),
        json!({
            "issuer": issuer,
            "introspection_endpoint": format!("{issuer}/api/auth/introspect"),
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "revocation_endpoint": format!("{issuer}/api/auth/revoke"),
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "response_types_supported": [],
        })
    );
}

#[tokio::test]
async fn the_addresses_lead_to_introspection_and_revocation() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    service.database.take_calls();
    let metadata = service.send(service.request("GET", PATH)).await;
    assert_issuer(&metadata, &format!("http://{}", service.address()));
    assert!(service.database.take_calls().is_empty());

    let path = |name: &str| {
        let metadata = metadata.json();
        let address = metadata[name].as_str().unwrap().to_owned();
        let start = format!("http://{}", service.address());
        address.strip_prefix(&start).unwrap().to_owned()
    };
    let introspection = path("introspection_endpoint");
    for active in [true, false] {
        let request = service
            .request("POST", &introspection)
            .basic_auth("app", Some(&service.account_token))
            .form(&[("token", &token)]);
        assert_eq!(service.send(request).await.json()["active"], active);
        let request = service
            .request("POST", &path("revocation_endpoint"))
            .form(&[("token", &token)]);
        assert_eq!(service.send(request).await.status, 200);
    }
}

#[tokio::test]
async fn the_issuer_is_the_address_to_which_the_request_was_sent() {
    let service = Service::start().await;
    for host in ["localhost:3000", "tokenry.localhost", "[::1]:3000"] {
        let request = service.request("GET", PATH).header("host", host);
        assert_issuer(&service.send(request).await, &format!("http://{host}"));
    }
    // An HTTP API with and without a stage in its address.
    for (path, base) in [(PATH, ""), (&format!("/prod{PATH}"), "/prod"), ("/", "")] {
        let mut event = Event::to("metadata");
        event.json["requestContext"]["http"]["path"] = json!(path);
        let issuer = format!("https://api.example.com{base}");
        assert_issuer(&event.send(&service.app).await, &issuer);
    }
    // A REST API. Its `path` does not contain the stage.
    let event = json!({
        "resource": PATH,
        "path": PATH,
        "httpMethod": "GET",
        "headers": { "Host": "evil.example.com" },
        "requestContext": {
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "path": format!("/prod{PATH}"),
            "stage": "prod",
            "httpMethod": "GET",
            "identity": { "sourceIp": "192.0.2.1" },
        },
        "isBase64Encoded": false,
    });
    let issuer = "https://id.execute-api.us-east-1.amazonaws.com/prod";
    assert_issuer(&invoke(&service.app, "metadata", &event).await, issuer);
}

#[tokio::test]
async fn the_parameter_public_url_replaces_the_address_of_the_request() {
    let settings = Settings {
        public_url: Some("https://auth.example.com".to_owned()),
        ..Settings::default()
    };
    let service = Service::start_with(settings).await;
    let answer = service.send(service.request("GET", PATH)).await;
    assert_issuer(&answer, "https://auth.example.com");
    let mut event = Event::to("metadata");
    event.json["requestContext"]["domainName"] = json!(null);
    let answer = event.send(&service.app).await;
    assert_issuer(&answer, "https://auth.example.com");
}

#[tokio::test]
async fn a_host_cannot_put_any_text_into_the_response() {
    let service = Service::start().await;
    for host in [
        json!(null),
        json!(""),
        json!("a b"),
        json!("evil.example.com/x"),
        json!("user@evil.example.com"),
        json!("<script>alert(1)</script>"),
        json!("a\",\"issuer\":\"https://evil.example.com"),
        json!("x\r\nset-cookie: a"),
    ] {
        let mut event = Event::to("metadata");
        event.json["requestContext"]["domainName"] = host.clone();
        let answer = event.send(&service.app).await;
        assert_invalid(&answer, &[("header", "Host", "invalid host name")]);
    }
    // A client's own headers have no effect.
    let event = Event::to("metadata")
        .header("host", "evil.example.com")
        .header("x-forwarded-host", "evil.example.com")
        .header("x-forwarded-proto", "http")
        .header("forwarded", "host=evil.example.com;proto=http");
    assert_issuer(&event.send(&service.app).await, "https://api.example.com");
}
