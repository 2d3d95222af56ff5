//! What an execution environment remembers between requests, by verification only.

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

/// For how long verification may take a living ecosystem or environment for living without a look,
/// in seconds. Its item would be the hottest of the table: a partition gives 3,000 consistent reads
/// a second.
const MEMORY: u64 = 30;
/// How many entries each memory may hold before it is emptied: a few hundred kilobytes.
const MEMORY_SIZE: usize = 4096;

/// Living ecosystems and environments, and this second's renewals.
#[derive(Default)]
pub(crate) struct Memory {
    ecosystems: Mutex<HashMap<OwnerKey, (UnixSeconds, Ecosystem)>>,
    environments: Mutex<HashMap<EnvironmentId, UnixSeconds>>,
    renewals: Mutex<HashMap<[u8; 32], Arc<Renewal>>>,
}

/// The one renewal of a token that an environment makes in a second; all uses in that second
/// share its outcome.
struct Renewal {
    second: UnixSeconds,
    until: OnceCell<Option<UnixSeconds>>,
}

impl Memory {
    pub(super) fn ecosystem(&self, key: OwnerKey, now: UnixSeconds) -> Option<Ecosystem> {
        let ecosystems = lock(&self.ecosystems);
        let (seen, ecosystem) = ecosystems.get(&key)?;
        is_fresh(*seen, now).then(|| ecosystem.clone())
    }

    /// Whether an environment is remembered for living.
    pub(super) fn environment(&self, id: &EnvironmentId, now: UnixSeconds) -> bool {
        lock(&self.environments)
            .get(id)
            .is_some_and(|seen| is_fresh(*seen, now))
    }

    pub(super) fn remember_environment(&self, id: EnvironmentId, now: UnixSeconds) {
        let mut environments = lock(&self.environments);
        if environments.len() >= MEMORY_SIZE {
            environments.clear();
        }
        environments.insert(id, now);
    }

    pub(super) fn remember_ecosystem(&self, key: OwnerKey, ecosystem: Ecosystem, now: UnixSeconds) {
        let mut ecosystems = lock(&self.ecosystems);
        if ecosystems.len() >= MEMORY_SIZE {
            ecosystems.clear();
        }
        ecosystems.insert(key, (now, ecosystem));
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

impl Memory {
    /// Renews a sliding token, unless a use in this second already did or is about to: then its
    /// outcome is this one's as well, so that a hot token costs a write a second.
    ///
    /// A refusal is shared too: a token that is dead stays dead.
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

/// A clock that went back makes what was seen later worthless.
fn is_fresh(seen: UnixSeconds, now: UnixSeconds) -> bool {
    now.0.checked_sub(seen.0).is_some_and(|age| age < MEMORY)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
