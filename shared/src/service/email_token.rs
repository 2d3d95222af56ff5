//! Creates, changes, finds and deletes e-mail tokens.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::{
    domain::{
        email::Email,
        email_token::{EmailToken, ListKey, Properties, Sealed, StoredEmailToken},
        error::{Error, Result},
        id::{AccountId, UserId},
        owner::{EcosystemSettings, User},
        token::{Ancestry, Author, Draft, Holder, PlainToken, Token, TokenId, TokenOwner},
    },
    service::{
        access::{MayRead, MayWrite, Permit},
        addresses,
        app::App,
        descendants::{DescendantState, end_descendants},
        directory::must_be_active,
        limit::{self, Relatives},
        tokens::{self, EmailTokenEnd, OtherWrites},
        verify::Lookup,
    },
    store::{
        identity::{AddressSlot, EmailTokenWrite, Key, OldItem},
        item::WriteResult,
    },
};

/// A user who has an e-mail address. The user's records were just read.
pub struct EmailUser {
    /// The user.
    pub user: User,
    pub(super) account: AccountId,
    /// The settings of the user's ecosystem.
    pub(super) settings: EcosystemSettings,
    /// The user's stored e-mail token, even if `EmailUser::accepts` returns `false` for the token.
    pub(super) stored: Option<StoredEmailToken>,
}

impl EmailUser {
    /// Returns the user's e-mail token, even if it has expired.
    fn token(&self, app: &App) -> Option<EmailToken> {
        self.stored(app).map(|stored| stored.token.clone())
    }

    fn stored(&self, app: &App) -> Option<&StoredEmailToken> {
        let stored = self.stored.as_ref();
        stored.filter(|stored| self.accepts(app, &stored.token))
    }

    /// Returns `false` if a stored e-mail token must be treated as missing, because it does not
    /// have the user's epoch, or because the token was created before
    /// [`Settings::not_before`](crate::config::Settings::not_before).
    fn accepts(&self, app: &App, token: &EmailToken) -> bool {
        token.has_epoch_of(&self.user.state) && !app.is_rejected(token.token_id)
    }
}

/// Returns the text that a sealed value is bound to: a user id and a token id. `user` must be the
/// user whose partition contains the item, not the user id in the item.
pub(super) fn bound_to(user: &UserId, token: TokenId) -> String {
    format!("{user} {token}")
}

/// Opens (decrypts) the value of an e-mail token. Returns `None` if the value can never be opened.
pub(super) async fn open(
    app: &App,
    user: &UserId,
    stored: &StoredEmailToken,
) -> Result<Option<Zeroizing<String>>> {
    app.open(&stored.sealed, &bound_to(user, stored.token.token_id))
        .await
}

/// Returns the user of an address in the caller's account, if the caller is allowed to see that
/// user.
///
/// # Errors
/// [`Error::NotFound`] if no user that the caller is allowed to see has the address;
/// [`Error::Unavailable`] if the database is unavailable.
pub async fn find<A>(app: &App, permit: &Permit<'_, A>, email: &Email) -> Result<EmailUser> {
    let caller = permit.caller();
    let slots = addresses::read(app, Some(&caller.account), email).await?;
    // For an unknown address, we read the same items from a partition that has no owner. So the
    // response for an unknown address takes as long as the response for the address of a user whom
    // the caller is not allowed to see.
    let users = slots.iter().map(AddressSlot::user_key);
    let lookup = users.fold(Lookup::new(app), Lookup::email_user);
    let found = lookup.read().await?;
    let mut stored = slots.iter().filter_map(|slot| slot.address.as_ref());
    let user = stored.find_map(|address| {
        let id = &address.user_id;
        let user = found.user_record(id)?;
        let ecosystem = found.ecosystem_record(id.ecosystem())?;
        let is_visible = address.is_of(user, email)
            && ecosystem.account == caller.account
            && caller.ecosystem().is_none_or(|own| own == id.ecosystem())
            && permit.reaches_user(id);
        is_visible.then(|| EmailUser {
            user: user.clone(),
            account: ecosystem.account.clone(),
            settings: ecosystem.settings.clone(),
            stored: found.email_token(id).cloned(),
        })
    });
    user.ok_or_else(|| {
        let given = email.as_given();
        Error::NotFound(format!("User with email {given} does not exist."))
    })
}

