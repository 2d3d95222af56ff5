//! `tokenry shortcode`.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Map;
use shared::domain::id::{EnvironmentId, UserId};
use ureq::http::Method;

use super::{
    Run,
    client::{Payload, fields},
    environment_id,
    failure::Failure,
    options::Options,
    secret::Secret,
    user_id,
};

/// Short codes
#[derive(Clone, Debug, Subcommand)]
pub enum Shortcode {
    /// Make a short code for a user, or for a new user of an environment
    Create(NewCode),
    /// Exchange a short code, which is asked for, for its token; it needs no token
    Consume,
}

/// Whom a short code is for, and what it gives
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewCode {
    /// For this user: ECOSYSTEM;NAME
    #[arg(long, value_parser = user_id, required_unless_present = "environment_id")]
    user_id: Option<UserId>,
    /// For a new user of this environment
    #[arg(long, value_parser = environment_id, conflicts_with = "user_id")]
    environment_id: Option<EnvironmentId>,
    /// Seconds that the code lives, 1 to 3600; 300 unless given
    #[arg(long = "ttl", value_name = "SECONDS")]
    short_code_ttl: Option<u64>,
    /// How the code's token ends; FixedTtl unless given
    #[arg(long, value_name = "TYPE", value_parser = ["Infinite", "FixedTtl", "SlidingTtl"])]
    token_expiry_type: Option<String>,
    /// Seconds of the token's life, or idleness; 3600 unless given
    #[arg(long, value_name = "SECONDS")]
    token_ttl: Option<u64>,
}

impl Run for Shortcode {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let output = options.output();
        match self {
            Self::Create(wanted) => {
                let body = Payload::Json(fields(&wanted));
                let made =
                    options
                        .client()?
                        .call(Method::POST, "/api/auth/shortcode/create", body)?;
                output.record_once(
                    &made,
                    &["shortcode", "userId", "environmentId", "ecosystemId"],
                )
            }
            Self::Consume => {
                let client = options.client_without_token()?;
                let code = Secret::ask("the short code")?;
                let body = Map::from_iter([("shortcode".to_owned(), code.reveal().into())]);
                let got = client.call(
                    Method::POST,
                    "/api/auth/shortcode/consume",
                    Payload::Json(body),
                )?;
                let shown = [
                    "token",
                    "tokenId",
                    "expiryType",
                    "expiresAt",
                    "userId",
                    "environmentId",
                    "ecosystemId",
                ];
                output.record_once(&got, &shown)
            }
        }
    }
}
