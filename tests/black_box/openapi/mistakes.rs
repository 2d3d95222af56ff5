//! Creates the invalid requests that get the 400 responses, and one of the 401 responses, in the
//! examples of `openapi.yaml`.

use functions::Endpoint;
use serde_json::Value;
use tests::{
    Event,
    openapi::{Part, has_field},
};

use super::scene::ADDRESS;

/// Returns whether an endpoint can return this example of a 400 response. In general, the endpoint
/// must have every field that the errors in the example are about.
pub(super) fn can_be_made(endpoint: &Endpoint, example: &str, answer: &Value) -> bool {
    let body = Part::operation(endpoint).and_then(|of| of.get("requestBody")?.get("content"));
    let reads = |media_type| body.as_ref().is_some_and(|of| of.get(media_type).is_some());
    match (example, endpoint.name) {
        // A log-in accepts a password that a user cannot set. A request that creates a user may
        // omit the address and the password. Without a server token, each scope and metadata of a
        // session is invalid.
        ("passwordTooShort" | "passwordTooCommon", "log-in-with-password" | "create-session")
        | ("bothRequired", "put-user")
        | ("scope" | "metadata", "create-session") => false,
        (example, name) if example.starts_with("session") => name == "create-session",
        ("noObject", _) => reads("application/json"),
        ("twiceInQueryAndBody", name) => name.starts_with("create-") && name.ends_with("er-token"),
        // In the endpoints that create a token, a field of the body may also be in the query.
        ("fieldNotAllowed", "update-user-token" | "update-server-token") => true,
        ("bodyFieldNotAllowed", _) if body.is_none() => false,
        // `whoami` ignores a body.
        ("jsonBody" | "noJsonObject", name) => body.is_none() && name != "whoami",
        // A revocation ignores the credential of a client.
        ("headerAndSecret" | "clientIdRequired", name) => name == "introspect-token",
        ("neitherOrBoth", name) => name == "create-shortcode",
        _ => answer["errors"].as_array().unwrap().iter().all(|error| {
            let text = |name: &str| error[name].as_str().unwrap();
            has_field(endpoint, text("in"), text("path"))
        }),
    }
}

/// Adds to the request a mistake that causes this example of a 400 or 401 response.
pub(super) fn broken(mut event: Event, example: &str) -> Event {
    let query = |event: Event, field: &str| {
        let before = event.json["rawQueryString"].as_str().unwrap_or_default();
        let query = format!("{before}&{field}");
        event.query(query.trim_start_matches('&'))
    };
    let body = |mut event: Event, name: &str, value: Value| {
        let text = event.json["body"].as_str().unwrap();
        let Ok(mut body) = serde_json::from_str::<Value>(text) else {
            event.json["body"] = format!("{text}&{name}=1").into();
            return event;
        };
        body[name] = value;
        event.json_body(&body.to_string())
    };
    match example {
        "fieldNotAllowed" => query(event, "query"),
        "credentialTwice" => event.header("authorization", "one,another"),
        "userIdInBody" => event.json_body(r#"{"userId":"bob"}"#),
        "environmentIdInBody" => event.json_body(r#"{"environmentId":"58521fd8a5d9b5cc21987502"}"#),
        "userId" => event.parameter("id", "bob"),
        "ecosystemId" | "environmentId" | "tokenId" => event.parameter(example, "x"),
        "host" => {
            event.json["requestContext"]["domainName"] = "a b".into();
            event
        }
        "ecosystem" => query(event, "ecosystem=x"),
        "holder" => query(event, "holder=nobody"),
        "expiryType" => query(event, "expiryType=Never"),
        "ttlNoNumber" => query(event, "ttl=1.5"),
        "ttlNotPositive" => query(event, "ttl=0"),
        "ttlTooLarge" => query(event, "ttl=315360001"),
        "ttlTwice" => query(event, "ttl=1&ttl=1"),
        "name" => query(event, "name="),
        "limitTooLarge" => query(event, "limit=101"),
        "cursor" => query(event, "cursor=x"),
        "prefix" => query(event, "prefix=%2F"),
        "tokenRequired" => event.form(""),
        "tokenTwice" => event.form("token=a&token=b"),
        "headerAndSecret" => event.form("token=a&client_id=app&client_secret=b"),
        "clientIdRequired" => {
            event.json["headers"] = Value::Null;
            event.form("token=a&client_secret=b")
        }
        "jsonBody" => event.json_body(r#"{"expiryType":"Infinite"}"#),
        "scope" => event.json_body(r#"{"scope":"tokenry:all"}"#),
        "metadata" => event.json_body(r#"{"metadata":{"key":null}}"#),
        "twiceInQueryAndBody" => event.query("ttl=1").json_body(r#"{"ttl":1}"#),
        "noObject" | "noJsonObject" => event.json_body("[]"),
        "withoutServerToken" => body(event, "clientAddress", "192.0.2.1".into()),
        "bodyFieldNotAllowed" => body(event, "field", 1.into()),
        "queryAndBody" => query(body(event, "shortCodeTtl", 3601.into()), "query"),
        "several" => event.json_body(r#"{"write":1,"expiration_date":"1"}"#),
        "shortcode" => event.json_body(r#"{"shortcode":"A6ER7"}"#),
        "neitherOrBoth" | "shortcodeRequired" | "bothRequired" | "bothPasswordsRequired" => {
            event.json_body("{}")
        }
        "emailInQuery" => {
            event.json["body"] = Value::Null;
            event.query("email=bob")
        }
        "email" => body(event, "email", "bob".into()),
        "emailRequired" => {
            event.json["body"] = Value::Null;
            event.query("")
        }
        "emailTwice" => query(event, &format!("email={ADDRESS}")),
        "passwordTooShort" => body(event, "password", "1234567".into()),
        "passwordTooCommon" => body(event, "password", "Password1".into()),
        "passwordTooLong" => body(event, "password", "x".repeat(257).into()),
        "settings" => event.json_body(r#"{"maxTokensPerUser":101,"whenFull":"revoke"}"#),
        "sessionTooLong" => body(
            body(event, "ttl", 1_209_601.into()),
            "maxTtl",
            7_776_001.into(),
        ),
        "sessionExpiryType" => body(event, "expiryType", "Infinite".into()),
        "sessionScope" => body(event, "scope", "read".into()),
        "noBoolean" => body(event, "admin", 1.into()),
        "newPasswordTooCommon" => body(event, "newPassword", "Password1".into()),
        "wrongCurrentPassword" => body(event, "currentPassword", "wrong".into()),
        "wrongPassword" => body(event, "password", "wrong".into()),
        _ => panic!("this function has no mistake for the example {example}"),
    }
}