/// Returns the value of a user's e-mail token, even if the token has expired. Returns `None` if the
/// user has no e-mail token.
///
/// # Errors
/// [`Error::Forbidden`] if the caller's token does not cover the e-mail token
/// ([`Verified::must_cover`](super::verify::Verified::must_cover)); [`Error::Conflict`] if the
/// value can never be decrypted; [`Error::Unavailable`] if the value key or the database is
/// unavailable. Also returns the errors of [`find`].
pub async fn value(
    app: &App,
    permit: &Permit<'_, MayRead>,
    email: &Email,
) -> Result<Option<Zeroizing<String>>> {
    let user = find(app, permit, email).await?;
    let Some(stored) = user.stored(app) else {
        return Ok(None);
    };
    let expiry = stored.token.properties().expiry();
    permit
        .caller()
        .must_cover(&stored.token.scope, expiry.expires_at())?;
    let value = open(app, &user.user.id, stored).await?;
    if value.is_none() {
        lost(stored);
        return Err(Error::Conflict(
            "the value cannot be decrypted; delete the token, or log in to get another one",
        ));
    }
    Ok(value)
}

/// Writes to the log that a value can never be opened: its data key was removed, or the stored
/// value was changed.
pub(super) fn lost(stored: &StoredEmailToken) {
    let cause = format!(
        "the value of the e-mail token {} cannot be decrypted: its key was removed, or it was changed",
        stored.token.token_id
    );
    tracing::warn!(cause, "an e-mail token's value is lost");
}

/// Returns the error for a user without an e-mail token.
pub fn not_found(email: &Email) -> Error {
    let given = email.as_given();
    Error::NotFound(format!("User with email {given} has no token."))
}

/// The result of [`create_if_none`].
pub(super) enum Creation {
    New(EmailToken, PlainToken),
    /// The user has an e-mail token that has not expired.
    Existing(StoredEmailToken),
    /// The user has changed since the read, or the user's environment was deleted.
    UserChanged,
}

/// Creates a user's e-mail token, unless the user has an e-mail token that has not expired. The new
/// token replaces an expired or revoked e-mail token. All writes are in one transaction, so only
/// one of several concurrent attempts creates a token.
///
/// If `lost` is given, it is an encrypted value that can never be opened. The new token also
/// replaces a token with this value, and gets the scope and the expiration date of that token.
pub(super) async fn create_if_none(
    app: &App,
    user: &EmailUser,
    properties: Properties,
    lost: Option<&Sealed>,
) -> Result<Creation> {
    let mut there = user.stored.clone();
    let mut old_item = OldItem::Delete;
    loop {
        let now = app.now();
        let mut properties = properties.clone();
        if let Some(stored) = &there
            && user.accepts(app, &stored.token)
            && stored.token.is_valid_at(now)
        {
            if lost != Some(&stored.sealed) {
                return Ok(Creation::Existing(stored.clone()));
            }
            properties = stored.token.properties();
        }
        let owner = &user.user;
        // A deletion ended this token, but had no time to end the tokens that descend from it. A
        // repeated deletion finds them only by this record.
        if let Some(stored) = &there
            && stored.token.ending
        {
            let id = stored.token.token_id;
            let by = Author {
                holder: Holder::User,
                token: id,
            };
            let ending = tokens::revocation(app, by);
            end_descendants(app, (&owner.id).into(), id, Ancestry::default(), &ending).await?;
        }
        let record = |token_id| EmailToken {
            token_id,
            scope: properties.scope.clone(),
            expiration_date: properties.expiration_date,
            created_at: now,
            updated_at: now,
            revision: 1,
            epoch: owner.state.epoch,
            previous_epoch: None,
            ending: false,
            user_id: owner.id.clone(),
            email_account: user.account.clone(),
            email_user: ListKey::of(&owner.id),
        };
        let old = there.as_ref().map(|old| (old, old_item));
        let stored = store_new(app, user, &properties, old, record).await;
        let (written, token, plain) = match stored {
            // Another request may just have created the e-mail token, which took the last place.
            Err(error) if limit::is_full(&error) => {
                let now = read(app, owner).await?;
                let same = |now: &StoredEmailToken| {
                    there.as_ref().is_some_and(|old| old.token == now.token)
                };
                if now.as_ref().is_none_or(same) {
                    return Err(error);
                }
                (there, old_item) = (now, OldItem::Delete);
                continue;
            }
            stored => stored?,
        };
        match written {
            EmailTokenWrite::Written => return Ok(Creation::New(token, plain)),
            EmailTokenWrite::UserChanged => return Ok(Creation::UserChanged),
            EmailTokenWrite::Conflict(stored) => {
                (there, old_item) = (stored.map(|stored| *stored), OldItem::Delete);
            }
            EmailTokenWrite::OldHasDescendants(instead) => old_item = instead,
        }
    }
}

