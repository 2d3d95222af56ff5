//! The commands for user and server tokens: `tokenry user create-token`, `list-tokens` and
//! `revoke-token`, `tokenry server-token`, `tokenry introspect` and `tokenry revoke`.

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

/// The path of the endpoint that introspects a token.
pub(super) const INTROSPECT: &str = "/api/auth/introspect";

/// The expiry and the label of a new token
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// How the token expires [default: FixedTtl]
    #[arg(long, value_name = "TYPE", value_parser = expiry_type())]
    expiry_type: Option<ExpiryType>,
    /// Seconds from the token's creation until it expires; for SlidingTtl, seconds from its last
    /// use [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Maximum seconds from the token's creation until it expires; a use does not extend this time
    #[arg(long, value_name = "SECONDS")]
    max_ttl: Option<u64>,
    /// A label, 1 to 64 characters
    #[arg(long)]
    name: Option<String>,
}

/// A user's tokens
#[derive(Clone, Debug, Subcommand)]
pub enum UserTokens {
    /// Mint a token for a user; the token is shown only once
    CreateToken {
        /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The expiry and the label of the token
        #[command(flatten)]
        wanted: NewToken,
    },
    /// List a user's valid tokens, newest first
    ListTokens {
        /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The requested part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Revoke one token or all tokens of a user
    RevokeToken {
        /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The token's id, which list-tokens shows
        #[arg(value_parser = token_id, required_unless_present = "all")]
        token_id: Option<TokenId>,
        /// Revoke every token of the user
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
    /// Mint a server token; the token is shown only once
    Create {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// The expiry and the label of the token
        #[command(flatten)]
        wanted: NewToken,
    },
    /// List an ecosystem's valid server tokens, newest first
    List {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
        #[arg(value_parser = ecosystem_id)]
        ecosystem_id: EcosystemId,
        /// The requested part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Revoke a server token
    Revoke {
        /// The ecosystem's id, such as C58521fd8a5d9b5cc21987501
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

/// Revokes a token of an owner. If the owner has no token with this id, the API's response is the
/// same. So the message says "If".
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

/// The token to introspect comes from a prompt or standard input
#[derive(Clone, Copy, Debug, Args)]
pub struct Introspect {}

impl Run for Introspect {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client()?;
        let token = secret::ask("the token to introspect")?;
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

/// The token to revoke comes from a prompt or standard input
#[derive(Clone, Copy, Debug, Args)]
pub struct Revoke {}

impl Run for Revoke {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client_without_token()?;
        let token = secret::ask("the token to revoke")?;
        client.call(Method::POST, "/api/auth/revoke", Payload::Token(token))?;
        options
            .output()
            .done("If the input was a token, the token is revoked.")
    }
}
