//! Creates, lists and revokes the tokens of an owner.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::try_join;

use crate::{
    domain::{
        deployment::Schema,
        error::Result,
        owner::{Epoch, Owner, State, User},
        token::{Draft, Expiry, NewToken, PlainToken, Token, TokenId, TokenOwner},
    },
    service::{
        access::{MayRead, MayWrite},
        app::App,
        deadline::Deadline,
        verify::Lookup,
    },
    store::{identity::Key, item::WriteResult, transaction::Change},
};

/// How long a request may spend on deleting records of revoked tokens. The deletion must end before
/// the response, because Lambda freezes the execution environment after the response.
const SWEEP: Duration = Duration::from_millis(1500);
/// The time that is reserved for the response before the deadline of the request.
const MARGIN: Duration = Duration::from_millis(200);

/// Creates a token and stores it, alone or in one transaction with other writes. Every token is
/// created by this function.
///
/// `with` gets the generated token and returns the other writes. If there are no other writes,
/// `with` returns the outcome instead. The token is valid only if the outcome says that all writes
/// were stored.
///
/// # Errors
/// The database is unavailable, or `with` fails.
pub(super) async fn create<R>(
    app: &App,
    draft: Draft,
    with: impl AsyncFnOnce(&Token, &PlainToken) -> Result<OtherWrites<R>>,
) -> Result<(R, Token, PlainToken)> {
    let tag_key = app.tag_key().await?;
    let (token, plain) = Token::generate(draft, tag_key.as_ref(), &mut *app.rng());
    let outcome = match with(&token, &plain).await? {
        OtherWrites::None(outcome) => {
            app.identity.insert_token(&token).await?;
            outcome
        }
        OtherWrites::Some(other) => {
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

/// Sends a write that revokes or changes tokens. All these writes go through this function, with
/// three exceptions: renewing a token, marking an unused sliding token as expired, and deleting the
/// records of tokens that are already invalid.
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
pub async fn mint(
    app: &App,
    _right: MayWrite,
    owner: impl Into<TokenOwner>,
    wanted: NewToken,
) -> Result<(Token, PlainToken)> {
    let draft = Draft::new(owner.into(), wanted, app.now());
    let nothing = async |_: &Token, _: &PlainToken| Ok(OtherWrites::None(()));
    let ((), token, plain) = create(app, draft, nothing).await?;
    Ok((token, plain))
}

/// Revokes one token.
///
/// # Errors
/// The database is unavailable.
pub async fn revoke(app: &App, _right: MayWrite, token: &Token) -> Result<()> {
    end(app, token).await
}

/// Revokes a token that its holder sent. The token is the only credential that is needed. Does
/// nothing if the token is not stored.
///
/// # Errors
/// The database is unavailable.
pub async fn revoke_itself(app: &App, token: &PlainToken) -> Result<()> {
    let found = app.identity.read(&BTreeSet::from([Key::of(token)])).await?;
    match found.token(token.owner(), token.id()) {
        Some(record) if record.token_hash == token.hashed() => end(app, record).await,
        _ => Ok(()),
    }
}

async fn end(app: &App, token: &Token) -> Result<()> {
    // An e-mail token has a second record, which log-in reads. Delete both records, because log-in
    // must not return an invalid token.
    let is_email_token = matches!(token.expiry, Expiry::Email { .. });
    let (owner, id) = (token.owner, token.id);
    if is_email_token {
        let deletion = app.identity.email_token_deletion(owner, id)?;
        if let WriteResult::Written = change(app, deletion).await? {
            return Ok(());
        }
    }
    let revocation = app.identity.revocation(owner, id, app.now().seconds())?;
    change(app, revocation).await
}

/// Revokes all tokens of a user with one write. Then deletes the records of these tokens until the
/// time limit. The next call of this function, or the TTL of the records, deletes the remaining
/// records.
///
/// # Errors
/// The database is unavailable during the write. An error during the deletion of the records is
/// only logged.
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
    if let Ok(Ok(Err(error))) = tokio::time::timeout(SWEEP, sweep).await {
        tracing::warn!(cause = ?error, "cannot delete all records of revoked tokens");
    }
    Ok(())
}

/// Returns a page of an owner's valid tokens, newest first. Also returns the id of the last token
/// that was read, or `None` at the end of the list.
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
    let (tokens, found) = try_join(
        app.identity.tokens(owner.key(), after, limit),
        lookup.read(),
    )
    .await?;
    let (mut tokens, last) = tokens;
    // After a migration, the records of tokens without a tag are deleted. Until then, these tokens
    // are already invalid.
    let untagged_are_valid = app.deployment().await?.schema == Schema::One;
    let ended = environment.is_some_and(|id| found.environment(id).is_none());
    tokens.retain(|token| {
        !ended
            && (untagged_are_valid || token.tag_key.is_some())
            && token.is_valid_for(owner.state(), now)
            && !app.is_rejected(token.id)
    });
    Ok((tokens, last))
}
