//! The cache of an execution environment. It outlives a request, and only verification uses it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;

use crate::{
    domain::{
        error::Result,
        id::EnvironmentId,
        owner::{Ecosystem, OwnerKey},
        time::UnixSeconds,
        token::PlainToken,
    },
    store::identity::Identity,
};

/// How long verification may treat a cached ecosystem or environment as existing without reading
/// it again, in seconds. Without the cache its item would be the most read item of the table, and a
/// partition serves only 3,000 consistent reads per second.
const CACHE_SECONDS: u64 = 30;
/// How many entries each map may hold before it is cleared. So many take a few hundred kilobytes.
const CACHE_SIZE: usize = 4096;

/// Ecosystems and environments that were read recently, and the renewals of the current second.
#[derive(Default)]
pub(crate) struct Cache {
    ecosystems: Mutex<HashMap<OwnerKey, (UnixSeconds, Ecosystem)>>,
    environments: Mutex<HashMap<EnvironmentId, UnixSeconds>>,
    renewals: Mutex<HashMap<[u8; 32], Arc<Renewal>>>,
}

/// The only renewal of a token that an execution environment makes in one second. All uses in that
/// second share its result.
struct Renewal {
    second: UnixSeconds,
    until: OnceCell<Option<UnixSeconds>>,
}

impl Cache {
    pub(super) fn ecosystem(&self, key: OwnerKey, now: UnixSeconds) -> Option<Ecosystem> {
        let ecosystems = lock(&self.ecosystems);
        let (seen, ecosystem) = ecosystems.get(&key)?;
        is_fresh(*seen, now).then(|| ecosystem.clone())
    }

    /// Returns whether an environment is cached as existing.
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

    /// Returns the renewal of this token in this second. If the clock has gone back, it returns
    /// the renewal of a later second, because the table would reject an earlier one anyway.
    fn renewal(&self, token: &PlainToken, now: UnixSeconds) -> Arc<Renewal> {
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
        let renewal = Arc::new(Renewal {
            second: now,
            until: OnceCell::new(),
        });
        renewals.insert(hash, renewal.clone());
        renewal
    }
}

impl Cache {
    /// Renews a sliding token, unless another use in this second has renewed it or is renewing it.
    /// Then this use shares that result, so that a busy token costs only one write per second.
    ///
    /// A rejection is shared too, because a token that is invalid stays invalid.
    pub(super) async fn renew_once(
        &self,
        token: &PlainToken,
        now: UnixSeconds,
        identity: &Identity,
    ) -> Result<Option<UnixSeconds>> {
        let renewal = self.renewal(token, now);
        renewal
            .until
            .get_or_try_init(|| identity.renew(token, now))
            .await
            .copied()
    }
}

/// Returns whether a cache entry is still fresh. An entry from a later time, before the clock went
/// back, is not.
fn is_fresh(seen: UnixSeconds, now: UnixSeconds) -> bool {
    now.0
        .checked_sub(seen.0)
        .is_some_and(|age| age < CACHE_SECONDS)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
