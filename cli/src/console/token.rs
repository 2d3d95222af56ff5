//! The tokens of users and ecosystems: `create-token` and its like of `tokenry user`, `tokenry
//! server-token`, `introspect` and `revoke`.

use std::fmt::Display;

use clap::{Args, Subcommand};
use serde::Serialize;
use shared::domain::{
    id::{EcosystemId, UserId},
    token::TokenId,
};
use tokenry_api::{ExpiryType, Introspection, ListedToken, MintedToken};
use ureq::http::Method;

use super::{
    Run,
    client::{Client, Payload, segment},
    ecosystem_id, ecosystem_path, expiry_type,
    failure::{Failure, Kind},
    options::Options,
    output::{Output, Paging},
    secret, token_id, user_id, user_path,
};

/// Asks whether a token holds.
pub(super) const INTROSPECT: &str = "/api/auth/introspect";

/// How a new token ends, and its label
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// FixedTtl unless given
    #[arg(long, value_name = "TYPE", value_parser = expiry_type())]
    expiry_type: Option<ExpiryType>,
    /// Seconds of life, or of idleness of a SlidingTtl; 3600 unless given
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Seconds after which even a used token ends, unless it is Infinite
    #[arg(long, value_name = "SECONDS")]
    max_ttl: Option<u64>,
    /// A label, 1 to 64 characters
    #[arg(long)]
    name: Option<String>,
}

/// A user's tokens
#[derive(Clone, Debug, Subcommand)]
pub enum UserTokens {
    /// Mint a token for a user; it is shown this once
    CreateToken {
        /// ECOSYSTEM;NAME, as in 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// How the token ends, and its label
        #[command(flatten)]
        wanted: NewToken,
    },
    /// List a user's live tokens, newest first
    ListTokens {
        /// ECOSYSTEM;NAME, as in 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// Which part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Revoke one of a user's tokens, or all
    RevokeToken {
        /// ECOSYSTEM;NAME, as in 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The token's id, which list-tokens shows
        #[arg(value_parser = token_id, required_unless_present = "all")]
        token_id: Option<TokenId>,
        /// Every token of the user
        #[arg(long, conflicts_with = "token_id")]
        all: bool,
    },
}

impl Run for UserTokens {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let (client, output) = (options.client()?, options.output());
        let of = |id| format!("{}/tokens", user_path(id));
        match self {
            Self::CreateToken { user_id, wanted } => {
                create(&client, output, &of(&user_id), &wanted)
            }
            Self::ListTokens { user_id, paging } => list(&client, output, &of(&user_id), &paging),
            Self::RevokeToken {
                user_id,
                token_id: Some(token_id),
                ..
            } => revoke_one(&client, output, &of(&user_id), &user_id, token_id),
            Self::RevokeToken { user_id, .. } => {
                client.call(Method::DELETE, &of(&user_id), Payload::Nothing)?;
                output.done(&format!("All tokens of {user_id} are revoked."))
            }
        }
    }
}

/// Server tokens
#[derive(Clone, Debug, Subcommand)]
pub enum ServerToken {
    /// Mint a server token; it is shown this once
    Create {
        /// As in C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// How the token ends, and its label
        #[command(flatten)]
        wanted: NewToken,
    },
    /// List an ecosystem's live server tokens, newest first
    List {
        /// As in C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// Which part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Revoke a server token
    Revoke {
        /// As in C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// The token's id, which list shows
        #[arg(value_parser = token_id)]
        token_id: TokenId,
    },
}

impl Run for ServerToken {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let (client, output) = (options.client()?, options.output());
        let of = |id| format!("{}/tokens", ecosystem_path(id));
        match self {
            Self::Create {
                ecosystem_id,
                wanted,
            } => create(&client, output, &of(&ecosystem_id), &wanted),
            Self::List {
                ecosystem_id,
                paging,
            } => list(&client, output, &of(&ecosystem_id), &paging),
            Self::Revoke {
                ecosystem_id,
                token_id,
            } => revoke_one(&client, output, &of(&ecosystem_id), &ecosystem_id, token_id),
        }
    }
}

fn create(client: &Client, output: Output, path: &str, wanted: &NewToken) -> Result<(), Failure> {
    let made = client.call(Method::POST, path, Payload::query(wanted))?;
    output.record_once::<MintedToken>(&made, &["token", "tokenId", "expiryType", "expiresAt"])
}

fn list(client: &Client, output: Output, path: &str, paging: &Paging) -> Result<(), Failure> {
    let shown = [
        "tokenId",
        "name",
        "expiryType",
        "createdAt",
        "lastUsedAt",
        "expiresAt",
    ];
    output.list::<ListedToken>(client, path, "tokens", paging, &shown)
}

/// Revokes a token of an owner. The API answers alike whether or not the owner has such a token, so the
/// message says no more than what is true of both.
fn revoke_one(
    client: &Client,
    output: Output,
    tokens: &str,
    owner: &impl Display,
    id: TokenId,
) -> Result<(), Failure> {
    let path = format!("{tokens}/{}", segment(id));
    client.call(Method::DELETE, &path, Payload::Nothing)?;
    output.done(&format!(
        "If {owner} had a token with the id {id}, it is revoked."
    ))
}

/// What is asked about comes from a prompt or standard input.
#[derive(Clone, Copy, Debug, Args)]
pub struct Introspect {}

impl Run for Introspect {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client()?;
        let token = secret::ask("the token to ask about")?;
        let told = client.call(Method::POST, INTROSPECT, Payload::Token(token))?;
        let shown = [
            "active",
            "sub",
            "holder",
            "scope",
            "ecosystem_id",
            "environment_id",
            "jti",
            "expiry_type",
            "iat",
            "exp",
        ];
        options.output().record::<Introspection>(&told, &shown)?;
        if told.parse::<Introspection>()?.active {
            Ok(())
        } else {
            Err(Failure::new(Kind::NotFound, "the token is not active"))
        }
    }
}

/// What is revoked comes from a prompt or standard input.
#[derive(Clone, Copy, Debug, Args)]
pub struct Revoke {}

impl Run for Revoke {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client_without_token()?;
        let token = secret::ask("the token to revoke")?;
        client.call(Method::POST, "/api/auth/revoke", Payload::Token(token))?;
        options.output().done("If it was a token, it is revoked.")
    }
}
