//! Tokens of users and servers, and introspection (contract, section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// How a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ExpiryType {
    /// It never expires.
    Infinite,
    /// It expires a fixed time after it was made.
    #[default]
    FixedTtl,
    /// It expires a fixed time after it was last used.
    SlidingTtl,
}

impl ExpiryType {
    /// Reads an expiry type.
    ///
    /// # Errors
    /// The message of the API for a text that is none of the three.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "Infinite" => Ok(Self::Infinite),
            "FixedTtl" => Ok(Self::FixedTtl),
            "SlidingTtl" => Ok(Self::SlidingTtl),
            _ => Err("field must be one of the following values: Infinite, FixedTtl, SlidingTtl"),
        }
    }
}

/// What kind of owner holds a token, which decides what the token may do (contract, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// An account: everything in its ecosystems.
    Account,
    /// An ecosystem, for its own servers: everything inside it.
    Server,
    /// A user.
    User,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a token lets its holder do: RFC 6749 §3.3 scope values, as introspection shows them.
///
/// The wider one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Only what reads.
    #[serde(rename = "read")]
    Read,
    /// Everything that the holder may.
    #[serde(rename = "read write")]
    ReadWrite,
}

/// A new token of a user or of an ecosystem's servers. Only this response contains the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MintedToken {
    /// The token's whole text.
    pub token: Secret,
    /// The token's id, a ULID.
    pub token_id: String,
    /// How it ends.
    pub expiry_type: ExpiryType,
    /// The first second in which it is expired, in UTC as RFC 3339 writes it, such as `2026-01-01T00:00:00Z`; `None` if it
    /// never expires.
    pub expires_at: Option<String>,
}

/// A page of live tokens, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// At most 100 tokens. A page may be shorter than asked for, and is not the last one if it has a cursor.
    pub tokens: Vec<ListedToken>,
    /// The `cursor` of the next page; `None` at the end.
    pub cursor: Option<String>,
}

/// A token in a list, without its text. Times are whole seconds in UTC as RFC 3339 writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedToken {
    /// The token's id, a ULID.
    pub token_id: String,
    /// The label that it was made with, 1 to 64 characters.
    pub name: Option<String>,
    /// How it ends.
    pub expiry_type: ExpiryType,
    /// When it was made.
    pub created_at: String,
    /// When a sliding token was last used; `None` for other tokens and before the first use.
    pub last_used_at: Option<String>,
    /// The first second in which it is expired; `None` if it never expires.
    pub expires_at: Option<String>,
}

/// What introspection says of a token (RFC 7662 §2.2).
///
/// If `active` is false, every other field is `None`; [`Introspection::default`] is this answer. If it is true, `sub`, `jti`,
/// `holder`, `scope`, `expiry_type` and `iat` are there.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Introspection {
    /// Whether the token is valid and the caller may know of it.
    pub active: bool,
    /// The user's id, the ecosystem's of a server token, or the account's of an account token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The ecosystem; `None` for an account's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecosystem_id: Option<String>,
    /// The environment whose short code made the token's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The token's id, a ULID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Who holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// What the token allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// How it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_type: Option<ExpiryType>,
    /// When it was made, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// The first second in which it is expired, in seconds since 1970; `None` if it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}
