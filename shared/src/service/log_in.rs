//! Log-in with a password.

use futures_util::future::join;
use zeroize::Zeroizing;

use super::email_token::{Creation, EmailUser, create_if_none, lost, open};
use crate::{
    domain::{
        email::Email,
        email_token::Properties,
        error::{Error, Result},
        id::{AccountId, EcosystemId},
        owner::{Address, OwnerKey, User},
        password::Password,
    },
    service::{
        addresses,
        app::App,
        directory::environment_exists,
        password::Verdict,
        session::{self, CreatedSession, NewSession},
        verify::{Lookup, Verified},
    },
    store::identity::{AddressSlot, Key},
};

/// How many times a log-in tries to create a token if other requests change the user at the same
/// time.
const TRIES: usize = 3;

/// The users that a log-in searches for an address.
#[derive(Clone, Debug, Default)]
pub struct Among {
    /// The account that the users belong to, if it is known already.
    pub account: Option<AccountId>,
    /// The ecosystems that the request contains. The user must belong to each of them. If `account`
    /// is `None` and there is no ecosystem, the users belong to the deployment's first account.
    pub ecosystems: Vec<EcosystemId>,
}

impl Among {
    /// Returns the account of the users, or `None` if there is no such account.
    async fn account(&self, app: &App) -> Result<Option<AccountId>> {
        match (&self.account, self.ecosystems.first()) {
            (Some(account), _) => Ok(Some(account.clone())),
            (None, Some(id)) => {
                let found = Lookup::new(app).ecosystem(Some(id)).read().await?;
                let ecosystem = found.ecosystem_record(id);
                Ok(ecosystem.map(|ecosystem| ecosystem.account.clone()))
            }
            (None, None) => Ok(app.deployment().await?.first_account.clone()),
        }
    }
}

/// The stored records of an address, which may be out of date.
pub struct Addresses(Vec<AddressSlot>);

/// Reads the records of the address `email`. Ignores a record if its user is not in each ecosystem
/// of `among`.
///
/// In schema version 1, users of any account are found if `among` contains no ecosystem, because
/// the previous release finds them too.
///
/// # Errors
/// The database is unavailable.
pub async fn addresses(app: &App, email: &Email, among: &Among) -> Result<Addresses> {
    let account = among.account(app).await?;
    let mut slots = addresses::read(app, account.as_ref(), email).await?;
    for slot in &mut slots {
        let is_among = |address: &Address| {
            let mut ecosystems = among.ecosystems.iter();
            ecosystems.all(|id| id == address.user_id.ecosystem())
        };
        slot.address = slot.address.take().filter(is_among);
    }
    Ok(Addresses(slots))
}

/// A user who gave the correct password.
pub struct LoggedIn {
    email: Email,
    addresses: Addresses,
    user: EmailUser,
    hash: String,
    /// The password, if its stored hash is weak and must be replaced.
    weak: Option<Password>,
}

/// Checks the password of the user with this address.
///
/// Returns `None` if the address is unknown, if the user has no password or is inactive, or if the
/// password is wrong. In all these cases, this function makes the same database operations and
/// computes one hash. The hash takes the same time in all cases, unless the stored hash is weak.
///
/// Also returns `None` if the password is correct but the user's environment was deleted.
///
/// # Errors
/// The database is unavailable.
pub async fn try_log_in(
    app: &App,
    email: &Email,
    addresses: Addresses,
    password: Password,
) -> Result<Option<LoggedIn>> {
    let (user, hash) = read(app, email, &addresses).await?.unzip();
    let verdict = app
        .passwords
        .verify(password.clone(), hash.as_deref())
        .await?;
    let weak = match verdict {
        Verdict::Wrong => return Ok(None),
        Verdict::Correct => None,
        Verdict::CorrectButWeak => Some(password),
    };
    let Some((user, hash)) = user.zip(hash) else {
        return Ok(None);
    };
    // Check the environment last, because this check can need one more read. A wrong password must
    // need as many reads as an unknown address.
    let is_allowed = environment_exists(app, &user.user).await?;
    Ok(is_allowed.then(|| LoggedIn {
        email: email.clone(),
        addresses,
        user,
        hash,
        weak,
    }))
}

