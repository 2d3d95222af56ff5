//! A test's database with every call written down, and faults where a test wants them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokenry::embedded::Embedded;
use tokio::sync::Notify;

use crate::{endpoint::Endpoint, rights};

/// One call that reached the database, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Call {
    /// Such as `BatchGetItem`.
    pub operation: String,
    /// The request's JSON.
    pub request: Value,
    /// The capacity units that the database says it consumed.
    pub capacity: f64,
}

/// What goes wrong with one call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Refused for its rate.
    Throttled,
    /// Refused because a transaction is at work on the item.
    TransactionConflict,
    /// Refused because the role does not allow it.
    Denied,
    /// A server error without a cause.
    ServerError,
    /// All keys come back unprocessed.
    Unprocessed,
    /// The call is carried out, and the connection breaks before the answer.
    AnswerLost,
    /// The connection breaks before the call.
    Unreachable,
    /// No answer, ever.
    NoAnswer,
    /// A success that is not JSON.
    Rubbish,
    /// A success that says nothing.
    Empty,
    /// A transaction is cancelled for another one at work on one of its items.
    TransactionCancelled,
    /// Carried out when so many calls of this operation have arrived.
    NotBeforeAll(&'static str, usize),
    /// Nothing.
    None,
    /// Carried out when a call of this operation has arrived as well.
    NotBefore(&'static str),
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    faults: VecDeque<(&'static str, Fault)>,
    /// What goes wrong with every call once the queue is empty.
    always: Option<Fault>,
}

/// What carries the calls out.
#[derive(Clone, Debug)]
enum Store {
    Embedded(Embedded),
    Endpoint(Endpoint),
}

/// A database that a test can look into and break.
#[derive(Clone, Debug)]
pub struct Database {
    store: Store,
    state: Arc<Mutex<State>>,
    arrival: Arc<Notify>,
}

impl Database {
    /// Over the database that this run is for: one embedded for this test alone, or one at an
    /// address that all tests share.
    ///
    /// # Panics
    /// If there is none.
    pub fn of_this_run() -> Self {
        let embedded = || Store::Embedded(Embedded::in_memory().expect("a database"));
        Self {
            store: Endpoint::of_this_run().map_or_else(embedded, Store::Endpoint),
            state: Arc::default(),
            arrival: Arc::default(),
        }
    }

    /// Lets these faults meet the next calls of these operations, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = (&'static str, Fault)>) {
        self.state().faults.extend(faults);
    }

    /// Lets this fault meet every call from now on, or none any more.
    pub fn fail_always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// Forgets the faults that have met no call yet.
    pub fn take_faults(&self) {
        self.state().faults.clear();
    }

    /// The calls since the last time that they were taken.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// The operations since the last time that calls were taken, in alphabetic order.
    pub fn take_operations(&self) -> Vec<String> {
        let mut operations: Vec<_> = self
            .take_calls()
            .into_iter()
            .map(|call| call.operation)
            .collect();
        operations.sort_unstable();
        operations
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the state")
    }

    /// Writes a call down and takes the fault that is meant for it.
    fn arrive(&self, operation: &str, request: &Value) -> Option<Fault> {
        let mut state = self.state();
        state.calls.push(Call {
            operation: operation.to_owned(),
            request: request.clone(),
            capacity: 0.0,
        });
        let next = state.faults.iter().position(|(of, _)| *of == operation);
        let fault = next
            .and_then(|at| state.faults.remove(at))
            .map(|(_, fault)| fault);
        let fault = fault.or_else(|| state.always.clone());
        drop(state);
        self.arrival.notify_waiters();
        fault
    }

    /// Notes what a call consumed.
    fn weigh(&self, request: &Value, capacity: f64) {
        let mut state = self.state();
        if let Some(call) = state
            .calls
            .iter_mut()
            .rev()
            .find(|call| call.capacity == 0.0 && call.request == *request)
        {
            call.capacity = capacity;
        }
    }

    /// Waits until a call of this operation has arrived since calls were last taken.
    pub async fn has_arrived(&self, operation: &str) {
        self.have_arrived(operation, 1).await;
    }

    /// Waits until so many calls of this operation have arrived since calls were last taken.
    pub async fn have_arrived(&self, operation: &str, count: usize) {
        loop {
            let arrival = self.arrival.notified();
            let alike = |call: &&Call| call.operation == operation;
            if self.state().calls.iter().filter(alike).count() >= count {
                return;
            }
            arrival.await;
        }
    }

    async fn pass_on(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = request.body().bytes().unwrap_or_default();
        let mut wanted: Value = serde_json::from_slice(body).expect("the SDK sends JSON");
        rights::note(&operation, &wanted);
        let fault = self.arrive(&operation, &wanted);
        // What runs at once gets in between, as it would over a network.
        tokio::task::yield_now().await;
        match fault {
            None | Some(Fault::AnswerLost | Fault::None) => {}
            Some(Fault::NotBefore(other)) => self.has_arrived(other).await,
            Some(Fault::NotBeforeAll(other, count)) => self.have_arrived(other, count).await,
            Some(Fault::TransactionCancelled) => {
                let body = json!({
                    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                    "Message": "Transaction cancelled",
                    "CancellationReasons": [
                        { "Code": "None" },
                        { "Code": "TransactionConflict", "Message": "at work" },
                    ],
                });
                return Ok(answer(400, body.to_string()));
            }
            Some(Fault::Throttled) => {
                return Ok(refusal("ProvisionedThroughputExceededException", 400));
            }
            Some(Fault::TransactionConflict) => {
                return Ok(refusal("TransactionConflictException", 400));
            }
            Some(Fault::Denied) => return Ok(refusal("AccessDeniedException", 400)),
            Some(Fault::ServerError) => return Ok(refusal("InternalServerError", 500)),
            Some(Fault::Unprocessed) => {
                let left = json!({ "Responses": {}, "UnprocessedKeys": wanted["RequestItems"] });
                return Ok(answer(200, left.to_string()));
            }
            Some(Fault::Unreachable) => return Err(broken()),
            Some(Fault::NoAnswer) => std::future::pending().await,
            Some(Fault::Rubbish) => return Ok(answer(200, "<html>".to_owned())),
            Some(Fault::Empty) => return Ok(answer(200, "{}".to_owned())),
        }

        let counted = !operation.contains("Table") && !operation.contains("TimeToLive");
        let request_as_sent = wanted.clone();
        if counted {
            wanted["ReturnConsumedCapacity"] = "TOTAL".into();
        }
        *request.body_mut() = SdkBody::from(wanted.to_string());
        let response = match &self.store {
            Store::Embedded(embedded) => embedded.call(request).await?,
            Store::Endpoint(endpoint) => endpoint.call(request).await?,
        };
        let said: Value = serde_json::from_slice(response.body().bytes().unwrap_or_default())
            .expect("the database answers in JSON");
        self.weigh(&request_as_sent, units(&said["ConsumedCapacity"]));
        tokio::task::yield_now().await;
        match fault {
            Some(Fault::AnswerLost) => Err(broken()),
            _ => Ok(response),
        }
    }
}

fn units(consumed: &Value) -> f64 {
    match consumed {
        Value::Array(tables) => tables.iter().map(units).sum(),
        one => one["CapacityUnits"].as_f64().unwrap_or_default(),
    }
}

fn refusal(code: &str, status: u16) -> HttpResponse {
    let namespace = "com.amazonaws.dynamodb.v20120810";
    let body = json!({ "__type": format!("{namespace}#{code}"), "message": "as the test wants" });
    answer(status, body.to_string())
}

fn answer(status: u16, body: String) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("a status");
    HttpResponse::new(status, SdkBody::from(body))
}

fn broken() -> ConnectorError {
    ConnectorError::io("connection reset".into())
}

impl HttpConnector for Database {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let database = self.clone();
        HttpConnectorFuture::new(async move { database.pass_on(request).await })
    }
}

impl HttpClient for Database {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
