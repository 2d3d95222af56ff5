//! Owners of tokens: accounts, ecosystems (which own server tokens) and users.

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
/// The key of an account or an ecosystem is the first 8 bytes of the SHA-256 hash of its id, and 12
/// zero bytes. The key of a user is the first 8 bytes of the key of its ecosystem, and the first 12
/// bytes of the SHA-256 hash of the user's id. So a verification can read the token, its owner and
/// the owner's ecosystem at once, with keys from the token.
///
/// Environments and e-mail addresses have a partition key of this type too. The key of an
/// environment is made from its id, like the key of an ecosystem. The key of an e-mail address is
/// 20 bytes of a hash of its normal form.
///
/// Two ids can have the same key (hash collision). Therefore each owner's record contains the whole
/// id, and an owner cannot be created if an owner with a different id has the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerKey(#[serde(with = "serde_bytes")] [u8; Self::LENGTH]);

impl OwnerKey {
    /// The length in bytes.
    pub const LENGTH: usize = 20;
    /// The key of the partition that contains the wrapped data key for the values of e-mail tokens.
    /// No owner has this key: practically no id has a hash that starts with 8 zero bytes.
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

    /// Returns the key of the ecosystem of the user that has this key.
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

/// Returns the partition key of the record of an e-mail address.
impl From<&Email> for OwnerKey {
    fn from(email: &Email) -> Self {
        let hash = Sha256::digest(format!("email#{}", email.normal()));
        let mut key = [0; Self::LENGTH];
        key.copy_from_slice(&hash[..Self::LENGTH]);
        Self(key)
    }
}

/// A random value that an owner and its tokens share. A token is valid only while it has the same
/// epoch as its owner. So if a new epoch is written to the owner, all earlier tokens of the owner
/// are revoked. No times are compared.
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

/// The id of an owner, and the kind of owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerId {
    /// An account.
    Account(AccountId),
    /// An ecosystem.
    Ecosystem(EcosystemId),
    /// A user.
    User(UserId),
}

impl OwnerId {
    /// Returns the id in the form that clients send.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Account(id) => id.as_str(),
            Self::Ecosystem(id) => id.as_str(),
            Self::User(id) => id.as_str(),
        }
    }
}

/// The fields that the records of all owners have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether the owner's tokens are valid.
    pub active: bool,
    /// The epoch. Only tokens with the same epoch are valid.
    pub epoch: Epoch,
    /// A random value that is generated when the owner is created, and that never changes. If an
    /// owner is deleted and created again with the same id, the new owner gets a different value.
    /// So a write for the deleted owner cannot change the new owner.
    pub incarnation: Epoch,
    /// Starts at 1 and increases by 1 with each change.
    pub version: u64,
}

impl State {
    /// Returns the state of a new owner.
    pub fn new(rng: &mut dyn CryptoRng) -> Self {
        Self {
            active: true,
            epoch: Epoch::generate(rng),
            incarnation: Epoch::generate(rng),
            version: 1,
        }
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// The fields that all owners have.
    pub state: State,
}

/// An ecosystem, which owns server tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecosystem {
    /// The ecosystem's id.
    pub id: EcosystemId,
    /// The account that the ecosystem belongs to.
    pub account: AccountId,
    /// The fields that all owners have.
    pub state: State,
}

/// A user. It belongs to the account of its ecosystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: UserId,
    /// The environment, if a short code created the user.
    pub environment: Option<EnvironmentId>,
    /// The e-mail address. The [`Address`] record of this address contains the user's id.
    pub email: Option<Email>,
    /// Whether the user has a password. The password's hash is stored in a separate item.
    pub has_password: bool,
    /// Whether the user may manage the e-mail tokens of its ecosystem.
    pub admin: bool,
    /// The fields that all owners have.
    pub state: State,
}

impl User {
    /// Returns a new user. The user is active, has no address and no password, and is not an admin
    /// user.
    pub fn new(id: UserId, rng: &mut dyn CryptoRng) -> Self {
        Self {
            id,
            environment: None,
            email: None,
            has_password: false,
            admin: false,
            state: State::new(rng),
        }
    }
}

/// The record of an owner of tokens: the item `owner` in the owner's partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OwnerItem", into = "OwnerItem")]
pub enum Owner {
    /// An account.
    Account(Account),
    /// An ecosystem.
    Ecosystem(Ecosystem),
    /// A user.
    User(User),
}

impl Owner {
    /// Returns the fields that all owners have.
    pub const fn state(&self) -> &State {
        match self {
            Self::Account(account) => &account.state,
            Self::Ecosystem(ecosystem) => &ecosystem.state,
            Self::User(user) => &user.state,
        }
    }

    /// Returns the owner's partition key.
    pub fn key(&self) -> OwnerKey {
        match self {
            Self::Account(account) => (&account.id).into(),
            Self::Ecosystem(ecosystem) => (&ecosystem.id).into(),
            Self::User(user) => (&user.id).into(),
        }
    }

    /// Returns the user, or `None` if the owner is not a user.
    pub fn into_user(self) -> Option<User> {
        match self {
            Self::User(user) => Some(user),
            Self::Account(_) | Self::Ecosystem(_) => None,
        }
    }

    /// Returns the owner's id.
    pub fn id(&self) -> OwnerId {
        match self {
            Self::Account(account) => OwnerId::Account(account.id.clone()),
            Self::Ecosystem(ecosystem) => OwnerId::Ecosystem(ecosystem.id.clone()),
            Self::User(user) => OwnerId::User(user.id.clone()),
        }
    }
}

impl From<&Account> for Owner {
    fn from(account: &Account) -> Self {
        Self::Account(account.clone())
    }
}

