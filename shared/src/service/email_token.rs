//! Making, changing, finding and deleting e-mail tokens.

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

/// A user that has an e-mail address, as it was just read.
pub struct EmailUser {
    /// The user.
    pub user: User,
    pub(super) account: AccountId,
    /// What is kept, though another epoch's or made before tokens count.
    pub(super) kept: Option<Kept>,
}

impl EmailUser {
    /// The user's e-mail token, dead or alive.
    fn token(&self, app: &App) -> Option<EmailToken> {
        self.kept(app).map(|kept| kept.token.clone())
    }

    fn kept(&self, app: &App) -> Option<&Kept> {
        let kept = self.kept.as_ref();
        kept.filter(|kept| self.counts(app, &kept.token))
    }

    /// Whether this is the user's token: one of another epoch, or made before tokens count, is none.
    fn counts(&self, app: &App, token: &EmailToken) -> bool {
        token.epoch == self.user.state.epoch && !app.is_void(token.token_id)
    }
}

/// What a value is bound to: the user in whose partition it is found, whatever the item says, and the
/// token.
fn bound_to(user: &UserId, token: TokenId) -> String {
    format!("{user} {token}")
}

pub(super) async fn open(app: &App, user: &UserId, kept: &Kept) -> Result<Zeroizing<String>> {
    app.open(&kept.sealed, &bound_to(user, kept.token.token_id))
        .await
}

/// The user of an address that was looked up, if the caller may know of it.
///
/// # Errors
/// [`Error::NotFound`]; the database is away.
pub async fn find<A>(app: &App, permit: &Permit<'_, A>, email: &Email) -> Result<EmailUser> {
    let unknown = || {
        let given = email.as_given();
        Error::NotFound(format!("User with email {given} does not exist."))
    };
    let (caller, address) = (permit.caller(), permit.address(email));
    // An unknown address reads as much, of a partition that is nobody's: in time, too, it answers as
    // another account's does.
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

/// The value of the e-mail token of an address that was looked up, valid or not, and that address; `None` if there is no
/// such token.
///
/// # Errors
/// [`Error::NotFound`] for the address; [`Error::Forbidden`] for a user's token that does not cover the e-mail token; the
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

/// What a client is told of a user without an e-mail token.
pub fn none(email: &Email) -> Error {
    let given = email.as_given();
    Error::NotFound(format!("User with email {given} has no token."))
}

/// What became of a token that was to be made.
pub(super) enum Made {
    New(EmailToken, PlainToken),
    /// There is one that lives.
    Live(Kept),
    /// The user is not as it was read.
    UserChanged,
}

/// Makes a user's e-mail token, in the place of a dead one if there is one; in one transaction, so
/// that of any number of attempts at once one makes it.
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

/// Makes a user's e-mail token.
///
/// # Errors
/// [`Error::Conflict`] if there is one that lives, or the user is inactive or of a deleted environment; the value key or the
/// database is away.
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

/// Gives a user's e-mail token other properties, dead or alive, and leaves its value; `None` if there is
/// no such token.
///
/// # Errors
/// The database is away.
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

/// Ends a user's e-mail token for good; `None` if there is no such token.
///
/// # Errors
/// The database is away.
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

/// A page of the e-mail tokens of an account, or of one ecosystem of it: each with its user, and
/// the last place that was looked at, unless it was the last of all.
///
/// From the index, which may lag; the users are read as they are.
///
/// # Errors
/// The database is away.
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
