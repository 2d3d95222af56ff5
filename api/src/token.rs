//! Tokens of users and servers, and introspection.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Change, LogIn, Secret};

/// How a token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ExpiryType {
    /// The token never expires.
    Infinite,
    /// The token expires a fixed time after it was created.
    #[default]
    FixedTtl,
    /// The token expires a fixed time after it was last used.
    SlidingTtl,
}

impl ExpiryType {
    /// Parses an expiry type.
    ///
    /// # Errors
    /// If the text is not an expiry type, the error is the message for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "Infinite" => Ok(Self::Infinite),
            "FixedTtl" => Ok(Self::FixedTtl),
            "SlidingTtl" => Ok(Self::SlidingTtl),
            _ => Err("field must be one of the following values: Infinite, FixedTtl, SlidingTtl"),
        }
    }
}

/// The kind of a token's owner. This kind determines what the token is allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// An account. Its tokens may do everything in the account's ecosystems.
    Account,
    /// The servers of an ecosystem. Their tokens may do everything in the ecosystem, with three
    /// exceptions: they may not delete the ecosystem or change its settings, and they may not
    /// manage server tokens.
    Server,
    /// A user.
    User,
}

impl Holder {
    /// Parses the name of a kind of owner, as it appears in responses.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "account" => Some(Self::Account),
            "server" => Some(Self::Server),
            "user" => Some(Self::User),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A new token of a user or of an ecosystem's servers. Only this response contains the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MintedToken {
    /// The token.
    pub token: Secret,
    /// The token's id, a ULID.
    pub token_id: String,
    /// The expiry type of the token.
    pub expiry_type: ExpiryType,
    /// The time at which the token expires, in UTC and RFC 3339 format (for example,
    /// `2026-01-01T00:00:00Z`). From this second on, the token is invalid. `None` if the token
    /// never expires.
    pub expires_at: Option<String>,
    /// The scopes of the token, separated by spaces (RFC 6749 §3.3). Empty if an older service sent
    /// the response.
    #[serde(default)]
    pub scope: String,
    /// The values that the application stored with the token. `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// A new session: a token that a user creates with a password. Only this response contains the
/// token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedSession {
    /// The token.
    #[serde(flatten)]
    pub token: MintedToken,
    /// The user that the session belongs to.
    pub user_id: String,
}

/// A page of valid and disabled tokens, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// At most 100 tokens. A page may be shorter than requested. If `cursor` is set, this is not
    /// the last page.
    pub tokens: Vec<ListedToken>,
    /// The `cursor` of the next page; `None` on the last page.
    pub cursor: Option<String>,
}

/// A token in a list, without its secret. Times are whole seconds in UTC and RFC 3339 format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedToken {
    /// The token's id, a ULID.
    pub token_id: String,
    /// The token's label, 1 to 64 characters. `None` if it has none.
    pub name: Option<String>,
    /// The expiry type of the token.
    pub expiry_type: ExpiryType,
    /// When the token was created.
    pub created_at: String,
    /// When the token was last used. For a sliding token, this is exact to the second. For any
    /// other token, it is exact to about an hour. `None` if no use is known.
    pub last_used_at: Option<String>,
    /// The time at which the token expires. From this second on, the token is invalid. `None` if
    /// the token never expires.
    pub expires_at: Option<String>,
    /// The scopes of the token, separated by spaces (RFC 6749 §3.3). Empty if an older service sent
    /// the response.
    #[serde(default)]
    pub scope: String,
    /// The values that the application stored with the token. `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Whether the token is disabled. A disabled token is invalid until it is enabled again.
    #[serde(default)]
    pub disabled: bool,
}

/// The record of one token, without its secret. Times are whole seconds in UTC and RFC 3339 format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// The properties that a list also contains. For a token that was revoked, `expires_at` is the
    /// same as `ended_at`.
    #[serde(flatten)]
    pub token: ListedToken,
    /// Whether the token is valid, and if not, why.
    pub state: TokenState,
    /// When the token ended. `None` if it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why the token ended: `expired`, `revoked`, `maker-revoked` if a short code of a token that
    /// was revoked created it, or `limit-reached` if it made room for another token. A later
    /// release may add reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
    /// The token with which the token was ended, or with `limit-reached`, the token that took its
    /// place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// The id of the token that replaced this one. This release replaces no tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
}

/// The state of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// The token is valid.
    Active,
    /// The token is invalid until it is enabled again.
    Disabled,
    /// The token has expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The token was replaced by another one. This release replaces no tokens.
    Rotated,
}

/// The token with which another token was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedBy {
    /// The kind of owner of the token.
    pub holder: Holder,
    /// The id of the token.
    pub token_id: String,
}

/// The changes to a token. A field that is `None` keeps its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenChange {
    /// The label.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub name: Change<String>,
    /// The values that the application stores with the token.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub metadata: Change<Map<String, Value>>,
    /// The scopes of the token, separated by spaces (RFC 6749 §3.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whether the token is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// The properties of a new token. All are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// How the token expires. The default is `FixedTtl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_type: Option<ExpiryType>,
    /// The number of seconds from the creation of the token, or from each use of a sliding token,
    /// until it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The maximum number of seconds between the creation and the expiry of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<u32>,
    /// The token's label, 1 to 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The scopes of the token, separated by spaces (RFC 6749 §3.3). The default is `read write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Values that the application stores with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// The request body that logs a user in and creates a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSession {
    /// The user's e-mail address and password.
    #[serde(flatten)]
    pub log_in: LogIn,
    /// The properties of the session's token. The default of `expiry_type` is `SlidingTtl`, and
    /// `Infinite` is not allowed. The settings of the user's ecosystem contain the defaults and the
    /// maximums of `ttl` and `max_ttl`. Only requests with a server token may contain `scope` and
    /// `metadata`.
    #[serde(flatten)]
    pub token: NewToken,
}

/// The metadata of an OAuth authorization server (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// The address of the API.
    pub issuer: String,
    /// The address of introspection.
    pub introspection_endpoint: String,
    /// How a caller of introspection may authenticate as a client. It may also send an account or
    /// server token as a bearer token, for which there is no registered name.
    pub introspection_endpoint_auth_methods_supported: Vec<String>,
    /// The address of revocation.
    pub revocation_endpoint: String,
    /// How a caller of revocation may authenticate as a client. `none` is in the list, because the
    /// token is the only credential that is needed.
    pub revocation_endpoint_auth_methods_supported: Vec<String>,
    /// Empty: there is no authorization endpoint.
    pub response_types_supported: Vec<String>,
}

/// The response to a revocation, an empty JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Revoked {}

/// The introspection response (RFC 7662 §2.2).
///
/// If `active` is false, every other field is `None`, as in [`Introspection::default`]. If `active`
/// is true, `sub`, `username`, `jti`, `holder`, `scope`, `expiry_type` and `iat` are set.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Introspection {
    /// Whether the token is valid and the caller is allowed to introspect it.
    pub active: bool,
    /// The id of the token's owner: the user, the ecosystem of a server token, or the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The same as `sub`. Libraries for RFC 7662 expect this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The ecosystem of the token's owner; `None` for an account token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecosystem_id: Option<String>,
    /// The environment whose short code created the token's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The token's id, a ULID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The kind of the token's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// The scopes of the token, separated by spaces (RFC 6749 §3.3). A later release may add
    /// scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The values that the application stored with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// The expiry type of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_type: Option<ExpiryType>,
    /// When the token was created, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// The time at which the token expires, in seconds since 1970. From this second on, the token
    /// is invalid. `None` if the token never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}
