//! The one binary that is every Lambda function: it runs the endpoint that Lambda names.

use std::{env, process::ExitCode};

use functions::ENDPOINTS;
use lambda_http::{lambda_runtime, service_fn};
use shared::{
    App, client,
    config::Config,
    ephemeral::Ephemeral,
    http::respond,
    identity::Identity,
    log::{self, Format},
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
    let endpoint = ENDPOINTS
        .iter()
        .find(|endpoint| endpoint.name == name)
        .ok_or_else(|| format!("no endpoint is named {name:?}"))?;
    let config = Config::from_variables(endpoint.tables, |name| env::var(name).ok())?;
    log::start(config.log, Format::Json);

    let client = client::from_lambda_environment().await;
    let ephemeral = config.ephemeral_table;
    let ephemeral = ephemeral.map(|table| Ephemeral::new(client.clone(), table));
    let app = &App::new(Identity::new(client, config.identity_table))
        .with_ephemeral(ephemeral)
        .with_settings(config.settings);
    app.identity().warm_up().await;
    lambda_runtime::run(service_fn(|event| {
        respond(app, endpoint.name, endpoint.handler, event)
    }))
    .await
    .map_err(|error| error.to_string())
}
