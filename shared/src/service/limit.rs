//! The limit of tokens of a user: stores a new token of a user who has a limit.
//!
//! The item `limit` in the user's partition contains the ids of the user's tokens. The transaction
//! that stores a new token also changes this item, on the condition that the item is as it was
//! read. So of several requests that create a token of the user at the same time, one succeeds, and
//! the others try again.
//!
//! A token takes a place until it ends. A disabled token takes a place. An e-mail token takes a
//! place even if it has expired, because a client can set a later expiry.
//!
//! If the item does not contain all tokens of the user, they are read, newest first. The item
//! contains the progress of the reading. So if a request runs out of time, the next request goes
//! on. Until the reading is finished, no token can be stored, except an e-mail token that takes the
//! place of another token. The item then contains this token too.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures_util::future::try_join_all;

use crate::{
    domain::{
        deployment::Schema,
        error::{Error, Result},
        owner::{MaxTokens, Owner, State, TokenLimit, WhenFull},
        time::UnixSeconds,
        token::{
            Author, EndReason, Ending, Expiry, Holder, Maker, Places, Reading, Taken, Token,
            TokenId,
        },
    },
    service::{
        app::App,
        deadline::Deadline,
        descendants::{DescendantState, End, end_descendants, end_one},
        tokens::{self, OtherWrites},
    },
    store::{
        client::pause,
        identity::{Belongs, Key, PlacesChange},
        transaction::Attempt,
    },
};

/// The maximum pause before the second attempt. The maximum is doubled before each further attempt,
/// up to [`LONGEST_PAUSE`]. The attempts end at the deadline of the request.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);
/// How many tokens are written at once. It is also the maximum number of tokens that end in the
/// transaction of the new token. A transaction has at most 100 writes.
const BATCH: usize = 25;
/// How long after its beginning the storing of a token may still end the descendants of tokens that
/// made room for it. The rest of the request's time is for the other work and for the response.
const END_DESCENDANTS: Duration = Duration::from_secs(1);
/// How many seconds after the expiry of a sliding token a renewal can still reach the database.
/// DynamoDB accepts a signed request for 15 minutes, and the clocks may differ.
const LATE_SECONDS: u64 = 20 * 60;

/// The error if a user has the most tokens allowed.
const FULL: Error = Error::Conflict(FULL_MESSAGE);
const FULL_MESSAGE: &str = "user has the most tokens allowed";

/// Returns whether this is the error if a user has the most tokens allowed.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Conflict(message) if *message == FULL_MESSAGE)
}

/// The tokens of the user to which a new token is related.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Relatives {
    /// The e-mail token that the new token replaces. The new token takes its place.
    pub(super) replaced: Option<TokenId>,
    /// The user's own token that makes the new token. The new token ends if this token or one of
    /// its makers ends. So none of them is ended to make room for the new token.
    pub(super) maker: Option<Maker>,
}

/// Stores a new token of a user within the limit, together with other writes. If another request
/// creates a token of the same user at the same time, tries again until the deadline of the
/// request.
///
/// # Errors
/// [`Error::Conflict`] if the user has the most tokens allowed and none of them can be revoked;
/// then neither the token nor the other writes are stored. [`Error::Unavailable`] if the database
/// is unavailable.
pub(super) async fn store<R: Send + 'static>(
    app: &App,
    limit: TokenLimit,
    token: &Token,
    relatives: Relatives,
    other: OtherWrites<R>,
) -> Result<R> {
    let mut change = match other {
        OtherWrites::None(outcome) => app.identity.token_insertion(token, outcome)?,
        OtherWrites::Some(other) => app.identity.with_token(token, other)?,
    };
    let user = token.owner;
    let keys = BTreeSet::from([Key::owner(user), Key::places(user)]);
    let (mut longest, until) = (FIRST_PAUSE, Deadline::after(END_DESCENDANTS));
    loop {
        let found = app.identity.read(&keys).await?;
        let (mut owner, stored) = (found.owner(user).cloned(), found.places(user).cloned());
        // A read of several items is not atomic. So if the item has another epoch, the user may
        // have been read before it got this epoch. Then the new token must not change the item.
        if stored
            .as_ref()
            .is_some_and(|stored| stored.epoch != token.epoch)
        {
            owner = app.identity.owner(user).await?;
        }
        let state = owner.as_ref().map(Owner::state);
        let Some(state) = state.filter(|state| state.active && state.epoch == token.epoch) else {
            // The user has changed since it was read. The new token is never valid, so it takes no
            // place.
            return tokens::change(app, change).await;
        };
        let is_short_code = matches!(&owner, Some(Owner::User(user)) if user.id.is_short_code());
        let mut request = NewPlace {
            app,
            limit,
            owner: state,
            token,
            relatives,
            now: app.now().seconds(),
            untagged_are_valid: app.deployment().await?.schema == Schema::One,
            first_is_counted: !is_short_code,
            stored,
        };
        let Some((new, ends)) = request.make_room().await? else {
            pause(longest).await;
            longest = LONGEST_PAUSE.min(longest * 2);
            continue;
        };
        let ending = request.ending();
        let places = PlacesChange {
            old: request.stored.as_ref(),
            new: &new,
            ends: &ends,
            ending: &ending,
        };
        match app.identity.attempt(change, user, places).await? {
            Attempt::Written(outcome) => {
                end_descendants_of(app, &ends, &ending, until).await;
                return Ok(outcome);
            }
            Attempt::Refused(outcome) => return Ok(outcome),
            Attempt::Again(same) => change = same,
        }
        pause(longest).await;
        longest = LONGEST_PAUSE.min(longest * 2);
    }
}

