//! The binary of all Lambda functions. The variable `_HANDLER`, which Lambda sets, contains the
//! name of the function to run.

use std::{env, process::ExitCode, time::Duration};

use functions::{FUNCTIONS, Kind, authorize};
use lambda_http::{LambdaEvent, lambda_runtime, service_fn};
use serde::de::IgnoredAny;
use shared::{
    App,
    config::{Config, ValueKeySource},
    domain::time::Timestamp,
    http::respond,
    log::{self, Format},
    metrics::Metrics,
    service::{deadline::Deadline, sealing::ValueKey},
    store::{client, ephemeral::Ephemeral, identity::Identity},
};

/// How long before Lambda's timeout a function that runs at intervals ends its work.
const MARGIN: Duration = Duration::from_secs(5);

// Lambda sends an execution environment one request at a time, so a second thread has no benefit.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    // Lambda sets `_HANDLER` to the function's `Handler` property. The argument is for manual runs.
    let name = env::args()
        .nth(1)
        .or_else(|| env::var("_HANDLER").ok())
        .unwrap_or_default();
    let function = FUNCTIONS.iter().find(|function| function.name == name);
    let function = function.ok_or_else(|| format!("no function is named {name:?}"))?;
    let config = Config::from_variables(function.uses, |name| env::var(name).ok())?;
    log::start(config.log, Format::Json);

    let environment = client::lambda_environment();
    let client = client::dynamodb(&client::at_endpoint(&environment, "DYNAMODB"));
    let ephemeral = config.ephemeral_table;
    let ephemeral = ephemeral.map(|table| Ephemeral::new(client.clone(), table));
    let value_key = config.value_key.map(|source| match source {
        ValueKeySource::Kms(arn) => {
            ValueKey::kms(client::kms(&client::at_endpoint(&environment, "KMS")), arn)
        }
        ValueKeySource::File(path) => ValueKey::file(path),
    });
    // Lambda sets this variable to the function's name:
    // <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>.
    let metrics = env::var("AWS_LAMBDA_FUNCTION_NAME").ok();
    let identity = Identity::new(client, config.identity_table);
    // This read also opens the connection to the database. During init, this is faster: Lambda then
    // provides a whole CPU, and later only a share of a CPU.
    let deployment = match identity.deployment().await {
        Ok(deployment) => Some(deployment),
        // Continue: each request tries again, and returns an error if the record still cannot be
        // read.
        Err(error) => {
            tracing::warn!(cause = ?error, "cannot read the record of the deployment");
            None
        }
    };
    let app = &App::new(identity)
        .with_ephemeral(ephemeral)
        .with_value_key(value_key)
        .with_settings(config.settings)
        .with_metrics(metrics.map(Metrics::of_function))
        .with_deployment(deployment);
    app.warm_up_value_key().await;
    let ended = match function.kind {
        Kind::Route { handler, .. } => {
            let answer = |event| respond(app, function.name, handler, event);
            lambda_runtime::run(service_fn(answer)).await
        }
        Kind::Authorizer => {
            lambda_runtime::run(service_fn(|event| authorize::handle(app, event))).await
        }
        Kind::Schedule { task } => {
            let work = async |event: LambdaEvent<IgnoredAny>| {
                let end = Timestamp::from(event.context.deadline()).millis();
                let left = Duration::from_millis(end.saturating_sub(app.now().millis()));
                let until = Deadline::after(left.saturating_sub(MARGIN));
                task(app, until).await.map_err(|error| format!("{error:?}"))
            };
            lambda_runtime::run(service_fn(work)).await
        }
    };
    ended.map_err(|error| error.to_string())
}
