//! E-mail tokens: the one token of a user that is addressed by e-mail, may be changed without
//! handing out a new one, and can be read again (contract, section 4).

mod log_in;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::log_in::{LoggedIn, address, try_log_in};
use crate::{
    app::App,
    directory::must_be_active,
    email::Email,
    error::{Error, Result},
    id::{AccountId, EcosystemId, UserId},
    identity::EmailTokenWrite,
    number::{self, NotInRange},
    owner::{Epoch, Owner, OwnerKey},
    time::{Timestamp, UnixSeconds},
    token::{
        Expiry, ExpiryType, NewToken, PlainToken, Scope, Token, TokenId,
        verify::{Found, Verified},
    },
    value::Sealed,
};

/// A date on which an e-mail token ends, in milliseconds since 1970: up to the end of 9999, and in
/// the past as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExpirationDate(u64);

impl ExpirationDate {
    /// The last millisecond that RFC 3339 can write.
    pub const MAX: u64 = 253_402_300_799_999;

    /// # Errors
    /// The text is not a whole number from 1 to [`ExpirationDate::MAX`].
    pub fn parse(text: &str) -> Result<Self, NotInRange> {
        number::positive_long(text, Self::MAX).map(Self)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The first second of death: rounded down, as all expiry is.
    const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }
}

/// What a client may choose of an e-mail token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// What it lets its user do.
    pub scope: Scope,
    /// When it ends, if it does.
    pub expiration_date: Option<ExpirationDate>,
}

impl Properties {
    fn expiry(self) -> Expiry {
        Expiry::Email {
            ends_at: self.expiration_date.map(ExpirationDate::seconds),
        }
    }
}

impl Default for Properties {
    /// Everything that the user may, for ever.
    fn default() -> Self {
        Self {
            scope: Scope::ReadWrite,
            expiration_date: None,
        }
    }
}

/// Which token is a user's e-mail token, as the index lists it: the item `email-token` of the
/// user's partition, its value apart.
///
/// It has no TTL: it stays until it is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailToken {
    /// The token.
    pub token_id: TokenId,
    /// What it lets its user do.
    pub scope: Scope,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<ExpirationDate>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// 1 at first, and one more at each change.
    pub revision: u64,
    /// The user's epoch when it was made.
    pub epoch: Epoch,
    /// Whose it is.
    pub user_id: UserId,
    /// The account that the user is of; the index's partition key.
    pub email_account: AccountId,
    /// Where it stands in a list; the index's sort key.
    pub email_user: Place,
}

/// Where an e-mail token stands in a list: its user's ecosystem, then its user's partition in hex. An
/// ecosystem's are together, and none is too long for a key, as a user's id can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    fn of(user: &UserId) -> Self {
        let key = OwnerKey::from(user);
        Self(format!(
            "{};{}",
            user.ecosystem(),
            hex::encode(key.as_bytes())
        ))
    }

    /// Reads a place.
    pub fn parse(text: &str) -> Option<Self> {
        let place = Self(text.to_owned());
        let (ecosystem, key) = (place.ecosystem()?, place.user()?);
        (key.ecosystem() == (&ecosystem).into()).then_some(place)
    }

    /// The place as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ecosystem that it is in.
    pub fn ecosystem(&self) -> Option<EcosystemId> {
        EcosystemId::parse(self.0.split(';').next()?).ok()
    }

    /// The partition of its user.
    pub(crate) fn user(&self) -> Option<OwnerKey> {
        let mut key = [0; OwnerKey::LENGTH];
        hex::decode_to_slice(self.0.split_once(';')?.1, &mut key).ok()?;
        Some(OwnerKey::from_bytes(key))
    }
}

impl EmailToken {
    /// How it ends.
    pub fn expiry_type(&self) -> ExpiryType {
        self.properties().expiry().expiry_type()
    }

    fn properties(&self) -> Properties {
        Properties {
            scope: self.scope,
            expiration_date: self.expiration_date,
        }
    }

    /// Whether its date has not come.
    fn is_alive_at(&self, now: Timestamp) -> bool {
        self.properties().expiry().is_alive_at(now.seconds())
    }
}

/// An e-mail token with its value.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(flatten)]
    pub(crate) token: EmailToken,
    sealed: Sealed,
}

/// A user that has an e-mail address, as it was just read.
pub struct EmailUser {
    /// The user.
    pub user: Owner,
    id: UserId,
    account: AccountId,
    /// What is kept, though another epoch's or made before tokens count.
    kept: Option<Kept>,
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
        token.epoch == self.user.epoch && !app.is_void(token.token_id)
    }

    /// The value of the e-mail token, dead or alive, for a caller; `None` if there is no such token.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a user's token that does not cover the e-mail token; the value key or
    /// the database is away.
    pub async fn value_for(
        &self,
        app: &App,
        caller: &Verified,
    ) -> Result<Option<Zeroizing<String>>> {
        let Some(kept) = self.kept(app) else {
            return Ok(None);
        };
        let expiry = kept.token.properties().expiry();
        caller.must_cover(kept.token.scope, expiry.expires_at())?;
        open(app, &self.id, kept).await.map(Some)
    }
}

/// What a value is bound to: the user in whose partition it is found, whatever the item says, and the
/// token.
fn bound_to(user: &UserId, token: TokenId) -> String {
    format!("{user} {token}")
}

async fn open(app: &App, user: &UserId, kept: &Kept) -> Result<Zeroizing<String>> {
    app.open(&kept.sealed, &bound_to(user, kept.token.token_id))
        .await
}

