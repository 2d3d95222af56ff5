//! Calls about owners and environments.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{
    operation::{delete_item::DeleteItemError, put_item::PutItemError},
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};

use super::{Identity, Key};
use crate::{
    domain::{
        error::{Error, Result},
        owner::{Environment, Owner, OwnerKey},
    },
    store::{
        item::{Item, WriteResult, from_item, is_written, to_item, to_value},
        transaction::{Transacted, put, transact},
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
        Ok(if there.id == owner.id {
            Inserted::Existing(there)
        } else {
            Inserted::KeyTaken
        })
    }

    /// Puts an owner's next state in the place of the one that was read, in one conditional
    /// `PutItem`. Safe to repeat.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn replace_owner(
        &self,
        old: &Owner,
        new: &Owner,
    ) -> Result<WriteResult<Owner>> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(owner_item(new)?))
            .condition_expression("epoch = :epoch AND #version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":epoch", to_value(&old.epoch)?)
            .expression_attribute_values(":version", AttributeValue::N(old.version.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match put {
            Ok(_) => Ok(WriteResult::Written),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refusal)) => {
                    let there: Option<Owner> = refusal.item.clone().map(from_item).transpose()?;
                    // Its own earlier write, whose answer was lost.
                    let is_written = there.as_ref() == Some(new);
                    Ok(if is_written {
                        WriteResult::Written
                    } else {
                        WriteResult::Conflict(there)
                    })
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Deletes an owner's record, whatever has changed of it; every token of its ends with it. One
    /// `DeleteItem` on condition of the life that was read: tried again after a lost answer, or
    /// arriving late, it leaves a later owner of the same id alone.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn delete_owner(&self, owner: &Owner) -> Result<()> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(Key::owner(owner.id.key()).to_item()?))
            .condition_expression("born = :born")
            .expression_attribute_values(":born", to_value(&owner.born)?)
            .send()
            .await;
        let is_refusal = DeleteItemError::is_conditional_check_failed_exception;
        is_written(deleted, is_refusal).map(|_| ())
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

pub(crate) fn owner_item(owner: &Owner) -> Result<Item> {
    let mut item = to_item(owner)?;
    item.extend(Key::owner(owner.id.key()).to_item()?);
    Ok(item)
}
