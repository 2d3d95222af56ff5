//! The commands `tokenry session` and `tokenry password`.

use clap::{Args, Subcommand};
use serde_json::Value;
use shared::domain::id::EcosystemId;
use tokenry_api::{CreatedSession, ExpiryType, LogIn, NewSession, NewToken, PasswordChange};
use ureq::http::Method;

use super::{
    Run,
    arguments::{expiry_type, seconds},
    client::Payload,
    ecosystem_id,
    failure::Failure,
    options::Options,
    secret,
    token::{check_keys, metadata_entry, object},
};

/// Sessions
#[derive(Clone, Debug, Subcommand)]
pub enum Session {
    /// Log a user in, and print the session's token; prompts for the password. The token is shown
    /// only once. `tokenry revoke` ends the session
    Create(NewLogIn),
}

/// The user that logs in, and the properties of the session's token
#[derive(Clone, Debug, Args)]
pub struct NewLogIn {
    /// The user's e-mail address
    email: String,
    /// The user's ecosystem; by default, any ecosystem of the deployment's first account
    #[arg(long, value_name = "ID", value_parser = ecosystem_id)]
    ecosystem: Option<EcosystemId>,
    /// A label, 1 to 64 characters
    #[arg(long)]
    name: Option<String>,
    /// How the token expires: SlidingTtl or FixedTtl [default: SlidingTtl]
    #[arg(long, value_name = "TYPE", value_parser = expiry_type(), hide_possible_values = true)]
    expiry_type: Option<ExpiryType>,
    /// The time from the token's last use until it expires, such as 90s, 15m, 12h or 7d; without a
    /// unit, in seconds. For FixedTtl, the time from its creation [default and maximum: the
    /// ecosystem's sessionTtl]
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u32>)]
    ttl: Option<u32>,
    /// The maximum time from the token's creation until it expires; a use does not extend this time
    /// [default and maximum: the ecosystem's sessionMaxTtl]
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u32>)]
    max_ttl: Option<u32>,
    /// The scopes of the token, separated by spaces; requires a server token [default: the
    /// ecosystem's sessionScope]
    #[arg(long)]
    scope: Option<String>,
    /// A value to store with the token; can be repeated; requires a server token. A VALUE that is a
    /// number, true or false is stored as such, and any other VALUE as text
    #[arg(long, value_name = "KEY=VALUE", value_parser = metadata_entry)]
    metadata: Vec<(String, Value)>,
}

impl Run for Session {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let Self::Create(wanted) = self;
        check_keys(&wanted.metadata)?;
        let metadata = (!wanted.metadata.is_empty()).then(|| object(&wanted.metadata));
        // A log-in needs no token. Only a server token may choose the scope and the metadata.
        let needs_token = wanted.scope.is_some() || metadata.is_some();
        let client = if needs_token || options.has_token_file() {
            options.client()?
        } else {
            options.client_without_token()?
        };
        let body = Payload::json(&NewSession {
            log_in: LogIn {
                email: wanted.email.into(),
                password: secret::ask("the password")?,
                ecosystem_id: wanted.ecosystem.map(|id| id.to_string()),
                client_address: None,
            },
            token: NewToken {
                expiry_type: wanted.expiry_type,
                ttl: wanted.ttl,
                max_ttl: wanted.max_ttl,
                name: wanted.name,
                scope: wanted.scope,
                metadata,
            },
        });
        let made = client.call(Method::POST, "/api/auth/sessions", body)?;
        let shown = [
            "token",
            "tokenId",
            "userId",
            "expiryType",
            "expiresAt",
            "scope",
            "metadata",
        ];
        options
            .output()
            .record_once::<CreatedSession>(&made, &shown)
    }
}

/// The password of the token's user
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Password {
    /// Change the password of the user whose token the console uses; prompts for both passwords.
    /// All other tokens of the user are revoked
    Change,
}

impl Run for Password {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client()?;
        let body = Payload::json(&PasswordChange {
            current_password: secret::ask("the current password")?,
            new_password: secret::ask_new("the new password")?,
        });
        client.tell(Method::POST, "/api/auth/password", body)?;
        let line = "The password is changed. All other tokens of the user are revoked.";
        options.output().done(line)
    }
}
