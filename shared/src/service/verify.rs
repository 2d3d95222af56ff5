//! Verification: one read of everything that decides, and beside it the renewal of what slides.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::future::{try_join, try_join_all};

use crate::{
    domain::{
        email::Email,
        email_token::Kept,
        error::Result,
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Address, Ecosystem, Environment, Owner, OwnerId, OwnerKey, User},
        time::UnixSeconds,
        token::{Expiry, ExpiryType, Holder, PlainToken, Scope, Token, TokenId},
    },
    service::app::App,
    store::identity::{Items, Key},
};

/// What one request wants to know of the identity table: collected first, read at once.
pub struct Lookup<'a> {
    app: &'a App,
    now: UnixSeconds,
    keys: BTreeSet<Key>,
    remembered: HashMap<OwnerKey, Ecosystem>,
    to_remember: Vec<OwnerKey>,
    users: Vec<OwnerKey>,
    sliding: Vec<&'a PlainToken>,
}

impl<'a> Lookup<'a> {
    /// Starts a lookup, judged by the clock as it is now.
    pub fn new(app: &'a App) -> Self {
        Self {
            app,
            now: app.now().seconds(),
            keys: BTreeSet::new(),
            remembered: HashMap::new(),
            to_remember: Vec::new(),
            users: Vec::new(),
            sliding: Vec::new(),
        }
    }

    /// Wants to know whether this token counts, which is a use of it.
    #[must_use]
    pub fn token(mut self, token: &'a PlainToken) -> Self {
        self.keys.insert(Key::of(token));
        self.keys.insert(Key::owner(token.owner()));
        if token.holder() == Holder::User {
            self.users.push(token.owner());
            let ecosystem = token.owner().ecosystem();
            if let Some(owner) = self.app.memory.ecosystem(ecosystem, self.now) {
                self.remembered.insert(ecosystem, owner);
            } else {
                self.keys.insert(Key::owner(ecosystem));
                self.to_remember.push(ecosystem);
            }
        }
        if token.expiry_type() == ExpiryType::SlidingTtl {
            self.sliding.push(token);
        }
        self
    }

    /// Wants to know an ecosystem, as it is and not as it is remembered; if a request names one.
    #[must_use]
    pub fn ecosystem(mut self, id: Option<&EcosystemId>) -> Self {
        self.keys.extend(id.map(|id| Key::owner(id.into())));
        self
    }

    /// Wants to know a user and its ecosystem, if a request names one.
    #[must_use]
    pub fn user(mut self, id: Option<&UserId>) -> Self {
        self.keys.extend(id.map(|id| Key::owner(id.into())));
        self.ecosystem(id.map(UserId::ecosystem))
    }

    /// Wants to know whose an e-mail address is, if a request names one.
    #[must_use]
    pub fn address(mut self, email: Option<&Email>) -> Self {
        self.keys.extend(email.map(Key::address));
        self
    }

    /// Wants to know what is kept of an owner's token, which is no use of it; if a request names one.
    #[must_use]
    pub fn token_of(mut self, owner: Option<impl Into<OwnerKey>>, id: Option<TokenId>) -> Self {
        let key = owner
            .zip(id)
            .map(|(owner, id)| Key::token(owner.into(), id));
        self.keys.extend(key);
        self
    }

    /// Wants to know a user by its partition, its ecosystem and its e-mail token.
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

    /// Wants to know an environment, if a request names one.
    #[must_use]
    pub fn environment(mut self, id: Option<&EnvironmentId>) -> Self {
        self.keys.extend(id.map(Key::environment));
        self
    }

    /// Asks: one `BatchGetItem`, and beside it one `UpdateItem` for each sliding token that this
    /// environment has not renewed in this second.
    ///
    /// The renewal does not wait for the read, so that it costs no second round trip. It needs
    /// no more than the token itself: whoever has that may use it anyway.
    ///
    /// # Errors
    /// The database is away.
    pub async fn read(self) -> Result<Found> {
        let (app, now) = (self.app, self.now);
        let renewals = self.sliding.iter().map(async |token| {
            let renewal = app.memory.renew_once(token, now, &app.identity);
            let until = renewal.await?;
            Ok((*token.hashed().as_bytes(), until))
        });
        let (items, renewed) =
            try_join(app.identity.read(&self.keys), try_join_all(renewals)).await?;
        for key in self.to_remember {
            if let Some(Owner::Ecosystem(ecosystem)) = items.owner(key) {
                app.memory.remember_ecosystem(key, ecosystem.clone(), now);
            }
        }
        let environments = living_environments(app, &items, &self.users, now).await?;
        // What was read beats what was remembered: if it is not there, it is gone.
        let mut remembered = self.remembered;
        remembered.retain(|key, _| !self.keys.contains(&Key::owner(*key)));
        Ok(Found {
            now,
            items,
            remembered,
            environments,
            renewed: renewed.into_iter().collect(),
        })
    }
}

