//! Creates, changes, finds and deletes e-mail tokens.

use zeroize::Zeroizing;

use crate::{
    domain::{
        email::Email,
        email_token::{EmailToken, Kept, Place, Properties},
        error::{Error, Result},
        id::{AccountId, EcosystemId, UserId},
        owner::User,
        token::{Draft, PlainToken, Token, TokenId},
    },
    service::{
        access::{MayRead, MayWrite, Permit},
        app::App,
        directory::must_be_active,
        tokens::{self, Rest},
        verify::Lookup,
    },
    store::{identity::EmailTokenWrite, item::WriteResult},
};

/// A user with an e-mail address, as it was just read.
pub struct EmailUser {
    /// The user.
    pub user: User,
    pub(super) account: AccountId,
    /// The stored e-mail token, even if it has another epoch or was created before
    /// [`Settings::not_before`](crate::config::Settings::not_before).
    pub(super) kept: Option<Kept>,
}

impl EmailUser {
    /// Returns the user's e-mail token, even if it has expired.
    fn token(&self, app: &App) -> Option<EmailToken> {
        self.kept(app).map(|kept| kept.token.clone())
    }

    fn kept(&self, app: &App) -> Option<&Kept> {
        let kept = self.kept.as_ref();
        kept.filter(|kept| self.counts(app, &kept.token))
    }

    /// Returns whether this is the user's token. A token that has another epoch or was created
    /// before [`Settings::not_before`](crate::config::Settings::not_before) is treated as missing.
    fn counts(&self, app: &App, token: &EmailToken) -> bool {
        token.epoch == self.user.state.epoch && !app.is_void(token.token_id)
    }
}

/// Returns what a value is bound to: the token, and the user in whose partition the item was found.
/// The user that the item itself names is not used.
fn bound_to(user: &UserId, token: TokenId) -> String {
    format!("{user} {token}")
}

pub(super) async fn open(app: &App, user: &UserId, kept: &Kept) -> Result<Zeroizing<String>> {
    app.open(&kept.sealed, &bound_to(user, kept.token.token_id))
        .await
}

/// Returns the user of an address that was looked up, if the caller may see that user.
///
/// # Errors
/// [`Error::NotFound`] if there is no such user; the database is unavailable.
pub async fn find<A>(app: &App, permit: &Permit<'_, A>, email: &Email) -> Result<EmailUser> {
    let unknown = || {
        let given = email.as_given();
        Error::NotFound(format!("User with email {given} does not exist."))
    };
    let (caller, address) = (permit.caller(), permit.address(email));
    // For an unknown address we read the same items of a partition that has no owner. So its
    // response takes as long as the one for an address of another account.
    let key = address.map_or_else(|| email.into(), |address| (&address.user_id).into());
    let found = Lookup::new(app).email_user(key).read().await?;
    let id = &address.ok_or_else(unknown)?.user_id;
    let ecosystem = found.ecosystem_record(id.ecosystem());
    let ecosystem = ecosystem.filter(|ecosystem| ecosystem.account == caller.account);
    let own = |own: &EcosystemId| own == id.ecosystem();
    match (ecosystem, found.user_record(id)) {
        (Some(ecosystem), Some(user))
            if user.email.as_ref() == Some(email) && caller.ecosystem().is_none_or(own) =>
        {
            Ok(EmailUser {
                user: user.clone(),
                account: ecosystem.account.clone(),
                kept: found.email_token(id).cloned(),
            })
        }
        _ => Err(unknown()),
    }
}

/// Returns an address that was looked up and the value of its e-mail token, even if the token has
/// expired. The value is `None` if there is no such token.
///
/// # Errors
/// [`Error::NotFound`] if no user has the address; [`Error::Forbidden`] if the caller's token does
/// not cover the e-mail token ([`Verified::must_cover`](super::verify::Verified::must_cover)); the
/// value key or the database is unavailable.
pub async fn value<A>(
    app: &App,
    permit: &Permit<'_, A>,
    email: Email,
) -> Result<(Email, Option<Zeroizing<String>>)> {
    let user = find(app, permit, &email).await?;
    let Some(kept) = user.kept(app) else {
        return Ok((email, None));
    };
    let expiry = kept.token.properties().expiry();
    permit
        .caller()
        .must_cover(kept.token.scope, expiry.expires_at())?;
    let value = open(app, &user.user.id, kept).await?;
    Ok((email, Some(value)))
}

/// Returns the error for a user without an e-mail token.
pub fn none(email: &Email) -> Error {
    let given = email.as_given();
    Error::NotFound(format!("User with email {given} has no token."))
}

/// The result of [`make`].
pub(super) enum Made {
    New(EmailToken, PlainToken),
    /// The user has an e-mail token that has not expired.
    Live(Kept),
    /// The user or its environment has changed since it was read.
    UserChanged,
}

