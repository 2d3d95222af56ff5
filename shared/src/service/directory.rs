//! What tokens refer to: accounts, ecosystems, environments and users.

use rand::CryptoRng;

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Address, Environment, Epoch, Owner, OwnerId},
        password::Password,
        token::Holder,
    },
    service::{
        access::no_environment,
        app::App,
        verify::{Found, Lookup, Verified},
    },
    store::{
        identity::{AddressChange, Inserted, Key, PasswordChange, UserWrite},
        item::WriteResult,
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
        let found = Lookup::new(app).ecosystem(Some(ecosystem)).read().await?;
        let ecosystem = found.ecosystem_record(ecosystem);
        if ecosystem.and_then(|owner| owner.account.as_ref()) != Some(&caller.account) {
            return Err(no_environment(id));
        }
    }
    app.identity.delete(&Key::environment(id)).await
}

/// What is to change of a user: nothing where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// Whether it may manage the e-mail tokens of its ecosystem.
    pub admin: Option<bool>,
    /// Whether its tokens count. `false` ends all that it has, for good.
    pub active: Option<bool>,
    /// Its e-mail address; none to clear it. Another one ends all tokens.
    pub email: Option<Option<Email>>,
    /// Its password; none to clear it. Either ends all tokens.
    pub password: Option<Option<Password>>,
}

impl UserChange {
    /// The user with this change, its version apart.
    fn of(&self, user: Owner, rng: &mut dyn CryptoRng) -> Owner {
        let moves = self
            .email
            .as_ref()
            // Another spelling of an address is the same one.
            .is_some_and(|email| *email != user.email);
        let ends_tokens = self.active == Some(false) || self.password.is_some() || moves;
        Owner {
            admin: self.admin.unwrap_or(user.admin),
            active: self.active.unwrap_or(user.active),
            email: self.email.clone().unwrap_or(user.email),
            has_password: match &self.password {
                Some(password) => password.is_some(),
                None => user.has_password,
            },
            epoch: if ends_tokens {
                Epoch::generate(rng)
            } else {
                user.epoch
            },
            ..user
        }
    }
}

/// Whether the environment that a user is of lives, if it is of one, as only a short code's user is: for such a one a read.
///
/// # Errors
/// The database is away.
pub(crate) async fn environment_lives(app: &App, user: &Owner) -> Result<bool> {
    let Some(environment) = &user.environment else {
        return Ok(true);
    };
    let lookup = Lookup::new(app).environment(Some(environment));
    Ok(lookup.read().await?.environment(environment).is_some())
}

/// Lets a user have another token or code, unless none of its tokens would count.
///
/// # Errors
/// [`Error::Conflict`] if it is inactive or its environment was deleted; the database is away.
pub async fn must_be_active(app: &App, user: &Owner) -> Result<()> {
    if !user.active {
        return Err(Error::Conflict("user is inactive"));
    }
    if !environment_lives(app, user).await? {
        return Err(Error::Conflict("user is of a deleted environment"));
    }
    Ok(())
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
/// id has its key, or another user the address; the database is away.
pub async fn put_user(
    app: &App,
    id: &UserId,
    mut current: Option<Owner>,
    change: UserChange,
) -> Result<Put> {
    let hash = match &change.password {
        Some(Some(password)) => Some(
            app.passwords
                .hash_new(password.clone(), &app.random)
                .await?,
        ),
        Some(None) | None => None,
    };
    let password = match (&change.password, &hash) {
        (_, Some(hash)) => PasswordChange::Is(hash),
        (Some(_), None) => PasswordChange::Goes,
        (None, None) => PasswordChange::Stays,
    };
    loop {
        let next = match &current {
            Some(user) if !user.id.is_user(id) => return Err(KEY_TAKEN),
            Some(user) => Owner {
                version: user.version + 1,
                ..change.of(user.clone(), &mut *app.rng())
            },
            // Only a code makes such a one.
            None if id.is_short_code() => return Err(Error::path("id", Error::USER_ID)),
            None => {
                let new = Owner::new(OwnerId::User(id.clone()), None, &mut *app.rng());
                change.of(new, &mut *app.rng())
            }
        };
        let old = current.as_ref();
        let moves = old.and_then(|user| user.email.as_ref()) != next.email.as_ref();
        current = if moves || change.password.is_some() {
            let there = match &next.email {
                Some(email) if moves => kept_under(app, email, id).await?,
                _ => None,
            };
            let address = match &next.email {
                _ if !moves => AddressChange::Stays,
                None => AddressChange::Goes,
                Some(email) => AddressChange::Is(email, there.as_ref()),
            };
            let put = app.identity.put_user(old, &next, password, address);
            match (put.await?, old) {
                (UserWrite::Written, None) => return Ok(Put::Created(next)),
                (UserWrite::Written, Some(_)) => return Ok(Put::Changed(next)),
                (UserWrite::AddressChanged, _) => current,
                (UserWrite::Conflict(there), _) => there,
            }
        } else if let Some(user) = old {
            match app.identity.replace_owner(user, &next).await? {
                WriteResult::Written => return Ok(Put::Changed(next)),
                WriteResult::Conflict(there) => there,
            }
        } else {
            match app.identity.insert_owner(&next).await? {
                Inserted::New => return Ok(Put::Created(next)),
                Inserted::Existing(there) => Some(there),
                Inserted::KeyTaken => return Err(KEY_TAKEN),
            }
        };
    }
}

/// What is kept under an address that this user may have: nothing, what names a user or an
/// ecosystem that is gone, or what names this user as another request has just made it.
///
/// # Errors
/// [`Error::Conflict`] if another user has it; the database is away.
async fn kept_under(app: &App, email: &Email, id: &UserId) -> Result<Option<Address>> {
    let Some(address) = app.identity.address(email).await? else {
        return Ok(None);
    };
    let holder = &address.user_id;
    let found = Lookup::new(app).user(Some(holder)).read().await?;
    let user = found
        .user_record(holder)
        .filter(|user| address.is_of(user, email));
    let lives = user.is_some() && found.ecosystem_record(holder.ecosystem()).is_some();
    if lives && holder != id {
        return Err(Error::Conflict("email address is in use"));
    }
    Ok(Some(address))
}

/// Deletes a user with everything that is its own. Every token of its ends with it.
///
/// # Errors
/// The database is away.
pub async fn delete_user(app: &App, user: &Owner) -> Result<()> {
    let mut user = user.clone();
    // Without an address or a password there is nothing but the record. If it gets one meanwhile,
    // what is left names a life that is over.
    while user.email.is_some() || user.has_password {
        match app.identity.delete_user(&user).await? {
            Some(there) if there.born == user.born => user = there,
            _ => return Ok(()),
        }
    }
    app.identity.delete_owner(&user).await
}
