//! What tokens refer to: accounts, ecosystems, environments and users.

use rand::CryptoRng;

use crate::{
    access::no_environment,
    app::App,
    error::{Error, Result},
    id::{AccountId, EcosystemId, EnvironmentId, UserId},
    identity::{Inserted, Key},
    owner::{Environment, Epoch, Owner, OwnerId},
    token::{
        Holder, NewToken, PlainToken, Token, TokenId,
        verify::{Found, Verified},
    },
};

/// Two names of an ecosystem met in one key, by a collision of 96 bits. Nothing was overwritten.
const KEY_TAKEN: Error = Error::Conflict("this id cannot be used: another id has its key");

/// Makes a new account.
///
/// # Errors
/// The database is away.
pub async fn create_account(app: &App) -> Result<(AccountId, Owner)> {
    let id = AccountId::generate(&mut *app.rng());
    let owner = create(app, OwnerId::Account(id.clone()), None).await?;
    Ok((id, owner))
}

/// Makes a new ecosystem of an account.
///
/// # Errors
/// The database is away.
pub async fn create_ecosystem(app: &App, account: &AccountId) -> Result<(EcosystemId, Owner)> {
    let id = EcosystemId::generate(&mut *app.rng());
    let owner = create(app, OwnerId::Ecosystem(id.clone()), Some(account.clone())).await?;
    Ok((id, owner))
}

async fn create(app: &App, id: OwnerId, account: Option<AccountId>) -> Result<Owner> {
    let owner = Owner::new(id, account, &mut *app.rng());
    match app.identity.insert_owner(&owner).await? {
        Inserted::New => Ok(owner),
        Inserted::Existing(_) | Inserted::KeyTaken => Err(Error::Internal {
            cause: "a new random id met another".to_owned(),
        }),
    }
}

/// Deletes an owner. Its tokens are dead from then on; those of an ecosystem's users, for an
/// execution environment that remembers it, within 30 seconds.
///
/// # Errors
/// The database is away.
pub async fn delete(app: &App, owner: &Owner) -> Result<()> {
    app.identity.delete_owner(owner).await
}

/// Makes a new environment of an ecosystem.
///
/// # Errors
/// The database is away.
pub async fn create_environment(app: &App, ecosystem: &EcosystemId) -> Result<Environment> {
    let environment = Environment {
        id: EnvironmentId::generate(&mut *app.rng()),
        ecosystem: ecosystem.clone(),
    };
    app.identity.insert_environment(&environment).await?;
    Ok(environment)
}

/// Deletes an environment that `found` was asked for, if it is the caller's: an account's in any
/// of its ecosystems, a server's in its own.
///
/// # Errors
/// [`Error::NotFound`] if it, or its ecosystem, does not exist or is not the caller's; the database
/// is away.
pub async fn delete_environment(
    app: &App,
    found: &Found,
    caller: &Verified,
    id: &EnvironmentId,
) -> Result<()> {
    let environment = found.environment_for(caller, id)?;
    if caller.holder() == Holder::Account {
        let ecosystem = &environment.ecosystem;
        let found = app.lookup().ecosystem(Some(ecosystem)).read().await?;
        let ecosystem = found.ecosystem_record(ecosystem);
        if ecosystem.and_then(|owner| owner.account.as_ref()) != Some(&caller.account) {
            return Err(no_environment(id));
        }
    }
    app.identity.delete(&Key::environment(id)).await
}

/// What is to change of a user: nothing where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// Whether it may manage the e-mail tokens of its ecosystem.
    pub admin: Option<bool>,
    /// Whether its tokens count. `false` ends all that it has, for good.
    pub active: Option<bool>,
}

impl UserChange {
    /// The user with this change, its version apart.
    fn of(self, user: Owner, rng: &mut dyn CryptoRng) -> Owner {
        let ends_tokens = self.active == Some(false);
        Owner {
            admin: self.admin.unwrap_or(user.admin),
            active: self.active.unwrap_or(user.active),
            epoch: if ends_tokens {
                Epoch::generate(rng)
            } else {
                user.epoch
            },
            ..user
        }
    }
}

/// What became of a user that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created(Owner),
    /// It was there.
    Changed(Owner),
}

/// Makes a user, or changes the one that was read as `current`. Of changes at the same time, all
/// hold afterwards.
///
/// # Errors
/// [`Error::Invalid`] for a new user with the name of a short code's; [`Error::Conflict`] if another
/// id has its key; the database is away.
pub async fn put_user(
    app: &App,
    id: &UserId,
    mut current: Option<Owner>,
    change: UserChange,
) -> Result<Put> {
    loop {
        current = match current {
            Some(user) if user.id != OwnerId::User(id.clone()) => return Err(KEY_TAKEN),
            Some(user) => {
                let next = Owner {
                    version: user.version + 1,
                    ..change.of(user.clone(), &mut *app.rng())
                };
                match app.identity.replace_owner(&user, &next).await? {
                    Ok(()) => return Ok(Put::Changed(next)),
                    Err(there) => there,
                }
            }
            // Only a code makes such a one.
            None if id.is_short_code() => return Err(Error::path("id", Error::USER_ID)),
            None => {
                let new = Owner::new(OwnerId::User(id.clone()), None, &mut *app.rng());
                let new = change.of(new, &mut *app.rng());
                match app.identity.insert_owner(&new).await? {
                    Inserted::New => return Ok(Put::Created(new)),
                    Inserted::Existing(there) => Some(there),
                    Inserted::KeyTaken => return Err(KEY_TAKEN),
                }
            }
        };
    }
}

/// Makes a token for an owner as it was just read or made.
///
/// # Errors
/// The database is away.
pub async fn mint(app: &App, owner: &Owner, wanted: NewToken) -> Result<(Token, PlainToken)> {
    let (token, plain) = Token::mint(&owner.id, owner.epoch, wanted, app.now(), &mut *app.rng());
    app.identity.insert_token(&token).await?;
    Ok((token, plain))
}

/// Ends one token of an owner, whether or not there is such a one.
///
/// # Errors
/// The database is away.
pub async fn revoke(app: &App, owner: &Owner, id: TokenId) -> Result<()> {
    app.identity.delete(&Key::token(owner.id.key(), id)).await
}
