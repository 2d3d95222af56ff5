//! The command `tokenry shortcode`.

use clap::{ArgGroup, Args, Subcommand};
use shared::domain::id::{EnvironmentId, UserId};
use tokenry_api::{CreatedShortcode, ExchangedToken, ExpiryType, NewShortcode, TypedShortcode};
use ureq::http::Method;

use super::{
    Run,
    arguments::{expiry_type, seconds},
    client::Payload,
    environment_id,
    failure::Failure,
    options::Options,
    secret, user_id,
};

/// Short codes
#[derive(Clone, Debug, Subcommand)]
pub enum Shortcode {
    /// Create a short code for a user, or for a new user of an environment
    Create(NewCode),
    /// Exchange a short code for a token; prompts for the code, and needs no other credential
    Consume,
}

/// The user or environment of a short code, and the expiry of the code and of its token
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("owner").required(true).args(["user_id", "environment_id"])))]
pub struct NewCode {
    /// Create the code for the user with this id, in the form ECOSYSTEM;NAME
    #[arg(long, value_parser = user_id)]
    user_id: Option<UserId>,
    /// Create the code for a new user of this environment
    #[arg(long, value_parser = environment_id)]
    environment_id: Option<EnvironmentId>,
    /// The time until the code expires, at most 1h; without a unit, in seconds [default: 5m]
    #[arg(long = "ttl", value_name = "DURATION", value_parser = seconds::<u64>)]
    short_code_ttl: Option<u64>,
    /// How the token expires [default: FixedTtl]
    #[arg(long, value_name = "TYPE", value_parser = expiry_type())]
    token_expiry_type: Option<ExpiryType>,
    /// The time from the token's creation until it expires, such as 90s, 15m, 12h or 7d; without a
    /// unit, in seconds. For SlidingTtl, the time from its last use [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u64>)]
    token_ttl: Option<u64>,
}

impl Run for Shortcode {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let output = options.output();
        match self {
            Self::Create(wanted) => {
                let client = options.client()?;
                let body = Payload::json(&NewShortcode {
                    environment_id: wanted.environment_id.map(|id| id.to_string()),
                    user_id: wanted.user_id.map(|id| id.to_string()),
                    short_code_ttl: wanted.short_code_ttl,
                    token_expiry_type: wanted.token_expiry_type,
                    token_ttl: wanted.token_ttl,
                });
                let made = client.call(Method::POST, "/api/auth/shortcode/create", body)?;
                output.record_once::<CreatedShortcode>(
                    &made,
                    &["shortcode", "userId", "environmentId", "ecosystemId"],
                )
            }
            Self::Consume => {
                let client = options.client_without_token()?;
                let body = Payload::json(&TypedShortcode {
                    shortcode: secret::ask("the short code")?,
                    client_address: None,
                });
                let got = client.call(Method::POST, "/api/auth/shortcode/consume", body)?;
                let shown = [
                    "token",
                    "tokenId",
                    "expiryType",
                    "expiresAt",
                    "userId",
                    "environmentId",
                    "ecosystemId",
                ];
                output.record_once::<ExchangedToken>(&got, &shown)
            }
        }
    }
}