/// Reads the stored e-mail token of a user.
async fn read(app: &App, user: &User) -> Result<Option<StoredEmailToken>> {
    let user = (&user.id).into();
    let keys = BTreeSet::from([Key::email_token(user)]);
    Ok(app.identity.read(&keys).await?.email_token(user).cloned())
}

/// Generates an e-mail token for a user, and stores the token and its record in place of `old`.
/// `record` gets the id of the token and returns its record. Returns this record too.
async fn store_new(
    app: &App,
    EmailUser { user, settings, .. }: &EmailUser,
    properties: &Properties,
    old: Option<(&StoredEmailToken, OldItem)>,
    record: impl Fn(TokenId) -> EmailToken,
) -> Result<(EmailTokenWrite, EmailToken, PlainToken)> {
    let draft = Draft {
        owner: TokenOwner::of_user(user, settings),
        expiry: properties.expiry(),
        scope: properties.scope.clone(),
        name: None,
        metadata: None,
        created_at: app.now(),
        ancestry: Ancestry::default(),
    };
    let with_record = async |token: &Token, plain: &PlainToken| {
        let new = StoredEmailToken {
            sealed: app
                .seal(plain.reveal(), &bound_to(&user.id, token.id))
                .await?,
            token: record(token.id),
        };
        let by = Author {
            holder: Holder::User,
            token: token.id,
        };
        let ending = tokens::revocation(app, by);
        let insertion = app.identity.email_token_insertion(&new, old, &ending)?;
        Ok(OtherWrites::Some(insertion))
    };
    let relatives = Relatives {
        replaced: old.map(|(old, _)| old.token.token_id),
        maker: None,
    };
    let (written, token, plain) = tokens::create(app, draft, relatives, with_record).await?;
    Ok((written, record(token.id), plain))
}

/// Creates a user's e-mail token.
///
/// # Errors
/// [`Error::Conflict`] if the user has an e-mail token that has not expired, or if the user is
/// inactive, belongs to a deleted environment, or has changed since the read;
/// [`Error::Unavailable`] if the value key or the database is unavailable.
pub async fn create(
    app: &App,
    _right: MayWrite,
    user: &EmailUser,
    properties: Properties,
) -> Result<EmailToken> {
    must_be_active(app, &user.user).await?;
    match create_if_none(app, user, properties, None).await? {
        Creation::New(token, _) => Ok(token),
        Creation::Existing(_) => Err(Error::Conflict("user has a live token")),
        Creation::UserChanged => Err(Error::Conflict("user has changed")),
    }
}

/// Changes the properties of a user's e-mail token, even if the token has expired. The value stays
/// the same. Returns `None` if the user has no e-mail token.
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
            scope: properties.scope.clone(),
            expiration_date: properties.expiration_date,
            updated_at: app.now(),
            revision: old.revision + 1,
            ..old.clone()
        };
        let ends_at = properties.expiry().expires_at();
        let update = app.identity.email_token_update(key, &old, &new, ends_at)?;
        match tokens::change(app, update).await? {
            WriteResult::Written => return Ok(Some(new)),
            WriteResult::Conflict(now) => there = now.filter(|token| user.accepts(app, token)),
        }
    }
    Ok(None)
}

