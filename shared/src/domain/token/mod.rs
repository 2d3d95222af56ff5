//! Tokens: their ids, their expiry, and their stored records.

mod ended;
mod expiry;
mod metadata;
mod places;
mod plain;
mod scope;

use std::{fmt, str::FromStr};

use rand::CryptoRng;
use serde::{Deserialize, Serialize, de};
use ulid::Ulid;

pub use self::{
    ended::{Ancestry, Author, Descendants, EndReason, EndedToken, Ending, Maker},
    expiry::{Expiry, Ttl},
    metadata::Metadata,
    places::{Places, Reading, Taken},
    plain::{PlainToken, TokenHash},
    scope::{Permission, Scope},
};
pub use tokenry_api::{ExpiryType, Holder};

use crate::domain::{
    deployment::TagKey,
    id::InvalidId,
    owner::{Account, Ecosystem, EcosystemSettings, Epoch, OwnerKey, State, TokenLimit, User},
    time::{Timestamp, UnixSeconds},
};

/// A token's public id: a ULID. If ids are sorted, the token that was created in an earlier
/// millisecond comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Ulid);

impl TokenId {
    /// The prefix of the id in the sort key of the token's item.
    pub(crate) const ITEM_PREFIX: &'static str = "token#";

    fn generate(now: Timestamp, rng: &mut dyn CryptoRng) -> Self {
        let random = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        Self(Ulid::from_parts(now.millis(), random))
    }

    /// Parses an id.
    ///
    /// # Errors
    /// The text is not a ULID in the form that we write: 26 characters, with all letters in upper
    /// case.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let id = Ulid::from_str(text).map_err(|_| InvalidId)?;
        if id.array_to_str(&mut [0; ulid::ULID_LEN]) == text {
            Ok(Self(id))
        } else {
            Err(InvalidId)
        }
    }

    /// Returns when the token was created.
    pub const fn created_at(self) -> Timestamp {
        Timestamp::from_millis(self.0.timestamp_ms())
    }

    /// Returns how many seconds must pass between two writes of the token's last use: 60 to 75
    /// minutes. The exact time depends on the random part of the id. Otherwise, tokens that were
    /// created in the same second would all be written in the same second.
    const fn seconds_between_uses(self) -> u32 {
        let [.., high, low] = self.to_bytes();
        60 * 60 + u16::from_be_bytes([high, low]) as u32 % (15 * 60)
    }

    /// Returns the sort key of the token's item.
    pub fn item(self) -> String {
        format!("{}{}", Self::ITEM_PREFIX, self)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serialises the id as the sort key of the token's item.
impl Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.item())
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let item = String::deserialize(deserializer)?;
        item.strip_prefix(Self::ITEM_PREFIX)
            .and_then(|id| Self::parse(id).ok())
            .ok_or_else(|| de::Error::custom("not the sort key of a token's item"))
    }
}

/// A label that a client chooses for a token: 1 to 64 characters. Control characters are not
/// allowed. U+FFFD is not allowed, because decoders put this character in the place of bytes that
/// are not valid UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenName(String);

impl TokenName {
    /// Parses a label.
    ///
    /// # Errors
    /// If the text is not a valid label, the error is the message for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let length = text.chars().count();
        let refused = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if (1..=64).contains(&length) && !text.contains(refused) {
            Ok(Self(text.to_owned()))
        } else {
            Err("field must be 1 to 64 characters, none of them a control character")
        }
    }

    /// Returns the label as text.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The properties of a new token that a client may choose.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NewToken {
    /// How the token expires.
    pub expiry_type: ExpiryType,
    /// How long the token is valid after its creation. A sliding token is valid for this time after
    /// each use.
    pub ttl: Ttl,
    /// The maximum time from the creation of the token to its expiry, even if the token is used.
    pub max_ttl: Option<Ttl>,
    /// The token's label.
    pub name: Option<TokenName>,
    /// What the token allows.
    pub scope: Scope,
    /// Values that the application stores with the token.
    pub metadata: Option<Metadata>,
}

