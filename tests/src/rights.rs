//! Records the database calls that each function makes, and the tables that these calls use. The
//! role of a function must allow exactly these calls.
//!
//! If `TOKENRY_RIGHTS` is the path of a file, a test run appends the calls to this file, one JSON
//! object per line. `.ci/template.py` compares the template's policies with the calls.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::Write,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokenry::embedded::{EPHEMERAL, IDENTITY};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// The name of the endpoint, from the tracing span of a request.
#[derive(Clone, Default)]
struct Endpoint(String);

impl Visit for Endpoint {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "endpoint" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

/// A tracing layer that stores the name of the endpoint in each span.
struct Endpoints;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Endpoints {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut endpoint = Endpoint::default();
        attributes.record(&mut endpoint);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(endpoint);
        }
    }
}

/// Starts the recording if `TOKENRY_RIGHTS` is set.
pub(crate) fn start() {
    if file().is_some() {
        let ours = ["shared", "functions"].map(|target| (target, LevelFilter::INFO));
        let layer = Endpoints.with_filter(Targets::new().with_targets(ours));
        // `try_init` fails if another test has already started the recording.
        let _ = tracing_subscriber::registry().with(layer).try_init();
    }
}

/// Records a database call if a function makes the call.
pub(crate) fn note(operation: &str, request: &Value) {
    static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    let Some((file, function)) = file().zip(function()) else {
        return;
    };
    for (table, action) in actions(operation, request) {
        let table = [IDENTITY, EPHEMERAL]
            .into_iter()
            .find(|name| table.starts_with(name));
        let index = &request["IndexName"];
        let seen =
            json!({ "function": function, "table": table, "index": index, "action": action });
        let line = format!("{seen}\n");
        let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.insert(line.clone()) {
            let mut to = OpenOptions::new();
            let to = to.create(true).append(true).open(&file);
            to.and_then(|mut to| to.write_all(line.as_bytes()))
                .expect("the file can be written");
        }
    }
}

fn file() -> Option<String> {
    std::env::var("TOKENRY_RIGHTS").ok()
}

/// Returns the name of the function that handles the current request.
fn function() -> Option<String> {
    tracing::dispatcher::get_default(|dispatch| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let current = registry.current_span();
        let span = registry.span(current.id()?)?;
        let endpoint = span.scope().find_map(|span| {
            let extensions = span.extensions();
            extensions.get::<Endpoint>().cloned()
        });
        endpoint.map(|endpoint| endpoint.0)
    })
}

/// Returns each table that a call uses, with the action that IAM must allow. A transaction requires
/// the actions of its parts:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>
fn actions(operation: &str, request: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(parts) = request["TransactItems"].as_array() {
        let parts = parts.iter().filter_map(Value::as_object).flatten();
        return parts
            .map(|(part, of)| {
                let action = match part.as_str() {
                    "ConditionCheck" => "ConditionCheckItem".to_owned(),
                    part => format!("{part}Item"),
                };
                (text(&of["TableName"]), action)
            })
            .collect();
    }
    match request["RequestItems"].as_object() {
        Some(tables) => {
            let tables = tables.keys();
            tables
                .map(|table| (table.clone(), operation.to_owned()))
                .collect()
        }
        None => vec![(text(&request["TableName"]), operation.to_owned())],
    }
}
