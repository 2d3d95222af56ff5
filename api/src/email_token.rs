//! E-mail tokens.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{ExpiryType, Secret};

/// The wrapper of every response about one e-mail token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data<T> {
    /// Exactly one element.
    pub data: [T; 1],
}

impl<T> From<T> for Data<T> {
    fn from(one: T) -> Self {
        Self { data: [one] }
    }
}

/// The record of one e-mail token.
pub type EmailTokenData = Data<EmailToken>;

/// The value of one e-mail token.
pub type EmailTokenValueData = Data<EmailTokenValue>;

/// The request body that creates a user's e-mail token.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NewEmailToken {
    /// The user's e-mail address.
    pub email: Secret,
    /// Whether the token's scope is `read write` (true) or `read` (false). If the field is omitted,
    /// a new token gets the scope `read write`, and a changed token gets the scope `read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<bool>,
    /// When the token expires: a number of milliseconds since 1970, from 1 to 253402300799999. The
    /// time may be in the past. If the field is omitted, the token never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<u64>,
}

/// The request body that replaces the scope and the expiry of an e-mail token. An omitted field
/// gets its default.
pub type ChangedEmailToken = NewEmailToken;

/// The request body that deletes an e-mail token, and the query that reads the value of an e-mail
/// token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedEmailToken {
    /// The user's e-mail address.
    pub email: Secret,
}

/// The record of an e-mail token, without its value. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailToken {
    /// The user's e-mail address, in the spelling that the client sent.
    pub email: Secret,
    /// The user's id.
    #[serde(rename = "userId")]
    pub user_id: String,
    /// The token's id, a ULID.
    #[serde(rename = "tokenId")]
    pub token_id: String,
    /// Whether the token's scope is `read write` (true) or `read` (false).
    pub write: bool,
    /// When the token expires. If the token never expires, this time is equal to `updated_at`.
    pub expiration_date: u64,
    /// `Infinite` or `FixedTtl`.
    #[serde(rename = "expiryType")]
    pub expiry_type: ExpiryType,
    /// When the token was created.
    pub created_at: u64,
    /// When the token was last changed.
    pub updated_at: u64,
}

/// A page of e-mail tokens. Expired tokens are included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailTokenList {
    /// At most 100 records. A page may be shorter than requested. If `cursor` is set, this is not
    /// the last page.
    pub data: Vec<EmailToken>,
    /// The `cursor` of the next page; `None` on the last page.
    pub cursor: Option<String>,
}

/// The value of an e-mail token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailTokenValue {
    /// The token.
    pub token: Secret,
}

/// The request body that changes the password of the calling user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChange {
    /// The user's present password, at most 256 characters.
    pub current_password: Secret,
    /// The new password, 8 to 256 characters. A deployment can require more than 8.
    pub new_password: Secret,
}

/// The request body that logs a user in and reads the value of the user's e-mail token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIn {
    /// The user's e-mail address.
    pub email: Secret,
    /// The user's password, at most 256 characters.
    pub password: Secret,
    /// The id of the user's ecosystem. If it is `None` and the request has no server token, the
    /// log-in finds only users of the deployment's first account.
    #[serde(rename = "ecosystemId", skip_serializing_if = "Option::is_none")]
    pub ecosystem_id: Option<String>,
    /// The IP address of the client, if a back end forwards the client's request. The field is
    /// allowed only in a request with a server token.
    #[serde(rename = "clientAddress", skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
}
