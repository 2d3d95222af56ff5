//! The commands for user and server tokens: `tokenry user create-token`, `list-tokens` and
//! `revoke-token`, `tokenry server-token`, `tokenry token`, `tokenry whoami`, `tokenry introspect`
//! and `tokenry revoke`.

use std::fmt::Display;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::domain::{
    id::{EcosystemId, UserId},
    token::TokenId,
};
use tokenry_api::{
    Change, ExpiryType, Introspection, ListedToken, MintedToken, TokenChange, TokenRecord,
};
use ureq::http::Method;

use super::{
    Run,
    arguments::{expiry_type, seconds},
    client::{Client, Payload, segment},
    ecosystem_id, ecosystem_path,
    failure::{Failure, Kind, nothing_to_change},
    options::Options,
    output::{Output, Paging},
    secret, token_id, user_id, user_path,
};

/// The path of the endpoint that introspects a token.
const INTROSPECT: &str = "/api/auth/introspect";
pub(super) const WHOAMI: &str = "/api/auth/whoami";

/// The properties of a new token
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// How the token expires [default: FixedTtl]
    #[arg(long, value_name = "TYPE", value_parser = expiry_type())]
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_type: Option<ExpiryType>,
    /// The time from the token's creation until it expires, such as 90s, 15m, 12h or 7d; without a
    /// unit, in seconds. For SlidingTtl, the time from its last use [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    /// The maximum time from the token's creation until it expires; a use does not extend this time
    #[arg(long, value_name = "DURATION", value_parser = seconds::<u64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ttl: Option<u64>,
    /// A label, 1 to 64 characters
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The scopes of the token, separated by spaces [default: "read write"]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// A value to store with the token; can be repeated. A VALUE that is a number, true or false
    /// is stored as such, and any other VALUE as text. To store a number, true or false as text,
    /// put it in double quotes: 'seats="5"'
    #[arg(long, value_name = "KEY=VALUE", value_parser = metadata_entry)]
    #[serde(skip)]
    metadata: Vec<(String, Value)>,
}

/// Parses an entry of the metadata.
pub(super) fn metadata_entry(text: &str) -> Result<(String, Value), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must have the form KEY=VALUE")?;
    let value = match serde_json::from_str(value) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::String(_))) => value,
        _ => Value::String(value.to_owned()),
    };
    Ok((key.to_owned(), value))
}

pub(super) fn object(entries: &[(String, Value)]) -> Map<String, Value> {
    entries.iter().cloned().collect()
}

/// Returns an error if a key occurs twice, because only one of its values could be stored.
pub(super) fn check_keys(entries: &[(String, Value)]) -> Result<(), Failure> {
    if object(entries).len() == entries.len() {
        Ok(())
    } else {
        Err(Failure::usage(
            "--metadata: a key is given twice".to_owned(),
        ))
    }
}

/// A user's tokens
#[derive(Clone, Debug, Subcommand)]
pub enum UserTokens {
    /// Mint a token for a user; the token is shown only once
    CreateToken {
        /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The properties of the token
        #[command(flatten)]
        wanted: NewToken,
    },
    /// List a user's valid and disabled tokens, newest first
    ListTokens {
        /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The requested part of the list
        #[command(flatten)]
        paging: Paging,
    },
    /// Revoke one token or all tokens of a user
    #[command(group(ArgGroup::new("tokens").required(true).args(["token_id", "all"])))]
    // clap would print the group before the user's id.
    #[command(override_usage = "tokenry user revoke-token [OPTIONS] <USER_ID> <TOKEN_ID|--all>")]
    RevokeToken {
        /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
        #[arg(value_parser = user_id)]
        user_id: UserId,
        /// The token's id, which list-tokens shows
        #[arg(value_parser = token_id)]
        token_id: Option<TokenId>,
        /// Revoke every token of the user
        #[arg(long)]
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
                client.tell(Method::DELETE, &of(&user_id), Payload::Nothing)?;
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
        /// The properties of the token
        #[command(flatten)]
        wanted: NewToken,
    },
    /// List an ecosystem's valid and disabled server tokens, newest first
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
    check_keys(&wanted.metadata)?;
    // An older service takes only a query.
    let payload = if wanted.scope.is_none() && wanted.metadata.is_empty() {
        Payload::query(wanted)
    } else {
        let mut body = serde_json::to_value(wanted).expect("arguments serialize to JSON");
        if !wanted.metadata.is_empty() {
            body["metadata"] = object(&wanted.metadata).into();
        }
        Payload::json(&body)
    };
    let made = client.call(Method::POST, path, payload)?;
    let shown = [
        "token",
        "tokenId",
        "expiryType",
        "expiresAt",
        "scope",
        "metadata",
    ];
    output.record_once::<MintedToken>(&made, &shown)
}

fn list(client: &Client, output: Output, path: &str, paging: &Paging) -> Result<(), Failure> {
    let shown = [
        "tokenId",
        "name",
        "expiryType",
        "createdAt",
        "lastUsedAt",
        "expiresAt",
        "scope",
        "disabled",
    ];
    output.list::<ListedToken>(client, path, "tokens", paging, &shown)
}

/// Revokes a token of an owner. The message is the same if the token had ended before.
fn revoke_one(
    client: &Client,
    output: Output,
    tokens: &str,
    owner: &impl Display,
    id: TokenId,
) -> Result<(), Failure> {
    let path = format!("{tokens}/{}", segment(id));
    client.tell(Method::DELETE, &path, Payload::Nothing)?;
    output.done(&format!("The token {id} of {owner} is revoked."))
}

