//! `tokenry bootstrap`: writes an account or a token to the table directly, without the API.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};
use shared::{
    App, config,
    domain::{
        deployment::Schema,
        id::AccountId,
        owner::Owner,
        token::{ExpiryType, NewToken},
    },
    service::{
        access::{Grant, MayWrite},
        deployment,
        directory::create_account,
        tokens::mint,
    },
    store::{client, identity::Identity, schema::create_tables},
};

use crate::serve::said;

/// Create an account with a token, or another token for an existing account. Writes directly to the
/// tables of a deployment, without the API
#[derive(Clone, Debug, Args)]
pub struct Bootstrap {
    /// The name of the identity table
    #[arg(long, value_name = "NAME", env = config::IDENTITY_TABLE)]
    identity_table: String,
    /// The name of the ephemeral table; required with --create-tables, and otherwise ignored
    #[arg(
        long,
        value_name = "NAME",
        env = config::EPHEMERAL_TABLE,
        required_if_eq("create_tables", "true")
    )]
    ephemeral_table: Option<String>,
    /// Create the tables first, if they do not exist. Use this only for trials: these tables have
    /// no backups. In a deployment, the template creates the tables
    #[arg(long)]
    create_tables: bool,
    /// Create another token for this account instead of a new account
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Print one line of JSON with accountId and accountToken
    #[arg(long)]
    json: bool,
}

/// Creates a new account if the arguments contain no account id. Then creates a token for the
/// account and prints the token. The token is shown only once.
///
/// # Errors
/// The error is one line with the cause.
pub async fn run(args: Bootstrap) -> Result<(), String> {
    let id = args.account.as_deref().map(account_id).transpose()?;

    let client = client::dynamodb(&client::operator_environment().await);
    if let Some(ephemeral) = args.ephemeral_table.filter(|_| args.create_tables) {
        create_tables(&client, &args.identity_table, &ephemeral)
            .await
            .map_err(said)?;
    }
    let app = App::new(Identity::new(client, args.identity_table));
    let right = MayWrite::of_operator();
    let deployment = deployment::create_if_none(&app, right)
        .await
        .map_err(said)?;
    let account = match id {
        None => create_account(&app, right).await.map_err(said)?,
        Some(id) => match app.identity().owner((&id).into()).await.map_err(said)? {
            Some(Owner::Account(account)) if account.id == id => account,
            _ => return Err(format!("Account with id {id} does not exist.")),
        },
    };
    let wanted = NewToken {
        expiry_type: ExpiryType::Infinite,
        ..NewToken::default()
    };
    let (_, token) = mint(&app, Grant::of_operator(&account, wanted))
        .await
        .map_err(said)?;

    let (id, token) = (account.id.as_str(), token.reveal());
    let text = format!(
        "Account: {id}\nToken:   {token}\nThe token is shown only once. Store it like a password."
    );
    let value = json!({ "accountId": id, "accountToken": token });
    print(&text, &value, args.json)?;
    // In schema version 1, `tokenry migrate` chooses the first account.
    if deployment.schema == Schema::CURRENT && deployment.first_account.is_none() {
        let first = deployment::set_first_account(&app, right, &account.id);
        first.await.map_err(said)?;
    }
    Ok(())
}

/// Parses the id of an account.
pub(crate) fn account_id(text: &str) -> Result<AccountId, String> {
    AccountId::parse(text).map_err(|_invalid| {
        r#"the account id must be "A" followed by 24 lowercase hex digits"#.to_owned()
    })
}

/// Prints the result of a command: `value` as a line of JSON, or `text`.
pub(crate) fn print(text: &str, value: &Value, is_json: bool) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let printed = if is_json {
        writeln!(out, "{value}")
    } else {
        writeln!(out, "{text}")
    };
    // If a token cannot be printed, it is lost. So this error must be reported.
    printed
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())
}
