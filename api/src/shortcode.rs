//! Short codes.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{ExpiryType, Secret};

/// The request body that creates a short code. Exactly one of `environment_id` and `user_id` is
/// required.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewShortcode {
    /// The id of an environment. If this field is set, the exchange creates a new user for the
    /// token. The user's name contains the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The id of a user, `ECOSYSTEM;NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Seconds until the code expires, 1 to 3600. The default is 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_code_ttl: Option<u64>,
    /// The expiry type of the code's token. The default is `FixedTtl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_expiry_type: Option<ExpiryType>,
    /// Seconds until the code's token expires, 1 to 315360000. The default is 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ttl: Option<u64>,
}

/// A new short code. Only this response contains the code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedShortcode {
    /// 6 to 12 digits and capital letters.
    pub shortcode: Secret,
    /// The ecosystem of the user.
    pub ecosystem_id: String,
    /// The environment that the code was created for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The user who gets the token: `ECOSYSTEM;short|CODE` if the code was created for an
    /// environment.
    pub user_id: String,
}

/// Omits the code. Also omits the user id, because the user id may contain the code.
impl fmt::Debug for CreatedShortcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedShortcode")
            .field("ecosystem_id", &self.ecosystem_id)
            .field("environment_id", &self.environment_id)
            .finish_non_exhaustive()
    }
}

/// The request body that exchanges a short code for its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypedShortcode {
    /// The code as a person types it. Case, white space and dashes are ignored.
    pub shortcode: Secret,
    /// The IP address of the client, if a back end forwards the client's request. The field is
    /// allowed only in a request with a server token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
}

/// The token that a short code was exchanged for. Only this response contains the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExchangedToken {
    /// The token.
    pub token: Secret,
    /// The token's id, a ULID.
    pub token_id: String,
    /// The expiry type of the token.
    pub expiry_type: ExpiryType,
    /// The time at which the token expires, in UTC and RFC 3339 format. From this second on, the
    /// token is invalid. `None` if the token never expires.
    pub expires_at: Option<String>,
    /// The ecosystem of the user.
    pub ecosystem_id: String,
    /// The environment that the code was created for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The user that the token belongs to.
    pub user_id: String,
}