/// The changes to a token. A field that is `None` keeps its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChange {
    /// The label. `Some(None)` removes it.
    pub name: Option<Option<TokenName>>,
    /// The metadata. `Some(None)` removes it.
    pub metadata: Option<Option<Metadata>>,
    /// What the token allows.
    pub scope: Option<Scope>,
    /// Whether the token is disabled.
    pub disabled: Option<bool>,
}

impl TokenChange {
    /// Returns the token with these changes.
    pub fn of(&self, token: &Token) -> Token {
        let old = token.clone();
        Token {
            name: self.name.clone().unwrap_or(old.name),
            metadata: self.metadata.clone().unwrap_or(old.metadata),
            scope: self.scope.clone().unwrap_or(old.scope),
            is_disabled: self.disabled.unwrap_or(old.is_disabled),
            revision: old.revision + 1,
            ..old
        }
    }
}

/// The owner of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The kind of owner.
    pub holder: Holder,
    /// The owner's partition key.
    pub key: OwnerKey,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The limit of tokens that applies to a new token, or `None` if there is no limit. Only users
    /// have a limit.
    pub limit: Option<TokenLimit>,
}

impl From<&Account> for TokenOwner {
    fn from(account: &Account) -> Self {
        Self {
            holder: Holder::Account,
            key: (&account.id).into(),
            epoch: account.state.epoch,
            limit: None,
        }
    }
}

impl From<&Ecosystem> for TokenOwner {
    fn from(ecosystem: &Ecosystem) -> Self {
        Self {
            holder: Holder::Server,
            key: (&ecosystem.id).into(),
            epoch: ecosystem.state.epoch,
            limit: None,
        }
    }
}

impl TokenOwner {
    /// Returns a user as the owner of a new token. `settings` are the settings of the user's
    /// ecosystem, which the request must have read.
    pub fn of_user(user: &User, settings: &EcosystemSettings) -> Self {
        Self {
            holder: Holder::User,
            key: (&user.id).into(),
            epoch: user.state.epoch,
            limit: settings.token_limit(),
        }
    }
}

/// The data from which a new token is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The token's owner.
    pub owner: TokenOwner,
    /// How and when the token expires.
    pub expiry: Expiry,
    /// What the token allows.
    pub scope: Scope,
    /// The token's label.
    pub name: Option<TokenName>,
    /// Values that the application stores with the token.
    pub metadata: Option<Metadata>,
    /// When the token is created.
    pub created_at: Timestamp,
    /// The token's ancestry.
    pub ancestry: Ancestry,
}

impl Draft {
    /// Returns the draft of a token that a client asked for.
    pub fn new(owner: TokenOwner, wanted: NewToken, now: Timestamp) -> Self {
        Self {
            owner,
            expiry: Expiry::new(&wanted, now.seconds()),
            scope: wanted.scope,
            name: wanted.name,
            metadata: wanted.metadata,
            created_at: now,
            ancestry: Ancestry::default(),
        }
    }
}

/// The record of a token in the identity table: the item `token#<ULID>` in its owner's partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TokenItem")]
pub struct Token {
    /// The owner's partition key.
    pub owner: OwnerKey,
    /// The token's id: the sort key of the item.
    #[serde(rename = "item")]
    pub id: TokenId,
    /// The SHA-256 hash of the whole token. The item of a disabled token has this value in the
    /// attribute `disabled_hash` instead.
    pub token_hash: TokenHash,
    /// Whether the token is disabled. A disabled token is invalid until it is enabled again.
    #[serde(skip)]
    pub is_disabled: bool,
    /// How and when the token expires.
    #[serde(flatten)]
    pub expiry: Expiry,
    /// When the token was last used. For a sliding token, this is exact. For any other token, it is
    /// exact to about an hour. `None` if no use was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<UnixSeconds>,
    /// When the token was created.
    pub created_at: UnixSeconds,
    /// What the token allows.
    pub scope: Scope,
    /// The token's label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<TokenName>,
    /// Values that the application stores with the token, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// The owner's epoch when the token was created, or the epoch into which the token was moved.
    pub epoch: Epoch,
    /// The epoch that the token had before it was moved into its present epoch. `None` if the token
    /// was never moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_epoch: Option<Epoch>,
    /// The number of the key that created the token's tag, or `None` for a token without a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_key: Option<u32>,
    /// Starts at 1. Each write increases the revision by 1, with three exceptions: a renewal, the
    /// write that prevents all later renewals of a sliding token that is already expired, and the
    /// write of the last use of any other token. The revision is 0 if the item has no revision,
    /// because an earlier release created the token.
    pub revision: u64,
    /// The token's ancestry.
    #[serde(flatten)]
    pub ancestry: Ancestry,
    /// Whether the token has made other tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descendants: Option<Descendants>,
}

