//! Creates, changes and deletes accounts, ecosystems, environments and users.

use rand::CryptoRng;

use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{
            Account, Ecosystem, EcosystemSettings, Environment, Epoch, Owner, SettingsChange,
            State, User,
        },
        password::Password,
        token::{Holder, Permission},
    },
    service::{
        access::{MayWrite, Permit, UserSlot, no_ecosystem, no_environment},
        addresses,
        app::App,
        tokens::{self, change},
        verify::Lookup,
    },
    store::{
        identity::{AddressChange, AddressSlot, Inserted, PasswordChange, UserWrite},
        item::WriteResult,
    },
};

/// The error if another user id of the same ecosystem has the same partition key (a collision of
/// 96-bit hashes). Nothing was overwritten.
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

/// Creates an ecosystem in an account.
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
            settings: EcosystemSettings::default(),
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
            cause: "a new random id exists already".to_owned(),
        }),
    }
}

/// Changes the settings of an ecosystem. Returns the changed ecosystem. A request that has read the
/// ecosystem before the change may still use the old settings.
///
/// # Errors
/// [`Error::NotFound`] if the ecosystem was deleted since it was read; [`Error::Unavailable`] if
/// the database is unavailable.
pub async fn update_ecosystem(
    app: &App,
    _right: MayWrite,
    ecosystem: &Ecosystem,
    change: SettingsChange,
) -> Result<Ecosystem> {
    let mut current = ecosystem.clone();
    loop {
        let mut next = current.clone();
        next.settings = change.clone().of(next.settings, &mut *app.rng());
        next.state.version += 1;
        let replacement = app.identity.ecosystem_replacement(&current, &next)?;
        current = match tokens::change(app, replacement).await? {
            WriteResult::Written => return Ok(next),
            WriteResult::Conflict(Some(there)) => there,
            WriteResult::Conflict(None) => return Err(no_ecosystem(&ecosystem.id)),
        };
    }
}

/// Deletes an ecosystem. The server tokens of the ecosystem become invalid at once. The tokens of
/// its users become invalid within 30 seconds, because an execution environment may have cached the
/// ecosystem.
///
/// # Errors
/// The database is unavailable.
pub async fn delete_ecosystem(app: &App, _right: MayWrite, ecosystem: &Ecosystem) -> Result<()> {
    change(app, app.identity.ecosystem_deletion(ecosystem, app.now())?).await
}

/// Creates an environment in an ecosystem.
///
/// # Errors
/// The database is unavailable.
pub async fn create_environment(
    app: &App,
    _right: MayWrite,
    ecosystem: &Ecosystem,
) -> Result<Environment> {
    let environment = Environment {
        id: EnvironmentId::generate(&mut *app.rng()),
        ecosystem: ecosystem.id.clone(),
    };
    app.identity.insert_environment(&environment).await?;
    Ok(environment)
}

/// Deletes an environment that was looked up, if it belongs to the caller.
///
/// # Errors
/// [`Error::NotFound`] if the environment does not exist, or if the caller may not use it;
/// [`Error::Unavailable`] if the database is unavailable.
pub async fn delete_environment(
    app: &App,
    permit: &Permit<'_, MayWrite>,
    id: &EnvironmentId,
) -> Result<()> {
    let environment = environment_of_caller(app, permit, id).await?;
    let account = &permit.caller().account;
    let deletion = app
        .identity
        .environment_deletion(environment, account, app.now())?;
    change(app, deletion).await
}

/// Returns an environment that was looked up, if it belongs to the caller. An account has the
/// environments of all its ecosystems. A server has the environments of its ecosystem. For an
/// account, this function reads the environment's ecosystem. For a server, this is not necessary:
/// the ecosystem owns the server's token, which was verified.
///
/// # Errors
/// [`Error::NotFound`] if the environment does not exist, or if it does not belong to the caller;
/// [`Error::Unavailable`] if the database is unavailable.
pub(super) async fn environment_of_caller<'a>(
    app: &App,
    permit: &'a Permit<'_, MayWrite>,
    id: &EnvironmentId,
) -> Result<&'a Environment> {
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
    Ok(environment)
}