/// Creates a user's e-mail token, in the place of an invalid one if there is one. It does so in one
/// transaction, so that only one of any number of concurrent attempts creates a token.
pub(super) async fn make(app: &App, user: &EmailUser, properties: Properties) -> Result<Made> {
    let mut there = user.kept.clone();
    loop {
        let now = app.now();
        if let Some(kept) = &there
            && user.counts(app, &kept.token)
            && kept.token.is_alive_at(now)
        {
            return Ok(Made::Live(kept.clone()));
        }
        let owner = &user.user;
        let draft = Draft {
            owner: owner.into(),
            expiry: properties.expiry(),
            scope: properties.scope,
            name: None,
            created_at: now,
        };
        let record = |token_id| EmailToken {
            token_id,
            scope: properties.scope,
            expiration_date: properties.expiration_date,
            created_at: now,
            updated_at: now,
            revision: 1,
            epoch: owner.state.epoch,
            user_id: owner.id.clone(),
            email_account: user.account.clone(),
            email_user: Place::of(&owner.id),
        };
        let with_record = async |token: &Token, plain: &PlainToken| {
            let bound_to = bound_to(&owner.id, token.id);
            let kept = Kept {
                sealed: app.seal(plain.reveal(), &bound_to).await?,
                token: record(token.id),
            };
            let old = there.as_ref().map(|kept| &kept.token);
            let environment = owner.environment.as_ref();
            let insertion = app.identity.insert_email_token(&kept, old, environment)?;
            Ok(Rest::Transaction(insertion))
        };
        let (written, token, plain) = tokens::make(app, draft, with_record).await?;
        match written {
            EmailTokenWrite::Written => return Ok(Made::New(record(token.id), plain)),
            EmailTokenWrite::UserChanged => return Ok(Made::UserChanged),
            EmailTokenWrite::Conflict(kept) => there = kept.map(|kept| *kept),
        }
    }
}

/// Creates a user's e-mail token.
///
/// # Errors
/// [`Error::Conflict`] if the user has a token that has not expired, is inactive, belongs to a
/// deleted environment, or has changed since it was read; the value key or the database is
/// unavailable.
pub async fn create(
    app: &App,
    _right: MayWrite,
    user: &EmailUser,
    properties: Properties,
) -> Result<EmailToken> {
    must_be_active(app, &user.user).await?;
    match make(app, user, properties).await? {
        Made::New(token, _) => Ok(token),
        Made::Live(_) => Err(Error::Conflict("user has a live token")),
        Made::UserChanged => Err(Error::Conflict("user has changed")),
    }
}

/// Changes the properties of a user's e-mail token, even if it has expired. The value stays the
/// same. Returns `None` if there is no such token.
///
/// # Errors
/// The database is unavailable.
pub async fn update(
    app: &App,
    _right: MayWrite,
    user: &EmailUser,
    properties: Properties,
) -> Result<Option<EmailToken>> {
    let key = (&user.user.id).into();
    let mut there = user.token(app);
    while let Some(old) = there {
        let new = EmailToken {
            scope: properties.scope,
            expiration_date: properties.expiration_date,
            updated_at: app.now(),
            revision: old.revision + 1,
            ..old.clone()
        };
        let ends_at = properties.expiry().expires_at();
        let update = app.identity.update_email_token(key, &old, &new, ends_at)?;
        match tokens::change(app, update).await? {
            WriteResult::Written => return Ok(Some(new)),
            WriteResult::Conflict(now) => there = now.filter(|token| user.counts(app, token)),
        }
    }
    Ok(None)
}

/// Deletes a user's e-mail token, which revokes it. Returns `None` if there is no such token.
///
/// # Errors
/// The database is unavailable.
pub async fn delete(app: &App, _right: MayWrite, user: &EmailUser) -> Result<Option<EmailToken>> {
    let key = (&user.user.id).into();
    let mut there = user.token(app);
    while let Some(token) = there {
        let deletion = app.identity.delete_email_token(key, token.token_id)?;
        match tokens::change(app, deletion).await? {
            WriteResult::Written => return Ok(Some(token)),
            WriteResult::Conflict(now) => there = now.filter(|token| user.counts(app, token)),
        }
    }
    Ok(None)
}

/// Returns a page of the e-mail tokens of the caller's account or ecosystem, each with its user.
/// Also returns the last place that was read, or `None` at the end of the list.
///
/// The tokens come from the index, which may be behind the table. The users are read from the
/// table.
///
/// # Errors
/// The database is unavailable.
pub async fn list(
    app: &App,
    permit: &Permit<'_, MayRead>,
    after: Option<&Place>,
    limit: u32,
) -> Result<(Vec<(EmailToken, User)>, Option<Place>)> {
    let caller = permit.caller();
    let (tokens, last) = app
        .identity
        .email_tokens(&caller.account, caller.ecosystem(), after, limit)
        .await?;
    let ids = tokens.iter().map(|token| &token.user_id);
    let lookup = ids.fold(Lookup::new(app), |lookup, id| lookup.user(Some(id)));
    let found = lookup.read().await?;
    let listed = tokens.into_iter().filter_map(|token| {
        let id = &token.user_id;
        let ecosystem = found.ecosystem_record(id.ecosystem())?;
        let user = found.user_record(id)?;
        let lives = ecosystem.account == caller.account
            && token.epoch == user.state.epoch
            && !app.is_void(token.token_id);
        lives.then(|| (token, user.clone()))
    });
    Ok((listed.collect(), last))
}
