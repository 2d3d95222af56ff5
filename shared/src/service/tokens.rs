//! The tokens of an owner: making, listing and ending them.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::try_join;

use crate::{
    domain::{
        error::Result,
        owner::{Epoch, Owner, State, User},
        token::{Draft, Expiry, NewToken, PlainToken, Token, TokenId, TokenOwner},
    },
    service::{access::MayWrite, app::App, deadline::Deadline, verify::Lookup},
    store::{identity::Key, item::WriteResult, transaction::Change},
};

/// How long ended tokens are deleted before an answer. An execution environment stands still
/// once it has answered.
const SWEEP: Duration = Duration::from_millis(1500);
/// What is left of a request's time for its answer.
const MARGIN: Duration = Duration::from_millis(200);

/// Makes a token and stores it, alone or in one transaction with something else: the one function through which every
/// token is made.
///
/// `with` composes the rest of the transaction once the token is drawn; it is an outcome at once if there is no rest.
/// The token is valid only if the outcome says that the transaction was written.
///
/// # Errors
/// The database is unavailable, or `with` fails.
pub(super) async fn make<R>(
    app: &App,
    draft: Draft,
    with: impl AsyncFnOnce(&Token, &PlainToken) -> Result<Rest<R>>,
) -> Result<(R, Token, PlainToken)> {
    let (token, plain) = Token::draw(draft, &mut *app.rng());
    let outcome = match with(&token, &plain).await? {
        Rest::Nothing(outcome) => {
            app.identity.insert_token(&token).await?;
            outcome
        }
        Rest::Transaction(other) => {
            let change = app.identity.insert_token_with(&token, other)?;
            app.identity.commit(change).await?
        }
    };
    Ok((outcome, token, plain))
}

/// What is stored together with a new token.
pub(super) enum Rest<R> {
    /// Nothing. The outcome if the token is stored.
    Nothing(R),
    /// Something, with its outcome.
    Transaction(Change<R>),
}

/// Ends or changes tokens: the one function through which every such write goes. Not through it go renewals, the end
/// of what nobody used in time, and the deletion of records of tokens that have ended.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn change<R>(app: &App, change: Change<R>) -> Result<R> {
    app.identity.commit(change).await
}

/// Mints a token for an owner as it was just read or made.
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
    let nothing = async |_: &Token, _: &PlainToken| Ok(Rest::Nothing(()));
    let ((), token, plain) = make(app, draft, nothing).await?;
    Ok((token, plain))
}

/// Revokes one token.
///
/// # Errors
/// The database is unavailable.
pub async fn revoke(app: &App, _right: MayWrite, token: &Token) -> Result<()> {
    end(app, token).await
}

/// Revokes a token on the request of whoever presents it. A text that is no token's is ignored.
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
    // The record of an e-mail token goes with it: a log-in must not return an invalid one.
    let is_email_token = matches!(token.expiry, Expiry::Email { .. });
    let (owner, id) = (token.owner, token.id);
    if is_email_token {
        let deletion = app.identity.delete_email_token(owner, id)?;
        if let WriteResult::Written = change(app, deletion).await? {
            return Ok(());
        }
    }
    let revocation = app.identity.revoke(owner, id, app.now().seconds())?;
    change(app, revocation).await
}

/// Revokes all tokens of a user, however many, by one write; then deletes as many of their records as it can in
/// [`SWEEP`]. The rest is deleted by the next such request, or by its TTL.
///
/// # Errors
/// The database is unavailable, before the write.
pub async fn revoke_all(
    app: &App,
    _right: MayWrite,
    user: &User,
    deadline: Deadline,
) -> Result<()> {
    let key = (&user.id).into();
    let incarnation = user.state.incarnation;
    let mut current = Some(user.clone());
    // If it was deleted meanwhile, all its tokens were with it.
    while let Some(now) = current.filter(|now| now.state.incarnation == incarnation) {
        let next = User {
            state: State {
                epoch: Epoch::generate(&mut *app.rng()),
                version: now.state.version + 1,
                ..now.state
            },
            ..now.clone()
        };
        let replacement = app.identity.replace_user(&now, &next)?;
        current = match change(app, replacement).await? {
            WriteResult::Written => break,
            WriteResult::Conflict(there) => there,
        };
    }
    let sweep = deadline.before(MARGIN, app.identity.sweep_tokens(key));
    if let Ok(Ok(Err(error))) = tokio::time::timeout(SWEEP, sweep).await {
        tracing::warn!(cause = ?error, "ended tokens are not all deleted");
    }
    Ok(())
}

/// A page of an owner's live tokens, newest first, and the last one that was looked at, unless it was the last of all.
///
/// # Errors
/// The database is unavailable.
pub async fn list_live(
    app: &App,
    owner: &Owner,
    after: Option<TokenId>,
    limit: u32,
) -> Result<(Vec<Token>, Option<TokenId>)> {
    let now = app.now().seconds();
    // Tokens of a short code's user end with its environment.
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
    let ended = environment.is_some_and(|id| found.environment(id).is_none());
    tokens.retain(|token| !ended && token.counts_for(owner.state(), now) && !app.is_void(token.id));
    Ok((tokens, last))
}
