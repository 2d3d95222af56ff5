//! Verifies tokens. Reads all needed records together, and renews sliding tokens at the same time.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures_util::future::{join_all, try_join, try_join_all};

use crate::{
    domain::{
        email_token::StoredEmailToken,
        error::Result,
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Ecosystem, Environment, Owner, OwnerId, OwnerKey, User},
        time::UnixSeconds,
        token::{
            Ancestry, EndedToken, Expiry, ExpiryType, Holder, Metadata, PlainToken, Scope, Token,
            TokenId,
        },
    },
    service::{app::App, cache::Dead},
    store::identity::{Items, Key},
};

/// How long a request waits for the write of the last use of its tokens. A database operation takes
/// at most 2.5 seconds, and a request 2.8 seconds. So a verification that succeeds at the last
/// moment still succeeds if this write gets no response.
const STORE_USE: Duration = Duration::from_millis(200);

/// The records of the identity table that one request needs. A handler first adds all records to
/// the lookup, and then reads them together.
pub struct Lookup<'a> {
    app: &'a App,
    now: UnixSeconds,
    keys: BTreeSet<Key>,
    remembered: HashMap<OwnerKey, Ecosystem>,
    to_remember: Vec<OwnerKey>,
    users: Vec<OwnerKey>,
    /// The tokens to verify.
    tokens: Vec<&'a PlainToken>,
    /// The caller's token, if the verification of this token may be remembered.
    caller: Option<&'a PlainToken>,
    /// The caller, if the verification of the caller's token was remembered.
    remembered_caller: Option<Verified>,
    /// Whether the caller's token is known to be dead. Then nothing is read.
    is_caller_dead: bool,
}

impl<'a> Lookup<'a> {
    /// Starts a lookup. The current time decides which tokens have expired.
    pub fn new(app: &'a App) -> Self {
        Self {
            app,
            now: app.now().seconds(),
            keys: BTreeSet::new(),
            remembered: HashMap::new(),
            to_remember: Vec::new(),
            users: Vec::new(),
            tokens: Vec::new(),
            caller: None,
            remembered_caller: None,
            is_caller_dead: false,
        }
    }

    /// Adds the token of the caller. If
    /// [`Settings::caller_memory_seconds`](crate::config::Settings::caller_memory_seconds) is not
    /// 0, the verification of an account or server token is remembered for this time, and the token
    /// needs no read in that time. A sliding token is never remembered, because each use renews it.
    #[must_use]
    pub fn caller(mut self, token: &'a PlainToken) -> Self {
        if self.app.cache.is_dead(token, self.now) {
            self.is_caller_dead = true;
            return self;
        }
        let seconds = self.app.settings().caller_memory_seconds;
        let may_be_remembered = seconds > 0
            && token.holder() != Holder::User
            && token.expiry_type() != ExpiryType::SlidingTtl;
        if !may_be_remembered {
            return self.live_token(token);
        }
        let remembered = self.app.cache.caller(token, self.now, seconds);
        self.remembered_caller = remembered.filter(|caller| caller.expiry.is_valid_at(self.now));
        if self.remembered_caller.is_some() {
            return self;
        }
        self.caller = Some(token);
        self.live_token(token)
    }

    /// Adds a token to verify. This counts as a use of the token. If the token is known to be dead,
    /// nothing is read for it.
    #[must_use]
    pub fn token(self, token: &'a PlainToken) -> Self {
        if self.app.cache.is_dead(token, self.now) {
            return self;
        }
        self.live_token(token)
    }

    /// Adds a token that is not known to be dead.
    fn live_token(mut self, token: &'a PlainToken) -> Self {
        self.tokens.push(token);
        self.keys.insert(Key::of(token));
        self.keys.insert(Key::owner(token.owner()));
        if token.holder() == Holder::User {
            self.users.push(token.owner());
            let ecosystem = token.owner().ecosystem();
            if let Some(owner) = self.app.cache.ecosystem(ecosystem, self.now) {
                self.remembered.insert(ecosystem, owner);
            } else {
                self.keys.insert(Key::owner(ecosystem));
                self.to_remember.push(ecosystem);
            }
        }
        self
    }

    /// Adds an ecosystem, if its id is given. The ecosystem is read from the table, not from the
    /// cache.
    #[must_use]
    pub fn ecosystem(mut self, id: Option<&EcosystemId>) -> Self {
        self.keys.extend(id.map(|id| Key::owner(id.into())));
        self
    }

