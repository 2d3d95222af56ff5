//! The end of a token before its expiry, and the tokens that a token made.
//!
//! A user's own token can create a short code, and the code can be exchanged for another token of
//! the same user. The first token is then the maker of the other token.

use serde::{Deserialize, Serialize};

use super::{Holder, TokenHash, TokenId};
use crate::domain::{owner::OwnerKey, time::UnixSeconds};

/// Why a token ended before its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The token was revoked.
    Revoked,
    /// The token that made this token was revoked, or the maker of that token, and so on.
    MakerRevoked,
}

/// The token with which a token was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The kind of owner of the revoking token.
    pub holder: Holder,
    /// The id of the revoking token.
    pub token: TokenId,
}

/// When, why and by whom a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The time of the revocation.
    pub at: UnixSeconds,
    /// Why the token ends.
    pub reason: EndReason,
    /// Who revoked the token.
    pub by: Author,
}

/// Whether a token made other tokens. The attribute is absent if it made none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Descendants {
    /// The token is valid and has made at least one other token.
    #[serde(rename = "some")]
    Exist,
    /// The token was revoked, and the tokens that descend from it may not all be revoked yet.
    #[serde(rename = "ending")]
    Ending,
}

/// The record of a token that was revoked. It has no `token_hash`, so no write makes the token
/// valid again. The item has more attributes: all of the token's record except the epoch, and when,
/// why and by whom the token was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndedToken {
    /// The owner's partition key.
    pub owner: OwnerKey,
    /// The token's id.
    #[serde(rename = "item")]
    pub id: TokenId,
    /// The hash of the token. The marks that an earlier release wrote do not have this attribute.
    pub ended_hash: Option<TokenHash>,
    lineage: Option<TokenId>,
    family: Option<TokenId>,
    descendants: Option<Descendants>,
}

impl EndedToken {
    /// Returns the token's ancestry.
    pub const fn ancestry(&self) -> Ancestry {
        Ancestry {
            lineage: self.lineage,
            family: self.family,
        }
    }

    /// Returns whether tokens that descend from this token may still be valid.
    pub fn has_valid_descendants(&self) -> bool {
        self.descendants == Some(Descendants::Ending)
    }
}

/// Where a token comes from. An absent attribute means the token's own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ancestry {
    /// The id of the first of the tokens that replaced each other by self-rotation, the last of
    /// which is this token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<TokenId>,
    /// The lineage of the first maker: the maker of this token's maker, and so on. All tokens that
    /// descend from it are in one list, so that a long chain of makers takes no more reads than a
    /// short chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<TokenId>,
}

impl Ancestry {
    /// Returns the lineage of the token with this id and this ancestry.
    pub fn lineage(self, id: TokenId) -> TokenId {
        self.lineage.unwrap_or(id)
    }

    /// Returns the family of the token with this id and this ancestry.
    pub fn family(self, id: TokenId) -> TokenId {
        self.family.unwrap_or_else(|| self.lineage(id))
    }
}

/// The token that created a short code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The partition key of the token's owner.
    pub owner: OwnerKey,
    /// The token's id.
    pub token: TokenId,
    /// The ancestry of the token.
    #[serde(default)]
    pub ancestry: Ancestry,
}

impl Maker {
    /// Returns the ancestry of a token that this token makes.
    pub fn ancestry_of_child(&self) -> Ancestry {
        Ancestry {
            lineage: None,
            family: Some(self.ancestry.family(self.token)),
        }
    }
}
