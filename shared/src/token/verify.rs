//! Verification: one read of everything that decides, and beside it the renewal of what slides.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::{try_join, try_join_all};
use tokio::sync::OnceCell;

use super::{ExpiryType, Holder, PlainToken, Scope, Token, TokenId};
use crate::{
    app::App,
    error::{Error, Result},
    id::{AccountId, EcosystemId, UserId},
    identity::{Items, Key},
    owner::{Owner, OwnerId, OwnerKey},
    time::UnixSeconds,
    token::Expiry,
};

/// For how long verification may take a living ecosystem for living without a look, in seconds.
/// Its item would be the hottest of the table: a partition gives 3,000 consistent reads a second.
const ECOSYSTEM_MEMORY: u64 = 30;
/// How many entries each memory may hold before it is emptied: a few hundred kilobytes.
const MEMORY_SIZE: usize = 4096;

/// What one request wants to know of the identity table: collected first, read at once.
#[derive(Debug)]
pub struct Lookup<'a> {
    app: &'a App,
    now: UnixSeconds,
    keys: BTreeSet<Key>,
    remembered: HashMap<OwnerKey, Owner>,
    to_remember: Vec<OwnerKey>,
    sliding: Vec<&'a PlainToken>,
}

impl App {
    /// Starts a lookup, judged by the clock as it is now.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup {
            app: self,
            now: self.now().seconds(),
            keys: BTreeSet::new(),
            remembered: HashMap::new(),
            to_remember: Vec::new(),
            sliding: Vec::new(),
        }
    }
}

impl<'a> Lookup<'a> {
    /// Wants to know whether this token counts, which is a use of it.
    pub fn token(&mut self, token: &'a PlainToken) {
        self.keys.insert(Key::token(token));
        self.keys.insert(Key::owner(token.owner()));
        if token.holder() == Holder::User {
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
    }

    /// Wants to know a user and its ecosystem, as they are and not as they are remembered.
    pub fn user(&mut self, id: &UserId) {
        self.keys.insert(Key::owner(id.ecosystem().into()));
        self.keys.insert(Key::owner(id.into()));
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
            let until = app.renew_once(token, now).await?;
            Ok((*token.hashed().as_bytes(), until))
        });
        let (items, renewed) =
            try_join(app.identity.read(&self.keys), try_join_all(renewals)).await?;
        for key in self.to_remember {
            if let Some(ecosystem) = items.get(&Key::owner(key))? {
                app.memory.remember_ecosystem(key, ecosystem, now);
            }
        }
        // What was read beats what was remembered: if it is not there, it is gone.
        let mut remembered = self.remembered;
        remembered.retain(|key, _| !self.keys.contains(&Key::owner(*key)));
        Ok(Found {
            now,
            items,
            remembered,
            renewed: renewed.into_iter().collect(),
        })
    }
}

/// The answer to a [`Lookup`].
#[derive(Debug)]
pub struct Found {
    now: UnixSeconds,
    items: Items,
    remembered: HashMap<OwnerKey, Owner>,
    /// When each sliding token that was asked for, by its hash, expires now; `None` for a dead one.
    renewed: HashMap<[u8; 32], Option<UnixSeconds>>,
}

/// A token that counts, and everything it says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub owner: OwnerId,
    /// The account that everything of this token lies in.
    pub account: AccountId,
    /// Its id.
    pub id: TokenId,
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
    ///
    /// # Errors
    /// An item of the table cannot be read.
    pub fn verified(&self, token: &PlainToken) -> Result<Option<Verified>> {
        let Some(record) = self.items.get::<Token>(&Key::token(token))? else {
            return Ok(None);
        };
        let Some(owner) = self.owner(token.owner())? else {
            return Ok(None);
        };
        let hash = token.hashed();
        if record.token_hash != hash || record.epoch != owner.epoch || !owner.active {
            return Ok(None);
        }
        let expiry = match self.renewed.get(hash.as_bytes()) {
            None => record.expiry,
            Some(Some(until)) => record.expiry.renewed_until(*until),
            Some(None) => return Ok(None),
        };
        if !expiry.is_alive_at(self.now) {
            return Ok(None);
        }
        let account = match &owner.id {
            OwnerId::Account(account) => Some(account.clone()),
            OwnerId::Ecosystem(_) => owner.account.clone(),
            OwnerId::User(user) => self
                .ecosystem(user.ecosystem())?
                .and_then(|ecosystem| ecosystem.account),
        };
        Ok(account.map(|account| Verified {
            owner: owner.id,
            account,
            id: record.id,
            scope: record.scope,
            issued_at: record.created_at,
            expiry,
        }))
    }

    /// The caller behind a credential.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the token does not count.
    pub fn caller(&self, credential: &PlainToken) -> Result<Verified> {
        self.verified(credential)?
            .ok_or(Error::Unauthorized { token_sent: true })
    }

    /// An active user of the caller's account.
    ///
    /// # Errors
    /// [`Error::NotFound`] for its ecosystem, then for itself; [`Error::Conflict`] if it is
    /// inactive.
    pub fn active_user(&self, id: &UserId, caller: &Verified) -> Result<Owner> {
        let ecosystem = self.ecosystem(id.ecosystem())?;
        if ecosystem.and_then(|owner| owner.account).as_ref() != Some(&caller.account) {
            return Err(Error::NotFound(format!(
                "Ecosystem with id {} does not exist.",
                id.ecosystem()
            )));
        }
        let user = self
            .owner(id.into())?
            .filter(|user| matches!(&user.id, OwnerId::User(there) if there == id))
            .ok_or_else(|| Error::NotFound(format!("User with id {id} does not exist.")))?;
        if user.active {
            Ok(user)
        } else {
            Err(Error::Conflict("user is inactive"))
        }
    }

    fn owner(&self, key: OwnerKey) -> Result<Option<Owner>> {
        match self.items.get(&Key::owner(key))? {
            Some(owner) => Ok(Some(owner)),
            None => Ok(self.remembered.get(&key).cloned()),
        }
    }

    /// The ecosystem with this very id: another one under the same key is none.
    fn ecosystem(&self, id: &EcosystemId) -> Result<Option<Owner>> {
        let owner = self.owner(id.into())?;
        Ok(owner.filter(|owner| {
            owner.active && matches!(&owner.id, OwnerId::Ecosystem(there) if there == id)
        }))
    }
}