    /// Adds a user and the user's ecosystem, if the user's id is given.
    #[must_use]
    pub fn user(mut self, id: Option<&UserId>) -> Self {
        self.keys.extend(id.map(|id| Key::owner(id.into())));
        self.ecosystem(id.map(UserId::ecosystem))
    }

    /// Adds the record of an owner's token, if both ids are given. This does not count as a use of
    /// the token.
    #[must_use]
    pub fn token_of(mut self, owner: Option<impl Into<OwnerKey>>, id: Option<TokenId>) -> Self {
        let key = owner
            .zip(id)
            .map(|(owner, id)| Key::token(owner.into(), id));
        self.keys.extend(key);
        self
    }

    /// Adds the user of a partition, with the user's ecosystem and e-mail token.
    #[must_use]
    pub(crate) fn email_user(mut self, user: OwnerKey) -> Self {
        let keys = [
            Key::owner(user),
            Key::owner(user.ecosystem()),
            Key::email_token(user),
        ];
        self.keys.extend(keys);
        self
    }

    /// Adds an environment, if its id is given.
    #[must_use]
    pub fn environment(mut self, id: Option<&EnvironmentId>) -> Self {
        self.keys.extend(id.map(Key::environment));
        self
    }

    /// Reads the records with one `BatchGetItem` for each 100 records. In parallel, sends one
    /// `UpdateItem` for each sliding token that this execution environment has not renewed in this
    /// second. A second read follows if a user whose token is verified has an environment that is
    /// not cached.
    ///
    /// A renewal does not wait for the read, so no second round trip is needed. A renewal needs
    /// only the token's own record, because everyone who has the token may use the token.
    ///
    /// There is one exception. If another execution environment had already renewed the token when
    /// this one last used it, the token is now read before it is renewed. If the record shows a
    /// renewal in this second, no renewal is sent. Otherwise the renewal follows the read.
    ///
    /// For a valid token that is not a sliding token, one `UpdateItem` follows the read about once
    /// an hour, and stores the time of this use ([`Token::must_store_use`]). If it fails, the
    /// verification still succeeds.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn read(mut self) -> Result<Found> {
        let (app, now) = (self.app, self.now);
        if self.is_caller_dead {
            // The request will be rejected, whatever its other records contain.
            self.keys.clear();
            self.tokens.clear();
            self.users.clear();
        }
        let sliding = self
            .tokens
            .iter()
            .copied()
            .filter(|token| token.expiry_type() == ExpiryType::SlidingTtl);
        let renew = |token| renew(app, token, now);
        let is_read_first = |token: &&PlainToken| app.cache.reads_before_renewal(token, now);
        let (read_first, others): (Vec<_>, Vec<_>) = sliding.partition(is_read_first);
        let renewals = try_join_all(others.iter().copied().map(renew));
        let (items, mut renewed) = try_join(app.identity.read(&self.keys), renewals).await?;
        for key in self.to_remember {
            if let Some(Owner::Ecosystem(ecosystem)) = items.owner(key) {
                app.cache.insert_ecosystem(key, ecosystem.clone(), now);
            }
        }
        let must_renew = |token: &&PlainToken| {
            let record = items.token(token.owner(), token.id());
            record.is_some_and(|record| app.cache.must_renew(token, record, now))
        };
        // This execution environment shares the rejection of a renewal for a second. If the token
        // was rejected because it was disabled, it may have been enabled since then.
        let is_enabled_again = |token: &&PlainToken| {
            let record = items.token(token.owner(), token.id());
            let hash = token.hashed();
            let is_valid = record
                .is_some_and(|record| record.token_hash == hash && record.expiry.is_valid_at(now));
            let is_rejected = renewed.contains(&(*hash.as_bytes(), None));
            is_valid && is_rejected && app.cache.forget_renewal(token, now)
        };
        let renew_again = others.into_iter().filter(is_enabled_again);
        let renewals = read_first.into_iter().filter(must_renew);
        let renewals = renewals.chain(renew_again).map(renew);
        let environments = existing_environments(app, &items, &self.users, now);
        let (more, environments) = try_join(try_join_all(renewals), environments).await?;
        renewed.extend(more);
        // If an ecosystem was also read from the table, ignore its cached record, because the
        // ecosystem may have been deleted.
        let mut remembered = self.remembered;
        remembered.retain(|key, _| !self.keys.contains(&Key::owner(*key)));
        let found = Found {
            now,
            items,
            remembered,
            environments,
            renewed: renewed.into_iter().collect(),
            remembered_caller: self.remembered_caller,
        };
        for token in &self.tokens {
            if let Some(dead) = found.dead(token) {
                app.cache.insert_dead(token, dead);
            }
        }
        if let Some(token) = self.caller
            && let Some(verified) = found.verified(token)
        {
            app.cache.insert_caller(token, now, verified);
        }
        store_uses(app, &found, &self.tokens).await;
        Ok(found)
    }
}