/// A token's item, for deserialisation only. If we deserialised [`Token`] with `#[serde(flatten)]`,
/// serde would buffer the whole item first. This would make every request slower.
#[derive(Deserialize)]
struct TokenItem {
    owner: OwnerKey,
    item: TokenId,
    token_hash: Option<TokenHash>,
    disabled_hash: Option<TokenHash>,
    expiry_type: ExpiryItem,
    ttl: Option<Ttl>,
    expires_at: Option<UnixSeconds>,
    /// When the token expires, if that is not the time at which DynamoDB deletes the item.
    valid_until: Option<UnixSeconds>,
    ends_at: Option<UnixSeconds>,
    max_expires_at: Option<UnixSeconds>,
    last_used_at: Option<UnixSeconds>,
    created_at: UnixSeconds,
    scope: Scope,
    name: Option<TokenName>,
    metadata: Option<Metadata>,
    epoch: Epoch,
    previous_epoch: Option<Epoch>,
    tag_key: Option<u32>,
    revision: Option<u64>,
    lineage: Option<TokenId>,
    family: Option<TokenId>,
    descendants: Option<Descendants>,
}

#[derive(Deserialize)]
enum ExpiryItem {
    Infinite,
    FixedTtl,
    Email,
    SlidingTtl,
}

impl TryFrom<TokenItem> for Token {
    type Error = &'static str;

    fn try_from(item: TokenItem) -> Result<Self, Self::Error> {
        let expires_at = item
            .valid_until
            .or(item.expires_at)
            .ok_or("`expires_at` is missing");
        let expiry = match item.expiry_type {
            ExpiryItem::Infinite => Expiry::Infinite,
            ExpiryItem::FixedTtl => Expiry::FixedTtl {
                ttl: item.ttl,
                expires_at: expires_at?,
                max_expires_at: item.max_expires_at,
            },
            ExpiryItem::Email => Expiry::Email {
                ends_at: item.ends_at,
            },
            ExpiryItem::SlidingTtl => Expiry::SlidingTtl {
                ttl: item.ttl.ok_or("`ttl` is missing")?,
                expires_at: expires_at?,
                max_expires_at: item.max_expires_at,
            },
        };
        let hash = item.token_hash.or(item.disabled_hash);
        Ok(Self {
            owner: item.owner,
            id: item.item,
            token_hash: hash.ok_or("the hash is missing")?,
            is_disabled: item.token_hash.is_none(),
            expiry,
            last_used_at: item.last_used_at,
            created_at: item.created_at,
            scope: item.scope,
            name: item.name,
            metadata: item.metadata,
            epoch: item.epoch,
            previous_epoch: item.previous_epoch,
            tag_key: item.tag_key,
            revision: item.revision.unwrap_or_default(),
            ancestry: Ancestry {
                lineage: item.lineage,
                family: item.family,
            },
            descendants: item.descendants,
        })
    }
}

impl Token {
    /// Returns the time from which the token is certainly expired. Returns `None` if there is no
    /// such time, or if the time can change. A client can give an e-mail token a later end, and
    /// each use of a sliding token renews the token.
    pub fn last_end(&self) -> Option<UnixSeconds> {
        match self.expiry {
            Expiry::Infinite | Expiry::Email { .. } => None,
            Expiry::FixedTtl { .. } => self.expiry.expires_at(),
            Expiry::SlidingTtl { max_expires_at, .. } => max_expires_at,
        }
    }

