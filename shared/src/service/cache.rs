//! The cache of an execution environment. Its entries are kept between requests. Only verification
//! uses the cache.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tokio::sync::OnceCell;

use crate::{
    domain::{
        error::Result,
        id::EnvironmentId,
        owner::{Ecosystem, OwnerKey},
        time::UnixSeconds,
        token::{PlainToken, Token},
    },
    service::verify::Verified,
    store::identity::{Identity, Renewal},
};

/// How many seconds verification uses a cached ecosystem or environment before it reads the record
/// again. Without the cache, every verification of a user token would read the item of the user's
/// ecosystem. But one partition serves only 3,000 strongly consistent reads per second.
const CACHE_SECONDS: u64 = 30;
/// A map with this many entries is cleared before the next entry is added. The entries of a full
/// map take a few hundred kilobytes.
const CACHE_SIZE: usize = 4096;
/// The maximum number of entries in each of the three memories: dead tokens, callers, and tokens
/// whose last use was written. If a memory is full, its least recently used entry is removed.
/// 16,384 dead tokens take about 2 MB.
const MEMORY_SIZE: usize = 16_384;

/// Entries of one type. The key of an entry is the hash of a token.
type Memory<T> = Mutex<LruCache<[u8; 32], T>>;

/// The time from which a token is dead (invalid for all time).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    /// The token is dead at any time, because it was revoked, has no record, or has another epoch
    /// than its owner.
    Always,
    /// The token is dead from this second on, because it has expired.
    From(UnixSeconds),
}

/// Ecosystems and environments that were read recently, the latest renewal of each sliding token,
/// dead tokens, the verifications of callers, and the tokens whose last use was written recently.
pub(crate) struct Cache {
    ecosystems: Mutex<HashMap<OwnerKey, (UnixSeconds, Ecosystem)>>,
    environments: Mutex<HashMap<EnvironmentId, UnixSeconds>>,
    renewals: Mutex<HashMap<[u8; 32], Arc<Renewed>>>,
    dead: Memory<Dead>,
    callers: Memory<(UnixSeconds, Verified)>,
    /// When this execution environment last tried to write the last use of a token.
    uses: Memory<UnixSeconds>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ecosystems: Mutex::default(),
            environments: Mutex::default(),
            renewals: Mutex::default(),
            // These maps grow only when entries are added.
            dead: Mutex::new(LruCache::unbounded()),
            callers: Mutex::new(LruCache::unbounded()),
            uses: Mutex::new(LruCache::unbounded()),
        }
    }
}

/// A renewal of a token. An execution environment renews a token only once in each second. All uses
/// of the token in that second share the result.
struct Renewed {
    second: UnixSeconds,
    result: OnceCell<Renewal>,
}

impl Cache {
    pub(super) fn ecosystem(&self, key: OwnerKey, now: UnixSeconds) -> Option<Ecosystem> {
        let ecosystems = lock(&self.ecosystems);
        let (seen, ecosystem) = ecosystems.get(&key)?;
        is_fresh(*seen, now).then(|| ecosystem.clone())
    }

    /// Returns whether the cache contains a fresh entry for an environment.
    pub(super) fn environment(&self, id: &EnvironmentId, now: UnixSeconds) -> bool {
        lock(&self.environments)
            .get(id)
            .is_some_and(|seen| is_fresh(*seen, now))
    }

    pub(super) fn insert_environment(&self, id: EnvironmentId, now: UnixSeconds) {
        let mut environments = lock(&self.environments);
        if environments.len() >= CACHE_SIZE {
            environments.clear();
        }
        environments.insert(id, now);
    }

    pub(super) fn insert_ecosystem(&self, key: OwnerKey, ecosystem: Ecosystem, now: UnixSeconds) {
        let mut ecosystems = lock(&self.ecosystems);
        if ecosystems.len() >= CACHE_SIZE {
            ecosystems.clear();
        }
        ecosystems.insert(key, (now, ecosystem));
    }

    /// Returns the renewal of this token in this second. If the clock was set back, the cache may
    /// contain a renewal of a later second. Then this function returns that later renewal, because
    /// the table would reject a renewal at an earlier time.
    fn renewal(&self, token: &PlainToken, now: UnixSeconds) -> Arc<Renewed> {
        let hash = *token.hashed().as_bytes();
        let mut renewals = lock(&self.renewals);
        if let Some(renewal) = renewals.get(&hash)
            && renewal.second >= now
        {
            return renewal.clone();
        }
        if renewals.len() >= CACHE_SIZE {
            renewals.clear();
        }
        let renewal = Arc::new(Renewed {
            second: now,
            result: OnceCell::new(),
        });
        renewals.insert(hash, renewal.clone());
        renewal
    }
}

