//! The end of a token before its expiry, and the tokens that a token made.
//!
//! A user's own token can create a short code, and the code can be exchanged for another token of
//! the same user. The first token is then the maker of the other token.

use serde::{Deserialize, Serialize};

use super::{ExpiryType, Holder, Metadata, Scope, TokenHash, TokenId, TokenName};
use crate::domain::{owner::OwnerKey, time::UnixSeconds};

/// Why a token ended before its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The token was revoked.
    Revoked,
    /// The token that made this token was revoked, or the maker of that token, and so on.
    MakerRevoked,
    /// The user got a new token and had the most tokens allowed. This token was the oldest one. The
    /// author is the new token.
    LimitReached,
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
    /// The token with which the token is ended.
    pub by: Author,
}

/// Whether a token made other tokens. The attribute is absent if the token made none. It is also
/// absent if the token was revoked and all tokens that descend from it have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Descendants {
    /// The token was not revoked, and it has made at least one other token.
    #[serde(rename = "some")]
    Exist,
    /// The token was revoked, and the tokens that descend from it may not all be revoked yet.
    #[serde(rename = "ending")]
    Ending,
}

/// The record of a token that was revoked. It has no `token_hash`, so no write makes the token
/// valid again. The stored item also says when, why and by whom the token was revoked. It still has
/// the other attributes of the token's record, but not the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndedToken {
    /// The owner's partition key.
    pub owner: OwnerKey,
    /// The token's id.
    #[serde(rename = "item")]
    pub id: TokenId,
    /// The hash of the token. `None` for a token that an earlier release revoked: that release
    /// replaced the token's item with a mark, which does not have this attribute.
    pub ended_hash: Option<TokenHash>,
    /// When the token ended. `None` for a token that an earlier release revoked.
    pub ended_at: Option<UnixSeconds>,
    /// Why the token ended, as [`EndReason`] writes it. It is a text, because a later release may
    /// have stored another reason.
    pub end_reason: Option<String>,
    /// The token with which the token was ended.
    pub ended_by: Option<Author>,
    /// The kind of the token: `Infinite`, `FixedTtl`, `SlidingTtl` or `Email`.
    expiry_type: Option<String>,
    ends_at: Option<UnixSeconds>,
    /// When the token was created.
    pub created_at: Option<UnixSeconds>,
    /// When the token was last used.
    pub last_used_at: Option<UnixSeconds>,
    /// What the token allowed.
    pub scope: Option<Scope>,
    /// The token's label.
    pub name: Option<TokenName>,
    /// Values that the application stored with the token.
    pub metadata: Option<Metadata>,
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

    /// Returns the expiry type that clients see.
    pub fn expiry_type(&self) -> ExpiryType {
        let stored = self.expiry_type.as_deref().unwrap_or_default();
        ExpiryType::parse(stored).unwrap_or(match self.ends_at {
            // An e-mail token with a date.
            Some(_) => ExpiryType::FixedTtl,
            None => ExpiryType::Infinite,
        })
    }

    /// Returns whether tokens that descend from this token may still be valid.
    pub fn has_valid_descendants(&self) -> bool {
        self.descendants == Some(Descendants::Ending)
    }
}

/// Where a token comes from. If `lineage` is absent, the lineage is the token's own id. If `family`
/// is absent, the family is the lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ancestry {
    /// For a token that replaced an earlier token: the id of the first token in this series of
    /// replacements. This release reads the attribute, but never stores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<TokenId>,
    /// The lineage of the first maker. To find the first maker, go from this token to its maker,
    /// then to the maker of that token, and so on. The links of all tokens that descend from the
    /// first maker are in one list, so a long chain of makers needs no more reads than a short
    /// chain.
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
