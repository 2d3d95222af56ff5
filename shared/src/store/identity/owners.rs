//! The operations for owners and environments.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::{Entry, Erasure, Identity, Key, Target};
use crate::{
    domain::{
        error::{Error, Result},
        id::AccountId,
        owner::{Ecosystem, Environment, Epoch, Owner, OwnerKey, State, User},
        time::Timestamp,
    },
    store::{
        item::{Item, WriteResult, from_item, to_item, to_value},
        transaction::{Change, Transacted, check, delete, put, transact},
    },
};

/// The result of storing a new owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The owner is stored.
    New,
    /// An owner with the same id exists. Nothing was overwritten.
    Existing(Owner),
    /// An owner with a different id has the same key (hash collision). Nothing was overwritten.
    KeyTaken,
}

impl Identity {
    /// Stores a new owner and its entry in a list, if no stored owner has the same key.
    ///
    /// The write is sent as a transaction, which takes effect only once. If we sent a plain
    /// `PutItem` and the SDK retried it, the `PutItem` could take effect a second time after the
    /// owner was deleted. Then the owner would exist again, and the owner's tokens would be valid
    /// again.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn insert_owner(&self, owner: &Owner) -> Result<Inserted> {
        let absent = "attribute_not_exists(epoch)";
        let mut writes = vec![put(&self.table, owner_item(owner)?, absent, &[])?];
        if let Some(entry) = Entry::of_owner(owner) {
            writes.push(self.put_entry(&entry)?);
        }
        let Transacted::Refused(refused) = transact(&self.client, writes).await? else {
            return Ok(Inserted::New);
        };
        let there = refused.into_iter().flatten().next().unwrap_or_default();
        let there: Owner = from_item(there)?;
        Ok(if there.id() == owner.id() {
            Inserted::Existing(there)
        } else {
            Inserted::KeyTaken
        })
    }

    /// Prepares to replace a user's record with one conditional `PutItem`. The condition: the
    /// record has not changed since it was read. If the SDK sends the `PutItem` twice, the second
    /// one changes nothing: its condition is false, because the first one has changed the version.
    pub(crate) fn user_replacement(
        &self,
        old: &User,
        new: &User,
    ) -> Result<Change<WriteResult<User>>> {
        self.replacement(&old.state, new.into(), Owner::into_user)
    }

    /// Prepares to replace an ecosystem's record, like [`Identity::user_replacement`].
    pub(crate) fn ecosystem_replacement(
        &self,
        old: &Ecosystem,
        new: &Ecosystem,
    ) -> Result<Change<WriteResult<Ecosystem>>> {
        self.replacement(&old.state, new.into(), Owner::into_ecosystem)
    }

    fn replacement<T: 'static>(
        &self,
        old: &State,
        new: Owner,
        of: fn(Owner) -> Option<T>,
    ) -> Result<Change<WriteResult<T>>> {
        let put = put(&self.table, owner_item(&new)?, AS_READ, &as_read(old)?)?;
        Ok(Change::alone(put, move |transacted| match transacted {
            Transacted::Written => Ok(WriteResult::Written),
            Transacted::Refused(mut refused) => match owner_in(refused.swap_remove(0))? {
                // The first attempt has written the record, but its response was lost.
                Some(there) if there == new => Ok(WriteResult::Written),
                there => Ok(WriteResult::Conflict(there.and_then(of))),
            },
        }))
    }

    /// Prepares to delete an ecosystem and its entry, and to store an erasure. Without the
    /// ecosystem's record, all tokens of the ecosystem and of its users are invalid.
    ///
    /// The condition: the stored ecosystem has this incarnation.
    pub(crate) fn ecosystem_deletion(
        &self,
        ecosystem: &Ecosystem,
        at: Timestamp,
    ) -> Result<Change<()>> {
        let values = [(":born", to_value(&ecosystem.state.incarnation)?)];
        let key = Key::owner((&ecosystem.id).into()).to_item()?;
        let mut writes = vec![delete(&self.table, key, Some("born = :born"), &values)?];
        if let Some(entry) = Entry::of_owner(&ecosystem.into()) {
            writes.push(self.delete_entry(&entry)?);
        }
        let target = Target::Ecosystem {
            id: ecosystem.id.clone(),
            account: Some(ecosystem.account.clone()),
        };
        writes.push(self.queue(&Erasure { target, at })?);
        Ok(Change::together(writes, |_| Ok(())))
    }

    /// Prepares to delete an environment and its entry, and to store an erasure. If the environment
    /// does not exist, nothing is changed.
    pub(crate) fn environment_deletion(
        &self,
        environment: &Environment,
        account: &AccountId,
        at: Timestamp,
    ) -> Result<Change<()>> {
        let target = Target::Environment {
            id: environment.id.clone(),
            ecosystem: environment.ecosystem.clone(),
            account: Some(account.clone()),
        };
        let key = Key::environment(&environment.id).to_item()?;
        let writes = vec![
            delete(&self.table, key, Some("attribute_exists(ecosystem)"), &[])?,
            self.delete_entry(&Entry::of_environment(environment))?,
            self.queue(&Erasure { target, at })?,
        ];
        Ok(Change::together(writes, |_| Ok(())))
    }

    /// Stores a new environment and its entry in a list. The write is sent as a transaction, for
    /// the same reason as in [`Identity::insert_owner`].
    pub(crate) async fn insert_environment(&self, environment: &Environment) -> Result<()> {
        let mut item = to_item(environment)?;
        item.extend(Key::environment(&environment.id).to_item()?);
        let put = put(&self.table, item, "attribute_not_exists(ecosystem)", &[])?;
        let entry = self.put_entry(&Entry::of_environment(environment))?;
        match transact(&self.client, vec![put, entry]).await? {
            Transacted::Written => Ok(()),
            Transacted::Refused(_) => Err(Error::Internal {
                cause: "the id of a new environment is already in use".to_owned(),
            }),
        }
    }

    /// Prepares the condition that a user is active and still has this epoch. The caller must add
    /// the writes of the transaction. The result says whether the condition was true.
    pub(crate) fn if_user_unchanged(&self, user: OwnerKey, epoch: Epoch) -> Result<Change<bool>> {
        let check = user_unchanged(&self.table, user, epoch)?;
        Ok(Change::together(
            vec![check],
            |transacted| match transacted {
                Transacted::Written => Ok(true),
                Transacted::Refused(refused) if refused[0].is_some() => Ok(false),
                Transacted::Refused(_) => Err(Error::Internal {
                    cause: "the id of a new token is already in use".to_owned(),
                }),
            },
        ))
    }

    /// Reads an owner's record with a transaction ([`Identity::snapshot`]). Use this function to
    /// decide whether an item that was read before belongs to the owner's present life: the owner
    /// and the item may have been written by the same transaction.
    pub(crate) async fn owner_after(&self, key: OwnerKey) -> Result<Option<Owner>> {
        let found = self.snapshot(&BTreeSet::from([Key::owner(key)])).await?;
        Ok(found.owner(key).cloned())
    }

    /// Reads an owner's record.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn owner(&self, key: OwnerKey) -> Result<Option<Owner>> {
        let found = self.read(&BTreeSet::from([Key::owner(key)])).await?;
        Ok(found.owner(key).cloned())
    }
}

