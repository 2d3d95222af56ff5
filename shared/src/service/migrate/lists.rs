//! The migration from schema version 2 to 3: it lists what exists, and queues the erasure of what
//! earlier releases deleted.
//!
//! This release stores an entry for everything that it creates, whatever the version is. The
//! migration stores the entries of what earlier releases created, and deletes the entries of what
//! an earlier release deleted after this release had created it. While an execution environment of
//! an earlier release is left, it can create and delete more. So the migration can be run again at
//! any time, also in version 3. What is listed already is only read.
//!
//! Earlier releases left items of deleted users, ecosystems and environments in the table. The
//! users among them are listed too, so that the eraser finds them.
//!
//! A scan may see a write of a transaction before the transaction is complete. So before something
//! is deleted because its owner does not exist, the owner is read with a transaction.

use std::collections::{BTreeSet, HashSet};

use super::{raise, scan_pages};
use crate::{
    domain::{
        deployment::Schema,
        error::Result,
        id::{EcosystemId, EnvironmentId},
        owner::{Address, Owner, OwnerKey, User},
        time::Timestamp,
    },
    service::{access::MayWrite, app::App, verify::Lookup},
    store::identity::{Entry, Erasure, Items, Key, Stored, Target},
};

/// Lists everything that exists and is not listed, queues the erasure of what was deleted, and then
/// raises the schema version to 3.
///
/// # Errors
/// The database is unavailable.
pub async fn list_all(app: &App, _right: MayWrite) -> Result<()> {
    let mut known = Known::default();
    let mut partitions = Partitions::default();
    scan_pages(app, async |items| {
        let (mut existing, mut listed, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            partitions.see(&item);
            match item {
                Stored::Owner(owner) => {
                    existing.extend(Entry::of_owner(&owner));
                    if let Some(user) = owner.into_user() {
                        queue_if_deleted(app, &mut known, &user).await?;
                    }
                }
                Stored::Environment(environment) => {
                    queue_if_ecosystem_deleted(app, &mut known, &environment.ecosystem).await?;
                    existing.push(Entry::of_environment(&environment));
                }
                Stored::Entry(entry) => listed.push(entry),
                Stored::Address(key, address) => addresses.push((key, address)),
                _ => {}
            }
        }
        for entry in app.identity.not_listed(existing).await? {
            app.identity.list_existing(&entry).await?;
        }
        remove_entries(app, listed).await?;
        remove_addresses(app, addresses).await
    })
    .await?;
    for owner in partitions.without_owner() {
        let at = app.now();
        if app.identity.owner_after(owner).await?.is_none() {
            queue(app, Target::User(owner), at).await?;
        }
    }
    raise(app, Schema::Three).await
}

/// Finds the partitions that contain items of an owner, but not the owner's record. A scan reads
/// the items of a partition one after another.
#[derive(Default)]
struct Partitions {
    current: Option<OwnerKey>,
    has_owner: bool,
    without_owner: BTreeSet<OwnerKey>,
}

impl Partitions {
    fn see(&mut self, item: &Stored) {
        let (key, is_owner) = match item {
            Stored::Account(account) => ((&account.id).into(), true),
            Stored::Owner(owner) => (owner.key(), true),
            Stored::Token(token) => (token.owner, false),
            Stored::EmailToken(stored) => ((&stored.token.user_id).into(), false),
            Stored::OfOwner(key) => (*key, false),
            _ => return,
        };
        if self.current != Some(key) {
            self.end();
            (self.current, self.has_owner) = (Some(key), false);
        }
        self.has_owner |= is_owner;
    }

    fn end(&mut self) {
        if !self.has_owner {
            self.without_owner.extend(self.current);
        }
    }

    fn without_owner(mut self) -> BTreeSet<OwnerKey> {
        self.end();
        self.without_owner
    }
}

/// The ecosystems and environments that were looked up.
type Known = HashSet<OwnerKey>;

/// Queues an erasure, unless the queue contains one with the same target.
async fn queue(app: &App, target: Target, at: Timestamp) -> Result<()> {
    let erasure = Erasure { target, at };
    app.identity.store_erasure_if_none(&erasure).await
}

/// Queues the erasure of an ecosystem, if it was deleted.
async fn queue_if_ecosystem_deleted(app: &App, known: &mut Known, id: &EcosystemId) -> Result<()> {
    let key = id.into();
    if known.insert(key) && app.identity.owner(key).await?.is_none() {
        let target = Target::Ecosystem {
            id: id.clone(),
            account: None,
        };
        queue(app, target, app.now()).await?;
    }
    Ok(())
}

/// Queues the erasure of the ecosystem or the environment of a user, if it was deleted.
async fn queue_if_deleted(app: &App, known: &mut Known, user: &User) -> Result<()> {
    let ecosystem = user.id.ecosystem();
    queue_if_ecosystem_deleted(app, known, ecosystem).await?;
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
            queue(app, target, app.now()).await?;
        }
    }
    Ok(())
}

/// Deletes the records of addresses whose user or whose user's ecosystem does not exist.
async fn remove_addresses(app: &App, addresses: Vec<(Key, Address)>) -> Result<()> {
    let keys = |address: &Address| {
        let id = &address.user_id;
        [Key::owner(id.into()), Key::owner(id.ecosystem().into())]
    };
    let counts = |found: &Items, address: &Address| {
        let id = &address.user_id;
        let user = found.user(id);
        user.is_some_and(|user| user.state.incarnation == address.incarnation)
            && found.ecosystem(id.ecosystem()).is_some()
    };
    let all = addresses.iter().flat_map(|(_, address)| keys(address));
    let found = app.identity.read(&all.collect()).await?;
    for (key, address) in addresses {
        if !counts(&found, &address)
            && !counts(
                &app.identity.snapshot(&keys(&address).into()).await?,
                &address,
            )
        {
            app.identity.remove_address(&key, &address).await?;
        }
    }
    Ok(())
}

/// Deletes each entry whose ecosystem, environment or user does not exist. If a user or an
/// ecosystem does not exist, queues the erasure of what is left of it, because the entry may be all
/// that leads to it.
async fn remove_entries(app: &App, entries: Vec<Entry>) -> Result<()> {
    let exists = |found: &Items, entry: &Entry| -> Result<bool> {
        Ok(if let Ok(id) = EnvironmentId::parse(&entry.id) {
            found.environment(&id).is_some()
        } else {
            let owner = found.owner(entry.of()?.owner);
            owner.map(|owner| owner.state().incarnation) == entry.incarnation
        })
    };
    let keys = entries.iter().map(Entry::of).collect::<Result<_>>()?;
    let found = app.identity.read(&keys).await?;
    for entry in entries {
        if exists(&found, &entry)? {
            continue;
        }
        let (at, key) = (app.now(), entry.of()?);
        let owner = key.owner;
        let found = app.identity.snapshot(&BTreeSet::from([key])).await?;
        if exists(&found, &entry)? {
            continue;
        }
        if entry.incarnation.is_some() && found.owner(owner).is_none() {
            queue(app, Target::User(owner), at).await?;
        }
        app.identity.remove_entry(&entry).await?;
    }
    Ok(())
}
