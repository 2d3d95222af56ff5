//! Owners of tokens: accounts, ecosystems (which own server tokens) and users.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::{
    email::Email,
    id::{AccountId, EcosystemId, EnvironmentId, UserId},
};

/// Whose partition of the identity table it is, as 20 bytes that a token carries.
///
/// 8 bytes of SHA-256 of the account's or ecosystem's id, then 12 bytes of SHA-256 of the user's
/// id, or zeros for the account or ecosystem itself. Each key that a verification reads follows
/// from it. Two ids can meet in one key, so the record holds the whole id, and creating an owner
/// under a key that another id has is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerKey(#[serde(with = "serde_bytes")] [u8; Self::LENGTH]);

impl OwnerKey {
    /// In bytes.
    pub const LENGTH: usize = 20;
    /// The partition that no owner has: the ids that would hash to it are not to be found.
    pub(crate) const NOBODY: Self = Self([0; Self::LENGTH]);
    const ROOT: usize = 8;

    fn new(root: &str, user: Option<&UserId>) -> Self {
        let mut key = [0; Self::LENGTH];
        key[..Self::ROOT].copy_from_slice(&Sha256::digest(root)[..Self::ROOT]);
        if let Some(user) = user {
            let hash = Sha256::digest(user.as_str());
            key[Self::ROOT..].copy_from_slice(&hash[..Self::LENGTH - Self::ROOT]);
        }
        Self(key)
    }

    /// The key of the ecosystem that this user's key lies in.
    #[must_use]
    pub fn ecosystem(self) -> Self {
        let mut key = [0; Self::LENGTH];
        key[..Self::ROOT].copy_from_slice(&self.0[..Self::ROOT]);
        Self(key)
    }

    /// The key's bytes.
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

/// The partition of what is kept under an e-mail address.
impl From<&Email> for OwnerKey {
    fn from(email: &Email) -> Self {
        let hash = Sha256::digest(format!("email#{}", email.normal()));
        let mut key = [0; Self::LENGTH];
        key.copy_from_slice(&hash[..Self::LENGTH]);
        Self(key)
    }
}

/// A random value that an owner and its tokens share. A token counts only while its epoch is its
/// owner's: writing a new one ends every earlier token, with no clock compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(#[serde(with = "serde_bytes")] [u8; 16]);

impl Epoch {
    /// 128 random bits.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// The whole id of an owner, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum OwnerId {
    /// An account.
    Account(AccountId),
    /// An ecosystem.
    Ecosystem(EcosystemId),
    /// A user.
    User(UserId),
}

impl OwnerId {
    /// The partition of this owner.
    pub fn key(&self) -> OwnerKey {
        match self {
            Self::Account(id) => id.into(),
            Self::Ecosystem(id) => id.into(),
            Self::User(id) => id.into(),
        }
    }

    /// Whether it is this very ecosystem: another id may have its key.
    pub fn is_ecosystem(&self, id: &EcosystemId) -> bool {
        matches!(self, Self::Ecosystem(own) if own == id)
    }

    /// Whether it is this very user: another id may have its key.
    pub fn is_user(&self, id: &UserId) -> bool {
        matches!(self, Self::User(own) if own == id)
    }

    /// The id as clients write it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Account(id) => id.as_str(),
            Self::Ecosystem(id) => id.as_str(),
            Self::User(id) => id.as_str(),
        }
    }
}

/// An owner's state: the item `owner` of its partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OwnerItem")]
pub struct Owner {
    /// Who it is.
    #[serde(flatten)]
    pub id: OwnerId,
    /// The account that an ecosystem belongs to; a user's follows from its ecosystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The environment that a short code's user is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentId>,
    /// A user's e-mail address; the address's own item names the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Whether the user has a password, which is kept apart.
    pub has_password: bool,
    /// Whether its tokens count.
    pub active: bool,
    /// Whether a user may manage the e-mail tokens of its ecosystem.
    pub admin: bool,
    /// What the tokens that count have in common.
    pub epoch: Epoch,
    /// A random value of this life of the id: an owner that is made again has another.
    pub born: Epoch,
    /// 1 at first, and one more at each change.
    pub version: u64,
}

