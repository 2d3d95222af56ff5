//! The record of the deployment in the memory of an execution environment, and the check of token
//! tags.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    domain::{
        deployment::{Deployment, Schema, TagKey},
        error::{Error, Result},
        id::AccountId,
        owner::OwnerKey,
        time::UnixSeconds,
        token::PlainToken,
    },
    service::{access::MayWrite, app::App},
    store::identity::Identity,
};

/// After this many seconds, the record is read again if a token's tag matches no key, if the stored
/// data has an earlier version than this release writes, or if there is no first account yet.
pub const REREAD_SECONDS: u64 = 10;
/// Before a token is created, the record is read again if the last read was at least this many
/// seconds ago. So every execution environment that creates tokens uses a new tag key after this
/// time at the latest.
pub const MINTING_REREAD_SECONDS: u64 = 300;

/// The record that was read last, and the time of this read.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Option<(UnixSeconds, Arc<Deployment>)>>);

impl Remembered {
    /// Returns the record if it was read less than `max_age` seconds ago. If `max_age` is `None`,
    /// returns the record whenever it was read. If `max_age` is given and the time of the read is
    /// in the future, returns `None`: the clock was set back after the read.
    fn get(&self, now: UnixSeconds, max_age: Option<u64>) -> Option<Arc<Deployment>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, deployment) = remembered.as_ref()?;
        let age = now.0.checked_sub(read_at.0);
        let is_fresh = max_age.is_none_or(|max| age.is_some_and(|age| age < max));
        is_fresh.then(|| deployment.clone())
    }

    pub(super) fn set(&self, now: UnixSeconds, deployment: Arc<Deployment>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, deployment));
    }

    /// Returns the record. Reads it if it was not read yet. If the record is not complete yet, also
    /// reads it if the last read was at least [`REREAD_SECONDS`] ago. The record is complete if the
    /// stored data has the version that this release writes, and there is a first account.
    pub(super) async fn current(
        &self,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<Arc<Deployment>> {
        match self.get(now, None) {
            Some(deployment)
                if deployment.schema == Schema::CURRENT && deployment.first_account.is_some() =>
            {
                Ok(deployment)
            }
            _ => self.read_within(REREAD_SECONDS, identity, now).await,
        }
    }

    /// Returns the record. Reads it, unless the last read was less than `max_age` seconds ago.
    async fn read_within(
        &self,
        max_age: u64,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<Arc<Deployment>> {
        if let Some(deployment) = self.get(now, Some(max_age)) {
            return Ok(deployment);
        }
        let deployment = Arc::new(identity.deployment().await?);
        self.set(now, deployment.clone());
        Ok(deployment)
    }

    /// Returns whether a token's tag is valid: a key of the deployment created it, or the stored
    /// data has schema version 1, in which tokens without a tag are valid.
    pub(super) async fn accepts(
        &self,
        token: &PlainToken,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<bool> {
        // This partition has no owner. It contains the record of the deployment, so no token may be
        // looked up in it.
        if token.owner() == OwnerKey::NOBODY {
            return Ok(false);
        }
        // A key is never removed, so no read is needed, even if the last one was long ago.
        let known = self.get(now, None);
        if known.is_some_and(|deployment| deployment.created_tag_of(token)) {
            return Ok(true);
        }
        // The key may have been added after the last read.
        let deployment = self.read_within(REREAD_SECONDS, identity, now).await?;
        Ok(deployment.created_tag_of(token) || deployment.schema == Schema::One)
    }

    /// Returns the key that creates the tag of a new token, or `None` if the deployment has no key
    /// yet. While there is no key, the record is read each time.
    pub(super) async fn tag_key(
        &self,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<Option<TagKey>> {
        let mut deployment = self
            .read_within(MINTING_REREAD_SECONDS, identity, now)
            .await?;
        if deployment.tag_keys.is_empty() {
            deployment = self.read_within(0, identity, now).await?;
        }
        Ok(deployment.minting_key(now).cloned())
    }
}

/// Reads the record of the deployment, even if it was just read.
///
/// # Errors
/// [`Error::Internal`] if this release cannot read the stored data; [`Error::Unavailable`] if the
/// database is unavailable.
pub(super) async fn read(app: &App) -> Result<Arc<Deployment>> {
    let now = app.now().seconds();
    app.deployments.read_within(0, &app.identity, now).await
}

/// Creates the record of the deployment if there is none. If the table is empty, the new record
/// contains the schema version that this release writes. Otherwise an earlier release created the
/// stored data, and the new record contains version 1.
///
/// # Errors
/// The database is unavailable.
pub async fn create_if_none(app: &App, _right: MayWrite) -> Result<Arc<Deployment>> {
    let there = read(app).await?;
    if there.revision > 0 {
        return Ok(there);
    }
    let schema = if app.identity.is_empty().await? {
        Schema::CURRENT
    } else {
        Schema::One
    };
    let new = Deployment {
        schema,
        ..Deployment::new(app.now().seconds(), &mut *app.rng())
    };
    // If another process has created the record, use that record.
    app.identity.put_deployment(&new).await?;
    read(app).await
}

/// Changes the record of the deployment. If another process changes it at the same time, `change`
/// is applied again.
///
/// # Errors
/// The database is unavailable, or `change` fails.
pub(super) async fn change(
    app: &App,
    change: impl Fn(Deployment) -> Result<Deployment>,
) -> Result<Arc<Deployment>> {
    loop {
        let there = read(app).await?;
        let next = change((*there).clone())?;
        if next == *there {
            return Ok(there);
        }
        let next = Deployment {
            revision: there.revision + 1,
            ..next
        };
        if app.identity.put_deployment(&next).await? {
            return read(app).await;
        }
    }
}

/// Makes an account the first account of the deployment.
///
/// # Errors
/// The database is unavailable.
pub async fn set_first_account(app: &App, _right: MayWrite, account: &AccountId) -> Result<()> {
    let set = |deployment: Deployment| {
        Ok(Deployment {
            first_account: Some(account.clone()),
            ..deployment
        })
    };
    change(app, set).await.map(|_| ())
}

/// Adds a tag key. The new key creates tags only after a minute.
///
/// # Errors
/// [`Error::Internal`] if the deployment has no record yet; [`Error::Unavailable`] if the database
/// is unavailable.
pub async fn add_tag_key(app: &App, _right: MayWrite) -> Result<Arc<Deployment>> {
    let now = app.now().seconds();
    let add = |deployment: Deployment| match deployment.revision {
        0 => Err(Error::Internal {
            cause: "the deployment has no record: run `tokenry migrate`".to_owned(),
        }),
        _ => Ok(deployment.with_new_tag_key(now, &mut *app.rng())),
    };
    change(app, add).await
}
