//! `tokenry migrate`: migrates the stored data of a deployment to the version of this release, in
//! the table directly, without the API.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use shared::{
    App,
    config::{self, ValueKeySource},
    domain::{
        deployment::Schema,
        error::Error,
        id::AccountId,
        owner::Account,
        token::{ExpiryType, NewToken, TokenName},
    },
    service::{
        access::{Grant, MayWrite},
        deployment::{REREAD_SECONDS, create_if_none},
        migrate,
        tokens::mint,
    },
    store::{client, identity::Identity},
};

use crate::{
    bootstrap::{account_id, print},
    serve::said,
    value_key::open_value_key,
};

/// Migrate the stored data of a deployment to the version of this release. Run this command only
/// when every function has the new release
///
/// The migration from version 2 to 3 adds all ecosystems, environments and users to the lists. The
/// migration from version 1 to 2 ends all tokens without a tag, which earlier releases created. It
/// prints a new token for each account, and gives each e-mail token a new value. If the command is
/// interrupted, or if a function of an earlier release served during the run, run it again.
#[derive(Clone, Debug, Args)]
pub struct Migrate {
    /// The identity table
    #[arg(long, value_name = "NAME", env = config::IDENTITY_TABLE)]
    identity_table: String,
    /// The key that encrypts the values of e-mail tokens: the ARN of a KMS key, or file:PATH.
    /// Required if the deployment has e-mail tokens
    #[arg(long, value_name = "KEY", env = config::VALUE_KEY, value_parser = ValueKeySource::parse)]
    value_key: Option<ValueKeySource>,
    /// The account of log-ins whose request contains no ecosystem id; required if the deployment
    /// has several accounts
    #[arg(long, value_name = "ID", value_parser = account_id)]
    first_account: Option<AccountId>,
    /// Only create the new account tokens. All old tokens stay valid. Replace the tokens of your
    /// back ends, then run the command again without this option
    #[arg(long)]
    prepare: bool,
    /// Print JSON: one line for each new account token, and one line with the result
    #[arg(long)]
    json: bool,
}

/// Migrates the data, and prints the new account tokens. Each of these tokens is shown only once.
///
/// # Errors
/// The error is one line with the cause.
pub async fn run(args: Migrate) -> Result<(), String> {
    let environment = client::operator_environment().await;
    let identity = Identity::new(client::dynamodb(&environment), args.identity_table);
    let value_key = args
        .value_key
        .map(|source| open_value_key(&environment, source));
    let app = App::new(identity).with_value_key(value_key);
    let right = MayWrite::of_operator();

    let named = args.first_account.as_ref();
    let choose = |accounts: &[Account], present| first_account(accounts, named, present);
    let accounts = migrate::prepare(&app, right, choose).await.map_err(said)?;
    for account in &accounts {
        if !migrate::has_tagged_token(&app, account)
            .await
            .map_err(said)?
        {
            let id = account.id.as_str();
            let token = new_token(&app, account).await.map_err(said)?;
            let text = format!(
                "Account:   {id}\nNew token: {token}\n\
                 The token is shown only once. Store it like a password.\n"
            );
            let value = json!({ "accountId": id, "accountToken": token });
            print(&text, &value, args.json)?;
        }
    }
    if args.prepare {
        let text = "New tokens have a tag now, and old tokens are still valid. Replace the tokens of \
                    your back ends. Then run this command again without --prepare.";
        return print(text, &json!({ "prepared": true }), args.json);
    }
    let deployment = create_if_none(&app, right).await.map_err(said)?;
    let mut replaced = 0;
    if deployment.schema < Schema::Three {
        replaced = migrate::finish(&app, right).await.map_err(said)?;
        // After this time, every execution environment knows that the version is at least 2.
        wait(Duration::from_secs(REREAD_SECONDS + 5)).await;
    }
    let deleted = migrate::clean_up(&app, right).await.map_err(said)?;
    migrate::lists::list_all(&app, right).await.map_err(said)?;
    let text = format!(
        "The stored data has version 3.\nE-mail tokens with a new value: {replaced}\n\
         Tokens without a tag that ended: {deleted}"
    );
    let value = json!({ "schema": 3, "replacedEmailTokens": replaced, "endedTokens": deleted });
    print(&text, &value, args.json)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command must wait until every execution environment knows the new version"
)]
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

fn first_account(
    accounts: &[Account],
    named: Option<&AccountId>,
    present: Option<AccountId>,
) -> Result<AccountId, Error> {
    match (named, present, accounts) {
        (Some(id), _, _) if accounts.iter().any(|account| account.id == *id) => Ok(id.clone()),
        (Some(_), _, _) => Err(Error::Conflict(
            "the account of --first-account does not exist",
        )),
        (None, Some(present), _) => Ok(present),
        (None, None, [only]) => Ok(only.id.clone()),
        (None, None, _) => Err(Error::Conflict(
            "the deployment has several accounts: name one with --first-account",
        )),
    }
}

/// Creates a token for an account. Returns the token's text.
pub(crate) async fn new_token(app: &App, account: &Account) -> Result<String, Error> {
    let wanted = NewToken {
        expiry_type: ExpiryType::Infinite,
        name: TokenName::parse("created by tokenry migrate").ok(),
        ..NewToken::default()
    };
    let (_, token) = mint(app, Grant::of_operator(account, wanted)).await?;
    Ok(token.reveal().to_owned())
}
