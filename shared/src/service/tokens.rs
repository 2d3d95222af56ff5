//! Creates, lists, changes and revokes the tokens of an owner.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use futures_util::future::try_join;

use crate::{
    domain::{
        deployment::Schema,
        email_token::EmailToken,
        error::{Error, Result},
        owner::{Epoch, Owner, OwnerKey, State, User},
        token::{
            Author, Draft, EndReason, EndedToken, Ending, Expiry, PlainToken, Token, TokenChange,
            TokenId,
        },
    },
    service::{
        access::{Grant, MayRead, MayWrite, Permit, TokenRecipient},
        app::App,
        deadline::Deadline,
        descendants::{DescendantState, End, end_descendants, end_one, of_ended},
        directory::environment_exists,
        limit::{self, Relatives},
        verify::Lookup,
    },
    store::{
        identity::{self, Belongs, Erasure, Key, StoredToken, Target},
        item::WriteResult,
        transaction::Change,
    },
};

/// How long a request may spend on deleting records of revoked tokens. The deletion must end before
/// the response, because Lambda freezes the execution environment after the response.
const SWEEP: Duration = Duration::from_millis(1500);
/// The time that is reserved for the response before the deadline of the request.
const MARGIN: Duration = Duration::from_millis(200);

/// Creates a token and stores it, alone or in one transaction with other writes. Every token is
/// created by this function. If the owner is a user with a limit of tokens, the token is stored
/// within the limit.
///
/// `with` gets the generated token and returns the other writes. If there are no other writes,
/// `with` returns the outcome instead. The token is valid only if the outcome says that all writes
/// were stored.
///
/// # Errors
/// The database is unavailable, or `with` fails. [`Error::Conflict`](crate::domain::error::Error)
/// if the user has the most tokens allowed; then nothing is written.
pub(super) async fn create<R: Send + 'static>(
    app: &App,
    draft: Draft,
    relatives: Relatives,
    with: impl AsyncFnOnce(&Token, &PlainToken) -> Result<OtherWrites<R>>,
) -> Result<(R, Token, PlainToken)> {
    let tag_key = app.tag_key().await?;
    let limit = draft.owner.limit;
    let (token, plain) = Token::generate(draft, tag_key.as_ref(), &mut *app.rng());
    let outcome = match (with(&token, &plain).await?, limit) {
        (other, Some(limit)) => {
            Box::pin(limit::store(app, limit, &token, relatives, other)).await?
        }
        (OtherWrites::None(outcome), None) => {
            app.identity.insert_token(&token).await?;
            outcome
        }
        (OtherWrites::Some(other), None) => {
            let change = app.identity.with_token(&token, other)?;
            app.identity.commit(change).await?
        }
    };
    Ok((outcome, token, plain))
}

/// The writes that are stored together with a new token.
pub(super) enum OtherWrites<R> {
    /// No other writes. Contains the outcome to return after the token is stored.
    None(R),
    /// Other writes, which return the outcome.
    Some(Change<R>),
}

/// Sends a write that revokes or changes tokens, or that changes an owner. All these writes go
/// through this function, with five exceptions: renewing a token, storing its last use, marking an
/// unused sliding token as expired, deleting the records of tokens that are already invalid, and
/// the transaction of a new token, which may end older tokens of the user ([`create`]). The links
/// of descendants decide nothing about the validity of a token, so their changes do not go through
/// this function.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn change<R>(app: &App, change: Change<R>) -> Result<R> {
    app.identity.commit(change).await
}

/// Creates a token for an owner that was just read or created.
///
/// # Errors
/// The database is unavailable.
pub async fn mint(app: &App, grant: Grant) -> Result<(Token, PlainToken)> {
    let draft = grant.draft(app.now());
    let nothing = async |_: &Token, _: &PlainToken| Ok(OtherWrites::None(()));
    let ((), token, plain) = create(app, draft, Relatives::default(), nothing).await?;
    Ok((token, plain))
}

/// What is stored about a token.
#[derive(Clone, Debug)]
pub enum TokenRecord {
    /// The token was not revoked. It may be expired or disabled.
    Token(Box<Token>),
    /// The token was revoked.
    Ended(Box<EndedToken>),
}

/// Returns the error for a token of which nothing is stored.
pub fn no_token(id: TokenId) -> Error {
    Error::NotFound(format!("Token with id {id} does not exist."))
}

