//! Tests of the Lambda authorizer `authorize`, with the example events that AWS publishes.

use functions::authorize;
use lambda_http::{Context, LambdaEvent};
use serde_json::{Value, json, value::to_raw_value};
use shared::{
    App,
    config::{Admission, Settings},
    domain::{
        owner::Ecosystem,
        token::{ExpiryType, Holder},
    },
};
use tests::{Fault, Service, pause};

use crate::expiry::forge;

/// Returns the authorizer's decision. API Gateway receives an `Err` as an error, not as a denial.
async fn decide(service: &Service, event: &Value) -> Result<Value, String> {
    decide_with(&service.app, event).await
}

/// Does the same as [`decide`] in the execution environment `app`.
pub(crate) async fn decide_with(app: &App, event: &Value) -> Result<Value, String> {
    let payload = to_raw_value(event).unwrap();
    let event = LambdaEvent::new(payload, Context::default());
    let decision = authorize::handle(app, event).await?;
    Ok(serde_json::to_value(decision).unwrap())
}

fn example(file: &str) -> Value {
    let path = format!("{}/events/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the example event can be read");
    serde_json::from_str(&text).expect("the example event is JSON")
}

/// Returns five events, made from the four example events. Each event contains this credential in
/// the field that the event's format uses. Two events have the payload format 2.0: one has the
/// credential as its identity source, and the other has the credential only in the `Authorization`
/// header.
pub(crate) fn events(credential: &str) -> Vec<Value> {
    let mut simple = example("authorizer-http-2.0");
    simple["identitySource"] = json!([credential]);
    let mut without_source = example("authorizer-http-2.0");
    without_source["identitySource"] = Value::Null;
    without_source["headers"]["authorization"] = credential.into();
    let mut http = example("authorizer-http-1.0");
    http["identitySource"] = credential.into();
    http["authorizationToken"] = credential.into();
    let mut token = example("authorizer-rest-token");
    token["authorizationToken"] = credential.into();
    let mut request = example("authorizer-rest-request");
    request["headers"]["Authorization"] = credential.into();
    request["multiValueHeaders"]["Authorization"] = json!([credential]);
    vec![simple, without_source, http, token, request]
}

const EVERYONE: &[Holder] = &[Holder::Account, Holder::Server, Holder::User];

/// Returns the settings of an authorizer that accepts only tokens of these kinds of holders. If
/// `ecosystems` is not `None`, the authorizer accepts only tokens of these ecosystems.
fn admitting(holders: &[Holder], ecosystems: Option<&[&Ecosystem]>) -> Settings {
    let key = |ecosystem: &&Ecosystem| (&ecosystem.id).into();
    Settings {
        authorizer: Admission {
            holders: holders.to_vec(),
            ecosystems: ecosystems.map(|listed| listed.iter().map(key).collect()),
        },
        ..Settings::default()
    }
}

/// Returns whether a decision allows the request.
pub(crate) fn allows(decision: &Value) -> bool {
    if let Some(is_authorized) = decision.get("isAuthorized") {
        return is_authorized
            .as_bool()
            .expect("`isAuthorized` is a boolean");
    }
    let statements = decision["policyDocument"]["Statement"].as_array();
    let [statement] = &statements.expect("the policy has a list of statements")[..] else {
        panic!("{decision}");
    };
    statement["Effect"] == "Allow"
}

#[tokio::test]
async fn an_http_api_gets_a_simple_response() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = service.mint(&bob, "").await.json();
    let mut event = example("authorizer-http-2.0");
    event["identitySource"] = json!([format!("Bearer {}", minted["token"].as_str().unwrap())]);
    assert_eq!(
        decide(&service, &event).await.unwrap(),
        json!({
            "isAuthorized": true,
            "context": {
                "sub": bob,
                "ecosystemId": service.ecosystem.id.as_str(),
                "holder": "user",
                "scope": "read write",
                "tokenId": minted["tokenId"],
            },
        })
    );
    event["identitySource"] = json!(["Bearer nonsense"]);
    let denied = decide(&service, &event).await.unwrap();
    assert_eq!(denied, json!({ "isAuthorized": false }));
}