    /// Returns whether the token is valid for this owner: the token is not disabled and not
    /// expired, the owner is active, and the token has the owner's epoch. Does not compare the
    /// token's hash.
    pub fn is_valid_for(&self, owner: &State, now: UnixSeconds) -> bool {
        !self.is_disabled && self.is_of(owner) && self.expiry.is_valid_at(now)
    }

    /// Returns whether the owner is active and the token has the owner's epoch. Otherwise the token
    /// has ended together with all other tokens that the owner had.
    pub fn is_of(&self, owner: &State) -> bool {
        owner.active && self.has_epoch_of(owner)
    }

    /// Returns whether the token has the owner's epoch ([`State::has_token`]).
    pub fn has_epoch_of(&self, owner: &State) -> bool {
        owner.has_token(self.id, self.epoch, self.previous_epoch)
    }

    /// Returns whether this is a valid sliding token that was already renewed in the second `now`,
    /// or later by a clock that is ahead. Such a token does not need another renewal.
    pub fn is_renewed_at(&self, now: UnixSeconds) -> bool {
        matches!(self.expiry, Expiry::SlidingTtl { .. })
            && self.last_used_at.is_some_and(|last| last >= now)
            && self.expiry.is_valid_at(now)
    }

    /// Returns whether a use of the token in the second `now` must be stored. Each renewal of a
    /// sliding token stores a use, so this function returns `false` for a sliding token. For any
    /// other token, the last use is only exact to about an hour, because each write costs a write
    /// unit.
    pub fn must_store_use(&self, now: UnixSeconds) -> bool {
        let last = self.last_used_at.unwrap_or(self.created_at);
        !matches!(self.expiry, Expiry::SlidingTtl { .. })
            && last.plus(self.id.seconds_between_uses()) <= now
    }

    /// Generates a token, with a tag if a key is given. Returns its record and its text. The record
    /// does not contain the text.
    pub fn generate(
        draft: Draft,
        tag_key: Option<&TagKey>,
        rng: &mut dyn CryptoRng,
    ) -> (Self, PlainToken) {
        let Draft { owner, expiry, .. } = draft;
        let (holder, kind) = (owner.holder, expiry.expiry_type());
        let id = TokenId::generate(draft.created_at, rng);
        let plain = PlainToken::generate(holder, kind, owner.key, id, tag_key, rng);
        let token = Self {
            owner: owner.key,
            id,
            token_hash: plain.hashed(),
            is_disabled: false,
            expiry,
            last_used_at: None,
            created_at: draft.created_at.seconds(),
            scope: draft.scope,
            name: draft.name,
            metadata: draft.metadata,
            epoch: owner.epoch,
            previous_epoch: None,
            tag_key: tag_key.map(|key| key.id),
            revision: 1,
            ancestry: draft.ancestry,
            descendants: None,
        };
        (token, plain)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_last_uses_of_tokens_that_were_created_together_are_written_at_different_times() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut id = || TokenId::generate(Timestamp::from_millis(1), &mut rng);
        let seconds: Vec<_> = (0..10_000).map(|_| id().seconds_between_uses()).collect();
        let different: BTreeSet<_> = seconds.iter().copied().collect();
        assert_eq!(different.first(), Some(&3600));
        assert_eq!(different.last(), Some(&4499));
        let most = different
            .iter()
            .map(|one| seconds.iter().filter(|s| s == &one).count());
        // On average, 11 of 10,000 tokens are written in the same second.
        assert!(most.max() < Some(40));
    }

    #[test]
    fn all_80_bits_after_the_time_in_a_token_id_are_random() {
        let mut rng = StdRng::seed_from_u64(0);
        let (mut ones, mut zeros) = ([0; 10], [0; 10]);
        for _ in 0..64 {
            let id = TokenId::generate(Timestamp::from_millis(1), &mut rng);
            for (at, byte) in id.to_bytes()[6..].iter().enumerate() {
                ones[at] |= byte;
                zeros[at] |= !byte;
            }
        }
        assert_eq!((ones, zeros), ([0xff; 10], [0xff; 10]));
    }
}