/// Ends the tokens that descend from tokens that have just ended, at most until this time. The new
/// token is stored, so the request succeeds even if this work fails. The eraser then does the rest.
/// Until a descendant ends, it takes a place.
async fn end_descendants_of(app: &App, ends: &[Token], ending: &Ending, until: Deadline) {
    for token in ends.iter().filter(|token| token.descendants.is_some()) {
        let work = end_descendants(app, token.owner, token.id, token.ancestry, ending);
        if let Err(error) = until.before(Duration::ZERO, work).await.flatten() {
            tracing::warn!(cause = ?error, "cannot end all descendants of a token");
        }
    }
}

fn taken(tokens: &[Token]) -> Taken {
    let tokens = tokens.iter();
    tokens.map(|token| (token.id, token.last_end())).collect()
}

/// One attempt to find a place for a new token.
struct NewPlace<'a> {
    app: &'a App,
    limit: TokenLimit,
    owner: &'a State,
    token: &'a Token,
    relatives: Relatives,
    now: UnixSeconds,
    untagged_are_valid: bool,
    /// Whether the first token of the user was stored by this module. The first token of a user
    /// that a short code creates was not.
    first_is_counted: bool,
    /// The stored item.
    stored: Option<Places>,
}

/// The result of [`NewPlace::count`].
enum Count {
    /// All tokens that take a place.
    All(Vec<Token>),
    /// The reading is not finished, but the new token takes the place of another token.
    Part(Reading),
    /// Another request has changed the item or the user.
    Changed,
}

