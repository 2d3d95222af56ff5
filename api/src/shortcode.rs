//! Short codes (contract, section 3).

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{ExpiryType, Secret};

/// The body that asks for a short code. Exactly one of `environment_id` and `user_id` is required.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewShortcode {
    /// The environment, for a new user that is named after the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The user, as `ECOSYSTEM;NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Seconds until the code expires, 1 to 3600; 300 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_code_ttl: Option<u64>,
    /// How the code's token ends; `FixedTtl` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_expiry_type: Option<ExpiryType>,
    /// Seconds that the code's token lives, 1 to 315360000; 3600 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ttl: Option<u64>,
}

/// A new short code. Only this response contains it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedShortcode {
    /// 6 to 12 digits and capital letters.
    pub shortcode: Secret,
    /// The ecosystem of its user.
    pub ecosystem_id: String,
    /// The environment that it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The user who gets the token: `ECOSYSTEM;short|CODE` if the code was made for an environment.
    pub user_id: String,
}

/// Leaves out the user as well: its name may be the code.
impl fmt::Debug for CreatedShortcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedShortcode")
            .field("ecosystem_id", &self.ecosystem_id)
            .field("environment_id", &self.environment_id)
            .finish_non_exhaustive()
    }
}

/// The body that exchanges a short code for its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypedShortcode {
    /// The code as a person types it: case, white space and dashes do not matter.
    pub shortcode: Secret,
    /// The client whose request a back end passes on (contract, section 13); only with a server token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
}

/// The token of a short code. Only this response contains the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExchangedToken {
    /// The token's whole text.
    pub token: Secret,
    /// The token's id, a ULID.
    pub token_id: String,
    /// How it ends.
    pub expiry_type: ExpiryType,
    /// The first second in which it is expired, in UTC as RFC 3339 writes it; `None` if it never expires.
    pub expires_at: Option<String>,
    /// The ecosystem of its user.
    pub ecosystem_id: String,
    /// The environment that the code was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The user whose token it is.
    pub user_id: String,
}
