//! The command `tokenry shortcode`.

use clap::{Args, Subcommand};
use shared::domain::id::{EnvironmentId, UserId};
use tokenry_api::{CreatedShortcode, ExchangedToken, ExpiryType, NewShortcode, TypedShortcode};
use ureq::http::Method;

use super::{
    Run, client::Payload, environment_id, expiry_type, failure::Failure, options::Options, secret,
    user_id,
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
pub struct NewCode {
    /// Create the code for the user with this id, in the form ECOSYSTEM;NAME
    #[arg(long, value_parser = user_id, required_unless_present = "environment_id")]
    user_id: Option<UserId>,
    /// Create the code for a new user of this environment
    #[arg(long, value_parser = environment_id, conflicts_with = "user_id")]
    environment_id: Option<EnvironmentId>,
    /// Seconds until the code expires, 1 to 3600 [default: 300]
    #[arg(long = "ttl", value_name = "SECONDS")]
    short_code_ttl: Option<u64>,
    /// How the token expires [default: FixedTtl]
    #[arg(long, value_name = "TYPE", value_parser = expiry_type())]
    token_expiry_type: Option<ExpiryType>,
    /// Seconds from the token's creation until it expires; for SlidingTtl, seconds from its last
    /// use [default: 3600]
    #[arg(long, value_name = "SECONDS")]
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