/// Stores the use of each valid token whose last use was not stored for about an hour.
async fn store_uses(app: &App, found: &Found, tokens: &[&PlainToken]) {
    let now = found.now;
    let writes = tokens.iter().filter_map(|token| {
        let record = found.items.token(token.owner(), token.id())?;
        let must_store = record.must_store_use(now)
            && found.verified(token).is_some()
            && app.cache.may_store_use(token, now);
        must_store.then(|| app.identity.store_use(token, record, now))
    });
    let writes: Vec<_> = writes.collect();
    if writes.is_empty() {
        return;
    }
    match tokio::time::timeout(STORE_USE, join_all(writes)).await {
        Ok(results) => {
            for error in results.into_iter().filter_map(Result::err) {
                tracing::warn!(cause = ?error, "cannot store the last use of a token");
            }
        }
        Err(_elapsed) => tracing::warn!("cannot store the last use of a token in time"),
    }
}

/// Renews a sliding token. Returns the token's hash. Also returns the token's new expiry time, or
/// `None` if the token is invalid.
async fn renew(
    app: &App,
    token: &PlainToken,
    now: UnixSeconds,
) -> Result<([u8; 32], Option<UnixSeconds>)> {
    let until = app.cache.renew_once(token, now, &app.identity).await?;
    Ok((*token.hashed().as_bytes(), until))
}

/// Returns which environments of these users exist. Only a user that a short code created has an
/// environment. The environment's id is known only after the user's record was read. So a second
/// read is necessary, unless the environment is cached.
async fn existing_environments(
    app: &App,
    items: &Items,
    users: &[OwnerKey],
    now: UnixSeconds,
) -> Result<HashSet<EnvironmentId>> {
    let mut existing = HashSet::new();
    let mut unknown = HashSet::new();
    for user in users {
        let environment = match items.owner(*user) {
            Some(Owner::User(user)) => user.environment.as_ref(),
            _ => None,
        };
        match environment {
            Some(id) if app.cache.environment(id, now) => existing.insert(id.clone()),
            Some(id) => unknown.insert(id.clone()),
            None => false,
        };
    }
    if !unknown.is_empty() {
        let keys = unknown.iter().map(Key::environment).collect();
        let items = app.identity.read(&keys).await?;
        for id in unknown {
            if items.environment(&id).is_some() {
                app.cache.insert_environment(id.clone(), now);
                existing.insert(id);
            }
        }
    }
    Ok(existing)
}

/// The result of a [`Lookup`].
pub struct Found {
    now: UnixSeconds,
    items: Items,
    remembered: HashMap<OwnerKey, Ecosystem>,
    /// The existing environments of the users whose tokens were looked up.
    environments: HashSet<EnvironmentId>,
    /// The new expiry time of each sliding token that was looked up, or `None` if the token is
    /// invalid. The key of the map is the token's hash.
    renewed: HashMap<[u8; 32], Option<UnixSeconds>>,
    /// The caller, if the verification of the caller's token was remembered. Then nothing was read
    /// for the caller.
    pub(super) remembered_caller: Option<Verified>,
}

/// A valid token, and the facts about its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The owner of the token.
    pub owner: OwnerId,
    /// The environment of the owner, if the owner is a user that a short code created.
    pub environment: Option<EnvironmentId>,
    /// The account that the owner belongs to.
    pub account: AccountId,
    /// The token's id.
    pub id: TokenId,
    /// The token's ancestry.
    pub ancestry: Ancestry,
    /// Whether the owner is an admin user, who may manage the e-mail tokens of the user's
    /// ecosystem.
    pub admin: bool,
    /// What the token allows its holder to do.
    pub scope: Scope,
    /// Values that the application stored with the token.
    pub metadata: Option<Metadata>,
    /// When the token was created.
    pub issued_at: UnixSeconds,
    /// How and when the token expires.
    pub expiry: Expiry,
}

