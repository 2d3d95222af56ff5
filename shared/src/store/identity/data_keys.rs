//! The data keys that encrypt the values of e-mail tokens, and the operations of the commands that
//! add, replace and remove data keys.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    primitives::Blob,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{EMAIL_TOKEN_ITEM, Identity, Key, SORT_KEY, partition};
use crate::{
    domain::{
        email_token::{DataKeyId, Sealed, StoredEmailToken},
        error::Result,
        owner::OwnerKey,
        time::Timestamp,
    },
    store::{
        item::{Item, WriteResult, from_item, present, to_item, to_value},
        transaction::{Change, Transacted, put},
    },
};

/// The stored item of the data keys.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredDataKeys {
    /// The first data key, wrapped. Earlier releases read only this attribute. It is absent after
    /// the first key was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapped: Option<ByteBuf>,
    /// The check value of the first data key, while `keys` is empty. Earlier releases do not store
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_check: Option<ByteBuf>,
    /// All data keys, oldest first. Empty in the item that earlier releases store, and in the item
    /// of a deployment whose keys never changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<StoredDataKey>,
    /// Increases by 1 with each change of the item. Absent (0) before the first change.
    #[serde(default)]
    revision: u64,
}

/// A data key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDataKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: DataKeyId,
    /// When the key was added. `None` for the first key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) added_at: Option<Timestamp>,
    /// The start of a hash of the key, which shows whether an unwrapped key is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_check: Option<ByteBuf>,
    /// The key, wrapped by one or more value keys.
    pub(crate) wrapped: Vec<ByteBuf>,
}

impl StoredDataKeys {
    /// Returns the item with only the first data key.
    fn first(wrapped: &[u8], key_check: ByteBuf) -> Self {
        Self {
            wrapped: Some(ByteBuf::from(wrapped)),
            key_check: Some(key_check),
            keys: Vec::new(),
            revision: 0,
        }
    }

    /// Returns all data keys, oldest first. The last key seals new values.
    pub(crate) fn keys(&self) -> Vec<StoredDataKey> {
        if !self.keys.is_empty() {
            return self.keys.clone();
        }
        let first = self.wrapped.iter().map(|wrapped| StoredDataKey {
            id: None,
            added_at: None,
            key_check: self.key_check.clone(),
            wrapped: vec![wrapped.clone()],
        });
        first.collect()
    }
}

impl Identity {
    /// Reads the data keys for the values of e-mail tokens. Returns `None` if no data key is
    /// stored.
    pub(crate) async fn data_keys(&self) -> Result<Option<StoredDataKeys>> {
        let item = self.get(&Key::value_key()).await?;
        item.map(from_item).transpose()
    }

    /// Stores the first data key if no data key is stored. Returns the stored data keys, which are
    /// those of another execution environment if it was faster.
    pub(crate) async fn insert_first_data_key(
        &self,
        wrapped: &[u8],
        key_check: ByteBuf,
    ) -> Result<StoredDataKeys> {
        let mut item = Key::value_key().to_item()?;
        let value = AttributeValue::B(Blob::new(wrapped));
        item.insert("wrapped".to_owned(), value);
        let value = AttributeValue::B(Blob::new(key_check.as_slice()));
        item.insert("key_check".to_owned(), value);
        let there = self.insert(item).await?.map(from_item).transpose()?;
        Ok(there.unwrap_or_else(|| StoredDataKeys::first(wrapped, key_check)))
    }

