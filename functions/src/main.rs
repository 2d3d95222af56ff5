//! The one binary that is every Lambda function: it runs the endpoint that Lambda names.

use std::{env, process::ExitCode};

use functions::{AUTHORIZER, ENDPOINTS, authorize};
use lambda_http::{lambda_runtime, service_fn};
use shared::{
    App,
    config::{Config, Uses, ValueKeySource},
    http::respond,
    log::{self, Format},
    metrics::Metrics,
    service::sealing::ValueKey,
    store::{client, ephemeral::Ephemeral, identity::Identity},
};

// One request at a time is all that Lambda gives an environment: a second thread would only cost.
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
    // `_HANDLER` is the function's `Handler` property; as an argument for those who run it by hand.
    let name = env::args()
        .nth(1)
        .or_else(|| env::var("_HANDLER").ok())
        .unwrap_or_default();
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.name == name);
    let uses = match endpoint {
        Some(endpoint) => endpoint.uses,
        None if name == AUTHORIZER => Uses::Identity,
        None => return Err(format!("no endpoint is named {name:?}")),
    };
    let config = Config::from_variables(uses, |name| env::var(name).ok())?;
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
    // Lambda names the function in it: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>.
    let metrics = env::var("AWS_LAMBDA_FUNCTION_NAME").ok();
    let app = &App::new(Identity::new(client, config.identity_table))
        .with_ephemeral(ephemeral)
        .with_value_key(value_key)
        .with_settings(config.settings)
        .with_metrics(metrics.map(Metrics::of_function));
    if let Err(error) = app.identity().warm_up().await {
        // Not fatal: the first request will say the same to its caller.
        tracing::warn!(cause = ?error, "the identity table does not answer");
    }
    app.warm_up_value_key().await;
    let ended = match endpoint {
        Some(endpoint) => {
            let (name, handler) = (endpoint.name, endpoint.handler);
            lambda_runtime::run(service_fn(|event| respond(app, name, handler, event))).await
        }
        None => lambda_runtime::run(service_fn(|event| authorize::handle(app, event))).await,
    };
    ended.map_err(|error| error.to_string())
}
