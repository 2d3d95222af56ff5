//! `tokenry value-key`: replaces the keys that encrypt the values of e-mail tokens, in the table
//! directly, without the API.

use aws_config::SdkConfig;
use clap::{Args, Subcommand};
use serde_json::json;
use shared::{
    App,
    config::{self, ValueKeySource},
    service::{
        access::MayWrite,
        rotation::{add, reseal, rewrap},
        sealing::ValueKey,
    },
    store::{client, identity::Identity},
};

use crate::{bootstrap::print, serve::said};

/// Replace the keys that encrypt the values of e-mail tokens, in the tables of a deployment
#[derive(Clone, Debug, Subcommand)]
pub enum ValueKeyCommand {
    /// Add a data key, which encrypts all new values. The values that older data keys encrypted can
    /// still be read
    Add(Deployment),
    /// Encrypt all values again with the newest data key. This command can be interrupted and run
    /// again
    Reseal {
        /// The deployment.
        #[command(flatten)]
        deployment: Deployment,
        /// After that, remove all other data keys. This fails within the first 10 minutes after the
        /// newest data key was added
        #[arg(long)]
        remove_old: bool,
    },
    /// Wrap (encrypt) all data keys with a second value key, too. After that, each of the two value
    /// keys can decrypt the data keys
    Rewrap {
        /// The deployment.
        #[command(flatten)]
        deployment: Deployment,
        /// The second value key: the ARN of a KMS key, or file:PATH
        #[arg(long, value_name = "KEY", value_parser = ValueKeySource::parse)]
        to: ValueKeySource,
    },
}

/// The options for the identity table and the value key of a deployment, and for the output.
#[derive(Clone, Debug, Args)]
pub struct Deployment {
    /// The identity table
    #[arg(long, value_name = "NAME", env = config::IDENTITY_TABLE)]
    identity_table: String,
    /// The value key, which wraps (encrypts) the data keys: the ARN of a KMS key, or file:PATH
    #[arg(long, value_name = "KEY", env = config::VALUE_KEY, value_parser = ValueKeySource::parse)]
    value_key: ValueKeySource,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs a command, and prints the result.
///
/// # Errors
/// The error is one line with the cause.
pub async fn run(command: ValueKeyCommand) -> Result<(), String> {
    let right = MayWrite::of_operator();
    let (text, value, is_json) = match command {
        ValueKeyCommand::Add(deployment) => {
            let (app, _) = connect(&deployment).await;
            let id = add(&app, right).await.map_err(said)?;
            let text = format!("Added the data key {id}. It encrypts all new values.");
            (text, json!({ "dataKeyId": id }), deployment.json)
        }
        ValueKeyCommand::Reseal {
            deployment,
            remove_old,
        } => {
            let (app, _) = connect(&deployment).await;
            let done = reseal(&app, right, remove_old).await.map_err(said)?;
            let text = format!(
                "Values encrypted again: {}\nValues that needed no change: {}\n\
                 Values that cannot be decrypted any more: {}\nData keys removed: {}",
                done.resealed, done.current, done.lost, done.removed
            );
            let value = json!({
                "resealed": done.resealed,
                "current": done.current,
                "lost": done.lost,
                "removedDataKeys": done.removed,
            });
            (text, value, deployment.json)
        }
        ValueKeyCommand::Rewrap { deployment, to } => {
            let (app, environment) = connect(&deployment).await;
            let to = open_value_key(&environment, to);
            let wrapped = rewrap(&app, right, &to).await.map_err(said)?;
            let text = format!("Data keys wrapped with the other value key: {wrapped}");
            (text, json!({ "wrapped": wrapped }), deployment.json)
        }
    };
    print(&text, &value, is_json)
}

async fn connect(deployment: &Deployment) -> (App, SdkConfig) {
    let environment = client::operator_environment().await;
    let client = client::dynamodb(&environment);
    let app = App::new(Identity::new(client, deployment.identity_table.clone())).with_value_key(
        Some(open_value_key(&environment, deployment.value_key.clone())),
    );
    (app, environment)
}

/// Returns the value key that this option identifies.
pub(crate) fn open_value_key(environment: &SdkConfig, source: ValueKeySource) -> ValueKey {
    match source {
        ValueKeySource::Kms(arn) => ValueKey::kms(client::kms(environment), arn),
        ValueKeySource::File(path) => ValueKey::file(path),
    }
}
