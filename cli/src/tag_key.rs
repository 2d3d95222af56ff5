//! `tokenry tag-key`: adds a key for the tags of tokens, in the table directly, without the API.

use clap::{Args, Subcommand};
use serde_json::json;
use shared::{
    App, config,
    service::{access::MayWrite, deployment::add_tag_key},
    store::{client, identity::Identity},
};

use crate::{bootstrap::print, serve::said};

/// Replace the key for the tags of tokens, in the table of a deployment
#[derive(Clone, Debug, Subcommand)]
pub enum TagKeyCommand {
    /// Add a key. Within six minutes, this key is used for the tags of new tokens. Tags that older
    /// keys created stay valid
    Add(Add),
}

/// The options of `tag-key add`.
#[derive(Clone, Debug, Args)]
pub struct Add {
    /// The identity table
    #[arg(long, value_name = "NAME", env = config::IDENTITY_TABLE)]
    identity_table: String,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Adds a tag key, and prints its id.
///
/// # Errors
/// The error is one line with the cause.
pub async fn run(command: TagKeyCommand) -> Result<(), String> {
    let TagKeyCommand::Add(args) = command;
    let client = client::dynamodb(&client::operator_environment().await);
    let app = App::new(Identity::new(client, args.identity_table));
    let deployment = add_tag_key(&app, MayWrite::of_operator())
        .await
        .map_err(said)?;
    let id = deployment.tag_keys.last().map_or(0, |key| key.id);
    let text = format!(
        "Added the tag key {id}. Within six minutes, it is used for the tags of new tokens."
    );
    print(&text, &json!({ "tagKeyId": id }), args.json)
}