/// Returns an owner's item, with the item's key.
pub(crate) fn owner_item(owner: &Owner) -> Result<Item> {
    let mut item = to_item(owner)?;
    item.extend(Key::owner(owner.key()).to_item()?);
    Ok(item)
}

/// Returns the stored owner, from the item that DynamoDB returned for a write whose condition was
/// false. Returns `None` if there is no stored owner.
pub(super) fn owner_in(refused: Option<Item>) -> Result<Option<Owner>> {
    let there = refused.filter(|there| !there.is_empty());
    there.map(from_item).transpose()
}

/// Prepares the condition that a user is active and still has this epoch.
pub(crate) fn user_unchanged(
    table: &str,
    user: OwnerKey,
    epoch: Epoch,
) -> Result<TransactWriteItem> {
    let values = [
        (":epoch", to_value(&epoch)?),
        (":true", AttributeValue::Bool(true)),
    ];
    let key = Key::owner(user).to_item()?;
    check(table, key, "epoch = :epoch AND active = :true", &values)
}

/// The condition that an owner has not changed since it was read.
pub(super) const AS_READ: &str = "epoch = :epoch AND born = :born AND version = :version";

pub(super) fn as_read(state: &State) -> Result<[(&'static str, AttributeValue); 3]> {
    Ok([
        (":epoch", to_value(&state.epoch)?),
        (":born", to_value(&state.incarnation)?),
        (":version", to_value(&state.version)?),
    ])
}