impl Cache {
    /// Renews a sliding token. If another use of the token in this second has renewed it or is
    /// renewing it, this use gets the result of that renewal. So a busy token costs only one write
    /// per second in each execution environment.
    ///
    /// A rejection is also shared, because an invalid token stays invalid.
    pub(super) async fn renew_once(
        &self,
        token: &PlainToken,
        now: UnixSeconds,
        identity: &Identity,
    ) -> Result<Option<UnixSeconds>> {
        let renewal = self.renewal(token, now);
        let renew = || identity.renew(token, now);
        Ok(renewal.result.get_or_try_init(renew).await?.until)
    }

    /// Forgets the renewal of a token in this second, so that the next use renews it again. Keeps a
    /// renewal of a later second: the clock was set back. Returns whether a renewal was forgotten.
    pub(super) fn forget_renewal(&self, token: &PlainToken, now: UnixSeconds) -> bool {
        let mut renewals = lock(&self.renewals);
        let hash = token.hashed();
        let is_of_now = |renewal: &Arc<Renewed>| renewal.second == now;
        renewals.get(hash.as_bytes()).is_some_and(is_of_now)
            && renewals.remove(hash.as_bytes()).is_some()
    }

    /// Returns whether another execution environment has probably renewed this token in this second
    /// already. This is likely if the last use of the token in this execution environment was in
    /// the last 30 seconds, and if another one had renewed the token before that use. Then the
    /// token is read before it is renewed, because even a rejected renewal costs a write unit, and
    /// a partition allows only 1,000 write units per second.
    pub(super) fn reads_before_renewal(&self, token: &PlainToken, now: UnixSeconds) -> bool {
        let renewals = lock(&self.renewals);
        renewals.get(token.hashed().as_bytes()).is_some_and(|last| {
            let result = last.result.get();
            last.second < now
                && is_fresh(last.second, now)
                && result.is_some_and(|result| result.elsewhere)
        })
    }

    /// Returns whether a token whose record was read before its renewal must still be renewed. If
    /// the record shows that another execution environment has renewed the token in this second,
    /// all uses of the token in this execution environment in this second share that renewal. If
    /// the record has another hash, the token is invalid and needs no renewal.
    pub(super) fn must_renew(&self, token: &PlainToken, record: &Token, now: UnixSeconds) -> bool {
        if record.token_hash != token.hashed() {
            return false;
        }
        let is_renewed = record.is_renewed_at(now);
        if is_renewed {
            let result = &self.renewal(token, now).result;
            // If another use of the token has a result already, that result is as good as this one.
            let _ = result.set(Renewal::elsewhere(&record.expiry));
        }
        !is_renewed
    }
}

impl Cache {
    /// Returns whether the token is known to be dead. A dead token needs no read.
    pub(super) fn is_dead(&self, token: &PlainToken, now: UnixSeconds) -> bool {
        match lock(&self.dead).get(token.hashed().as_bytes()) {
            Some(Dead::Always) => true,
            Some(Dead::From(end)) => *end <= now,
            None => false,
        }
    }

    /// Remembers that a token is dead.
    pub(super) fn insert_dead(&self, token: &PlainToken, dead: Dead) {
        insert(&mut lock(&self.dead), token, dead);
    }

    /// Returns the verification of a caller's token, if the verification is less than `seconds`
    /// seconds old. The code that uses the verification must check that the token has not expired
    /// since then.
    pub(super) fn caller(
        &self,
        token: &PlainToken,
        now: UnixSeconds,
        seconds: u64,
    ) -> Option<Verified> {
        let mut callers = lock(&self.callers);
        let (seen, verified) = callers.get(token.hashed().as_bytes())?;
        let age = now.0.checked_sub(seen.0)?;
        (age < seconds).then(|| verified.clone())
    }

    /// Remembers the verification of a caller's token.
    pub(super) fn insert_caller(&self, token: &PlainToken, now: UnixSeconds, verified: Verified) {
        insert(&mut lock(&self.callers), token, (now, verified));
    }

    /// Returns whether this execution environment may now write the last use of a token. It tries
    /// this at most once in 30 seconds for each token. So concurrent uses of a token make one
    /// write, and while the writes fail, almost no use waits for a write.
    pub(super) fn may_store_use(&self, token: &PlainToken, now: UnixSeconds) -> bool {
        let mut uses = lock(&self.uses);
        let tried = uses.get(token.hashed().as_bytes());
        let may_store = tried.is_none_or(|tried| !is_fresh(*tried, now));
        if may_store {
            insert(&mut uses, token, now);
        }
        may_store
    }
}

fn insert<T>(memory: &mut LruCache<[u8; 32], T>, token: &PlainToken, entry: T) {
    memory.put(*token.hashed().as_bytes(), entry);
    if memory.len() > MEMORY_SIZE {
        memory.pop_lru();
    }
}

/// Returns whether a cache entry can still be used. An entry with a time in the future cannot be
/// used: the clock was set back after the entry was added.
fn is_fresh(seen: UnixSeconds, now: UnixSeconds) -> bool {
    now.0
        .checked_sub(seen.0)
        .is_some_and(|age| age < CACHE_SECONDS)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