#[tokio::test]
async fn a_rest_api_gets_a_policy_for_its_whole_stage() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let minted = service.mint(&bob, "").await.json();
    let token = minted["token"].as_str().unwrap();
    for (file, field, resource) in [
        (
            "authorizer-rest-token",
            "authorizationToken",
            "arn:aws:execute-api:us-west-2:123456789012:ymy8tbxw7b/*/*",
        ),
        (
            "authorizer-http-1.0",
            "authorizationToken",
            "arn:aws:execute-api:us-east-1:123456789012:abcdef123/test/*",
        ),
        (
            "authorizer-rest-request",
            "headers",
            "arn:aws:execute-api:us-east-1:123456789012:s4x3opwd6i/test/*",
        ),
    ] {
        let mut event = example(file);
        let policy = |effect: &str| {
            json!({
                "Version": "2012-10-17",
                "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": resource }],
            })
        };
        let mut put = |credential: &str| {
            if field == "headers" {
                event["headers"]["Authorization"] = credential.into();
                event["multiValueHeaders"]["Authorization"] = json!([credential]);
            } else {
                event[field] = credential.into();
            }
            event.clone()
        };
        let context = json!({
            "sub": bob,
            "ecosystemId": service.ecosystem.id.as_str(),
            "holder": "user",
            "scope": "read write",
            "tokenId": minted["tokenId"],
        });
        assert_eq!(
            decide(&service, &put(token)).await.unwrap(),
            json!({ "principalId": bob, "policyDocument": policy("Allow"), "context": context })
        );
        assert_eq!(
            decide(&service, &put("nonsense")).await.unwrap(),
            json!({ "principalId": "nobody", "policyDocument": policy("Deny") })
        );
    }
}

#[tokio::test]
async fn the_context_contains_the_holder_the_ecosystem_and_the_environment() {
    let service = Service::start_with(admitting(EVERYONE, None)).await;
    let environment = service.environment(&service.ecosystem).await;
    let body = json!({ "environmentId": environment }).to_string();
    let code = service
        .manage("POST", "/api/auth/shortcode/create", &body)
        .await
        .json();
    let body = json!({ "shortcode": code["shortcode"] }).to_string();
    let of_code = service
        .manage("POST", "/api/auth/shortcode/consume", &body)
        .await
        .token();
    let ecosystem = service.ecosystem.id.as_str();
    for (token, holder, ecosystem, environment) in [
        (
            service
                .token_of(&service.account, ExpiryType::Infinite)
                .await,
            "account",
            None,
            None,
        ),
        (
            service
                .token_of(&service.ecosystem, ExpiryType::Infinite)
                .await,
            "server",
            Some(ecosystem),
            None,
        ),
        (of_code, "user", Some(ecosystem), Some(environment.as_str())),
    ] {
        for event in events(&token) {
            let decision = decide(&service, &event).await.unwrap();
            assert!(allows(&decision));
            let context = &decision["context"];
            assert_eq!(context["holder"], holder);
            assert_eq!(
                context.get("ecosystemId").and_then(Value::as_str),
                ecosystem
            );
            assert_eq!(
                context.get("environmentId").and_then(Value::as_str),
                environment
            );
        }
    }
}

#[tokio::test]
async fn a_missing_or_malformed_credential_is_denied_without_a_database_read() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    service.database.take_calls();
    let two = format!("{token},{token}");
    let long = format!("Bearer {}", "x".repeat(100_000));
    for credential in [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcg==",
        "nonsense",
        &two,
        &long,
        &token[1..],
    ] {
        for event in events(credential) {
            assert!(!allows(&decide(&service, &event).await.unwrap()), "{event}");
        }
    }
    for file in [
        "authorizer-http-2.0",
        "authorizer-http-1.0",
        "authorizer-rest-token",
        "authorizer-rest-request",
    ] {
        let mut event = example(file);
        for field in ["identitySource", "authorizationToken"] {
            event.as_object_mut().unwrap().remove(field);
        }
        assert!(!allows(&decide(&service, &event).await.unwrap()), "{file}");
        event["headers"] = Value::Null;
        event["multiValueHeaders"] = Value::Null;
        assert!(!allows(&decide(&service, &event).await.unwrap()), "{file}");
        event["identitySource"] = json!([]);
        assert!(!allows(&decide(&service, &event).await.unwrap()), "{file}");
    }
    // An `Authorization` header that is given twice is not a credential. If an event has an
    // identity source, the `Authorization` header of the event is ignored, because API Gateway
    // caches the decision for the identity source.
    let mut event = example("authorizer-rest-request");
    event["multiValueHeaders"]["authorization"] = json!([token, token]);
    event["headers"]["authorization"] = token.clone().into();
    assert!(!allows(&decide(&service, &event).await.unwrap()));
    let mut event = example("authorizer-http-2.0");
    event["headers"]["authorization"] = token.into();
    assert!(!allows(&decide(&service, &event).await.unwrap()));
    assert!(service.database.take_calls().is_empty());
}

