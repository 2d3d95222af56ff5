//! The migration from schema version 2 to 3: it lists what exists, and queues the erasure of what
//! earlier releases deleted.
//!
//! This release stores an entry for everything that it creates, whatever the version is. The
//! migration stores the entries of what earlier releases created, and deletes the entries of what
//! an earlier release deleted after this release had created it. So run it when no execution
//! environment of an earlier release is left.
//!
//! Earlier releases left items of deleted users, ecosystems and environments in the table. The
//! users among them are listed too, so that the eraser finds them.

use std::collections::{BTreeSet, HashSet};

use super::{raise, scan};
use crate::{
    domain::{
        deployment::Schema,
        error::Result,
        id::EnvironmentId,
        owner::{Address, Owner, OwnerKey, User},
    },
    service::{access::MayWrite, app::App, deployment, verify::Lookup},
    store::identity::{Entry, Erasure, Key, Stored, Target},
};

/// Lists everything that exists, queues the erasure of what was deleted, and then raises the schema
/// version to 3. Does nothing if the stored data has version 3.
///
/// # Errors
/// The database is unavailable.
pub async fn list_all(app: &App, _right: MayWrite) -> Result<()> {
    if deployment::read(app).await?.schema >= Schema::Three {
        return Ok(());
    }
    let mut known = Known::default();
    // A scan reads the items of a partition one after another, and `owner` before `password` and
    // `token#…`. So if such an item comes without its owner, the owner was probably deleted.
    let mut last = None;
    let mut missing = BTreeSet::new();
    scan(app, async |item| {
        let of_owner = match &item {
            Stored::Token(token) => Some(token.owner),
            Stored::OfOwner(key) => Some(*key),
            Stored::Account(account) => {
                last = Some((&account.id).into());
                None
            }
            Stored::Owner(owner) => {
                last = Some(owner.key());
                None
            }
            _ => None,
        };
        if of_owner.is_some() && of_owner != last {
            missing.extend(of_owner);
        }
        match item {
            Stored::Owner(owner) => {
                if let Some(entry) = Entry::of_owner(&owner) {
                    app.identity.list_existing(&entry).await?;
                }
                match owner.into_user() {
                    Some(user) => queue_if_deleted(app, &mut known, &user).await,
                    None => Ok(()),
                }
            }
            Stored::Environment(environment) => {
                let entry = Entry::of_environment(&environment);
                app.identity.list_existing(&entry).await
            }
            Stored::Entry(entry) => remove_if_deleted(app, &entry).await,
            Stored::Address(key, address) => remove_address(app, &key, &address).await,
            _ => Ok(()),
        }
    })
    .await?;
    for owner in missing {
        if app.identity.owner(owner).await?.is_none() {
            queue(app, Target::User(owner)).await?;
        }
    }
    raise(app, Schema::Three).await
}

/// The ecosystems and environments that were looked up.
type Known = HashSet<OwnerKey>;

async fn queue(app: &App, target: Target) -> Result<()> {
    let at = app.now();
    app.identity.store_erasure(&Erasure { target, at }).await
}

/// Queues the erasure of the ecosystem or the environment of a user, if it was deleted.
async fn queue_if_deleted(app: &App, known: &mut Known, user: &User) -> Result<()> {
    let ecosystem = user.id.ecosystem();
    let key = ecosystem.into();
    if known.insert(key) {
        let exists = app.identity.owner(key).await?.is_some();
        if !exists {
            let target = Target::Ecosystem {
                id: ecosystem.clone(),
                account: None,
            };
            queue(app, target).await?;
        }
    }
    let Some(environment) = &user.environment else {
        return Ok(());
    };
    let key = environment.into();
    if known.insert(key) {
        let lookup = Lookup::new(app).environment(Some(environment));
        let exists = lookup.read().await?.environment(environment).is_some();
        if !exists {
            let owner = app.identity.owner(ecosystem.into()).await?;
            let account = match owner {
                Some(Owner::Ecosystem(ecosystem)) => Some(ecosystem.account),
                _ => None,
            };
            let target = Target::Environment {
                id: environment.clone(),
                ecosystem: ecosystem.clone(),
                account,
            };
            queue(app, target).await?;
        }
    }
    Ok(())
}

/// Deletes the record of an address if its user or the user's ecosystem does not exist.
async fn remove_address(app: &App, key: &Key, address: &Address) -> Result<()> {
    let id = &address.user_id;
    let found = Lookup::new(app).user(Some(id)).read().await?;
    let user = found.user_record(id);
    let exists = user.is_some_and(|user| user.state.incarnation == address.incarnation)
        && found.ecosystem_record(id.ecosystem()).is_some();
    if exists {
        return Ok(());
    }
    app.identity.remove_address(key, address).await
}

/// Deletes an entry if what it lists does not exist.
async fn remove_if_deleted(app: &App, entry: &Entry) -> Result<()> {
    let found = app.identity.read(&BTreeSet::from([entry.of()?])).await?;
    let exists = if let Ok(id) = EnvironmentId::parse(&entry.id) {
        found.environment(&id).is_some()
    } else {
        let owner = found.owner(entry.of()?.owner);
        owner.map(|owner| owner.state().incarnation) == entry.incarnation
    };
    if exists {
        return Ok(());
    }
    app.identity.remove_entry(entry).await
}