impl Verified {
    /// What kind of owner holds the token.
    pub fn holder(&self) -> Holder {
        Holder::from(&self.owner)
    }

    /// The ecosystem that the token is of; an account's is of none.
    pub fn ecosystem(&self) -> Option<&EcosystemId> {
        match &self.owner {
            OwnerId::Account(_) => None,
            OwnerId::Ecosystem(id) => Some(id),
            OwnerId::User(id) => Some(id.ecosystem()),
        }
    }

    /// Whether this caller may change things at all in some ecosystem.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a user's token.
    pub fn must_be_account_or_server(&self) -> Result<()> {
        match self.holder() {
            Holder::Account | Holder::Server => Ok(()),
            Holder::User => Err(Error::Forbidden),
        }
    }

    /// Whether this caller may change things in this ecosystem, if it exists.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a user's token, for one that only reads, and for a server's in
    /// another ecosystem, whether or not that exists.
    pub fn must_manage(&self, ecosystem: &EcosystemId) -> Result<()> {
        self.must_be_account_or_server()?;
        match self.ecosystem() {
            Some(own) if own != ecosystem => Err(Error::Forbidden),
            _ if self.scope == Scope::Read => Err(Error::Forbidden),
            _ => Ok(()),
        }
    }

    /// Whether this caller may know of that token: an account of all its ecosystems' and its own,
    /// a server of its ecosystem's.
    pub fn sees(&self, token: &Verified) -> bool {
        match self.holder() {
            Holder::Account => self.account == token.account,
            Holder::Server => self.ecosystem() == token.ecosystem(),
            Holder::User => false,
        }
    }
}

/// What an environment remembers between requests, by verification only.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    ecosystems: Mutex<HashMap<OwnerKey, (UnixSeconds, Owner)>>,
    renewals: Mutex<HashMap<[u8; 32], Arc<Renewal>>>,
}

/// The one renewal of a token that an environment makes in a second; all uses in that second
/// share its outcome.
#[derive(Debug)]
struct Renewal {
    second: UnixSeconds,
    until: OnceCell<Option<UnixSeconds>>,
}

impl Memory {
    fn ecosystem(&self, key: OwnerKey, now: UnixSeconds) -> Option<Owner> {
        let ecosystems = lock(&self.ecosystems);
        let (seen, owner) = ecosystems.get(&key)?;
        // A clock that went back makes what was seen later worthless.
        let age = now.0.checked_sub(seen.0)?;
        (age < ECOSYSTEM_MEMORY).then(|| owner.clone())
    }

    fn remember_ecosystem(&self, key: OwnerKey, owner: Owner, now: UnixSeconds) {
        let mut ecosystems = lock(&self.ecosystems);
        if ecosystems.len() >= MEMORY_SIZE {
            ecosystems.clear();
        }
        ecosystems.insert(key, (now, owner));
    }

    /// The renewal of this token at this second or, by a clock that has gone back since, at a
    /// later one: the table would refuse an earlier one just so.
    fn renewal(&self, token: &PlainToken, now: UnixSeconds) -> Arc<Renewal> {
        let hash = *token.hashed().as_bytes();
        let mut renewals = lock(&self.renewals);
        if let Some(renewal) = renewals.get(&hash)
            && renewal.second >= now
        {
            return renewal.clone();
        }
        if renewals.len() >= MEMORY_SIZE {
            renewals.clear();
        }
        let renewal = Arc::new(Renewal {
            second: now,
            until: OnceCell::new(),
        });
        renewals.insert(hash, renewal.clone());
        renewal
    }
}

impl App {
    /// Renews a sliding token, unless a use in this second already did or is about to: then its
    /// outcome is this one's as well, so that a hot token costs a write a second.
    ///
    /// A refusal is shared too: a token that is dead stays dead.
    async fn renew_once(
        &self,
        token: &PlainToken,
        now: UnixSeconds,
    ) -> Result<Option<UnixSeconds>> {
        let renewal = self.memory.renewal(token, now);
        renewal
            .until
            .get_or_try_init(|| self.identity.renew(token, now))
            .await
            .copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
