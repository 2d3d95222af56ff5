//! Tests of the log line of a request. The line contains the account, the ecosystem and the token
//! id of the caller, and no secret.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use functions::authorize;
use lambda_http::{Context, LambdaEvent};
use serde_json::{Value, json, value::to_raw_value};
use shared::domain::token::ExpiryType;
use tests::{Event, Fault, Service, invoke};
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber, set_default},
};

use crate::{
    change_password,
    consume_shortcode::code,
    create_email_token::{BOB, PASSWORD, ask, value, with_bob},
    events::{mint, rest_mint},
};

/// The log of the current thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Starts the log in the format that the functions use.
    fn start() -> (Self, DefaultGuard) {
        // When the code writes a log line for the first time, tracing asks whether the line is
        // wanted, and remembers the answer. If the process has only one subscriber, tracing asks
        // only the subscriber of the thread that writes the line, and this thread may run another
        // test. If there is a second subscriber, tracing asks all subscribers.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
        LazyLock::force(&SECOND);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        (log, set_default(subscriber))
    }

    /// Returns the lines since the last call of this function.
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    /// Returns the status and the caller in the line of this endpoint. The caller consists of the
    /// account, the ecosystem and the token id.
    fn caller(&self, endpoint: &str) -> (Value, [Value; 3]) {
        let text = self.take();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let line = lines.find(|line| line["endpoint"] == endpoint);
        let line = line.unwrap_or_else(|| panic!("no line of {endpoint}: {text}"));
        let caller = ["account", "ecosystem", "token_id"].map(|field| line[field].clone());
        (line["status"].clone(), caller)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The callers that the tests use, and the fields of each caller in a log line.
struct Callers {
    service: Service,
    bob: String,
    server: String,
    user: String,
    of_account: [Value; 3],
    of_server: [Value; 3],
    of_user: [Value; 3],
}

impl Callers {
    async fn new() -> Self {
        let (service, bob) = with_bob().await;
        let (server_id, server) = service.server_token(&service.ecosystem).await;
        let minted = service.mint(&bob, "expiryType=Infinite").await;
        let introspected = service.introspect(&service.account_token).await.json();
        let (account, ecosystem) = (service.account.id.as_str(), service.ecosystem.id.as_str());
        Self {
            of_account: [json!(account), Value::Null, introspected["jti"].clone()],
            of_server: [json!(account), json!(ecosystem), json!(server_id)],
            of_user: [
                json!(account),
                json!(ecosystem),
                minted.json()["tokenId"].clone(),
            ],
            user: minted.token(),
            service,
            bob,
            server,
        }
    }
}

const NOBODY: [Value; 3] = [Value::Null, Value::Null, Value::Null];

#[tokio::test]
async fn the_line_contains_the_caller_whatever_the_response_is() {
    let callers = Callers::new().await;
    let service = &callers.service;
    let (_, stranger) = service.another_account().await;
    let foreign = service.token_of(&stranger, ExpiryType::Infinite).await;
    let of_foreign = service.introspect_as(&foreign, &foreign).await.json();
    let foreign_account = stranger.account.as_str();
    let of_foreign = [
        json!(foreign_account),
        json!(stranger.id.as_str()),
        of_foreign["jti"].clone(),
    ];
    let unknown = format!("{};nobody", service.ecosystem.id.as_str());
    ask(service, "POST", &json!({ "email": BOB })).await;
    let get = |credential: &str, user: &str| {
        let event = Event::to("get-user").header("authorization", credential);
        event.parameter("id", user)
    };
    let email_token = |body: &Value| {
        let event = Event::to("create-email-token").header("authorization", &callers.server);
        event.json_body(&body.to_string())
    };
    let (account, server, user) = (&service.account_token, &callers.server, &callers.user);
    let bob = &callers.bob;
    let (log, _guard) = Log::start();
    for (endpoint, event, status, caller) in [
        ("get-user", get(account, bob), 200, &callers.of_account),
        ("get-user", get(server, bob), 200, &callers.of_server),
        ("get-user", get(user, bob), 403, &callers.of_user),
        ("get-user", get(&foreign, bob), 403, &of_foreign),
        ("get-user", get(server, &unknown), 404, &callers.of_server),
        (
            "get-user",
            get(server, bob).query("a=b"),
            400,
            &callers.of_server,
        ),
        (
            "create-email-token",
            email_token(&json!({ "email": BOB })),
            409,
            &callers.of_server,
        ),
        ("get-user", get("tk_uf_rubbish", bob), 401, &NOBODY),
    ] {
        let answer = event.send(&service.app).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(log.caller(endpoint), (json!(status), caller.clone()));
    }
    // The first read finds the caller. All later database calls fail or get no response.
    let value = Event::to("get-email-token-value")
        .header("authorization", server)
        .query(&format!("email={BOB}"));
    for fault in [Fault::Rubbish, Fault::Throttled, Fault::NoAnswer] {
        service.database.fail([("BatchGetItem", Fault::None)]);
        service.database.fail_always(Some(fault));
        let answer = value.send(&service.app).await;
        service.database.fail_always(None);
        assert_eq!(answer.status, 503, "{answer:?}");
        let expected = (json!(503), callers.of_server.clone());
        assert_eq!(log.caller("get-email-token-value"), expected);
    }
    // If the first read fails, the log line contains no caller.
    service.database.fail_always(Some(Fault::Rubbish));
    assert_eq!(value.send(&service.app).await.status, 503);
    service.database.fail_always(None);
    assert_eq!(log.caller("get-email-token-value"), (json!(503), NOBODY));
}

#[tokio::test]
async fn the_line_contains_the_route_and_whole_milliseconds() {
    let service = Service::start().await;
    let (http, rest) = (mint(&service).await, rest_mint(&service).await);
    let (log, _guard) = Log::start();
    for event in [http.json, rest] {
        let answer = invoke(&service.app, "create-user-token", &event).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = log.take();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["method"], "POST", "{text}");
        assert_eq!(line["path"], "/api/users/{id}/tokens", "{text}");
        assert!(line["ms"].is_u64(), "{text}");
    }
}