/// Returns what is stored about an owner's token. A token that ended together with all other tokens
/// of its owner counts as not stored.
///
/// # Errors
/// [`Error::NotFound`] if nothing is stored; [`Error::Unavailable`] if the database is unavailable.
pub async fn look<A>(
    app: &App,
    permit: &Permit<'_, A>,
    owner: &Owner,
    id: TokenId,
) -> Result<TokenRecord> {
    let key = owner.key();
    if let Some(token) = permit.token_of(key, id)
        && is_kept(app, owner, token).await?
    {
        return Ok(TokenRecord::Token(Box::new(token.clone())));
    }
    let ended = permit.ended_token_of(key, id);
    let ended = ended.filter(|token| token.ended_at.is_some());
    ended
        .map(|token| TokenRecord::Ended(Box::new(token.clone())))
        .ok_or_else(|| no_token(id))
}

/// Returns whether a token has not ended together with other tokens, and `TOKENRY_NOT_BEFORE` does
/// not reject it.
async fn is_kept(app: &App, owner: &Owner, token: &Token) -> Result<bool> {
    Ok(!app.is_rejected(token.id) && !ended_with_others(app, Some(owner), token).await?)
}

/// Returns whether a token has ended for all time together with other tokens. `owner` is `None` if
/// the owner was deleted. `token` and `owner` come from one read.
///
/// A token that `TOKENRY_NOT_BEFORE` rejects has not ended for all time, because an operator can
/// set an earlier time. So it can be revoked.
async fn ended_with_others(app: &App, owner: Option<&Owner>, token: &Token) -> Result<bool> {
    // After a migration, tokens without a tag are invalid.
    if token.tag_key.is_none() && app.deployment().await?.schema != Schema::One {
        return Ok(true);
    }
    if owner.is_none_or(|owner| !token.is_of(owner.state())) {
        // A read of several items is not atomic: the token may have got the owner's new epoch after
        // it was read. A token that still has another epoch after the owner was read has ended.
        let key = BTreeSet::from([Key::token(token.owner, token.id)]);
        let found = app.identity.read(&key).await?;
        let there = found.token(token.owner, token.id);
        let there = there.or(found.disabled_token(token.owner, token.id));
        return Ok(there.is_none_or(|there| there.epoch == token.epoch));
    }
    // The tokens of a user of an environment end with the environment.
    match owner {
        Some(Owner::User(user)) => Ok(!environment_exists(app, user).await?),
        Some(Owner::Account(_) | Owner::Ecosystem(_)) | None => Ok(false),
    }
}

/// Changes a token. Returns its new record.
///
/// A caller that is the token's user may only rename the token, narrow its scope and disable it.
/// Any other caller may not grant scopes that the caller lacks (`Verified::must_be_able_to_grant`).
/// A caller that enables a token grants all its scopes.
///
/// # Errors
/// [`Error::NotFound`] if nothing is stored about the token; [`Error::Forbidden`] and
/// [`Error::InsufficientScope`] if the caller may not make this change; [`Error::Conflict`] if the
/// token has ended, or is an e-mail token; [`Error::Unavailable`] if the database is unavailable.
pub async fn update(
    app: &App,
    permit: &Permit<'_, MayWrite>,
    owner: &Owner,
    id: TokenId,
    wanted: &TokenChange,
) -> Result<TokenRecord> {
    let ended = || Error::Conflict("token has ended");
    if permit.is_only_own() && wanted.metadata.is_some() {
        return Err(Error::Forbidden);
    }
    let TokenRecord::Token(mut old) = look(app, permit, owner, id).await? else {
        return Err(ended());
    };
    loop {
        if matches!(old.expiry, Expiry::Email { .. }) {
            return Err(Error::Conflict("token is an e-mail token"));
        }
        let new = wanted.of(&old);
        let enables = old.is_disabled && !new.is_disabled;
        if permit.is_only_own() {
            let widens = old.scope.missing(&new.scope).is_some();
            if enables || widens {
                return Err(Error::Forbidden);
            }
        } else {
            // A caller that enables a token grants everything that the token allows.
            let granted = if enables {
                Some(new.scope.clone())
            } else {
                old.scope.added_own(&new.scope)
            };
            let recipient = match owner {
                Owner::User(user) => TokenRecipient::User(user),
                Owner::Account(_) | Owner::Ecosystem(_) => TokenRecipient::Server,
            };
            if let Some(granted) = granted {
                permit.caller().must_be_able_to_grant(&granted, recipient)?;
            }
        }
        if !old.expiry.is_valid_at(app.now().seconds()) {
            return Err(ended());
        }
        let write = app.identity.token_update(&old, &new)?;
        old = match change(app, write).await? {
            WriteResult::Written => return Ok(TokenRecord::Token(Box::new(new))),
            WriteResult::Conflict(Some(
                StoredToken::Token(token) | StoredToken::Disabled(token),
            )) => {
                // A change of the user's password may have moved the user and the token into a new
                // epoch.
                let current = app.identity.owner(owner.key()).await?;
                match current.filter(|current| current.id() == owner.id()) {
                    Some(owner) if is_kept(app, &owner, &token).await? => token,
                    _ => return Err(ended()),
                }
            }
            WriteResult::Conflict(_) => return Err(ended()),
        };
    }
}