/// Reads the user who may log in with this address, and the hash of the user's password. Returns
/// `None` unless the address, the user, the password and the ecosystem exist and belong together,
/// and the user is active.
async fn read(
    app: &App,
    email: &Email,
    Addresses(slots): &Addresses,
) -> Result<Option<(EmailUser, String)>> {
    // For an unknown address, we read the same items from a partition that has no owner.
    let mut users: Vec<OwnerKey> = Vec::new();
    for slot in slots {
        let user = slot.user_key();
        // A transaction cannot read an item twice.
        let is_new = !users.contains(&user);
        users.push(if is_new { user } else { slot.key.owner });
    }
    // Read the ecosystems outside the transaction. All users of an ecosystem share its item, and a
    // read in a transaction costs twice as much. Only the items of one user must be from the same
    // moment.
    let ecosystems = users
        .iter()
        .map(|user| Key::owner(user.ecosystem()))
        .collect();
    let (items, ecosystems) = join(
        app.identity.log_in_items(&users),
        app.identity.read(&ecosystems),
    )
    .await;
    let (items, ecosystems) = (items?, ecosystems?);
    let mut stored = slots.iter().filter_map(|slot| slot.address.as_ref());
    Ok(stored.find_map(|address| {
        let is_theirs = |user: &User| address.is_of(user, email) && user.state.active;
        let mut items = items.iter();
        let items = items.find(|items| items.user.as_ref().is_some_and(is_theirs))?;
        let user = items.user.clone()?;
        let password = items.password.as_ref()?;
        let ecosystem = ecosystems.ecosystem(user.id.ecosystem())?;
        (password.incarnation == user.state.incarnation).then(|| {
            let user = EmailUser {
                user,
                account: ecosystem.account.clone(),
                settings: ecosystem.settings.clone(),
                stored: items.stored.clone(),
            };
            (user, password.password_hash.clone())
        })
    }))
}

impl LoggedIn {
    /// Returns the value of the user's e-mail token. Creates an e-mail token if the user has no
    /// valid one, or if its value can never be opened. Returns `None` if the user is no longer
    /// allowed to log in.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the value key or the database is unavailable, or if other requests
    /// keep changing the user.
    pub async fn value(mut self, app: &App) -> Result<Option<Zeroizing<String>>> {
        let weak = self.weak_hash();
        let value = async {
            let mut unreadable = None;
            for _ in 0..TRIES {
                let user = &mut self.user;
                let properties = Properties::default();
                match create_if_none(app, user, properties, unreadable.as_ref()).await? {
                    Creation::New(_, plain) => {
                        return Ok(Some(Zeroizing::new(plain.reveal().to_owned())));
                    }
                    Creation::Existing(stored) => {
                        if let Some(value) = open(app, &user.user.id, &stored).await? {
                            return Ok(Some(value));
                        }
                        lost(&stored);
                        unreadable = Some(stored.sealed.clone());
                        user.stored = Some(stored);
                    }
                    Creation::UserChanged if self.read_again(app).await? => {}
                    Creation::UserChanged => return Ok(None),
                }
            }
            Err(keeps_changing())
        };
        WeakHash::replace(app, weak, value).await
    }

    /// Creates a session of the user. Returns `None` if the user is no longer allowed to log in.
    ///
    /// `back_end` is the server token of the back end that sends the request. If a back end chooses
    /// the scope of an admin user's session, its token must be able to grant that scope.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the settings do not allow such a long time;
    /// [`Error::InsufficientScope`] if the back end may not choose a scope; [`Error::Conflict`] if
    /// the user has the most tokens allowed; [`Error::Unavailable`] if the database is unavailable,
    /// or if other requests keep changing the user.
    pub async fn session(
        mut self,
        app: &App,
        back_end: Option<&Verified>,
        wanted: &NewSession,
    ) -> Result<Option<CreatedSession>> {
        let weak = self.weak_hash();
        let session = async {
            for _ in 0..TRIES {
                let EmailUser { user, settings, .. } = &self.user;
                let created = session::create(app, user, settings, back_end, wanted).await?;
                if created.is_some() || !self.read_again(app).await? {
                    return Ok(created);
                }
            }
            Err(keeps_changing())
        };
        WeakHash::replace(app, weak, session).await
    }

    /// Reads the user again, after another request changed the user. For example, it revoked all
    /// tokens of the user. Returns whether the user may still log in with the same password.
    async fn read_again(&mut self, app: &App) -> Result<bool> {
        let Some((user, hash)) = read(app, &self.email, &self.addresses).await? else {
            return Ok(false);
        };
        self.user = user;
        Ok(hash == self.hash && environment_exists(app, &self.user.user).await?)
    }

    fn weak_hash(&mut self) -> Option<WeakHash> {
        let password = self.weak.take()?;
        Some(WeakHash {
            user: (&self.user.user.id).into(),
            hash: self.hash.clone(),
            password,
        })
    }
}

fn keeps_changing() -> Error {
    Error::Unavailable {
        cause: "other requests keep changing the user".to_owned(),
    }
}

/// The weak hash of a password, and the password.
struct WeakHash {
    user: OwnerKey,
    hash: String,
    password: Password,
}

impl WeakHash {
    /// Replaces a weak hash while `work` runs. Returns the result of `work`.
    async fn replace<T>(app: &App, weak: Option<Self>, work: impl Future<Output = T>) -> T {
        let replace = async {
            if let Some(weak) = weak {
                let new = app.passwords.hash_new(weak.password, &app.random).await?;
                app.identity
                    .replace_hash(weak.user, &weak.hash, &new)
                    .await?;
            }
            Ok::<_, Error>(())
        };
        let (done, replaced) = Box::pin(join(work, replace)).await;
        if let Err(error) = replaced {
            // The weak hash can still be used. The next log-in tries again to replace it.
            tracing::warn!(cause = ?error, "cannot replace a weak password hash");
        }
        done
    }
}
