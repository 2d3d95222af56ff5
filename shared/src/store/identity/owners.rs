//! The operations for owners and environments.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::{Identity, Key};
use crate::{
    domain::{
        error::{Error, Result},
        id::EnvironmentId,
        owner::{Ecosystem, Environment, Epoch, Owner, OwnerKey, State, User},
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
    /// Stores a new owner, if no stored owner has the same key.
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
        let put = put(&self.table, owner_item(owner)?, absent, &[])?;
        let Transacted::Refused(refused) = transact(&self.client, vec![put]).await? else {
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

    /// Prepares to delete an owner's record. Without this record, all tokens of the owner are
    /// invalid.
    ///
    /// The condition: the stored owner has this incarnation. All other fields may have changed
    /// since the record was read. So if this deletion is repeated or delayed, it does not delete a
    /// new owner that was created with the same id.
    pub(crate) fn owner_deletion(&self, owner: OwnerKey, incarnation: Epoch) -> Result<Change<()>> {
        let values = [(":born", to_value(&incarnation)?)];
        let key = Key::owner(owner).to_item()?;
        let delete = delete(&self.table, key, Some("born = :born"), &values)?;
        Ok(Change::alone(delete, |_| Ok(())))
    }

    /// Prepares to delete an environment. If the environment does not exist, the deletion succeeds.
    pub(crate) fn environment_deletion(&self, id: &EnvironmentId) -> Result<Change<()>> {
        let key = Key::environment(id).to_item()?;
        let delete = delete(&self.table, key, None, &[])?;
        Ok(Change::alone(delete, |_| Ok(())))
    }

    /// Stores a new environment. The write is sent as a transaction, for the same reason as in
    /// [`Identity::insert_owner`].
    pub(crate) async fn insert_environment(&self, environment: &Environment) -> Result<()> {
        let mut item = to_item(environment)?;
        item.extend(Key::environment(&environment.id).to_item()?);
        let put = put(&self.table, item, "attribute_not_exists(ecosystem)", &[])?;
        match transact(&self.client, vec![put]).await? {
            Transacted::Written => Ok(()),
            Transacted::Refused(_) => Err(Error::Internal {
                cause: "the id of a new environment is already in use".to_owned(),
            }),
        }
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
