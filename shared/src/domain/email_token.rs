//! E-mail tokens: the one token of a user that is addressed by e-mail, may be changed without
//! handing out a new one, and can be read again (contract, section 4).

use serde::{Deserialize, Serialize};

use crate::domain::{
    id::{AccountId, EcosystemId, UserId},
    number::{self, NotInRange},
    owner::{Epoch, OwnerKey},
    time::{Timestamp, UnixSeconds},
    token::{Expiry, ExpiryType, Scope, TokenId},
};

/// A date on which an e-mail token ends, in milliseconds since 1970: up to the end of 9999, and in
/// the past as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExpirationDate(u64);

impl ExpirationDate {
    /// The last millisecond that RFC 3339 can write.
    pub const MAX: u64 = 253_402_300_799_999;

    /// # Errors
    /// The text is not a whole number from 1 to [`ExpirationDate::MAX`].
    pub fn parse(text: &str) -> Result<Self, NotInRange> {
        number::positive_long(text, Self::MAX).map(Self)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The first second of death: rounded down, as all expiry is.
    const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }
}

/// What a client may choose of an e-mail token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// What it lets its user do.
    pub scope: Scope,
    /// When it ends, if it does.
    pub expiration_date: Option<ExpirationDate>,
}

impl Properties {
    pub(crate) fn expiry(self) -> Expiry {
        Expiry::Email {
            ends_at: self.expiration_date.map(ExpirationDate::seconds),
        }
    }
}

impl Default for Properties {
    /// Everything that the user may, for ever.
    fn default() -> Self {
        Self {
            scope: Scope::ReadWrite,
            expiration_date: None,
        }
    }
}

/// Which token is a user's e-mail token, as the index lists it: the item `email-token` of the
/// user's partition, its value apart.
///
/// It has no TTL: it stays until it is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailToken {
    /// The token.
    pub token_id: TokenId,
    /// What it lets its user do.
    pub scope: Scope,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<ExpirationDate>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// 1 at first, and one more at each change.
    pub revision: u64,
    /// The user's epoch when it was made.
    pub epoch: Epoch,
    /// Whose it is.
    pub user_id: UserId,
    /// The account that the user is of; the index's partition key.
    pub email_account: AccountId,
    /// Where it stands in a list; the index's sort key.
    pub email_user: Place,
}

/// Where an e-mail token stands in a list: its user's ecosystem, then its user's partition in hex. An
/// ecosystem's are together, and none is too long for a key, as a user's id can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    pub(crate) fn of(user: &UserId) -> Self {
        let key = OwnerKey::from(user);
        Self(format!(
            "{};{}",
            user.ecosystem(),
            hex::encode(key.as_bytes())
        ))
    }

    /// Reads a place.
    pub fn parse(text: &str) -> Option<Self> {
        let place = Self(text.to_owned());
        let (ecosystem, key) = (place.ecosystem()?, place.user()?);
        (key.ecosystem() == (&ecosystem).into()).then_some(place)
    }

    /// The place as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ecosystem that it is in.
    pub fn ecosystem(&self) -> Option<EcosystemId> {
        EcosystemId::parse(self.0.split(';').next()?).ok()
    }

    /// The partition of its user.
    pub(crate) fn user(&self) -> Option<OwnerKey> {
        let mut key = [0; OwnerKey::LENGTH];
        hex::decode_to_slice(self.0.split_once(';')?.1, &mut key).ok()?;
        Some(OwnerKey::from_bytes(key))
    }
}

impl EmailToken {
    /// How it ends.
    pub fn expiry_type(&self) -> ExpiryType {
        self.properties().expiry().expiry_type()
    }

    pub(crate) fn properties(&self) -> Properties {
        Properties {
            scope: self.scope,
            expiration_date: self.expiration_date,
        }
    }

    /// Whether its date has not come.
    pub(crate) fn is_alive_at(&self, now: Timestamp) -> bool {
        self.properties().expiry().is_alive_at(now.seconds())
    }
}

/// An e-mail token with its value.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(flatten)]
    pub(crate) token: EmailToken,
    pub(crate) sealed: Sealed,
}

/// Bytes that nobody reads without the key: a nonce, the ciphertext and its tag.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sealed(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);
