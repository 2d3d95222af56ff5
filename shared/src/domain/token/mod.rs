//! Tokens: what they are, how they end, and what is kept of them.

mod expiry;
mod plain;

use std::{fmt, str::FromStr};

use rand::CryptoRng;
use serde::{Deserialize, Serialize, de};
use ulid::Ulid;

pub use self::{
    expiry::{Expiry, ExpiryType, Ttl},
    plain::{PlainToken, TokenHash},
};
use crate::domain::{
    id::InvalidId,
    owner::{Account, Ecosystem, Epoch, OwnerId, OwnerKey, State, User},
    time::{Timestamp, UnixSeconds},
};

/// What kind of owner holds a token, which decides what it may do (contract, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// An account: everything in its ecosystems.
    Account,
    /// An ecosystem, for its own servers: everything inside it.
    Server,
    /// A user.
    User,
}

impl From<&OwnerId> for Holder {
    fn from(owner: &OwnerId) -> Self {
        match owner {
            OwnerId::Account(_) => Self::Account,
            OwnerId::Ecosystem(_) => Self::Server,
            OwnerId::User(_) => Self::User,
        }
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

/// A token's public name: a ULID, so that ids are in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Ulid);

impl TokenId {
    /// What precedes the id in the sort key of its item.
    pub(crate) const ITEM_PREFIX: &'static str = "token#";

    fn generate(now: Timestamp, rng: &mut dyn CryptoRng) -> Self {
        let random = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        Self(Ulid::from_parts(now.millis(), random))
    }

    /// # Errors
    /// The text is not a ULID as we write it: 26 characters, in capitals.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let id = Ulid::from_str(text).map_err(|_| InvalidId)?;
        if id.array_to_str(&mut [0; ulid::ULID_LEN]) == text {
            Ok(Self(id))
        } else {
            Err(InvalidId)
        }
    }

    /// When the token was made.
    pub const fn made_at(self) -> Timestamp {
        Timestamp::from_millis(self.0.timestamp_ms())
    }

    /// The sort key of the token's item.
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

/// Serialised as the sort key.
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
            .ok_or_else(|| de::Error::custom("not the item of a token"))
    }
}

/// A label that a client gives a token: 1 to 64 characters, none of them a control character, nor
/// what stands for bytes that were not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenName(String);

impl TokenName {
    /// # Errors
    /// What a client is told of a text that is no label.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let length = text.chars().count();
        let refused = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if (1..=64).contains(&length) && !text.contains(refused) {
            Ok(Self(text.to_owned()))
        } else {
            Err("field must be 1 to 64 characters, none of them a control character")
        }
    }
}

/// How a token is wanted: what a client may choose.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NewToken {
    /// How it ends.
    pub expiry_type: ExpiryType,
    /// How long it lives.
    pub ttl: Ttl,
    /// How long it lives at the most, however much it is used.
    pub max_ttl: Option<Ttl>,
    /// Its label.
    pub name: Option<TokenName>,
}

/// Whom a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The kind of owner.
    pub holder: Holder,
    /// The owner's partition.
    pub key: OwnerKey,
    /// The owner's epoch.
    pub epoch: Epoch,
}

impl From<&Account> for TokenOwner {
    fn from(account: &Account) -> Self {
        Self {
            holder: Holder::Account,
            key: (&account.id).into(),
            epoch: account.state.epoch,
        }
    }
}

impl From<&Ecosystem> for TokenOwner {
    fn from(ecosystem: &Ecosystem) -> Self {
        Self {
            holder: Holder::Server,
            key: (&ecosystem.id).into(),
            epoch: ecosystem.state.epoch,
        }
    }
}

impl From<&User> for TokenOwner {
    fn from(user: &User) -> Self {
        Self {
            holder: Holder::User,
            key: (&user.id).into(),
            epoch: user.state.epoch,
        }
    }
}

/// A token that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Whom it is for.
    pub owner: TokenOwner,
    /// How and when it ends.
    pub expiry: Expiry,
    /// What it lets its holder do.
    pub scope: Scope,
    /// Its label.
    pub name: Option<TokenName>,
    /// When it is made.
    pub created_at: Timestamp,
}

impl Draft {
    /// The token that a client wants, with all that its holder may do.
    pub fn new(owner: TokenOwner, wanted: NewToken, now: Timestamp) -> Self {
        Self {
            owner,
            expiry: Expiry::starting(&wanted, now.seconds()),
            scope: Scope::ReadWrite,
            name: wanted.name,
            created_at: now,
        }
    }
}

/// One token as the identity table keeps it: the item `token#<ULID>` of its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TokenItem")]
pub struct Token {
    /// The partition of its owner.
    pub owner: OwnerKey,
    /// Its id, in the item as the sort key.
    #[serde(rename = "item")]
    pub id: TokenId,
    /// SHA-256 of the whole token.
    pub token_hash: TokenHash,
    /// How and when it ends.
    #[serde(flatten)]
    pub expiry: Expiry,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// What it lets its holder do.
    pub scope: Scope,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<TokenName>,
    /// The owner's epoch when it was made.
    pub epoch: Epoch,
}

/// A token's item as it is read. A flattened expiry would be buffered whole, in what every request waits for.
#[derive(Deserialize)]
struct TokenItem {
    owner: OwnerKey,
    item: TokenId,
    token_hash: TokenHash,
    expiry_type: ExpiryItem,
    ttl: Option<Ttl>,
    expires_at: Option<UnixSeconds>,
    ends_at: Option<UnixSeconds>,
    max_expires_at: Option<UnixSeconds>,
    last_used_at: Option<UnixSeconds>,
    created_at: UnixSeconds,
    scope: Scope,
    name: Option<TokenName>,
    epoch: Epoch,
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
        let expires_at = item.expires_at.ok_or("a token that expires says when");
        let expiry = match item.expiry_type {
            ExpiryItem::Infinite => Expiry::Infinite,
            ExpiryItem::FixedTtl => Expiry::FixedTtl {
                expires_at: expires_at?,
            },
            ExpiryItem::Email => Expiry::Email {
                ends_at: item.ends_at,
            },
            ExpiryItem::SlidingTtl => Expiry::SlidingTtl {
                ttl: item.ttl.ok_or("a sliding token says how long")?,
                expires_at: expires_at?,
                max_expires_at: item.max_expires_at,
                last_used_at: item.last_used_at,
            },
        };
        Ok(Self {
            owner: item.owner,
            id: item.item,
            token_hash: item.token_hash,
            expiry,
            created_at: item.created_at,
            scope: item.scope,
            name: item.name,
            epoch: item.epoch,
        })
    }
}

impl Token {
    /// Whether the token counts for this owner now, its hash apart: its life is not over, its owner
    /// is active, and its epoch is its owner's.
    pub fn counts_for(&self, owner: &State, now: UnixSeconds) -> bool {
        owner.active && self.epoch == owner.epoch && self.expiry.is_alive_at(now)
    }

    /// Draws a token: what is stored of it, and its text, which is stored nowhere.
    pub fn draw(draft: Draft, rng: &mut dyn CryptoRng) -> (Self, PlainToken) {
        let Draft { owner, expiry, .. } = draft;
        let id = TokenId::generate(draft.created_at, rng);
        let plain = PlainToken::generate(owner.holder, expiry.expiry_type(), owner.key, id, rng);
        let token = Self {
            owner: owner.key,
            id,
            token_hash: plain.hashed(),
            expiry,
            created_at: draft.created_at.seconds(),
            scope: draft.scope,
            name: draft.name,
            epoch: owner.epoch,
        };
        (token, plain)
    }
}