/// Revokes an owner's token, which `id` identifies, and the tokens that descend from it. If the
/// token was revoked before, ends the descendants that an earlier request had no time to end. A
/// token that ended together with other tokens counts as not stored.
///
/// # Errors
/// [`Error::NotFound`] if nothing is stored about the token; [`Error::Unavailable`] if the database
/// is unavailable.
pub async fn revoke(
    app: &App,
    permit: &Permit<'_, MayWrite>,
    owner: impl Into<Owner>,
    id: TokenId,
) -> Result<()> {
    let owner = owner.into();
    let (key, by) = (owner.key(), permit.caller().author());
    match permit.token_of(key, id) {
        Some(token) if ended_with_others(app, Some(&owner), token).await? => Err(no_token(id)),
        // The record stays as it is. Descendants of the token have expired too.
        Some(Token {
            expiry: Expiry::FixedTtl { expires_at, .. },
            ..
        }) if *expires_at <= app.now().seconds() => Ok(()),
        Some(token) => end(app, token, by).await,
        None => match permit.ended_token_of(key, id) {
            Some(token) => end_remaining(app, token, by).await,
            None => Err(no_token(id)),
        },
    }
}

/// Revokes a token that its holder sent, and the tokens that descend from it. The token is the only
/// credential that is needed. Does nothing if the token is not stored, or if it ended together with
/// other tokens.
///
/// # Errors
/// The database is unavailable.
pub async fn revoke_itself(app: &App, token: &PlainToken) -> Result<()> {
    let (owner, id, hash) = (token.owner(), token.id(), token.hashed());
    let by = Author {
        holder: token.holder(),
        token: id,
    };
    let keys = BTreeSet::from([Key::of(token), Key::owner(owner)]);
    let found = app.identity.read(&keys).await?;
    let stored = found.token(owner, id).or(found.disabled_token(owner, id));
    match (stored, found.ended_token(owner, id)) {
        (Some(record), _) if record.token_hash == hash => {
            if ended_with_others(app, found.owner(owner), record).await? {
                return Ok(());
            }
            end(app, record, by).await
        }
        (None, Some(record)) if record.ended_hash.as_ref() == Some(&hash) => {
            end_remaining(app, record, by).await
        }
        _ => Ok(()),
    }
}

async fn end(app: &App, token: &Token, by: Author) -> Result<()> {
    let (owner, id, has_descendants) = (token.owner, token.id, token.descendants.is_some());
    let ending = revocation(app, by);
    // An e-mail token has a second record, which log-in reads. Delete this record too, because
    // log-in must not return an invalid token.
    let descendants = match token.expiry {
        Expiry::Email { .. } => {
            let ended = end_email_token(app, owner, id, has_descendants, &ending, false).await?;
            match ended {
                EmailTokenEnd::Ended(descendants) => Some(descendants),
                EmailTokenEnd::Replaced(_) => None,
            }
        }
        _ => None,
    };
    let mut token = Cow::Borrowed(token);
    let descendants = match descendants {
        Some(descendants) => descendants,
        None => loop {
            let (belongs, makes) = (Belongs::ToEpoch(token.epoch), token.descendants.is_some());
            match end_one(app, owner, id, belongs, makes, &ending).await? {
                End::Ended(descendants) => break descendants,
                // The user changed the password with the token, so the token has another ancestry.
                End::Moved(moved) => token = Cow::Owned(*moved),
            }
        },
    };
    match descendants {
        DescendantState::Valid => end_descendants(app, owner, id, token.ancestry, &ending).await,
        DescendantState::Ended | DescendantState::Unknown => Ok(()),
    }
}

