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
    /// The tokens in order of creation. Each token has the time from which it is certainly expired,
    /// or `None` if there is no such time. `None` for the whole map means that there are too many
    /// tokens for the item.
    pub tokens: Option<BTreeMap<TokenId, Option<UnixSeconds>>>,
}
