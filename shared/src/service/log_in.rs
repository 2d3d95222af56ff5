//! Log-in with a password.

use futures_util::future::join;
use zeroize::Zeroizing;

use super::email_token::{EmailUser, Made, make, open};
use crate::{
    domain::{
        email::Email,
        email_token::Properties,
        error::{Error, Result},
        owner::{Address, OwnerKey},
        password::Password,
    },
    service::{app::App, directory::environment_lives, password::Verdict},
    store::identity::{Key, LogInItems},
};

/// How often a user is read again that was changed while its token was made.
const TRIES: usize = 3;

/// Whose an address is said to be, for [`try_log_in`].
///
/// # Errors
/// The database is away.
pub async fn address(app: &App, email: &Email) -> Result<Option<Address>> {
    app.identity.address(email).await
}

/// A user who gave the right password.
pub struct LoggedIn {
    email: Email,
    address: Option<Address>,
    user: EmailUser,
    hash: String,
    /// The password, for a hash that is to be replaced by a stronger one.
    weak: Option<Password>,
}

/// Tries a password for an address; `None` if it is wrong, or the address unknown, without a
/// password, or an inactive user's: the same calls in each case, and a hash of the same work. `None` as
/// well for the right one of a user whose environment was deleted.
///
/// # Errors
/// The database is away.
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
        Verdict::Right => None,
        Verdict::RightButWeak => Some(password),
    };
    let Some((user, hash)) = user.zip(hash) else {
        return Ok(None);
    };
    // Not before: it may be a call more, and a wrong password is to take as many as an unknown address.
    let lives = environment_lives(app, &user.user).await?;
    Ok(lives.then(|| LoggedIn {
        email: email.clone(),
        address,
        user,
        hash,
        weak,
    }))
}

/// The user who may log in with an address, and the hash of the password; nothing unless all of it is
/// there and belongs together.
async fn read(
    app: &App,
    email: &Email,
    address: Option<&Address>,
) -> Result<Option<(EmailUser, String)>> {
    // An unknown address reads as much, of a partition that is nobody's.
    let key: OwnerKey = address.map_or_else(|| email.into(), |address| (&address.user_id).into());
    // The ecosystem beside it: it is in many transactions, which this one would meet.
    let ecosystem = [Key::owner(key.ecosystem())].into();
    let (items, ecosystem) = join(
        app.identity.log_in_items(key),
        app.identity.read(&ecosystem),
    )
    .await;
    let LogInItems {
        user,
        password,
        kept,
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
            kept,
        };
        (user, password.password_hash)
    }))
}

impl LoggedIn {
    /// The value of the user's live e-mail token, or of one that is made now; `None` if the user may
    /// not log in any more.
    ///
    /// # Errors
    /// The value key or the database is away.
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
            for _ in 0..TRIES {
                match make(app, &user, Properties::default()).await? {
                    Made::New(_, plain) => {
                        return Ok(Some(Zeroizing::new(plain.reveal().to_owned())));
                    }
                    Made::Live(kept) => return open(app, &user.user.id, &kept).await.map(Some),
                    // All its tokens were revoked, say: the password may be right still.
                    Made::UserChanged => match read(app, &email, address.as_ref()).await? {
                        Some((again, same))
                            if same == hash && environment_lives(app, &again.user).await? =>
                        {
                            user = again;
                        }
                        _ => return Ok(None),
                    },
                }
            }
            Err(Error::Unavailable {
                cause: "the user keeps changing".to_owned(),
            })
        };
        let (value, strengthened) = Box::pin(join(value, strengthen)).await;
        if let Err(error) = strengthened {
            // The weak one still works, and the next log-in tries again.
            tracing::warn!(cause = ?error, "a password's hash is not replaced");
        }
        value
    }
}