/// Ends the tokens that descend from a token that was revoked before, if some may still be valid.
async fn end_remaining(app: &App, token: &EndedToken, by: Author) -> Result<()> {
    if !token.has_valid_descendants() {
        return Ok(());
    }
    let ending = revocation(app, by);
    // If this request runs out of time, too, the eraser goes on. There is no erasure yet if the
    // token has ended because a log-in replaced it.
    let (owner, id) = (token.owner, token.id);
    let target = Target::Descendants { owner, token: id };
    let at = app.now();
    let erasure = Erasure { target, at };
    app.identity.store_erasure_if_none(&erasure).await?;
    end_descendants(app, owner, id, token.ancestry(), &ending).await
}

pub(super) fn revocation(app: &App, by: Author) -> Ending {
    Ending {
        at: app.now().seconds(),
        reason: EndReason::Revoked,
        by,
    }
}

/// The result of [`end_email_token`].
pub(super) enum EmailTokenEnd {
    /// The record was deleted, and the token has ended.
    Ended(DescendantState),
    /// The user has another e-mail token, or none.
    Replaced(Option<EmailToken>),
}

/// Ends a user's e-mail token and deletes its record, in one transaction. `has_descendants` says
/// whether the token is known to have descendants. If this is `false`, but the transaction finds
/// descendants and `descendants_first` is `true`, this function ends the token and its descendants
/// before it deletes the record, so that a repeated request finds the record and goes on.
/// Meanwhile, the record is marked as ending, so that no log-in returns the ended token. After this
/// function, the caller must end the descendants that may still be valid.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn end_email_token(
    app: &App,
    user: OwnerKey,
    id: TokenId,
    has_descendants: bool,
    ending: &Ending,
    descendants_first: bool,
) -> Result<EmailTokenEnd> {
    let mut descendants = if has_descendants {
        DescendantState::Valid
    } else {
        DescendantState::Ended
    };
    let mut has_descendants = Some(has_descendants);
    loop {
        let deletion = app
            .identity
            .email_token_deletion(user, id, has_descendants, ending)?;
        match change(app, deletion).await? {
            identity::EmailTokenEnd::Written => return Ok(EmailTokenEnd::Ended(descendants)),
            identity::EmailTokenEnd::RecordChanged(there) => {
                return Ok(EmailTokenEnd::Replaced(there));
            }
            identity::EmailTokenEnd::TokenChanged(Some(
                StoredToken::Token(token) | StoredToken::Disabled(token),
            )) if has_descendants == Some(false) => {
                if descendants_first {
                    // End the token at once. Otherwise its holder could make tokens faster than
                    // they are ended.
                    let epoch = Epoch::generate(&mut *app.rng());
                    let end =
                        app.identity
                            .email_token_end(user, id, epoch, token.is_disabled, ending)?;
                    if let identity::EmailTokenEnd::Written = change(app, end).await? {
                        end_descendants(app, user, id, token.ancestry, ending).await?;
                        has_descendants = None;
                    }
                } else {
                    (has_descendants, descendants) = (Some(true), DescendantState::Valid);
                }
            }
            // The token has ended, so only the record is left.
            identity::EmailTokenEnd::TokenChanged(there) => {
                (has_descendants, descendants) = (None, DescendantState::Ended);
                match there {
                    Some(StoredToken::Ended(token))
                        if descendants_first && token.has_valid_descendants() =>
                    {
                        end_descendants(app, user, id, token.ancestry(), ending).await?;
                    }
                    there => descendants = of_ended(there),
                }
            }
        }
    }
}

