//! Log-in with a password.

use futures_util::future::join;
use zeroize::Zeroizing;

use super::email_token::{Creation, EmailUser, create_if_none, lost, open};
use crate::{
    domain::{
        email::Email,
        email_token::Properties,
        error::{Error, Result},
        owner::{Address, OwnerKey},
        password::Password,
    },
    service::{app::App, directory::environment_exists, password::Verdict},
    store::identity::{Key, LogInItems},
};

/// How many times a log-in tries to create a token if other requests change the user at the same
/// time.
const TRIES: usize = 3;

/// Returns the record of an address, for [`try_log_in`]. The record may be out of date.
///
/// # Errors
/// The database is unavailable.
pub async fn address(app: &App, email: &Email) -> Result<Option<Address>> {
    app.identity.address(email).await
}

/// A user who gave the correct password.
pub struct LoggedIn {
    email: Email,
    address: Option<Address>,
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
    address: Option<Address>,
    password: Password,
) -> Result<Option<LoggedIn>> {
    let (user, hash) = read(app, email, address.as_ref()).await?.unzip();
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
        address,
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
    address: Option<&Address>,
) -> Result<Option<(EmailUser, String)>> {
    // For an unknown address, we read the same items from a partition that has no owner.
    let key: OwnerKey = address.map_or_else(|| email.into(), |address| (&address.user_id).into());
    // Read the ecosystem outside the transaction. Many other transactions use the ecosystem's item,
    // and would conflict with a transaction that reads this item.
    let ecosystem = [Key::owner(key.ecosystem())].into();
    let (items, ecosystem) = join(
        app.identity.log_in_items(key),
        app.identity.read(&ecosystem),
    )
    .await;
    let LogInItems {
        user,
        password,
        stored,
    } = items?;
    let ecosystem = ecosystem?;
    let (Some(address), Some(user), Some(password)) = (address, user, password) else {
        return Ok(None);
    };
    let id = &address.user_id;
    let account = ecosystem
        .ecosystem(id.ecosystem())
        .map(|ecosystem| ecosystem.account.clone());
    let is_theirs = address.is_of(&user, email)
        && user.state.active
        && password.incarnation == user.state.incarnation;
    Ok(account.filter(|_| is_theirs).map(|account| {
        let user = EmailUser {
            user,
            account,
            stored,
        };
        (user, password.password_hash)
    }))
}

impl LoggedIn {
    /// Returns the value of the user's e-mail token. Creates an e-mail token if the user has no
    /// valid one, or if its value can never be opened. Returns `None` if the user is no longer allowed to log in.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the value key or the database is unavailable, or if other requests
    /// keep changing the user.
    pub async fn value(self, app: &App) -> Result<Option<Zeroizing<String>>> {
        let Self {
            email,
            address,
            mut user,
            hash,
            weak,
        } = self;
        let key = (&user.user.id).into();
        let strengthen = async {
            if let Some(password) = weak {
                let new = app.passwords.hash_new(password, &app.random).await?;
                app.identity.replace_hash(key, &hash, &new).await?;
            }
            Ok::<_, Error>(())
        };
        let value = async {
            let mut unreadable = None;
            for _ in 0..TRIES {
                let properties = Properties::default();
                match create_if_none(app, &user, properties, unreadable.as_ref()).await? {
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
                    // For example, another request revoked all tokens of the user. Try again if the
                    // stored hash is still the same.
                    Creation::UserChanged => match read(app, &email, address.as_ref()).await? {
                        Some((again, same))
                            if same == hash && environment_exists(app, &again.user).await? =>
                        {
                            user = again;
                        }
                        _ => return Ok(None),
                    },
                }
            }
            Err(Error::Unavailable {
                cause: "other requests keep changing the user".to_owned(),
            })
        };
        let (value, strengthened) = Box::pin(join(value, strengthen)).await;
        if let Err(error) = strengthened {
            // The weak hash can still be used. The next log-in tries again to replace it.
            tracing::warn!(cause = ?error, "cannot replace a weak password hash");
        }
        value
    }
}