/// The user of an address that `found` was asked for, if the caller may know of it.
///
/// # Errors
/// [`Error::NotFound`]; the database is away.
pub async fn find(app: &App, found: &Found, caller: &Verified, email: &Email) -> Result<EmailUser> {
    let unknown = || {
        let given = email.as_given();
        Error::NotFound(format!("User with email {given} does not exist."))
    };
    let address = found.address(email);
    // An unknown address reads as much, of a partition that is nobody's: in time, too, it answers as
    // another account's does.
    let key = address.map_or_else(|| email.key(), |address| (&address.user_id).into());
    let found = app.lookup().email_user(key).read().await?;
    let id = &address.ok_or_else(unknown)?.user_id;
    let ecosystem = found.ecosystem_record(id.ecosystem());
    let account = ecosystem.and_then(|ecosystem| ecosystem.account.as_ref());
    let account = account.filter(|account| **account == caller.account);
    let own = |own: &EcosystemId| own == id.ecosystem();
    match (account, found.user_record(id)) {
        (Some(account), Some(user))
            if user.email.as_ref() == Some(email) && caller.ecosystem().is_none_or(own) =>
        {
            Ok(EmailUser {
                user: user.clone(),
                id: id.clone(),
                account: account.clone(),
                kept: found.email_token(id).cloned(),
            })
        }
        _ => Err(unknown()),
    }
}

/// What a client is told of a user without an e-mail token.
pub fn none(email: &Email) -> Error {
    let given = email.as_given();
    Error::NotFound(format!("User with email {given} has no token."))
}

/// What became of a token that was to be made.
enum Made {
    New(EmailToken, PlainToken),
    /// There is one that lives.
    Live(Kept),
    /// The user is not as it was read.
    UserChanged,
}

/// Makes a user's e-mail token, in the place of a dead one if there is one; in one transaction, so
/// that of any number of attempts at once one makes it.
async fn make(app: &App, user: &EmailUser, properties: Properties) -> Result<Made> {
    let mut there = user.kept.clone();
    loop {
        let now = app.now();
        if let Some(kept) = &there
            && user.counts(app, &kept.token)
            && kept.token.is_alive_at(now)
        {
            return Ok(Made::Live(kept.clone()));
        }
        let wanted = NewToken {
            expiry_type: properties.expiry().expiry_type(),
            ..NewToken::default()
        };
        let (owner, epoch) = (&user.user.id, user.user.epoch);
        let (token, plain) = Token::mint(owner, epoch, wanted, now, &mut *app.rng());
        let token = Token {
            scope: properties.scope,
            expiry: properties.expiry(),
            ..token
        };
        let email_token = EmailToken {
            token_id: token.id,
            scope: properties.scope,
            expiration_date: properties.expiration_date,
            created_at: now,
            updated_at: now,
            revision: 1,
            epoch,
            user_id: user.id.clone(),
            email_account: user.account.clone(),
            email_user: Place::of(&user.id),
        };
        let kept = Kept {
            sealed: app
                .seal(plain.reveal(), &bound_to(&user.id, token.id))
                .await?,
            token: email_token,
        };
        let old = there.as_ref().map(|kept| &kept.token);
        let environment = user.user.environment.as_ref();
        let written = app
            .identity
            .insert_email_token(&kept, &token, old, environment);
        match written.await? {
            EmailTokenWrite::Written => return Ok(Made::New(kept.token, plain)),
            EmailTokenWrite::UserChanged => return Ok(Made::UserChanged),
            EmailTokenWrite::Instead(kept) => there = kept.map(|kept| *kept),
        }
    }
}

/// Makes a user's e-mail token.
///
/// # Errors
/// [`Error::Conflict`] if there is one that lives, or the user is inactive or of a deleted environment; the value key or the
/// database is away.
pub async fn create(app: &App, user: &EmailUser, properties: Properties) -> Result<EmailToken> {
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
    user: &EmailUser,
    properties: Properties,
) -> Result<Option<EmailToken>> {
    let key = (&user.id).into();
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
        let updated = app.identity.update_email_token(key, &old, &new, ends_at);
        match updated.await? {
            Ok(()) => return Ok(Some(new)),
            Err(instead) => there = instead.filter(|token| user.counts(app, token)),
        }
    }
    Ok(None)
}

/// Ends a user's e-mail token for good; `None` if there is no such token.
///
/// # Errors
/// The database is away.
pub async fn delete(app: &App, user: &EmailUser) -> Result<Option<EmailToken>> {
    let key = (&user.id).into();
    let mut there = user.token(app);
    while let Some(token) = there {
        match app.identity.delete_email_token(key, token.token_id).await? {
            Ok(()) => return Ok(Some(token)),
            Err(instead) => there = instead.filter(|token| user.counts(app, token)),
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
    caller: &Verified,
    after: Option<&Place>,
    limit: u32,
) -> Result<(Vec<(EmailToken, Owner)>, Option<Place>)> {
    let (tokens, last) = app
        .identity
        .email_tokens(&caller.account, caller.ecosystem(), after, limit)
        .await?;
    let ids = tokens.iter().map(|token| &token.user_id);
    let lookup = ids.fold(app.lookup(), |lookup, id| lookup.user(Some(id)));
    let found = lookup.read().await?;
    let listed = tokens.into_iter().filter_map(|token| {
        let id = &token.user_id;
        let ecosystem = found.ecosystem_record(id.ecosystem())?;
        let user = found.user_record(id)?;
        let lives = ecosystem.account.as_ref() == Some(&caller.account)
            && token.epoch == user.epoch
            && !app.is_void(token.token_id);
        lives.then(|| (token, user.clone()))
    });
    Ok((listed.collect(), last))
}