/// Revokes all tokens of a user with one write. Then deletes the records of these tokens until the
/// time limit. If records or links remain, puts an erasure of them into the queue.
///
/// # Errors
/// The database is unavailable during the write. An error after that is only logged.
pub async fn revoke_all(
    app: &App,
    _right: MayWrite,
    user: &User,
    deadline: Deadline,
) -> Result<()> {
    let key = (&user.id).into();
    let incarnation = user.state.incarnation;
    let mut current = Some(user.clone());
    // If the user was deleted meanwhile, all tokens of the user are already invalid.
    while let Some(now) = current.filter(|now| now.state.incarnation == incarnation) {
        let next = User {
            state: State {
                epoch: Epoch::generate(&mut *app.rng()),
                kept: None,
                version: now.state.version + 1,
                ..now.state
            },
            ..now.clone()
        };
        let replacement = app.identity.user_replacement(&now, &next)?;
        current = match change(app, replacement).await? {
            WriteResult::Written => break,
            WriteResult::Conflict(there) => there,
        };
    }
    let sweep = deadline.before(MARGIN, app.identity.sweep_tokens(key));
    let swept = match tokio::time::timeout(SWEEP, sweep).await {
        Ok(Ok(Ok(swept))) => swept,
        Ok(Ok(Err(error))) => {
            tracing::warn!(cause = ?error, "cannot delete all records of revoked tokens");
            false
        }
        Ok(Err(_)) | Err(_) => false,
    };
    if !swept {
        let target = Target::Tokens(key);
        let erasure = Erasure {
            target,
            at: app.now(),
        };
        if let Err(error) = app.identity.store_erasure(&erasure).await {
            tracing::warn!(cause = ?error, "cannot queue the erasure of the remaining records of revoked tokens");
        }
    }
    Ok(())
}

/// How many capacity units of records a list reads before it returns a page that is shorter than
/// requested: 1 MB. The records of revoked tokens stay for 90 days, so many of them may follow each
/// other.
const LOOK_AT: f64 = 256.0;
/// How many milliseconds a list reads before it returns a page that is shorter than requested.
const LOOK_FOR: u64 = 500;
/// The minimum number of records that a list reads at once while it has found no valid token.
const FURTHER: usize = 100;
/// The maximum number of records that a list reads at once.
const MOST: usize = 1000;

/// Returns a page of an owner's valid and disabled tokens, newest first. Also returns the id of the
/// last token that was read, or `None` at the end of the list.
///
/// # Errors
/// The database is unavailable.
pub async fn list_valid(
    app: &App,
    _right: MayRead,
    owner: &Owner,
    after: Option<TokenId>,
    limit: u32,
) -> Result<(Vec<Token>, Option<TokenId>)> {
    let now = app.now().seconds();
    // If the owner is a user that a short code created, the user has an environment. The user's
    // tokens are invalid if the environment was deleted.
    let environment = match owner {
        Owner::User(user) => user.environment.as_ref(),
        Owner::Account(_) | Owner::Ecosystem(_) => None,
    };
    let lookup = Lookup::new(app).environment(environment);
    let wanted = limit as usize;
    let started = app.now();
    let (mut page, found) = try_join(
        app.identity.tokens(owner.key(), after, limit),
        lookup.read(),
    )
    .await?;
    if environment.is_some_and(|id| found.environment(id).is_none()) {
        return Ok((Vec::new(), page.last));
    }
    // After a migration, the records of tokens without a tag are deleted. Until then, these tokens
    // are already invalid.
    let untagged_are_valid = app.deployment().await?.schema == Schema::One;
    let valid = |token: &Token| {
        (untagged_are_valid || token.tag_key.is_some())
            && token.is_of(owner.state())
            && token.expiry.is_valid_at(now)
            && !app.is_rejected(token.id)
    };
    let (mut tokens, mut looked_at, mut capacity) = (Vec::new(), 0, 0.0);
    loop {
        page.tokens.retain(valid);
        tokens.append(&mut page.tokens);
        looked_at += page.looked_at;
        capacity += page.capacity;
        if tokens.len() > wanted {
            tokens.truncate(wanted);
            let last = tokens.last().map(|token| token.id);
            return Ok((tokens, last));
        }
        let is_late = app.now().millis().saturating_sub(started.millis()) >= LOOK_FOR;
        if page.last.is_none() || tokens.len() == wanted || capacity >= LOOK_AT || is_late {
            return Ok((tokens, page.last));
        }
        // Read as many records as will fill the page if the share of valid tokens stays the same.
        let missing = wanted - tokens.len();
        let next = match tokens.len() {
            0 => (missing * looked_at).max(FURTHER),
            found => (missing * looked_at).div_ceil(found),
        };
        let next = u32::try_from(next.min(MOST)).unwrap_or(limit);
        page = app.identity.tokens(owner.key(), page.last, next).await?;
    }
}
