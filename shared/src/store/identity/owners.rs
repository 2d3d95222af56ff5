//! Calls about owners and environments.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::{Identity, Key};
use crate::{
    domain::{
        error::{Error, Result},
        id::EnvironmentId,
        owner::{Environment, Epoch, Owner, OwnerKey, State, User},
    },
    store::{
        item::{Item, WriteResult, from_item, to_item, to_value},
        transaction::{Change, Transacted, check, delete, put, transact},
    },
};

/// What became of an owner that was to be written where none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there now.
    New,
    /// The same id was there already, in this state.
    Existing(Owner),
    /// Another id has its key: a collision of hashes. Nothing was overwritten.
    KeyTaken,
}

impl Identity {
    /// Writes a new owner, where none is. Safe to repeat: a transaction arrives once, while a put that
    /// was held up could bring an owner back that has been deleted since, with all its tokens.
    ///
    /// # Errors
    /// The database is away.
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

    /// Stores a user's next state in the place of the one that was read: one conditional `PutItem`. It is
    /// safe to repeat.
    pub(crate) fn replace_user(&self, old: &User, new: &User) -> Result<Change<WriteResult<User>>> {
        let new = Owner::from(new);
        let put = put(
            &self.table,
            owner_item(&new)?,
            AS_READ,
            &as_read(&old.state)?,
        )?;
        Ok(Change::alone(put, move |transacted| match transacted {
            Transacted::Written => Ok(WriteResult::Written),
            Transacted::Refused(mut refused) => match owner_in(refused.swap_remove(0))? {
                // This write itself, if its response was lost.
                Some(there) if there == new => Ok(WriteResult::Written),
                there => Ok(WriteResult::Conflict(there.and_then(Owner::into_user))),
            },
        }))
    }

    /// Deletes an owner's record, even if it has changed since it was read: all its tokens end with it. The
    /// condition is the incarnation that was read, so a repeated or late deletion leaves a later owner of the same
    /// id alone.
    pub(crate) fn delete_owner(&self, owner: OwnerKey, incarnation: Epoch) -> Result<Change<()>> {
        let values = [(":born", to_value(&incarnation)?)];
        let key = Key::owner(owner).to_item()?;
        let delete = delete(&self.table, key, Some("born = :born"), &values)?;
        Ok(Change::alone(delete, |_| Ok(())))
    }

    /// Deletes an environment, if it is there.
    pub(crate) fn delete_environment(&self, id: &EnvironmentId) -> Result<Change<()>> {
        let key = Key::environment(id).to_item()?;
        let delete = delete(&self.table, key, None, &[])?;
        Ok(Change::alone(delete, |_| Ok(())))
    }

    /// Writes a new environment. Safe to repeat, as [`Identity::insert_owner`] is.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn insert_environment(&self, environment: &Environment) -> Result<()> {
        let mut item = to_item(environment)?;
        item.extend(Key::environment(&environment.id).to_item()?);
        let put = put(&self.table, item, "attribute_not_exists(ecosystem)", &[])?;
        match transact(&self.client, vec![put]).await? {
            Transacted::Written => Ok(()),
            Transacted::Refused(_) => Err(Error::Internal {
                cause: "a new environment met another under its id".to_owned(),
            }),
        }
    }

    /// Reads an owner's record.
    ///
    /// # Errors
    /// The database is away.
    pub async fn owner(&self, key: OwnerKey) -> Result<Option<Owner>> {
        let found = self.read(&BTreeSet::from([Key::owner(key)])).await?;
        Ok(found.owner(key).cloned())
    }
}

/// An owner's item with its key.
pub(crate) fn owner_item(owner: &Owner) -> Result<Item> {
    let mut item = to_item(owner)?;
    item.extend(Key::owner(owner.key()).to_item()?);
    Ok(item)
}

/// The owner that a refused write found, if there is one.
pub(super) fn owner_in(refused: Option<Item>) -> Result<Option<Owner>> {
    let there = refused.filter(|there| !there.is_empty());
    there.map(from_item).transpose()
}

/// Checks that a user has this epoch still and is active.
pub(crate) fn unchanged(table: &str, user: OwnerKey, epoch: Epoch) -> Result<TransactWriteItem> {
    let values = [
        (":epoch", to_value(&epoch)?),
        (":true", AttributeValue::Bool(true)),
    ];
    let key = Key::owner(user).to_item()?;
    check(table, key, "epoch = :epoch AND active = :true", &values)
}

/// The condition that an owner is in the state that was read.
pub(super) const AS_READ: &str = "epoch = :epoch AND born = :born AND version = :version";

pub(super) fn as_read(state: &State) -> Result<[(&'static str, AttributeValue); 3]> {
    Ok([
        (":epoch", to_value(&state.epoch)?),
        (":born", to_value(&state.incarnation)?),
        (":version", to_value(&state.version)?),
    ])
}
