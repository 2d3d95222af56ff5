//! What tokens refer to: accounts, ecosystems, environments and users.

use rand::CryptoRng;

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Account, Address, Ecosystem, Environment, Epoch, Owner, State, User},
        password::Password,
        token::Holder,
    },
    service::{
        access::{MayWrite, Permit, no_environment},
        app::App,
        tokens::{self, change},
        verify::Lookup,
    },
    store::{
        identity::{AddressChange, Inserted, PasswordChange, UserWrite},
        item::WriteResult,
    },
};

/// Two names of an ecosystem met in one key, by a collision of 96 bits. Nothing was overwritten.
const KEY_TAKEN: Error = Error::Conflict("this id cannot be used: another id has its key");

/// Creates an account.
///
/// # Errors
/// The database is unavailable.
pub async fn create_account(app: &App, _right: MayWrite) -> Result<Account> {
    let account = {
        let mut rng = app.rng();
        Account {
            id: AccountId::generate(&mut *rng),
            state: State::new(&mut *rng),
        }
    };
    create(app, &(&account).into()).await?;
    Ok(account)
}

/// Creates an ecosystem of an account.
///
/// # Errors
/// The database is unavailable.
pub async fn create_ecosystem(
    app: &App,
    _right: MayWrite,
    account: &AccountId,
) -> Result<Ecosystem> {
    let ecosystem = {
        let mut rng = app.rng();
        Ecosystem {
            id: EcosystemId::generate(&mut *rng),
            account: account.clone(),
            state: State::new(&mut *rng),
        }
    };
    create(app, &(&ecosystem).into()).await?;
    Ok(ecosystem)
}

async fn create(app: &App, owner: &Owner) -> Result<()> {
    match app.identity.insert_owner(owner).await? {
        Inserted::New => Ok(()),
        Inserted::Existing(_) | Inserted::KeyTaken => Err(Error::Internal {
            cause: "a new random id met another".to_owned(),
        }),
    }
}

/// Deletes an ecosystem. Its tokens are invalid from then on; those of its users as well, within 30 seconds in an
/// execution environment that remembers the ecosystem.
///
/// # Errors
/// The database is unavailable.
pub async fn delete_ecosystem(app: &App, _right: MayWrite, ecosystem: &Ecosystem) -> Result<()> {
    let (key, incarnation) = ((&ecosystem.id).into(), ecosystem.state.incarnation);
    change(app, app.identity.delete_owner(key, incarnation)?).await
}

/// Creates an environment of an ecosystem.
///
/// # Errors
/// The database is unavailable.
pub async fn create_environment(
    app: &App,
    _right: MayWrite,
    ecosystem: &EcosystemId,
) -> Result<Environment> {
    let environment = Environment {
        id: EnvironmentId::generate(&mut *app.rng()),
        ecosystem: ecosystem.clone(),
    };
    app.identity.insert_environment(&environment).await?;
    Ok(environment)
}

/// Deletes an environment that was looked up, if it is the caller's: an account's in any of its ecosystems, a server's
/// in its own.
///
/// # Errors
/// [`Error::NotFound`] if it, or its ecosystem, does not exist or is not the caller's; the database is unavailable.
pub async fn delete_environment(
    app: &App,
    permit: &Permit<'_, MayWrite>,
    id: &EnvironmentId,
) -> Result<()> {
    let environment = permit.environment(id)?;
    let caller = permit.caller();
    if caller.holder() == Holder::Account {
        let ecosystem = &environment.ecosystem;
        let found = Lookup::new(app).ecosystem(Some(ecosystem)).read().await?;
        let ecosystem = found.ecosystem_record(ecosystem);
        if ecosystem.is_none_or(|ecosystem| ecosystem.account != caller.account) {
            return Err(no_environment(id));
        }
    }
    change(app, app.identity.delete_environment(id)?).await
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
    fn of(&self, user: User, rng: &mut dyn CryptoRng) -> User {
        let moves = self
            .email
            .as_ref()
            // Another spelling of an address is the same one.
            .is_some_and(|email| *email != user.email);
        let ends_tokens = self.active == Some(false) || self.password.is_some() || moves;
        let state = State {
            active: self.active.unwrap_or(user.state.active),
            epoch: if ends_tokens {
                Epoch::generate(rng)
            } else {
                user.state.epoch
            },
            ..user.state
        };
        User {
            admin: self.admin.unwrap_or(user.admin),
            email: self.email.clone().unwrap_or(user.email),
            has_password: match &self.password {
                Some(password) => password.is_some(),
                None => user.has_password,
            },
            state,
            ..user
        }
    }
}

/// Whether the environment that a user is of lives, if it is of one, as only a short code's user is: for such a one a read.
///
/// # Errors
/// The database is away.
pub(crate) async fn environment_lives(app: &App, user: &User) -> Result<bool> {
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
pub async fn must_be_active(app: &App, user: &User) -> Result<()> {
    if !user.state.active {
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
    Created(User),
    /// It was there.
    Changed(User),
}

/// Makes a user, or changes the one that was read as `current`. Of changes at the same time, all
/// hold afterwards.
///
/// # Errors
/// [`Error::Invalid`] for a new user with the name of a short code's; [`Error::Conflict`] if another
/// id has its key, or another user the address; the database is away.
pub async fn put_user(
    app: &App,
    _right: MayWrite,
    id: &UserId,
    mut current: Option<User>,
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
            Some(user) if user.id != *id => return Err(KEY_TAKEN),
            Some(user) => {
                let mut next = change.of(user.clone(), &mut *app.rng());
                next.state.version += 1;
                next
            }
            // Only a code makes such a one.
            None if id.is_short_code() => return Err(Error::path("id", Error::USER_ID)),
            None => {
                let new = User::new(id.clone(), &mut *app.rng());
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
            let put = app.identity.put_user(old, &next, password, address)?;
            match (tokens::change(app, put).await?, old) {
                (UserWrite::Written, None) => return Ok(Put::Created(next)),
                (UserWrite::Written, Some(_)) => return Ok(Put::Changed(next)),
                (UserWrite::AddressChanged, _) => current,
                (UserWrite::Conflict(there), _) => there,
            }
        } else if let Some(user) = old {
            let replacement = app.identity.replace_user(user, &next)?;
            match tokens::change(app, replacement).await? {
                WriteResult::Written => return Ok(Put::Changed(next)),
                WriteResult::Conflict(there) => there,
            }
        } else {
            match app.identity.insert_owner(&(&next).into()).await? {
                Inserted::New => return Ok(Put::Created(next)),
                Inserted::Existing(Owner::User(there)) => Some(there),
                Inserted::Existing(_) | Inserted::KeyTaken => return Err(KEY_TAKEN),
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
pub async fn delete_user(app: &App, _right: MayWrite, user: &User) -> Result<()> {
    let mut user = user.clone();
    // Without an address or a password there is nothing but the record. If it gets one meanwhile,
    // what is left names a life that is over.
    while user.email.is_some() || user.has_password {
        match change(app, app.identity.delete_user(&user)?).await? {
            Some(there) if there.state.incarnation == user.state.incarnation => user = there,
            _ => return Ok(()),
        }
    }
    let (key, incarnation) = ((&user.id).into(), user.state.incarnation);
    change(app, app.identity.delete_owner(key, incarnation)?).await
}
