//! The partition keys of owners, and their epochs.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::{
    email::Email,
    id::{AccountId, EcosystemId, EnvironmentId, UserId},
};

/// The partition key of an owner in the identity table: 20 bytes. Each token contains the key of
/// its owner.
///
/// The key of an account or an ecosystem has two parts: the first 8 bytes of the SHA-256 hash of
/// the id, then 12 zero bytes. The key of a user has two parts: the first 8 bytes of the
/// ecosystem's key, then the first 12 bytes of the SHA-256 hash of the user's id. So a verification
/// can compute all keys from the text of the token. Then one request can read the token, the owner
/// and the owner's ecosystem.
///
/// The records of environments and e-mail addresses also have partition keys of this type. The key
/// of an environment is computed from its id, in the same way as the key of an ecosystem. The key
/// of an e-mail address is the start of a SHA-256 hash of the account's id and the address's normal
/// form. In schema version 1, the hash does not contain the account's id. The key of a list is the
/// start of a SHA-256 hash of the list's name.
///
/// Two ids can have the same key (hash collision). Therefore each owner's record contains the whole
/// id, and an owner cannot be created if an owner with a different id has the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerKey(#[serde(with = "serde_bytes")] [u8; Self::LENGTH]);

impl OwnerKey {
    /// The length in bytes.
    pub const LENGTH: usize = 20;
    /// The partition key of two items that belong to no owner: the item with the wrapped data keys
    /// (they encrypt the values of e-mail tokens), and the record of the deployment. No owner has
    /// this partition key, because it is extremely unlikely that the hash of an id starts with 8
    /// zero bytes.
    pub(crate) const NOBODY: Self = Self([0; Self::LENGTH]);
    const ROOT: usize = 8;

    /// Returns the partition key of the record of an e-mail address in an account. Without an
    /// account, returns a key that no record has.
    pub(crate) fn address(account: Option<&AccountId>, email: &Email) -> Self {
        let account = account.map_or("", AccountId::as_str);
        Self::of_text(&format!("address#{account}#{}", email.normal()))
    }

    /// Returns the partition key of the record of an e-mail address in schema version 1, in which
    /// addresses are unique in the deployment.
    pub(crate) fn old_address(email: &Email) -> Self {
        Self::of_text(&format!("email#{}", email.normal()))
    }

    /// Returns the partition key of the list with this name.
    pub(crate) fn list(name: &str) -> Self {
        Self::of_text(&format!("list#{name}"))
    }

    fn of_text(text: &str) -> Self {
        let mut key = [0; Self::LENGTH];
        key.copy_from_slice(&Sha256::digest(text)[..Self::LENGTH]);
        Self(key)
    }

    fn new(root: &str, user: Option<&UserId>) -> Self {
        let mut key = [0; Self::LENGTH];
        key[..Self::ROOT].copy_from_slice(&Sha256::digest(root)[..Self::ROOT]);
        if let Some(user) = user {
            let hash = Sha256::digest(user.as_str());
            key[Self::ROOT..].copy_from_slice(&hash[..Self::LENGTH - Self::ROOT]);
        }
        Self(key)
    }

    /// Returns the key of the user's ecosystem. `self` is the key of the user.
    #[must_use]
    pub fn ecosystem(self) -> Self {
        let mut key = [0; Self::LENGTH];
        key[..Self::ROOT].copy_from_slice(&self.0[..Self::ROOT]);
        Self(key)
    }

    /// Returns the bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }
}

impl From<&AccountId> for OwnerKey {
    fn from(id: &AccountId) -> Self {
        Self::new(id.as_str(), None)
    }
}

impl From<&EcosystemId> for OwnerKey {
    fn from(id: &EcosystemId) -> Self {
        Self::new(id.as_str(), None)
    }
}

impl From<&EnvironmentId> for OwnerKey {
    fn from(id: &EnvironmentId) -> Self {
        Self::new(id.as_str(), None)
    }
}

impl From<&UserId> for OwnerKey {
    fn from(id: &UserId) -> Self {
        Self::new(id.ecosystem().as_str(), Some(id))
    }
}

/// A random value that an owner and its tokens share. A token is valid only while it has the same
/// epoch as its owner. So a write of a new epoch to the owner revokes all earlier tokens of the
/// owner. No clock is needed for this. If a user changes the password with a token, this token gets
/// the new epoch, too.
///
/// The type is also used for other random values: incarnations and nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(#[serde(with = "serde_bytes")] [u8; 16]);

impl Epoch {
    /// Generates an epoch of 128 random bits.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_key_of_an_ecosystem_can_be_derived_from_the_key_of_its_user() {
        let user = UserId::parse("C58521fd8a5d9b5cc21987501;bob").unwrap();
        let key = OwnerKey::from(&user);
        assert_eq!(key.ecosystem(), OwnerKey::from(user.ecosystem()));
        assert_ne!(key, key.ecosystem());
    }

    #[test]
    fn different_users_have_different_keys() {
        let names = [
            "a", "b", "A", "aa", "ª", "a\u{301}", "á", "owner", "token:x",
        ];
        let ecosystems = ["C58521fd8a5d9b5cc21987501", "C58521fd8a5d9b5cc21987502"];
        let keys: HashSet<_> = ecosystems
            .iter()
            .flat_map(|ecosystem| names.map(|name| format!("{ecosystem};{name}")))
            .map(|text| OwnerKey::from(&UserId::parse(&text).unwrap()))
            .collect();
        assert_eq!(keys.len(), names.len() * ecosystems.len());
    }
}
