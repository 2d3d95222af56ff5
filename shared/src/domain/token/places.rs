//! The tokens that count towards the limit of a user.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TokenId;
use crate::domain::{owner::Epoch, time::UnixSeconds};

/// The tokens that count towards the limit of a user: the item `limit` in the user's partition. It
/// is stored when the user gets the first token under a limit. From then on, each new token of the
/// user changes it. Other changes of a token do not change it, so it may contain tokens that have
/// ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The user's epoch. If the user has another epoch, the item is out of date.
    pub epoch: Epoch,
    /// The id of the limit ([`MaxTokens::id`](crate::domain::owner::MaxTokens::id)). If the limit
    /// of the ecosystem has another id, the item is out of date.
    pub limit: Epoch,
    /// Increases by 1 with each change.
    pub revision: u64,
    /// All tokens that count. `None` if they are not all known.
    pub tokens: Option<Taken>,
    /// The progress of the reading that finds all tokens. `None` if it has not begun, or if it is
    /// finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
}

/// Tokens in order of creation. Each token has the time from which it is certainly expired, or
/// `None` if there is no such time.
pub type Taken = BTreeMap<TokenId, Option<UnixSeconds>>;

/// The progress of a reading of a user's tokens, newest first. A user may have too many records for
/// one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The tokens that count, of those that were read.
    pub found: Taken,
    /// The last record that was read. The next page starts after it.
    pub after: TokenId,
}