    /// Replaces the data keys. The condition: they have not changed since `old` was read. Returns
    /// whether the keys were replaced.
    pub(crate) async fn replace_data_keys(
        &self,
        old: &StoredDataKeys,
        keys: Vec<StoredDataKey>,
    ) -> Result<bool> {
        let has_first = keys.iter().any(|key| key.id.is_none());
        let new = StoredDataKeys {
            wrapped: old.wrapped.clone().filter(|_| has_first),
            key_check: None,
            keys,
            revision: old.revision + 1,
        };
        let mut item = Key::value_key().to_item()?;
        item.extend(to_item(&new)?);
        let replace = match (old.revision, &old.wrapped) {
            (0, Some(wrapped)) => {
                let wrapped = AttributeValue::B(Blob::new(wrapped.as_slice()));
                let condition = "attribute_not_exists(revision) AND #wrapped = :wrapped";
                let mut write = put(&self.table, item, condition, &[(":wrapped", wrapped)])?;
                if let Some(put) = &mut write.put {
                    // `wrapped` is a reserved word of DynamoDB.
                    let name = ("#wrapped".to_owned(), "wrapped".to_owned());
                    put.expression_attribute_names = Some(HashMap::from([name]));
                }
                write
            }
            (revision, _) => put(
                &self.table,
                item,
                "revision = :revision",
                &[(":revision", to_value(&revision)?)],
            )?,
        };
        // A transaction is not applied twice if the SDK sends it again.
        let change = Change::together(vec![replace], |transacted| {
            Ok(matches!(transacted, Transacted::Written))
        });
        self.commit(change).await
    }

    /// Reads the next items of e-mail tokens of all users, with one `Scan`. The page starts after
    /// the position `after`. Returns each item with its partition, or `None` in place of an item
    /// that is malformed. Also returns the position after which the next page starts, or `None` at
    /// the end of the table.
    ///
    /// The read is consistent: the pages contain every record that was stored before the first page
    /// was read and was not deleted since.
    pub(crate) async fn scan_email_tokens(&self, after: Option<Item>) -> Result<EmailTokenPage> {
        let output = self
            .client
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .filter_expression("#item = :email_token")
            .expression_attribute_names("#item", SORT_KEY)
            .expression_attribute_values(
                ":email_token",
                AttributeValue::S(EMAIL_TOKEN_ITEM.to_owned()),
            )
            .set_exclusive_start_key(after)
            .send()
            .await?;
        let items = present(output.items)?;
        let read = |item: Item| Ok((partition(&item)?, from_item(item).ok()));
        let items = items.into_iter().map(read).collect::<Result<_>>()?;
        Ok((
            items,
            output.last_evaluated_key.filter(|key| !key.is_empty()),
        ))
    }

    /// Replaces the sealed value in a user's record. Changes nothing else. The condition: the
    /// record has not changed since it was read.
    pub(crate) async fn replace_sealed(
        &self,
        user: OwnerKey,
        old: &StoredEmailToken,
        new: &Sealed,
    ) -> Result<WriteResult<StoredEmailToken>> {
        let bytes = |sealed: &Sealed| AttributeValue::B(Blob::new(sealed.bytes.as_slice()));
        let mut values = HashMap::from([
            (":id".to_owned(), to_value(&old.token.token_id)?),
            (":revision".to_owned(), to_value(&old.token.revision)?),
            (":old".to_owned(), bytes(&old.sealed)),
            (":new".to_owned(), bytes(new)),
        ]);
        let expression = if let Some(id) = &new.data_key {
            values.insert(":data_key".to_owned(), AttributeValue::S(id.clone()));
            "SET sealed = :new, sealed_with = :data_key"
        } else {
            "SET sealed = :new REMOVE sealed_with"
        };
        let written = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::email_token(user).to_item()?))
            .update_expression(expression)
            .condition_expression("token_id = :id AND revision = :revision AND sealed = :old")
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match written {
            Ok(_) => Ok(WriteResult::Written),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    let there = refusal.item.clone().filter(|item| !item.is_empty());
                    Ok(WriteResult::Conflict(there.map(from_item).transpose()?))
                }
                _ => Err(error.into()),
            },
        }
    }
}

/// A page of items of e-mail tokens, each with its partition, and the position of the page's end.
pub(crate) type EmailTokenPage = (Vec<(OwnerKey, Option<StoredEmailToken>)>, Option<Item>);