/// An owner's item as it is read. A flattened id would be buffered whole, in what every request waits for.
#[derive(Deserialize)]
struct OwnerItem {
    kind: OwnerKind,
    id: String,
    account: Option<AccountId>,
    environment: Option<EnvironmentId>,
    email: Option<Email>,
    #[serde(default)]
    has_password: bool,
    active: bool,
    admin: bool,
    epoch: Epoch,
    born: Epoch,
    version: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OwnerKind {
    Account,
    Ecosystem,
    User,
}

impl TryFrom<OwnerItem> for Owner {
    type Error = &'static str;

    fn try_from(item: OwnerItem) -> Result<Self, Self::Error> {
        Ok(Self {
            id: match item.kind {
                OwnerKind::Account => OwnerId::Account(item.id.try_into()?),
                OwnerKind::Ecosystem => OwnerId::Ecosystem(item.id.try_into()?),
                OwnerKind::User => OwnerId::User(item.id.try_into()?),
            },
            account: item.account,
            environment: item.environment,
            email: item.email,
            has_password: item.has_password,
            active: item.active,
            admin: item.admin,
            epoch: item.epoch,
            born: item.born,
            version: item.version,
        })
    }
}

impl Owner {
    /// A new owner in its first state: active, no administrator.
    pub fn new(id: OwnerId, account: Option<AccountId>, rng: &mut dyn CryptoRng) -> Self {
        Self {
            id,
            account,
            environment: None,
            email: None,
            has_password: false,
            active: true,
            admin: false,
            epoch: Epoch::generate(rng),
            born: Epoch::generate(rng),
            version: 1,
        }
    }
}

/// What is kept under an e-mail address: the item `address` of its own partition, which names the
/// one user that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The user.
    pub user_id: UserId,
    /// The life of that id that has the address.
    pub born: Epoch,
    /// A random value of this writing of it: the same user's next one has another.
    pub epoch: Epoch,
}

impl Address {
    /// Whether this user, as it was read, is the one that is named and has this address still.
    pub fn is_of(&self, user: &Owner, email: &Email) -> bool {
        user.id.is_user(&self.user_id)
            && user.born == self.born
            && user.email.as_ref() == Some(email)
    }
}

/// An environment: the item `environment` of a partition of its own, which names the ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// What it is of.
    pub ecosystem: EcosystemId,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_ecosystem_of_a_users_key_is_the_ecosystems_key() {
        let user = UserId::parse("C58521fd8a5d9b5cc21987501;bob").unwrap();
        let key = OwnerKey::from(&user);
        assert_eq!(key.ecosystem(), OwnerKey::from(user.ecosystem()));
        assert_ne!(key, key.ecosystem());
    }

    #[test]
    fn users_that_differ_have_keys_that_differ() {
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

    #[test]
    fn an_owner_is_the_same_read_as_written() {
        let user = UserId::parse("C58521fd8a5d9b5cc21987501;bob").unwrap();
        let account = AccountId::parse("A58521fd8a5d9b5cc21987501").unwrap();
        for id in [
            OwnerId::User(user.clone()),
            OwnerId::Ecosystem(user.ecosystem().clone()),
            OwnerId::Account(account.clone()),
        ] {
            let owner = Owner {
                id,
                account: Some(account.clone()),
                environment: None,
                email: Some(Email::parse("Bob@example.com").unwrap()),
                has_password: true,
                active: false,
                admin: true,
                epoch: Epoch([7; 16]),
                born: Epoch([8; 16]),
                version: 3,
            };
            let item: serde_dynamo::Item = serde_dynamo::to_item(&owner).unwrap();
            assert_eq!(serde_dynamo::from_item::<_, Owner>(item).unwrap(), owner);
        }
    }
}
