//! The tokens of an owner: making, listing and ending them.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::try_join;

use crate::{
    domain::{
        error::Result,
        owner::{Epoch, Owner},
        token::{Expiry, NewToken, PlainToken, Token, TokenId},
    },
    service::{app::App, deadline::Deadline, verify::Lookup},
    store::{identity::Key, item::WriteResult},
};

/// How long ended tokens are deleted before an answer. An execution environment stands still
/// once it has answered.
const SWEEP: Duration = Duration::from_millis(1500);
/// What is left of a request's time for its answer.
const MARGIN: Duration = Duration::from_millis(200);

/// Makes a token for an owner as it was just read or made.
///
/// # Errors
/// The database is away.
pub async fn mint(app: &App, owner: &Owner, wanted: NewToken) -> Result<(Token, PlainToken)> {
    let (token, plain) = Token::mint(&owner.id, owner.epoch, wanted, app.now(), &mut *app.rng());
    app.identity.insert_token(&token).await?;
    Ok((token, plain))
}

/// Ends a token for good.
///
/// # Errors
/// The database is away.
pub async fn revoke(app: &App, token: &Token) -> Result<()> {
    // What names an e-mail token goes with it: a log-in must not give a dead one.
    let is_email_token = matches!(token.expiry, Expiry::Email { .. });
    let (owner, id) = (token.owner, token.id);
    if is_email_token
        && let WriteResult::Written = app.identity.delete_email_token(owner, id).await?
    {
        return Ok(());
    }
    app.identity.revoke(owner, id, app.now().seconds()).await
}

/// Ends a token of whomever, if it is one; whoever has it may.
///
/// # Errors
/// The database is away.
pub async fn revoke_itself(app: &App, token: &PlainToken) -> Result<()> {
    let found = app.identity.read(&BTreeSet::from([Key::of(token)])).await?;
    match found.token(token.owner(), token.id()) {
        Some(record) if record.token_hash == token.hashed() => revoke(app, record).await,
        _ => Ok(()),
    }
}

/// Ends all tokens of a user, however many, by one write; then deletes what it can of them in a
/// while. What is left of them counts nowhere, and goes with the next time or by its TTL.
///
/// # Errors
/// The database is away, before the write.
pub async fn revoke_all(app: &App, user: &Owner, deadline: Deadline) -> Result<()> {
    let key = user.id.key();
    let mut current = Some(user.clone());
    // Where it was deleted meanwhile, all its tokens were with it.
    while let Some(now) = current.filter(|now| now.born == user.born) {
        let next = Owner {
            epoch: Epoch::generate(&mut *app.rng()),
            version: now.version + 1,
            ..now.clone()
        };
        current = match app.identity.replace_owner(&now, &next).await? {
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

/// A page of an owner's live tokens, newest first, and the last one that was looked at, unless it was
/// the last of all.
///
/// # Errors
/// The database is away.
pub async fn list_live(
    app: &App,
    owner: &Owner,
    after: Option<TokenId>,
    limit: u32,
) -> Result<(Vec<Token>, Option<TokenId>)> {
    let now = app.now().seconds();
    // Tokens of a short code's user count no longer than its environment.
    let environment = owner.environment.as_ref();
    let lookup = Lookup::new(app).environment(environment);
    let (tokens, found) = try_join(
        app.identity.tokens(owner.id.key(), after, limit),
        lookup.read(),
    )
    .await?;
    let (mut tokens, last) = tokens;
    let ended = environment.is_some_and(|id| found.environment(id).is_none());
    tokens.retain(|token| !ended && token.counts_for(owner, now) && !app.is_void(token.id));
    Ok((tokens, last))
}