#[tokio::test]
async fn the_authorizer_makes_one_read_and_renews_a_sliding_token() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    for (kind, calls) in [
        ("Infinite", &["BatchGetItem"][..]),
        ("FixedTtl", &["BatchGetItem"]),
        ("SlidingTtl", &["BatchGetItem", "UpdateItem"]),
    ] {
        let token = service
            .mint(&bob, &format!("expiryType={kind}&ttl=10"))
            .await
            .token();
        service.database.take_calls();
        let event = &events(&token)[0];
        assert!(allows(&decide(&service, event).await.unwrap()));
        assert_eq!(service.database.take_operations(), calls);
        if kind == "SlidingTtl" {
            for _ in 0..3 {
                service.clock.advance(9);
                assert!(allows(&decide(&service, event).await.unwrap()));
            }
            service.clock.advance(10);
            assert!(!allows(&decide(&service, event).await.unwrap()));
        }
    }
}

#[tokio::test]
async fn a_token_whose_holder_or_ecosystem_is_not_allowed_is_denied_without_a_database_read() {
    let service = Service::start().await;
    let other = service.another_ecosystem().await;
    let bob = service.user("bob").await;
    let account = service.account_token.clone();
    let server = service
        .token_of(&service.ecosystem, ExpiryType::Infinite)
        .await;
    let of_other = service.token_of(&other, ExpiryType::Infinite).await;
    let user = service.mint(&bob, "").await.token();
    let (own, all) = (&service.ecosystem, EVERYONE);
    let cases: [(Settings, &[&str], &[&str]); 6] = [
        (Settings::default(), &[&user], &[&account, &server]),
        (
            admitting(all, None),
            &[&account, &server, &user, &of_other],
            &[],
        ),
        (
            admitting(&[Holder::Server], None),
            &[&server, &of_other],
            &[&account, &user],
        ),
        (
            admitting(all, Some(&[own])),
            &[&server, &user],
            &[&account, &of_other],
        ),
        (
            admitting(&[Holder::User], Some(&[&other])),
            &[],
            &[&account, &server, &user, &of_other],
        ),
        (
            admitting(all, Some(&[own, &other])),
            &[&server, &user, &of_other],
            &[&account],
        ),
    ];
    for (settings, allowed, denied) in cases {
        let text = format!("{settings:?}");
        let app = service.another_environment().with_settings(settings);
        for token in allowed {
            for event in events(token) {
                assert!(allows(&decide_with(&app, &event).await.unwrap()), "{text}");
            }
        }
        service.database.take_calls();
        for token in denied {
            for event in events(token) {
                assert!(!allows(&decide_with(&app, &event).await.unwrap()), "{text}");
            }
        }
        assert!(service.database.take_calls().is_empty(), "{text}");
    }
}

#[tokio::test]
async fn expired_revoked_and_forged_tokens_are_denied() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let expired = service.mint(&bob, "ttl=1").await.token();
    service.clock.advance(1);
    let revoked = service.mint(&bob, "").await.json();
    let path = format!(
        "/api/users/{bob}/tokens/{}",
        revoked["tokenId"].as_str().unwrap()
    );
    service.manage("DELETE", &path, "").await;
    let forged = forge(&service.mint(&bob, "").await.token());
    for token in [&expired, revoked["token"].as_str().unwrap(), &forged] {
        for event in events(token) {
            assert!(!allows(&decide(&service, &event).await.unwrap()), "{event}");
        }
    }
}

#[tokio::test]
async fn the_authorizer_returns_an_error_if_the_database_is_unavailable() {
    let service = Service::start().await;
    let bob = service.user("bob").await;
    let token = service.mint(&bob, "").await.token();
    let _paused = pause();
    for fault in [
        Fault::NoAnswer,
        Fault::Unreachable,
        Fault::Throttled,
        Fault::Rubbish,
        Fault::Empty,
        Fault::Unprocessed,
    ] {
        service.database.fail_always(Some(fault.clone()));
        for event in events(&token) {
            assert!(decide(&service, &event).await.is_err(), "{fault:?}");
        }
    }
    service.database.fail_always(None);
    assert!(allows(&decide(&service, &events(&token)[0]).await.unwrap()));
}

#[tokio::test]
async fn an_event_that_is_not_an_authorizer_event_is_an_error() {
    let service = Service::start().await;
    for event in [
        json!({}),
        json!([]),
        json!("x"),
        json!({ "Records": [] }),
        json!({ "methodArn": 7 }),
    ] {
        assert!(decide(&service, &event).await.is_err(), "{event}");
    }
}