/// Deletes a user's e-mail token, which revokes the token and the tokens that descend from it.
/// Returns the record of the deleted token, or `None` if the user has no e-mail token.
///
/// If other tokens descend from the token, they are ended first, while the record still exists. If
/// this takes more time than the request has, the next deletion finds the record and goes on.
///
/// # Errors
/// The database is unavailable.
pub async fn delete(
    app: &App,
    _right: MayWrite,
    user: &EmailUser,
    by: Author,
) -> Result<Option<EmailToken>> {
    let key = (&user.user.id).into();
    let ending = tokens::revocation(app, by);
    let can_end = |token: &EmailToken| token.ending || user.accepts(app, token);
    let stored = user.stored.as_ref().map(|stored| stored.token.clone());
    let mut there = stored.filter(can_end);
    while let Some(token) = there {
        let id = token.token_id;
        match tokens::end_email_token(app, key, id, false, &ending, true).await? {
            EmailTokenEnd::Ended(descendants) => {
                if descendants == DescendantState::Valid {
                    let ancestry = Ancestry::default();
                    end_descendants(app, key, id, ancestry, &ending).await?;
                }
                return Ok(Some(token));
            }
            EmailTokenEnd::Replaced(now) => there = now.filter(can_end),
        }
    }
    Ok(None)
}

/// Returns a page of the e-mail tokens of the caller's account or ecosystem, each with its user.
/// Also returns the list position of the last token that was read, or `None` at the end of the
/// list.
///
/// The tokens are read from an index, which may not yet contain the latest changes of the table.
/// The users are read from the table.
///
/// # Errors
/// The database is unavailable.
pub async fn list(
    app: &App,
    permit: &Permit<'_, MayRead>,
    after: Option<&ListKey>,
    limit: u32,
) -> Result<(Vec<(EmailToken, User)>, Option<ListKey>)> {
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
        let is_listed = ecosystem.account == caller.account
            && token.has_epoch_of(&user.state)
            && !app.is_rejected(token.token_id);
        is_listed.then(|| (token, user.clone()))
    });
    Ok((listed.collect(), last))
}

/// Replaces a user's e-mail token if the token's value has no valid tag or can never be decrypted.
/// The new token has the same properties. Returns whether the token was replaced. Does nothing if
/// the user has no e-mail token, if the user is inactive, or if the token's epoch is not the user's
/// epoch.
///
/// # Errors
/// The value key or the database is unavailable.
pub(super) async fn replace_untagged(app: &App, _right: MayWrite, id: &UserId) -> Result<bool> {
    let mut old_item = OldItem::Delete;
    loop {
        let found = Lookup::new(app).email_user(id.into()).read().await?;
        let Some((owner, ecosystem)) = found
            .user_record(id)
            .filter(|user| user.state.active)
            .zip(found.ecosystem_record(id.ecosystem()))
        else {
            return Ok(false);
        };
        let user = EmailUser {
            user: owner.clone(),
            account: ecosystem.account.clone(),
            settings: ecosystem.settings.clone(),
            stored: found.email_token(id).cloned(),
        };
        let Some(stored) = user.stored(app) else {
            return Ok(false);
        };
        let value = open(app, id, stored).await?;
        let deployment = app.deployment().await?;
        // A value that can never be decrypted is replaced, too.
        let value = value.and_then(|value| PlainToken::parse(&value));
        if value.is_some_and(|value| deployment.created_tag_of(&value)) {
            return Ok(false);
        }
        let old = &stored.token;
        let record = |token_id| EmailToken {
            token_id,
            revision: old.revision + 1,
            epoch: owner.state.epoch,
            previous_epoch: None,
            ..old.clone()
        };
        let replaced = Some((stored, old_item));
        let (written, ..) = store_new(app, &user, &old.properties(), replaced, record).await?;
        old_item = match written {
            EmailTokenWrite::Written => return Ok(true),
            EmailTokenWrite::OldHasDescendants(instead) => instead,
            EmailTokenWrite::Conflict(_) | EmailTokenWrite::UserChanged => OldItem::Delete,
        };
    }
}