impl From<&Ecosystem> for Owner {
    fn from(ecosystem: &Ecosystem) -> Self {
        Self::Ecosystem(ecosystem.clone())
    }
}

impl From<&User> for Owner {
    fn from(user: &User) -> Self {
        Self::User(user.clone())
    }
}

/// An owner's item. A new attribute must be optional, because old items do not have it.
/// `has_password`, `active` and `admin` are written for every kind of owner, because earlier
/// releases cannot read an item without these attributes.
#[derive(Serialize, Deserialize)]
struct OwnerItem {
    kind: OwnerKind,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Email>,
    #[serde(default)]
    has_password: bool,
    active: bool,
    admin: bool,
    epoch: Epoch,
    #[serde(rename = "born")]
    incarnation: Epoch,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OwnerKind {
    Account,
    Ecosystem,
    User,
}

impl TryFrom<OwnerItem> for Owner {
    type Error = &'static str;

    fn try_from(item: OwnerItem) -> Result<Self, Self::Error> {
        let state = State {
            active: item.active,
            epoch: item.epoch,
            incarnation: item.incarnation,
            version: item.version,
        };
        Ok(match item.kind {
            OwnerKind::Account => Self::Account(Account {
                id: item.id.try_into()?,
                state,
            }),
            OwnerKind::Ecosystem => Self::Ecosystem(Ecosystem {
                id: item.id.try_into()?,
                account: item.account.ok_or("`account` is missing")?,
                state,
            }),
            OwnerKind::User => Self::User(User {
                id: item.id.try_into()?,
                environment: item.environment,
                email: item.email,
                has_password: item.has_password,
                admin: item.admin,
                state,
            }),
        })
    }
}

impl From<Owner> for OwnerItem {
    fn from(owner: Owner) -> Self {
        let state = *owner.state();
        let item = |kind, id| Self {
            kind,
            id,
            account: None,
            environment: None,
            email: None,
            has_password: false,
            active: state.active,
            admin: false,
            epoch: state.epoch,
            incarnation: state.incarnation,
            version: state.version,
        };
        match owner {
            Owner::Account(account) => item(OwnerKind::Account, account.id.to_string()),
            Owner::Ecosystem(ecosystem) => Self {
                account: Some(ecosystem.account),
                ..item(OwnerKind::Ecosystem, ecosystem.id.to_string())
            },
            Owner::User(user) => Self {
                environment: user.environment,
                email: user.email,
                has_password: user.has_password,
                admin: user.admin,
                ..item(OwnerKind::User, user.id.as_str().to_owned())
            },
        }
    }
}

/// The record of an e-mail address: the item `address` in the address's partition. It identifies
/// the user that has the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The user that has the address.
    pub user_id: UserId,
    /// The incarnation of the user ([`State::incarnation`]).
    #[serde(rename = "born")]
    pub incarnation: Epoch,
    /// The user's epoch when this record was written. A user gets a new epoch each time it gets an
    /// address, so each version of this record has a different epoch.
    pub epoch: Epoch,
}

impl Address {
    /// Returns whether `user` is the user that this record identifies, with the same incarnation,
    /// and `user` has this address.
    pub fn is_of(&self, user: &User, email: &Email) -> bool {
        user.id == self.user_id
            && user.state.incarnation == self.incarnation
            && user.email.as_ref() == Some(email)
    }
}

/// The record of an environment: the item `environment` in the environment's partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The environment's id.
    pub id: EnvironmentId,
    /// The ecosystem that the environment belongs to.
    pub ecosystem: EcosystemId,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{SeedableRng, rngs::StdRng};

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

    #[test]
    fn an_address_is_not_of_another_user_another_incarnation_or_a_user_without_an_address() {
        let mut rng = StdRng::seed_from_u64(0);
        let email = Email::parse("bob@example.com").unwrap();
        let mut with_email = |id: &str| User {
            email: Some(email.clone()),
            ..User::new(UserId::parse(id).unwrap(), &mut rng)
        };
        let bob = with_email("C58521fd8a5d9b5cc21987501;bob");
        let again = with_email("C58521fd8a5d9b5cc21987501;bob");
        let address = Address {
            user_id: bob.id.clone(),
            incarnation: bob.state.incarnation,
            epoch: bob.state.epoch,
        };
        assert!(address.is_of(&bob, &email));
        let eve = User {
            id: UserId::parse("C58521fd8a5d9b5cc21987501;eve").unwrap(),
            ..bob.clone()
        };
        let without = User { email: None, ..bob };
        for user in [again, eve, without] {
            assert!(!address.is_of(&user, &email), "{user:?}");
        }
    }

    #[test]
    fn an_owner_is_the_same_after_it_is_stored_and_read() {
        let id = UserId::parse("C58521fd8a5d9b5cc21987501;bob").unwrap();
        let account = AccountId::parse("A58521fd8a5d9b5cc21987501").unwrap();
        let state = State {
            active: false,
            epoch: Epoch([7; 16]),
            incarnation: Epoch([8; 16]),
            version: 3,
        };
        for owner in [
            Owner::Ecosystem(Ecosystem {
                id: id.ecosystem().clone(),
                account: account.clone(),
                state,
            }),
            Owner::Account(Account { id: account, state }),
            Owner::User(User {
                id,
                environment: Some(EnvironmentId::parse("E58521fd8a5d9b5cc21987501").unwrap()),
                email: Some(Email::parse("Bob@example.com").unwrap()),
                has_password: true,
                admin: true,
                state,
            }),
        ] {
            let item: serde_dynamo::Item = serde_dynamo::to_item(&owner).unwrap();
            assert_eq!(serde_dynamo::from_item::<_, Owner>(item).unwrap(), owner);
        }
    }
}
