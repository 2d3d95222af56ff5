//! Log-in with a password.

use futures_util::future::join;
use zeroize::Zeroizing;

use super::{EmailUser, Made, Properties, make, open};
use crate::{
    app::App,
    email::Email,
    error::{Error, Result},
    identity::LogInItems,
    owner::OwnerId,
    password::{Password, Verdict},
};

/// A user who gave the right password.
pub struct LoggedIn {
    user: EmailUser,
    /// The hash that is to be replaced by a stronger one, and the password for it.
    weak: Option<(String, Password)>,
}

/// Tries a password for an address; `None` if it is wrong, or the address unknown, without a
/// password, or an inactive user's: the same calls and the same hash in each case.
///
/// # Errors
/// The database is away.
pub async fn try_log_in(app: &App, email: &Email, password: Password) -> Result<Option<LoggedIn>> {
    let address = app.identity.address(email).await?;
    // An unknown address reads as much, of a partition that is nobody's.
    let key = address
        .as_ref()
        .map_or_else(|| email.key(), |address| (&address.user_id).into());
    let LogInItems {
        user,
        ecosystem,
        password: record,
        kept,
    } = app.identity.log_in_items(key).await?;

    let user = address
        .zip(user)
        .zip(ecosystem)
        .and_then(|((address, user), ecosystem)| {
            let is_of = address.is_of(&user, email);
            let id = address.user_id;
            let is_theirs = is_of && ecosystem.id == OwnerId::Ecosystem(id.ecosystem().clone());
            let account = ecosystem.account.filter(|_| is_theirs && user.active)?;
            Some(EmailUser {
                user,
                id,
                account,
                kept,
            })
        });
    let born = user.as_ref().map(|user| user.user.born);
    let record = record.filter(|record| Some(record.born) == born);
    let hash = record.map(|record| record.password_hash);
    let verdict = app.try_password(password.clone(), hash.as_deref()).await?;
    let weak = match verdict {
        Verdict::Wrong => return Ok(None),
        Verdict::Right => None,
        Verdict::RightButWeak => hash.map(|hash| (hash, password)),
    };
    Ok(user.map(|user| LoggedIn { user, weak }))
}

impl LoggedIn {
    /// The value of the user's live e-mail token, or of one that is made now; `None` if the user
    /// was changed after the password was tried.
    ///
    /// # Errors
    /// The value key or the database is away.
    pub async fn value(self, app: &App) -> Result<Option<Zeroizing<String>>> {
        let value = async {
            match make(app, &self.user, Properties::default()).await? {
                Made::New(_, plain) => Ok(Some(Zeroizing::new(plain.reveal().to_owned()))),
                Made::Live(kept) => open(app, &self.user.id, &kept).await.map(Some),
                Made::UserChanged => Ok(None),
            }
        };
        let strengthen = async {
            if let Some((old, password)) = self.weak {
                let new = app.hash_password(password).await?;
                let key = self.user.user.id.key();
                app.identity.replace_hash(key, &old, &new).await?;
            }
            Ok::<_, Error>(())
        };
        let (value, strengthened) = join(value, strengthen).await;
        if let Err(error) = strengthened {
            // The weak one still works, and the next log-in tries again.
            tracing::warn!(cause = ?error, "a password's hash is not replaced");
        }
        value
    }
}