/// The changes to a user. A field that is `None` keeps its value.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// Whether the user must not exist yet.
    pub must_be_new: bool,
    /// Whether the user may manage the e-mail tokens of the user's ecosystem.
    pub admin: Option<bool>,
    /// Whether the user can have valid tokens. `false` revokes all tokens of the user permanently.
    pub active: Option<bool>,
    /// The e-mail address. `Some(None)` removes the address. A different address revokes all tokens
    /// of the user.
    pub email: Option<Option<Email>>,
    /// The password. `Some(None)` removes the password. Any change of the password revokes all
    /// tokens of the user.
    pub password: Option<Option<Password>>,
}

impl UserChange {
    /// Returns whether the change makes a user an admin user, or changes how an admin user logs in.
    fn concerns_admin(&self, old: Option<&User>) -> bool {
        let is_log_in = self.email.is_some() || self.password.is_some();
        self.admin == Some(true) || (is_log_in && old.is_some_and(|old| old.admin))
    }

    /// Returns the user with these changes. The version stays the same.
    fn of(&self, user: User, rng: &mut dyn CryptoRng) -> User {
        let moves = self
            .email
            .as_ref()
            // Different spellings of the same address are equal.
            .is_some_and(|email| *email != user.email);
        let ends_tokens = self.active == Some(false) || self.password.is_some() || moves;
        let (epoch, kept) = if ends_tokens {
            (Epoch::generate(rng), None)
        } else {
            (user.state.epoch, user.state.kept)
        };
        let state = State {
            active: self.active.unwrap_or(user.state.active),
            epoch,
            kept,
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

/// Returns whether the user's environment exists, or `true` if the user has no environment. Only a
/// user that a short code created has an environment. For any other user, this function reads
/// nothing.
///
/// # Errors
/// The database is unavailable.
pub(crate) async fn environment_exists(app: &App, user: &User) -> Result<bool> {
    let Some(environment) = &user.environment else {
        return Ok(true);
    };
    let lookup = Lookup::new(app).environment(Some(environment));
    Ok(lookup.read().await?.environment(environment).is_some())
}

/// Checks that a new token or code of this user would be valid.
///
/// # Errors
/// [`Error::Conflict`] if the user is inactive or the user's environment was deleted;
/// [`Error::Unavailable`] if the database is unavailable.
pub async fn must_be_active(app: &App, user: &User) -> Result<()> {
    if !user.state.active {
        return Err(Error::Conflict("user is inactive"));
    }
    if !environment_exists(app, user).await? {
        return Err(Error::Conflict("user is of a deleted environment"));
    }
    Ok(())
}

/// The result of [`put_user`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The user was created.
    Created(User),
    /// The user existed and was changed.
    Changed(User),
}

const USER_EXISTS: Error = Error::PreconditionFailed("user exists");

/// Creates a user with the id in `slot`, or changes this user if it exists already. If another
/// request changes the user at the same time, this function applies the change again, to the new
/// record. So if two requests change different fields, both changes are stored.
///
/// # Errors
/// [`Error::Invalid`] for a new user whose name starts with `short|`;
/// [`Error::InsufficientScope`] if the caller may not manage e-mail tokens, but the change gives
/// somebody the rights of an admin user; [`Error::PreconditionFailed`] if the user exists and must
/// not; [`Error::Conflict`] if another id has the same key, or if another user has the address;
/// [`Error::Unavailable`] if the database is unavailable.
pub async fn put_user(
    app: &App,
    _right: MayWrite,
    slot: UserSlot<'_>,
    change: UserChange,
) -> Result<Put> {
    let (id, account) = (slot.id, slot.account);
    let mut current = slot.current.cloned();
    // An admin user can manage e-mail tokens. So can whoever logs in as an admin user.
    let may_change = |current: Option<&User>| {
        if slot.may_manage_email_tokens || !change.concerns_admin(current) {
            return Ok(());
        }
        let scope = Permission::EmailTokensWrite.scope();
        Err(Error::InsufficientScope(scope.into()))
    };
    may_change(current.as_ref())?;
    if change.must_be_new && current.is_some() {
        return Err(USER_EXISTS);
    }
    let hash = match &change.password {
        Some(Some(password)) => Some(
            app.passwords
                .hash_new(password.clone(), &app.random)
                .await?,
        ),
        Some(None) | None => None,
    };
    let password = match (&change.password, &hash) {
        (_, Some(hash)) => PasswordChange::Set(hash),
        (Some(_), None) => PasswordChange::Remove,
        (None, None) => PasswordChange::Keep,
    };
    loop {
        may_change(current.as_ref())?;
        let next = match &current {
            Some(user) if user.id != *id => return Err(KEY_TAKEN),
            Some(_) if change.must_be_new => return Err(USER_EXISTS),
            Some(user) => {
                let mut next = change.of(user.clone(), &mut *app.rng());
                next.state.version += 1;
                next
            }
            // Only the exchange of a short code creates a user whose name starts with `short|`.
            None if id.is_short_code() => return Err(Error::invalid_path("id", Error::USER_ID)),
            None => {
                let new = User::new(id.clone(), &mut *app.rng());
                change.of(new, &mut *app.rng())
            }
        };
        let old = current.as_ref();
        let moves = old.and_then(|user| user.email.as_ref()) != next.email.as_ref();
        current = if moves || change.password.is_some() {
            let new = match &next.email {
                Some(email) if moves => reusable_addresses(app, account, email, id).await?,
                _ => Vec::new(),
            };
            let left = match old.and_then(|user| user.email.as_ref()) {
                Some(email) if moves => addresses::keys(app, Some(account), email).await?,
                _ => Vec::new(),
            };
            let address = AddressChange {
                new: &new,
                old: &left,
            };
            let put = app.identity.user_put(old, &next, password, address)?;
            match (tokens::change(app, put).await?, old) {
                (UserWrite::Written, None) => return Ok(Put::Created(next)),
                (UserWrite::Written, Some(_)) => return Ok(Put::Changed(next)),
                (UserWrite::AddressChanged, _) => current,
                (UserWrite::Conflict(there), _) => there,
            }
        } else if let Some(user) = old {
            let replacement = app.identity.user_replacement(user, &next)?;
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

/// Checks that no user except `id` has the address `email`. Returns each key under which a record
/// of this address can be stored, together with the stored record, if there is one. A stored record
/// may be out of date, because the user or the ecosystem in the record was deleted, or because the
/// user now has another address. If another request has just written the record, the record may
/// also contain `id`.
///
/// # Errors
/// [`Error::Conflict`] if another user has the address; [`Error::Unavailable`] if the database is
/// unavailable.
async fn reusable_addresses(
    app: &App,
    account: &AccountId,
    email: &Email,
    id: &UserId,
) -> Result<Vec<AddressSlot>> {
    let slots = addresses::read(app, Some(account), email).await?;
    let stored = || slots.iter().filter_map(|slot| slot.address.as_ref());
    let lookup = stored().fold(Lookup::new(app), |lookup, address| {
        lookup.user(Some(&address.user_id))
    });
    let found = lookup.read().await?;
    let is_in_use = stored().any(|address| {
        let holder = &address.user_id;
        let user = found.user_record(holder);
        holder != id
            && user.is_some_and(|user| address.is_of(user, email))
            && found.ecosystem_record(holder.ecosystem()).is_some()
    });
    if is_in_use {
        return Err(Error::Conflict("email address is in use"));
    }
    Ok(slots)
}

/// Deletes a user, with its address and password. `account` owns the user's ecosystem. All tokens
/// of the user are invalid from then on. [`erase`](crate::service::erase) deletes them later.
///
/// # Errors
/// The database is unavailable.
pub async fn delete_user(
    app: &App,
    _right: MayWrite,
    user: &User,
    account: &AccountId,
) -> Result<()> {
    let mut user = user.clone();
    loop {
        let addresses = match &user.email {
            Some(email) => addresses::keys(app, Some(account), email).await?,
            None => Vec::new(),
        };
        let deletion = app.identity.user_deletion(&user, &addresses, app.now())?;
        match change(app, deletion).await? {
            // Another request has changed the user. It may have added an address or a password.
            Some(there) if there.state.incarnation == user.state.incarnation => user = there,
            _ => return Ok(()),
        }
    }
}

/// Returns everything that is stored about a user as JSON, without hashes and encrypted values.
/// Returns `None` if the user does not exist.
///
/// # Errors
/// The database is unavailable.
pub async fn export_user(app: &App, id: &UserId) -> Result<Option<serde_json::Value>> {
    let found = Lookup::new(app).user(Some(id)).read().await?;
    let Some(user) = found.user_record(id) else {
        return Ok(None);
    };
    let ecosystem = found.ecosystem_record(id.ecosystem());
    let account = ecosystem.map(|ecosystem| &ecosystem.account);
    app.identity.export(user, account).await.map(Some)
}
