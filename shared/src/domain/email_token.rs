//! E-mail tokens. A user has at most one e-mail token. Clients identify the token by the user's
//! e-mail address. Clients can change the token's scope and expiry; the token's value stays the
//! same. Clients can read the value again.

use serde::{Deserialize, Serialize};

use crate::domain::{
    id::{AccountId, EcosystemId, UserId},
    number::{self, NotInRange},
    owner::{Epoch, OwnerKey, State},
    time::{Timestamp, UnixSeconds},
    token::{Expiry, ExpiryType, Scope, TokenId},
};

/// The date when an e-mail token expires, in milliseconds since 1970. The date may be in the past.
/// The latest date is the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExpirationDate(u64);

impl ExpirationDate {
    /// The last millisecond that RFC 3339 can express.
    pub const MAX: u64 = 253_402_300_799_999;

    /// Parses a number of milliseconds since 1970.
    ///
    /// # Errors
    /// The text is not a whole number from 1 to [`ExpirationDate::MAX`].
    pub fn parse(text: &str) -> Result<Self, NotInRange> {
        number::positive_long(text, Self::MAX).map(Self)
    }

    /// Returns the milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Returns the first second at which the token is expired: the date, rounded down to a second.
    const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }
}

/// The properties of an e-mail token that a client may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// What the token allows its user to do.
    pub scope: Scope,
    /// When the token expires, or `None` if the token never expires.
    pub expiration_date: Option<ExpirationDate>,
}

impl Properties {
    pub(crate) fn expiry(&self) -> Expiry {
        Expiry::Email {
            ends_at: self.expiration_date.map(ExpirationDate::seconds),
        }
    }
}

impl Default for Properties {
    /// The token allows everything that the user may do, and the token never expires.
    fn default() -> Self {
        Self {
            scope: Scope::read_write(),
            expiration_date: None,
        }
    }
}

/// The record of a user's e-mail token, without the token's value: the item `email-token` in the
/// user's partition. The index that lists e-mail tokens contains the same attributes.
///
/// The item has no TTL attribute, so the database does not delete it when the token expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailToken {
    /// The token's id.
    pub token_id: TokenId,
    /// What the token allows its user to do.
    pub scope: Scope,
    /// When the token expires, or `None` if the token never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<ExpirationDate>,
    /// When the token was created.
    pub created_at: Timestamp,
    /// When the record was last changed.
    pub updated_at: Timestamp,
    /// Starts at 1 and increases by 1 with each change.
    pub revision: u64,
    /// The user's epoch when the token was created or was moved into another epoch. If the token is
    /// [ending](EmailToken::ending), an epoch that no user has, so that the record counts as
    /// missing.
    pub epoch: Epoch,
    /// The epoch from which the token was moved ([`State::has_token`]), if it was moved. The index
    /// does not contain this attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_epoch: Option<Epoch>,
    /// Whether the token was deleted and has ended, but tokens that descend from it may still be
    /// valid. The next deletion goes on. The index does not contain this attribute.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
    /// The user that the token belongs to.
    pub user_id: UserId,
    /// The user's account. This is the partition key of the index.
    pub email_account: AccountId,
    /// The token's position in a list. This is the sort key of the index.
    pub email_user: ListKey,
}

/// The position of an e-mail token in a list: the id of the user's ecosystem, `;`, and the user's
/// partition key in hex.
///
/// In a list, the tokens of one ecosystem are next to each other, because their positions start
/// with the ecosystem's id. The position does not contain the user's id, because that id can exceed
/// DynamoDB's maximum length of a sort key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListKey(String);

impl ListKey {
    pub(crate) fn of(user: &UserId) -> Self {
        let key = OwnerKey::from(user);
        Self(format!(
            "{};{}",
            user.ecosystem(),
            hex::encode(key.as_bytes())
        ))
    }

    /// Parses a position. Returns `None` if the text is malformed, or if the partition key cannot
    /// be the key of a user of this ecosystem.
    pub fn parse(text: &str) -> Option<Self> {
        let place = Self(text.to_owned());
        let (ecosystem, key) = (place.ecosystem()?, place.user()?);
        (key.ecosystem() == (&ecosystem).into()).then_some(place)
    }

    /// Returns the position as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the ecosystem of the user.
    pub fn ecosystem(&self) -> Option<EcosystemId> {
        EcosystemId::parse(self.0.split(';').next()?).ok()
    }

    /// Returns the partition key of the user.
    pub(crate) fn user(&self) -> Option<OwnerKey> {
        let mut key = [0; OwnerKey::LENGTH];
        hex::decode_to_slice(self.0.split_once(';')?.1, &mut key).ok()?;
        Some(OwnerKey::from_bytes(key))
    }
}

impl EmailToken {
    /// Returns how the token expires.
    pub fn expiry_type(&self) -> ExpiryType {
        self.properties().expiry().expiry_type()
    }

    pub(crate) fn properties(&self) -> Properties {
        Properties {
            scope: self.scope.clone(),
            expiration_date: self.expiration_date,
        }
    }

    /// Returns whether the token has the epoch of its user ([`State::has_token`]).
    pub(crate) fn has_epoch_of(&self, user: &State) -> bool {
        user.has_token(self.token_id, self.epoch, self.previous_epoch)
    }

    /// Returns whether the token is not expired.
    pub(crate) fn is_valid_at(&self, now: Timestamp) -> bool {
        self.properties().expiry().is_valid_at(now.seconds())
    }
}

/// The stored item of an e-mail token: the record and the encrypted value.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredEmailToken {
    #[serde(flatten)]
    pub(crate) token: EmailToken,
    #[serde(flatten)]
    pub(crate) sealed: Sealed,
}

/// The id of a data key. The first data key of a deployment has no id, and a value that it encrypts
/// is stored without the id of a data key, so that earlier releases can read this value. The ids of
/// all other keys are random and never used again.
pub(crate) type DataKeyId = Option<String>;

/// An encrypted value. These are attributes of the item of an e-mail token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// Encrypted bytes: a nonce, the ciphertext and its authentication tag.
    #[serde(rename = "sealed", with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
    /// The data key that encrypted the value.
    #[serde(
        rename = "sealed_with",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) data_key: DataKeyId,
}
