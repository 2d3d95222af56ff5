//! Owners of tokens: accounts, ecosystems (which own server tokens) and users.

mod item;
mod key;
mod settings;

use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use self::item::OwnerItem;
pub use self::{
    key::{Epoch, OwnerKey},
    settings::{EcosystemSettings, MaxTokens, SettingsChange, TokenLimit, WhenFull},
};
use crate::domain::{
    email::Email,
    id::{AccountId, EcosystemId, EnvironmentId, UserId},
    token::TokenId,
};

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
    /// Returns the owner's partition key.
    pub fn key(&self) -> OwnerKey {
        match self {
            Self::Account(id) => id.into(),
            Self::Ecosystem(id) => id.into(),
            Self::User(id) => id.into(),
        }
    }

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
    /// Whether the owner can have valid tokens.
    pub active: bool,
    /// The epoch. Only tokens that belong to this epoch are valid ([`State::has_token`]).
    pub epoch: Epoch,
    /// The token that was moved into this epoch, if there is one.
    pub kept: Option<KeptToken>,
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
            kept: None,
            incarnation: Epoch::generate(rng),
            version: 1,
        }
    }

    /// Returns whether this token was moved into the owner's epoch. A record of the token that was
    /// read before may have an earlier epoch, even that of an earlier move.
    pub fn has_kept(&self, id: TokenId) -> bool {
        self.kept.is_some_and(|kept| kept.id == id)
    }

    /// Returns whether a token may belong to the owner's epoch, although it was read before the
    /// owner. If it may, its record must not be deleted. For `epoch` and `previous`, see
    /// [`State::has_token`].
    pub fn may_have_token(&self, id: TokenId, epoch: Epoch, previous: Option<Epoch>) -> bool {
        self.has_token(id, epoch, previous) || self.has_kept(id)
    }

    /// Returns whether a token belongs to the owner's epoch. `epoch` is the epoch of the token, and
    /// `previous` is the epoch that the token had before it was moved into `epoch`, if it was
    /// moved.
    ///
    /// One transaction moves the owner and the token into a new epoch. A read of both without a
    /// transaction may return one of them from before the move and the other from after it. The
    /// token then belongs to the owner's epoch, too.
    pub fn has_token(&self, id: TokenId, epoch: Epoch, previous: Option<Epoch>) -> bool {
        let is_moving = self.kept == Some(KeptToken { id, from: epoch });
        epoch == self.epoch || previous == Some(self.epoch) || is_moving
    }
}

/// The token that stayed valid when its user got a new epoch, because the user changed the password
/// with this token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptToken {
    /// The token's id.
    pub id: TokenId,
    /// The epoch that the owner and the token had before.
    pub from: Epoch,
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
    /// The settings that the account can change.
    pub settings: EcosystemSettings,
    /// The fields that all owners have.
    pub state: State,
}

/// A user. A user belongs to the account that owns the user's ecosystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: UserId,
    /// The environment whose short code created the user, or `None` if no short code created the
    /// user.
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

    /// Returns the ecosystem, or `None` if the owner is not an ecosystem.
    pub fn into_ecosystem(self) -> Option<Ecosystem> {
        match self {
            Self::Ecosystem(ecosystem) => Some(ecosystem),
            Self::Account(_) | Self::User(_) => None,
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

/// The record of an e-mail address: the item `account-address` in the address's partition. In
/// schema version 1, the item is `address`. The record identifies the user that has the address.
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
    /// Returns whether this record belongs to `user`: the record contains the id and the
    /// incarnation of `user`, and `user` has the address `email`.
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
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::domain::token::{Scope, Ttl};

    #[test]
    fn an_address_record_belongs_only_to_the_user_with_its_id_incarnation_and_address() {
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
        let mut rng = StdRng::seed_from_u64(0);
        let account = AccountId::parse("A58521fd8a5d9b5cc21987501").unwrap();
        let state = State {
            active: false,
            epoch: Epoch::generate(&mut rng),
            kept: Some(KeptToken {
                id: TokenId::parse("01KDVDNAFMFDHADR9JK9PFNKW4").unwrap(),
                from: Epoch::generate(&mut rng),
            }),
            incarnation: Epoch::generate(&mut rng),
            version: 3,
        };
        for owner in [
            Owner::Ecosystem(Ecosystem {
                id: id.ecosystem().clone(),
                account: account.clone(),
                settings: EcosystemSettings {
                    max_tokens_per_user: Some(MaxTokens {
                        count: 5,
                        id: Epoch::generate(&mut rng),
                    }),
                    when_full: WhenFull::RevokeOldest,
                    session_ttl: Ttl::days(1),
                    session_max_ttl: Ttl::days(2),
                    session_scope: Scope::read(),
                },
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