#[tokio::test]
async fn the_line_of_a_back_ends_attempt_contains_the_id_of_the_back_ends_token() {
    let callers = Callers::new().await;
    let service = &callers.service;
    let (_, code) = code(service, json!({ "userId": callers.bob })).await;
    let log_in = |password| json!({ "email": BOB, "password": password });
    let (log, _guard) = Log::start();
    for (endpoint, body, status) in [
        ("log-in-with-password", log_in(PASSWORD), 200),
        ("log-in-with-password", log_in("a wrong one"), 401),
        ("create-session", log_in(PASSWORD), 201),
        ("create-session", log_in("a wrong one"), 401),
        ("consume-shortcode", json!({ "shortcode": code }), 200),
        ("consume-shortcode", json!({ "shortcode": code }), 404),
    ] {
        let event = Event::to(endpoint).json_body(&body.to_string());
        let sent = event.clone().header("authorization", &callers.server);
        let answer = sent.send(&service.app).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let expected = (json!(status), callers.of_server.clone());
        assert_eq!(log.caller(endpoint), expected);
        // A request without the back end's token has no caller.
        event.send(&service.app).await;
        assert_eq!(log.caller(endpoint).1, NOBODY);
    }
}

#[tokio::test]
async fn the_line_of_the_authorizer_contains_the_caller_of_an_allowed_request() {
    let callers = Callers::new().await;
    let (log, _guard) = Log::start();
    for (token, caller) in [
        (&callers.user, &callers.of_user),
        (&callers.server, &NOBODY),
        (&"nonsense".to_owned(), &NOBODY),
    ] {
        let arn = "arn:aws:execute-api:::api/$default/GET/";
        let event = json!({ "routeArn": arn, "identitySource": [token] });
        let event = LambdaEvent::new(to_raw_value(&event).unwrap(), Context::default());
        authorize::handle(&callers.service.app, event)
            .await
            .unwrap();
        assert_eq!(log.caller("authorize").1, *caller);
    }
}

#[tokio::test]
async fn no_line_contains_a_token_a_code_an_address_or_the_name_of_a_user() {
    let callers = Callers::new().await;
    let service = &callers.service;
    let (log, _guard) = Log::start();
    let (_, code) = code(service, json!({ "userId": callers.bob })).await;
    let body = json!({ "shortcode": code }).to_string();
    let exchange = Event::to("consume-shortcode").json_body(&body);
    let exchanged = exchange.send(&service.app).await.token();
    service.log_in("192.0.2.1", BOB, PASSWORD).await;
    service.log_in("192.0.2.1", BOB, "a wrong one").await;
    let session = service.create_session("192.0.2.1", BOB, PASSWORD).await;
    let session = session.token();
    let value = value(service, BOB).await;
    for current in ["a wrong one", PASSWORD] {
        let event = change_password::change(&callers.user, current, "a new password");
        event.send(&service.app).await;
    }
    service.introspect_as(&callers.server, &callers.user).await;
    let path = format!("/api/users/{}", callers.bob);
    service.call(&callers.user, "GET", &path, "").await;
    let text = log.take();
    assert!(text.contains(service.account.id.as_str()), "{text}");
    for secret in [
        "tk_",
        "bob",
        BOB,
        PASSWORD,
        "a wrong one",
        "a new password",
        &code,
        &exchanged,
        &session,
        &value,
        &callers.user,
        &callers.server,
    ] {
        assert!(!text.contains(secret), "{text}");
    }
}
