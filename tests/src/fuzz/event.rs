//! Fuzz targets for requests from API Gateway: whole events, and the fields in queries and bodies.

use std::sync::{LazyLock, Mutex};

use functions::{Endpoint, endpoints};
use lambda_http::{Context, LambdaEvent, Request};
use serde_json::{Value, json, value::RawValue};
use shared::{
    App,
    http::{Answer, Handler, MAX_BODY, fields::Fields, ok, respond},
};
use tokio::runtime::Runtime;

use crate::{Event, Service};

/// One service for all runs, because a fuzzer makes hundreds of runs per second.
static SERVICE: LazyLock<Mutex<(Runtime, Service, String)>> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("the runtime starts");
    let service = runtime.block_on(Service::start());
    let bob = runtime.block_on(service.user("bob"));
    Mutex::new((runtime, service, bob))
});

/// Sends a whole event to an endpoint: the one whose route is the event's `routeKey`, or else the
/// one that the first byte selects. API Gateway must be able to read the response. An error must
/// have the documented form, and must not be a 5xx. `TOKEN`, `BOB` and `ECOSYSTEM` in the event are
/// replaced with values that exist.
pub fn event(data: &[u8]) {
    let Some((endpoint, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let is_routed = |endpoint: &Endpoint| {
        let (method, path) = (endpoint.method, endpoint.path);
        text.contains(&format!(r#""routeKey":"{method} {path}""#))
    };
    let by_number = || endpoints().nth(usize::from(*endpoint) % endpoints().count());
    let endpoint = endpoints().find(is_routed).or_else(by_number);
    let endpoint = endpoint.expect("the remainder is less than the count");
    let service = SERVICE.lock().expect("no earlier run panicked");
    let (runtime, service, bob) = &*service;

    let text = text
        .replace("TOKEN", &service.account_token)
        .replace("BOB", bob)
        .replace("ECOSYSTEM", service.ecosystem.id.as_str());
    // Lambda sends a function only events that are valid JSON.
    let Ok(payload) = RawValue::from_string(text) else {
        return;
    };
    let answer = answered(runtime, &service.app, endpoint.handler, payload);
    service.database.take_calls();
    let status = answer["statusCode"]
        .as_u64()
        .expect("the response has a status");
    assert!((200..500).contains(&status), "{}: {answer}", endpoint.name);
    let header = |name: &str| {
        answer["headers"]
            .get(name)
            .or(answer["multiValueHeaders"].get(name))
    };
    assert!(header("x-request-id").is_some(), "{answer}");
    let body = answer["body"].as_str().unwrap_or_default();
    if status >= 400 && status != 404 {
        let body: Value = serde_json::from_str(body).expect("an error is JSON");
        assert!(body["errorType"].is_string(), "{answer}");
        assert!(
            body["errors"]
                .as_array()
                .is_some_and(|errors| !errors.is_empty()),
            "{answer}"
        );
    }
}

/// Parses `data` in three ways: as a query, as a form and as a JSON object. The query, the form and
/// the object may have the field `a` (a string). The JSON object may also have the field `n` (a
/// number). `Fields` must find the same values as a simple parser. In a query and in a JSON object,
/// `Fields` must reject all other fields. In a form, `Fields` must ignore all other fields.
pub fn fields(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let service = SERVICE.lock().expect("no earlier run panicked");
    let (runtime, service, _) = &*service;

    let read = |event: Event, handler: Handler| {
        let payload = RawValue::from_string(event.json.to_string()).expect("the event is JSON");
        let answer = answered(runtime, &service.app, handler, payload);
        let body: Value =
            serde_json::from_str(answer["body"].as_str().expect("the response has a body"))
                .expect("the body is JSON");
        (
            answer["statusCode"]
                .as_u64()
                .expect("the response has a status"),
            body,
        )
    };

    let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
    let of_a = pairs.iter().filter(|(name, _)| name == "a");
    let values: Vec<_> = of_a.map(|(_, value)| value).collect();
    let event = || Event::to("introspect-token");
    for ((status, body), is_allowed) in [
        (
            read(event().query(text), |_, request| of_query(&request)),
            values.len() < 2 && pairs.len() == values.len(),
        ),
        (
            read(event().form(text), |_, request| of_form(&request)),
            values.len() < 2,
        ),
    ] {
        if text.len() > MAX_BODY && status == 413 {
            continue;
        }
        assert_eq!(
            status,
            if is_allowed { 200 } else { 400 },
            "{text:?}: {body}"
        );
        if is_allowed {
            assert_eq!(body, json!({ "a": values.first() }), "{text:?}");
        }
    }

    let (status, body) = read(event().json_body(text), |_, request| of_json(&request));
    let object = serde_json::from_str::<serde_json::Map<String, Value>>(text);
    match object {
        // If a name is repeated, `serde_json` keeps the last value.
        Ok(object) if status == 200 => {
            let is_known = |name: &String| name == "a" || name == "n";
            assert!(object.keys().all(is_known), "{text:?}");
            assert_eq!(
                body["a"],
                object.get("a").cloned().unwrap_or_default(),
                "{text:?}"
            );
            // The notation of a number does not matter: 1e3 is 1000.
            let number = object.get("n").and_then(Value::as_f64);
            assert_eq!(body["n"].as_f64(), number, "{text:?}");
        }
        Ok(_) => assert!([400, 413].contains(&status), "{text:?}: {body}"),
        Err(_) => {
            assert!([400, 413].contains(&status), "{text:?}: {body}");
            assert_ne!(body["errorType"], "InvalidParams", "{text:?}");
        }
    }
    service.database.take_calls();
}

fn answered(runtime: &Runtime, app: &App, handler: Handler, payload: Box<RawValue>) -> Value {
    let event = LambdaEvent::new(payload, Context::default());
    let Ok(answer) = runtime.block_on(respond(app, "fuzz", handler, event));
    serde_json::to_value(answer).expect("a response can be serialized")
}

fn of_query(request: &Request) -> Answer<'static> {
    let mut fields = Fields::query(request);
    let a = fields.optional("a", |text| Ok::<_, String>(text.to_owned()));
    let finished = fields.finish();
    Box::pin(async move { finished.and_then(|()| ok(&json!({ "a": a }))) })
}

fn of_form(request: &Request) -> Answer<'static> {
    let read = Fields::form(request, &["a"]).and_then(|mut fields| {
        let a = fields.optional("a", |text| Ok::<_, String>(text.to_owned()));
        fields.finish_ignoring_others().map(|()| a)
    });
    Box::pin(async move { ok(&json!({ "a": read? })) })
}

fn of_json(request: &Request) -> Answer<'static> {
    let read = Fields::json(request).and_then(|mut fields| {
        let a = fields
            .nullable("a", |text| Ok::<_, String>(text.to_owned()))
            .flatten();
        let n = fields.number("n", |digits| {
            shared::domain::number::positive_long(digits, u64::MAX)
        });
        fields.finish().map(|()| (a, n))
    });
    Box::pin(async move {
        let (a, n) = read?;
        ok(&json!({ "a": a, "n": n }))
    })
}