impl NewPlace<'_> {
    /// Returns the item to store together with the new token, and the tokens that must end in the
    /// same transaction. Returns `None` if another request has changed the item or the user.
    ///
    /// The tokens of the stored item are read only if all places seem to be taken, or if the item
    /// has another epoch than the user. If there is no item, or if it does not contain all tokens,
    /// all tokens of the user are read.
    async fn make_room(&mut self) -> Result<Option<(Places, Vec<Token>)>> {
        let max = self.limit.max.count as usize;
        let (mut places, read) = match self.counted() {
            Some(Places {
                epoch,
                tokens: Some(tokens),
                ..
            }) => {
                if *epoch == self.token.epoch {
                    (tokens.clone(), None)
                } else {
                    let tokens = self.read(tokens.keys().copied()).await?;
                    (taken(&tokens), Some(tokens))
                }
            }
            _ => match self.count().await? {
                Count::All(tokens) => (taken(&tokens), Some(tokens)),
                Count::Part(reading) => {
                    let fits = reading.found.len() <= MaxTokens::LARGEST as usize;
                    return Ok(Some((self.item(None, fits.then_some(reading)), Vec::new())));
                }
                Count::Changed => return Ok(None),
            },
        };
        let replaced = self.relatives.replaced;
        let takes_place_of_old = replaced.is_some_and(|old| places.remove(&old).is_some());
        places.retain(|id, end| end.is_none_or(|end| self.now < end) && !self.app.is_rejected(*id));
        let mut ends = Vec::new();
        if places.len() >= max && !takes_place_of_old {
            let mut tokens = match read {
                Some(tokens) => tokens,
                None => self.read(places.keys().copied()).await?,
            };
            tokens.retain(|token| places.contains_key(&token.id));
            places = taken(&tokens);
            if places.len() >= max {
                let Some(oldest) = self.oldest(tokens).await? else {
                    return Ok(None);
                };
                ends = oldest;
                for token in &ends {
                    places.remove(&token.id);
                }
                let last = ends.split_off(ends.len().saturating_sub(BATCH));
                if !self.end(&ends).await? {
                    return Ok(None);
                }
                ends = last;
            }
        }
        places.insert(self.token.id, self.token.last_end());
        let fits = places.len() <= MaxTokens::LARGEST as usize;
        Ok(Some((self.item(fits.then_some(places), None), ends)))
    }

    fn item(&self, tokens: Option<Taken>, reading: Option<Reading>) -> Places {
        Places {
            epoch: self.token.epoch,
            limit: self.limit.max.id,
            revision: self.stored.as_ref().map_or(0, |stored| stored.revision) + 1,
            tokens,
            reading,
        }
    }

    /// Reads all tokens of the user, newest first. Begins where an earlier request stopped. Stores
    /// the progress after each page but the last one.
    ///
    /// # Errors
    /// [`FULL`] if the tokens that were read are already the most tokens allowed, and the settings
    /// do not allow that they are revoked.
    async fn count(&mut self) -> Result<Count> {
        let (user, epoch) = (self.token.owner, self.token.epoch);
        let max = self.limit.max.count as usize;
        let (mut tokens, mut after) = match self.progress() {
            Some(Reading { found, after }) => {
                let after = *after;
                (self.read(found.keys().copied()).await?, Some(after))
            }
            None => (Vec::new(), None),
        };
        loop {
            if let Some(after) = after {
                if self.takes_place_of_old().await? {
                    let mut found = taken(&tokens);
                    found.retain(|id, _| Some(*id) != self.relatives.replaced);
                    found.insert(self.token.id, self.token.last_end());
                    return Ok(Count::Part(Reading { found, after }));
                }
                if tokens.len() >= max && self.limit.when_full == WhenFull::Reject {
                    return Err(FULL);
                }
                if tokens.len() > MaxTokens::LARGEST as usize {
                    // The tokens that are not read yet are older. So whatever they are, the oldest
                    // of the tokens that were read must end.
                    let Some(ends) = self.oldest(tokens.clone()).await? else {
                        return Ok(Count::Changed);
                    };
                    if !self.end(&ends).await? {
                        return Ok(Count::Changed);
                    }
                    let ends: HashSet<_> = ends.iter().map(|token| token.id).collect();
                    tokens.retain(|token| !ends.contains(&token.id));
                }
                if !self.store_progress(&tokens, after).await? {
                    return Ok(Count::Changed);
                }
            }
            let (page, next) = self
                .app
                .identity
                .tokens_of_epoch(user, epoch, after)
                .await?;
            tokens.extend(self.that_take_a_place(page).await?);
            if next.is_none() {
                return Ok(Count::All(tokens));
            }
            after = next;
            // A request to the embedded database never yields. Without this line, the time limit of
            // the request could not stop the loop.
            tokio::task::yield_now().await;
        }
    }

    /// Returns the stored item, unless it is out of date.
    ///
    /// If the item has another epoch than the user, its tokens have ended, except a token that was
    /// kept when the password changed. There are no other tokens of the new epoch: the first new
    /// one gives the item its epoch.
    fn counted(&self) -> Option<&Places> {
        let stored = self.stored.as_ref();
        stored.filter(|stored| {
            let is_complete = stored.epoch == self.token.epoch || self.first_is_counted;
            stored.limit == self.limit.max.id && is_complete
        })
    }

    /// Returns the stored progress of a reading, unless it is out of date.
    fn progress(&self) -> Option<&Reading> {
        self.counted().and_then(|stored| stored.reading.as_ref())
    }

    /// Stores that the tokens have been read up to `after`, unless that is stored already. Returns
    /// `false` if another request has changed the item.
    async fn store_progress(&mut self, tokens: &[Token], after: TokenId) -> Result<bool> {
        if self
            .progress()
            .is_some_and(|reading| reading.after == after)
        {
            return Ok(true);
        }
        let found = taken(tokens);
        let new = self.item(None, Some(Reading { found, after }));
        let (identity, user, old) = (&self.app.identity, self.token.owner, self.stored.as_ref());
        let is_stored = identity.store_places(user, old, &new).await?;
        self.stored = Some(new);
        Ok(is_stored)
    }

    /// Returns whether the new token replaces a token that takes a place.
    async fn takes_place_of_old(&self) -> Result<bool> {
        match self.relatives.replaced {
            Some(old) => Ok(!self.read([old]).await?.is_empty()),
            None => Ok(false),
        }
    }

    /// Reads the tokens with these ids, and returns those that take a place.
    async fn read(&self, ids: impl IntoIterator<Item = TokenId>) -> Result<Vec<Token>> {
        let user = self.token.owner;
        let ids: Vec<_> = ids.into_iter().collect();
        let keys = ids.iter().map(|id| Key::token(user, *id)).collect();
        let found = self.app.identity.read(&keys).await?;
        let tokens = ids.iter().filter_map(|id| {
            let token = found.token(user, *id);
            token.or_else(|| found.disabled_token(user, *id)).cloned()
        });
        self.that_take_a_place(tokens.collect()).await
    }

    async fn that_take_a_place(&self, tokens: Vec<Token>) -> Result<Vec<Token>> {
        let mut takes_place = Vec::new();
        for tokens in tokens.chunks(BATCH) {
            let each = tokens.iter().map(|token| self.takes_place(token));
            takes_place.extend(try_join_all(each).await?);
        }
        let tokens = tokens.into_iter().zip(takes_place);
        Ok(tokens
            .filter_map(|(token, takes)| takes.then_some(token))
            .collect())
    }

    async fn takes_place(&self, token: &Token) -> Result<bool> {
        if !token.has_epoch_of(self.owner) || self.app.is_rejected(token.id) {
            return Ok(false);
        }
        if matches!(token.expiry, Expiry::Email { .. }) {
            return Ok(true);
        }
        if token.tag_key.is_none() && !self.untagged_are_valid {
            return Ok(false);
        }
        let is_late = |end: UnixSeconds| self.now.0 >= end.0 + LATE_SECONDS;
        if token.expiry.is_valid_at(self.now) {
            return Ok(true);
        }
        match token.expiry {
            // A renewal may have been sent before the token expired, and may not have arrived yet.
            Expiry::SlidingTtl {
                expires_at,
                max_expires_at,
                ..
            } if max_expires_at.is_none_or(|max| self.now < max) && !is_late(expires_at) => {
                let (user, hash) = (token.owner, &token.token_hash);
                let ended = self.app.identity.end_idle(user, token.id, hash, self.now);
                Ok(ended.await?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// Returns the oldest of these tokens that may be ended: as many as must end to make room for
    /// the new token. Returns `None` if one of them was read with another epoch than the new token:
    /// a change of the password by this token came between two reads.
    ///
    /// # Errors
    /// [`FULL`] if the settings do not allow this, or if there are too few such tokens.
    async fn oldest(&self, mut tokens: Vec<Token>) -> Result<Option<Vec<Token>>> {
        let count = tokens.len() + 1 - self.limit.max.count as usize;
        if self.limit.when_full == WhenFull::Reject {
            return Err(FULL);
        }
        let makers = self.makers().await?;
        tokens.retain(|token| {
            let is_email_token = matches!(token.expiry, Expiry::Email { .. });
            !is_email_token && !makers.contains(&token.ancestry.lineage(token.id))
        });
        if tokens.len() < count {
            return Err(FULL);
        }
        tokens.sort_unstable_by_key(|token| token.id);
        tokens.truncate(count);
        let have_epoch = tokens.iter().all(|token| token.epoch == self.token.epoch);
        Ok(have_epoch.then_some(tokens))
    }

    /// Returns the lineages of the maker of the new token, of the maker of this maker, and so on.
    async fn makers(&self) -> Result<HashSet<TokenId>> {
        let Some(maker) = self.relatives.maker else {
            return Ok(HashSet::new());
        };
        let (family, mut lineage) = (
            maker.ancestry.family(maker.token),
            maker.ancestry.lineage(maker.token),
        );
        let mut makers = HashSet::from([lineage]);
        if family != lineage {
            let links = self.app.identity.links(self.token.owner, family).await?;
            let links = links.iter().map(|link| (link.child, link.maker));
            let maker_of: HashMap<_, _> = links.collect();
            while let Some(maker) = maker_of.get(&lineage)
                && makers.insert(*maker)
            {
                lineage = *maker;
            }
        }
        Ok(makers)
    }

    /// Ends tokens before the transaction, because there are too many of them for the transaction.
    /// This happens only if the user had more tokens than allowed, for example because the limit is
    /// new. Returns `false` if one of them has another epoch than the new token: the user has
    /// changed. Then this token does not end.
    async fn end(&self, tokens: &[Token]) -> Result<bool> {
        let ending = self.ending();
        let end = async |token: &Token| {
            let (user, has_descendants) = (token.owner, token.descendants.is_some());
            let belongs = Belongs::ToEpoch(self.token.epoch);
            let (app, id) = (self.app, token.id);
            let descendants =
                match end_one(app, user, id, belongs, has_descendants, &ending).await? {
                    End::Ended(descendants) => descendants,
                    End::Moved(_) => return Ok(false),
                };
            if descendants == DescendantState::Valid {
                end_descendants(self.app, user, token.id, token.ancestry, &ending).await?;
            }
            Ok::<_, Error>(true)
        };
        for tokens in tokens.chunks(BATCH) {
            let ended = try_join_all(tokens.iter().map(end)).await?;
            if ended.contains(&false) {
                return Ok(false);
            }
            // See `count`.
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    fn ending(&self) -> Ending {
        Ending {
            at: self.now,
            reason: EndReason::LimitReached,
            by: Author {
                holder: Holder::User,
                token: self.token.id,
            },
        }
    }
}
