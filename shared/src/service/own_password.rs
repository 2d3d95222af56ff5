//! Changes the password of a user with the user's own token.

use crate::{
    domain::{
        error::{Error, Result},
        owner::{Epoch, KeptToken, State, User},
        password::Password,
        token::Permission,
    },
    service::{
        access::{MayWrite, Permit},
        app::App,
        password::Verdict,
        tokens::change,
    },
    store::identity::{OwnPasswordWrite, PasswordRecord, StoredToken},
};

/// The stored password of a user, if there is one.
pub struct StoredPassword(Option<PasswordRecord>);

/// Reads the stored password of a user.
///
/// # Errors
/// The database is unavailable.
pub async fn stored_password(app: &App, user: &User) -> Result<StoredPassword> {
    let record = app.identity.password((&user.id).into()).await?;
    let incarnation = user.state.incarnation;
    Ok(StoredPassword(
        record.filter(|record| record.incarnation == incarnation),
    ))
}

impl StoredPassword {
    /// Returns whether this is the user's password. Computes one hash, even if there is no
    /// password.
    ///
    /// # Errors
    /// There is not enough memory.
    pub async fn is(&self, app: &App, password: Password) -> Result<bool> {
        let hash = self.0.as_ref().map(|record| record.password_hash.as_str());
        Ok(app.passwords.verify(password, hash).await? != Verdict::Wrong)
    }
}

/// Changes the password of the calling user. The caller must have checked the current password
/// after it read `user`. Every other token of the user ends. The calling token stays valid, but
/// does not descend from its maker any more.
///
/// Each change of a password gives the user a new epoch. So if the user still has the epoch that
/// was read, the password that was checked is still the current password.
///
/// # Errors
/// [`Error::Conflict`] if the user got a new epoch meanwhile, for example because another request
/// changed the password; [`Error::Unauthorized`] if the calling token has ended or was disabled
/// meanwhile; [`Error::InsufficientScope`] if its scope was narrowed meanwhile;
/// [`Error::Unavailable`] if the database is unavailable.
pub async fn change_password(
    app: &App,
    permit: &Permit<'_, MayWrite>,
    user: &User,
    new: Password,
) -> Result<()> {
    let (key, caller) = ((&user.id).into(), permit.caller());
    let ended = || Error::Unauthorized { token_sent: true };
    let mut token = permit.token_of(key, caller.id).ok_or_else(ended)?.clone();
    let mut old = user.clone();
    let hash = app.passwords.hash_new(new, &app.random).await?;
    let epoch = Epoch::generate(&mut *app.rng());
    loop {
        let next = User {
            has_password: true,
            state: State {
                epoch,
                kept: Some(KeptToken {
                    id: token.id,
                    from: old.state.epoch,
                }),
                version: old.state.version + 1,
                ..old.state
            },
            ..old.clone()
        };
        let put = app.identity.own_password_put(&old, &next, &hash, &token)?;
        match change(app, put).await? {
            OwnPasswordWrite::Written => return Ok(()),
            OwnPasswordWrite::UserChanged(Some(there))
                if there.id == user.id && there.state.epoch == user.state.epoch =>
            {
                old = there;
            }
            OwnPasswordWrite::UserChanged(_) => return Err(Error::Conflict("user has changed")),
            OwnPasswordWrite::TokenChanged(Some(StoredToken::Token(there)))
                if there.revision != token.revision =>
            {
                if !there.scope.allows(Permission::UsersWrite) {
                    let scope = Permission::UsersWrite.scope();
                    return Err(Error::InsufficientScope(scope.into()));
                }
                token = *there;
            }
            OwnPasswordWrite::TokenChanged(_) => return Err(ended()),
        }
        // The embedded database never yields. Without this yield, the time limit of the request
        // could not stop the loop.
        tokio::task::yield_now().await;
    }
}