/// One token of a user or an ecosystem
#[derive(Clone, Debug, Subcommand)]
pub enum Token {
    /// Show a token's record: its properties, its state, and how it ended
    Get(OneToken),
    /// Change a token; only the given properties change
    Update {
        /// The token
        #[command(flatten)]
        token: OneToken,
        /// A label, 1 to 64 characters
        #[arg(long)]
        name: Option<String>,
        /// Remove the label
        #[arg(long, conflicts_with = "name")]
        no_name: bool,
        /// The scopes of the token, separated by spaces
        #[arg(long)]
        scope: Option<String>,
        /// A value to store with the token; can be repeated. The values replace all metadata of the
        /// token. A VALUE that is a number, true or false is stored as such, and any other VALUE as
        /// text. To store a number, true or false as text, put it in double quotes: 'seats="5"'
        #[arg(long, value_name = "KEY=VALUE", value_parser = metadata_entry)]
        metadata: Vec<(String, Value)>,
        /// Remove the metadata
        #[arg(long, conflicts_with = "metadata")]
        no_metadata: bool,
    },
    /// Disable a token; it is invalid until it is enabled again
    Disable(OneToken),
    /// Enable a disabled token
    Enable(OneToken),
}

/// A token
#[derive(Clone, Debug, Args)]
pub struct OneToken {
    /// The id of the token's owner: a user, in the form ECOSYSTEM;NAME, or an ecosystem
    #[arg(value_parser = owner)]
    owner: Owner,
    /// The token's id
    #[arg(value_parser = token_id)]
    token_id: TokenId,
}

/// The owner of a token, with the path of its tokens.
#[derive(Clone, Debug)]
struct Owner {
    tokens: String,
}

fn owner(text: &str) -> Result<Owner, &'static str> {
    let path = if text.contains(';') {
        user_path(&user_id(text)?)
    } else {
        let id = ecosystem_id(text).map_err(|_| {
            "must be the id of an ecosystem, such as C58521fd8a5d9b5cc21987501, or of a user, such as \
             'C58521fd8a5d9b5cc21987501;bob' (in a shell, quote it: it contains a semicolon)"
        })?;
        ecosystem_path(&id)
    };
    Ok(Owner {
        tokens: format!("{path}/tokens"),
    })
}

impl OneToken {
    fn path(&self) -> String {
        format!("{}/{}", self.owner.tokens, segment(self.token_id))
    }
}

impl Run for Token {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let change = |disabled| TokenChange {
            disabled: Some(disabled),
            ..TokenChange::default()
        };
        let (token, change) = match self {
            Self::Get(token) => (token, None),
            Self::Disable(token) => (token, Some(change(true))),
            Self::Enable(token) => (token, Some(change(false))),
            Self::Update {
                token,
                name,
                no_name,
                scope,
                metadata,
                no_metadata,
            } => {
                check_keys(&metadata)?;
                let metadata = (!metadata.is_empty()).then(|| object(&metadata));
                let change = TokenChange {
                    name: chosen(name, no_name),
                    metadata: chosen(metadata, no_metadata),
                    scope,
                    disabled: None,
                };
                if change == TokenChange::default() {
                    return Err(nothing_to_change());
                }
                (token, Some(change))
            }
        };
        let (client, path) = (options.client()?, token.path());
        let record = match change {
            None => client.call(Method::GET, &path, Payload::Nothing)?,
            Some(change) => client.call(Method::PATCH, &path, Payload::json(&change))?,
        };
        let shown = [
            "tokenId",
            "state",
            "name",
            "scope",
            "metadata",
            "expiryType",
            "createdAt",
            "lastUsedAt",
            "expiresAt",
            "endedAt",
            "endReason",
            "endedBy",
            "replacedBy",
        ];
        options.output().record::<TokenRecord>(&record, &shown)
    }
}

fn chosen<T>(value: Option<T>, clear: bool) -> Change<T> {
    match value {
        Some(value) => Change::Set(value),
        None if clear => Change::Clear,
        None => Change::Keep,
    }
}

/// The claims of a token, in the order in which they are shown.
const CLAIMS: [&str; 11] = [
    "active",
    "sub",
    "holder",
    "scope",
    "metadata",
    "ecosystem_id",
    "environment_id",
    "jti",
    "expiry_type",
    "iat",
    "exp",
];

/// The token comes from the profile, a file or the variable
#[derive(Clone, Copy, Debug, Args)]
pub struct Whoami {}

impl Run for Whoami {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client()?;
        let told = client.call(Method::GET, WHOAMI, Payload::Nothing)?;
        // `active` is always true: an invalid token gets a 401.
        options
            .output()
            .record::<Introspection>(&told, &CLAIMS[1..])
    }
}

/// The token to introspect comes from a prompt or standard input
#[derive(Clone, Copy, Debug, Args)]
pub struct Introspect {}

impl Run for Introspect {
    fn run(self, options: &Options) -> Result<(), Failure> {
        let client = options.client()?;
        let token = secret::ask("the token to introspect")?;
        let told = client.call(Method::POST, INTROSPECT, Payload::Token(token))?;
        options.output().record::<Introspection>(&told, &CLAIMS)?;
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
        client.tell(Method::POST, "/api/auth/revoke", Payload::Token(token))?;
        options
            .output()
            .done("If the input was a token, the token is revoked.")
    }
}
