//! A database for tests that records every call and injects the faults that a test asks for.

mod admission;

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

use crate::{
    TestClock,
    endpoint::Endpoint,
    partitions::{self, Partitions},
    rights,
};

/// A call that reached the database.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation, such as `BatchGetItem`.
    pub operation: String,
    /// The request's JSON.
    pub request: Value,
    /// The capacity units that the call consumed, as the database reported.
    pub capacity: f64,
}

/// A fault that a test injects into one call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The database throttles the call.
    Throttled,
    /// The database rejects the call because a transaction is using the item.
    TransactionConflict,
    /// The database rejects the call because the role does not allow it.
    Denied,
    /// The database responds with a server error that does not state the cause.
    ServerError,
    /// The database processes nothing, and returns all keys or items as unprocessed.
    Unprocessed,
    /// The database executes the call, but the connection breaks before the response arrives.
    AnswerLost,
    /// The connection breaks before the database executes the call.
    Unreachable,
    /// The response never arrives.
    NoAnswer,
    /// The response has the status 200, but its body is not JSON.
    Rubbish,
    /// The response has the status 200, and its body is an empty JSON object.
    Empty,
    /// The database cancels the transaction. The list contains the error codes of the first items.
    /// The other items have no error.
    TransactionCancelled(&'static [&'static str]),
    /// The database does not execute the call until the given number of calls of the given
    /// operation have arrived since the last `take_calls`.
    NotBeforeAll(&'static str, usize),
    /// No fault. A test uses this value to let one call succeed before the next fault.
    None,
    /// The database does not execute the call until a call of the given operation has arrived since
    /// the last `take_calls`.
    NotBefore(&'static str),
    /// The database executes the call, but the response does not arrive until a call of the given
    /// operation has arrived since the last `take_calls`.
    AnswerNotBefore(&'static str),
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// The number of calls before those in `calls`.
    taken: usize,
    faults: VecDeque<(&'static str, Fault)>,
    /// The fault of a call if `faults` contains no fault for the call's operation.
    always: Option<Fault>,
    /// How many calls are executed before all calls are denied, or `None` if no call is denied.
    calls_left: Option<usize>,
    /// The limits of partitions and transactions. `None` if the test did not ask for limits.
    partitions: Option<Partitions>,
}

/// The database that executes the calls.
#[derive(Clone, Debug)]
enum Store {
    Embedded(Embedded),
    Endpoint(Endpoint),
}

/// A database that a test can observe and break.
#[derive(Clone, Debug)]
pub struct Database {
    store: Store,
    state: Arc<Mutex<State>>,
    arrival: Arc<Notify>,
}

impl Database {
    /// Returns the database for a test. If `TOKENRY_TEST_ENDPOINT` is set, this is the database at
    /// that URL, which all tests share. Otherwise, it is a new embedded database.
    ///
    /// # Panics
    /// If the embedded database cannot be created.
    pub fn of_this_run() -> Self {
        let embedded = || Store::Embedded(Embedded::in_memory().expect("the database is created"));
        Self {
            store: Endpoint::of_this_run().map_or_else(embedded, Store::Endpoint),
            state: Arc::default(),
            arrival: Arc::default(),
        }
    }

    /// Returns a database that stores its data in this embedded database.
    pub(crate) fn of(embedded: Embedded) -> Self {
        Self {
            store: Store::Embedded(embedded),
            state: Arc::default(),
            arrival: Arc::default(),
        }
    }

    /// Executes this many more calls, and denies all calls after them. `None` ends the denial.
    pub fn deny_after(&self, calls: Option<usize>) {
        self.state().calls_left = calls;
    }

    /// Injects each fault into a coming call of its operation. Faults of the same operation are
    /// injected in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = (&'static str, Fault)>) {
        self.state().faults.extend(faults);
    }

    /// From now on, injects this fault into every call that gets no fault from [`Self::fail`].
    /// `None` ends this.
    pub fn fail_always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// From now on, the database has the limits of a real one: see [`partitions`]. `clock` says
    /// when a new second begins. Each call also takes time by tokio's clock, so the test should
    /// pause tokio's clock.
    pub fn limit_partitions(&self, clock: &TestClock) {
        self.state().partitions = Some(Partitions::new(clock.clone()));
    }

    /// Removes the faults of [`Self::fail`] that no call has received yet.
    pub fn take_faults(&self) {
        self.state().faults.clear();
    }

    /// Returns the calls since the last `take_calls`, in the order of arrival.
    pub fn take_calls(&self) -> Vec<Call> {
        let mut state = self.state();
        state.taken += state.calls.len();
        std::mem::take(&mut state.calls)
    }

    /// Returns the operations of the calls since the last `take_calls`, in alphabetical order.
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
            .expect("no thread panics while it holds the lock")
    }

    /// Records a call. Returns its number and the fault to inject into it.
    fn arrive(&self, operation: &str, request: &Value) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let number = state.taken + state.calls.len();
        state.calls.push(Call {
            operation: operation.to_owned(),
            request: request.clone(),
            capacity: 0.0,
        });
        match &mut state.calls_left {
            Some(0) => return (number, Some(Fault::Denied)),
            Some(left) => *left -= 1,
            None => {}
        }
        let next = state.faults.iter().position(|(of, _)| *of == operation);
        let fault = next
            .and_then(|at| state.faults.remove(at))
            .map(|(_, fault)| fault);
        let fault = fault.or_else(|| state.always.clone());
        drop(state);
        self.arrival.notify_waiters();
        (number, fault)
    }

    /// Records the capacity that a call consumed, unless a test has taken the call already.
    fn weigh(&self, number: usize, capacity: f64) {
        let mut state = self.state();
        let taken = state.taken;
        let index = number.checked_sub(taken);
        if let Some(call) = index.and_then(|index| state.calls.get_mut(index)) {
            call.capacity = capacity;
        }
    }

    /// Waits until a call of this operation has arrived since the last `take_calls`.
    pub async fn has_arrived(&self, operation: &str) {
        self.have_arrived(operation, 1).await;
    }

    /// Waits until this many calls of this operation have arrived since the last `take_calls`.
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
        let (number, fault) = self.arrive(&operation, &wanted);
        // Lets concurrent tasks run, as they would during a call over a network.
        tokio::task::yield_now().await;
        match fault {
            None | Some(Fault::AnswerLost | Fault::AnswerNotBefore(_) | Fault::None) => {}
            Some(Fault::NotBefore(other)) => self.has_arrived(other).await,
            Some(Fault::NotBeforeAll(other, count)) => self.have_arrived(other, count).await,
            Some(Fault::TransactionCancelled(codes)) => {
                let items = wanted["TransactItems"].as_array().map_or(0, Vec::len);
                let codes = codes.iter().copied().chain(std::iter::repeat("None"));
                return Ok(cancelled(codes.take(items)));
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
                let items = &wanted["RequestItems"];
                let left = match operation.as_str() {
                    "BatchWriteItem" => json!({ "UnprocessedItems": items }),
                    _ => json!({ "Responses": {}, "UnprocessedKeys": items }),
                };
                return Ok(answer(200, left.to_string()));
            }
            Some(Fault::Unreachable) => return Err(broken()),
            Some(Fault::NoAnswer) => std::future::pending().await,
            Some(Fault::Rubbish) => return Ok(answer(200, "<html>".to_owned())),
            Some(Fault::Empty) => return Ok(answer(200, "{}".to_owned())),
        }

        let call = partitions::Call::of(&operation);
        let call = call.filter(|_| self.state().partitions.is_some());
        let mut unprocessed = None;
        let mut in_progress = None;
        if let Some(call) = call {
            match self.admit(&request, call, &mut wanted).await? {
                Ok((left, call)) => (unprocessed, in_progress) = (left, Some(call)),
                Err(refused) => return Ok(refused),
            }
        }
        let counted = !operation.contains("Table") && !operation.contains("TimeToLive");
        if counted {
            wanted["ReturnConsumedCapacity"] = "TOTAL".into();
        }
        *request.body_mut() = SdkBody::from(wanted.to_string());
        let mut response = self.execute(request).await?;
        let mut said = json_of(&response);
        self.weigh(number, units(&said["ConsumedCapacity"]));
        if operation == "Query"
            && let Some(partitions) = &mut self.state().partitions
        {
            partitions.settle_query(&wanted, units(&said["ConsumedCapacity"]));
        }
        if let Some((name, left)) = unprocessed {
            said[name] = left;
            *response.body_mut() = SdkBody::from(said.to_string());
        }
        drop(in_progress);
        tokio::task::yield_now().await;
        match fault {
            Some(Fault::AnswerLost) => Err(broken()),
            Some(Fault::AnswerNotBefore(other)) => {
                self.has_arrived(other).await;
                Ok(response)
            }
            _ => Ok(response),
        }
    }

    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        match &self.store {
            Store::Embedded(embedded) => embedded.call(request).await,
            Store::Endpoint(endpoint) => endpoint.call(request).await,
        }
    }
}

fn json_of(response: &HttpResponse) -> Value {
    let body = response.body().bytes().unwrap_or_default();
    serde_json::from_slice(body).expect("the database answers in JSON")
}

fn units(consumed: &Value) -> f64 {
    match consumed {
        Value::Array(tables) => tables.iter().map(units).sum(),
        one => one["CapacityUnits"].as_f64().unwrap_or_default(),
    }
}

fn refusal(code: &str, status: u16) -> HttpResponse {
    let namespace = "com.amazonaws.dynamodb.v20120810";
    let body =
        json!({ "__type": format!("{namespace}#{code}"), "message": "injected by the test" });
    answer(status, body.to_string())
}

/// Returns the response to a cancelled transaction, with a code for each of its items.
fn cancelled<'a>(codes: impl Iterator<Item = &'a str>) -> HttpResponse {
    let reasons: Vec<_> = codes.map(|code| json!({ "Code": code })).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled",
        "CancellationReasons": reasons,
    });
    answer(400, body.to_string())
}

fn answer(status: u16, body: String) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("the status is valid");
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