/// Which of these users' environments live. A short code's user has one, which is only known
/// from its record: one more read, for each environment at most every 30 seconds.
async fn living_environments(
    app: &App,
    items: &Items,
    users: &[OwnerKey],
    now: UnixSeconds,
) -> Result<HashSet<EnvironmentId>> {
    let mut alive = HashSet::new();
    let mut unknown = HashSet::new();
    for user in users {
        let environment = match items.owner(*user) {
            Some(Owner::User(user)) => user.environment.as_ref(),
            _ => None,
        };
        match environment {
            Some(id) if app.memory.environment(id, now) => alive.insert(id.clone()),
            Some(id) => unknown.insert(id.clone()),
            None => false,
        };
    }
    if !unknown.is_empty() {
        let keys = unknown.iter().map(Key::environment).collect();
        let items = app.identity.read(&keys).await?;
        for id in unknown {
            if items.environment(&id).is_some() {
                app.memory.remember_environment(id.clone(), now);
                alive.insert(id);
            }
        }
    }
    Ok(alive)
}

/// The answer to a [`Lookup`].
pub struct Found {
    now: UnixSeconds,
    items: Items,
    remembered: HashMap<OwnerKey, Ecosystem>,
    /// The living environments of the short codes' users that were asked for.
    environments: HashSet<EnvironmentId>,
    /// When each sliding token that was asked for, by its hash, expires now; `None` for a dead one.
    renewed: HashMap<[u8; 32], Option<UnixSeconds>>,
}

/// A token that counts, and everything it says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub owner: OwnerId,
    /// The environment that a short code's user is of.
    pub environment: Option<EnvironmentId>,
    /// The account that everything of this token lies in.
    pub account: AccountId,
    /// Its id.
    pub id: TokenId,
    /// Whether the holder is a user that may manage the e-mail tokens of its ecosystem.
    pub admin: bool,
    /// What it lets its holder do.
    pub scope: Scope,
    /// When it was made.
    pub issued_at: UnixSeconds,
    /// How and when it ends.
    pub expiry: Expiry,
}

impl Found {
    /// What this token says, if it counts: its hash is kept, its life is not over, its owner and
    /// the ecosystem of its owner live, and its epoch is its owner's. Nothing else does.
    pub fn verified(&self, token: &PlainToken) -> Option<Verified> {
        let mut record = self.items.token(token.owner(), token.id())?.clone();
        let owner = self.items.owner(token.owner())?;
        let hash = token.hashed();
        if let Some(until) = self.renewed.get(hash.as_bytes()) {
            record.expiry = record.expiry.renewed_until((*until)?);
        }
        if record.token_hash != hash || !record.counts_for(owner.state(), self.now) {
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
            admin,
            scope: record.scope,
            issued_at: record.created_at,
            expiry: record.expiry,
        })
    }

    /// An ecosystem, whoever's; `None` as well if its key belongs to another id (a hash collision).
    pub(crate) fn ecosystem_record(&self, id: &EcosystemId) -> Option<&Ecosystem> {
        let found = self.items.ecosystem(id);
        found.or_else(|| {
            self.remembered
                .get(&id.into())
                .filter(|found| found.id == *id)
        })
    }

    /// A user, whoever's; `None` as well if its key belongs to another id (a hash collision).
    pub(crate) fn user_record(&self, id: &UserId) -> Option<&User> {
        self.items.user(id)
    }

    /// Whose an e-mail address is said to be.
    pub(crate) fn address(&self, email: &Email) -> Option<&Address> {
        self.items.address(email)
    }

    /// What is kept of an owner's token.
    pub(crate) fn token_of(&self, owner: impl Into<OwnerKey>, id: TokenId) -> Option<&Token> {
        self.items.token(owner.into(), id)
    }

    /// What is kept of a user's e-mail token.
    pub(crate) fn email_token(&self, id: &UserId) -> Option<&Kept> {
        self.items.email_token(id.into())
    }

    /// An environment.
    pub(crate) fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.items.environment(id)
    }
}