impl Found {
    /// Returns a token that was looked up, if it is valid. A token is valid if its hash equals the
    /// stored hash, it has not expired, its owner is active, its epoch is the owner's epoch, and
    /// the owner's ecosystem and environment, if any, exist.
    pub fn verified(&self, token: &PlainToken) -> Option<Verified> {
        let mut record = self.items.token(token.owner(), token.id())?.clone();
        let owner = self.items.owner(token.owner())?;
        let hash = token.hashed();
        if let Some(until) = self.renewed.get(hash.as_bytes()) {
            record.expiry = record.expiry.renewed_until((*until)?);
        }
        if record.token_hash != hash || !record.is_valid_for(owner.state(), self.now) {
            return None;
        }
        let (environment, admin) = match owner {
            Owner::User(user) => (user.environment.as_ref(), user.admin),
            Owner::Account(_) | Owner::Ecosystem(_) => (None, false),
        };
        if let Some(environment) = environment
            && !self.environments.contains(environment)
        {
            return None;
        }
        let account = match owner {
            Owner::Account(account) => &account.id,
            Owner::Ecosystem(ecosystem) => &ecosystem.account,
            Owner::User(user) => &self.ecosystem_record(user.id.ecosystem())?.account,
        };
        Some(Verified {
            owner: owner.id(),
            environment: environment.cloned(),
            account: account.clone(),
            id: record.id,
            ancestry: record.ancestry,
            admin,
            scope: record.scope,
            metadata: record.metadata,
            issued_at: record.created_at,
            expiry: record.expiry,
        })
    }

    /// Returns the time from which a token that was looked up is dead (invalid for all time).
    /// Returns `None` if the token is valid, or if it may become valid.
    ///
    /// Only the stored records decide. None of these facts alone makes a token dead: its hash
    /// differs from the stored hash; it is an e-mail token that has expired, because a client can
    /// set a later expiry; its owner is inactive.
    fn dead(&self, token: &PlainToken) -> Option<Dead> {
        let Some(record) = self.items.token(token.owner(), token.id()) else {
            // A disabled token can be enabled again.
            let is_disabled = self
                .items
                .disabled_token(token.owner(), token.id())
                .is_some();
            return (!is_disabled).then_some(Dead::Always);
        };
        if record.token_hash != token.hashed() {
            return None;
        }
        let owner = self.items.owner(token.owner());
        if owner.is_none_or(|owner| !record.has_epoch_of(owner.state())) {
            // The token may have changed its user's password more than once between the reads of
            // the two records. Then it is valid.
            let is_kept = owner.is_some_and(|owner| owner.state().has_kept(record.id));
            let may_be_valid = record.previous_epoch.is_some() || is_kept;
            return (!may_be_valid).then_some(Dead::Always);
        }
        // The record may be from before a renewal that succeeded.
        let renewed = self.renewed.get(token.hashed().as_bytes());
        if renewed.is_some_and(Option::is_some) {
            return None;
        }
        match record.expiry {
            Expiry::Infinite | Expiry::Email { .. } => None,
            Expiry::FixedTtl { .. } | Expiry::SlidingTtl { .. } => {
                let end = record.expiry.expires_at()?;
                (end <= self.now).then_some(Dead::From(end))
            }
        }
    }

    /// Returns an ecosystem of any account. Returns `None` if the ecosystem does not exist, or if
    /// another id has the same key (a hash collision).
    pub(crate) fn ecosystem_record(&self, id: &EcosystemId) -> Option<&Ecosystem> {
        let found = self.items.ecosystem(id);
        found.or_else(|| {
            self.remembered
                .get(&id.into())
                .filter(|found| found.id == *id)
        })
    }

    /// Returns a user of any account. Returns `None` if the user does not exist, or if another id
    /// has the same key (a hash collision).
    pub(crate) fn user_record(&self, id: &UserId) -> Option<&User> {
        self.items.user(id)
    }

    /// Returns the record of an owner's token.
    pub(crate) fn token_of(&self, owner: impl Into<OwnerKey>, id: TokenId) -> Option<&Token> {
        self.items.token(owner.into(), id)
    }

    /// Returns the record of an owner's token that is disabled.
    pub(crate) fn disabled_token(&self, owner: OwnerKey, id: TokenId) -> Option<&Token> {
        self.items.disabled_token(owner, id)
    }

    /// Returns the record of an owner's token that was revoked.
    pub(crate) fn ended_token(
        &self,
        owner: impl Into<OwnerKey>,
        id: TokenId,
    ) -> Option<&EndedToken> {
        self.items.ended_token(owner.into(), id)
    }

    /// Returns the record of a user's e-mail token.
    pub(crate) fn email_token(&self, id: &UserId) -> Option<&StoredEmailToken> {
        self.items.email_token(id.into())
    }

    /// Returns an environment.
    pub(crate) fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.items.environment(id)
    }
}
