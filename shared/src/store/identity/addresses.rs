//! The operations for the records of e-mail addresses.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{Identity, Key};
use crate::{
    domain::{
        error::Result,
        owner::{Address, OwnerKey, User},
    },
    store::{
        item::{Item, from_item, to_item, to_value},
        transaction::{Change, Transacted, check, delete, put},
    },
};

/// The key of a record of an e-mail address, and the stored record. The record may be out of date:
/// its user or ecosystem was deleted, or its user now has another address.
#[derive(Clone, Debug)]
pub(crate) struct AddressSlot {
    pub(crate) key: Key,
    /// `None` if no record is stored.
    pub(crate) address: Option<Address>,
}

impl AddressSlot {
    /// Returns the partition key of the user in the record. If no record is stored, returns the
    /// partition key of the slot, which no user has.
    pub(crate) fn user_key(&self) -> OwnerKey {
        let user = self.address.as_ref().map(|address| &address.user_id);
        user.map_or(self.key.owner, OwnerKey::from)
    }
}

/// The result of copying the record of an address.
pub(crate) enum AddressCopy {
    Written,
    /// The source or the target has changed since it was read. Nothing was written.
    Changed,
}

impl Identity {
    /// Reads the records of e-mail addresses with these keys.
    pub(crate) async fn addresses(&self, keys: Vec<Key>) -> Result<Vec<AddressSlot>> {
        if let [key] = &keys[..] {
            let item = self.get(key).await?;
            return Ok(vec![AddressSlot {
                key: key.clone(),
                address: item.map(from_item).transpose()?,
            }]);
        }
        let items = self.read(&keys.iter().cloned().collect()).await?;
        let slots = keys.into_iter().map(|key| AddressSlot {
            address: items.address(&key).cloned(),
            key,
        });
        Ok(slots.collect())
    }

    /// Prepares to store the record of an address. The condition: the stored record has not changed
    /// since the slot was read.
    pub(super) fn put_address(
        &self,
        slot: &AddressSlot,
        address: &Address,
    ) -> Result<TransactWriteItem> {
        let mut item: Item = to_item(address)?;
        item.extend(slot.key.to_item()?);
        match &slot.address {
            None => put(&self.table, item, "attribute_not_exists(user_id)", &[]),
            Some(there) => {
                let values = [(":epoch", to_value(&there.epoch)?)];
                put(&self.table, item, "epoch = :epoch", &values)
            }
        }
    }

    /// Prepares to delete a record of an address. The condition: the record belongs to this user,
    /// or no record is stored.
    pub(super) fn delete_address(&self, key: &Key, user: &User) -> Result<TransactWriteItem> {
        delete(
            &self.table,
            key.to_item()?,
            Some("attribute_not_exists(user_id) OR born = :born"),
            &[(":born", to_value(&user.state.incarnation)?)],
        )
    }

    /// Deletes a record of an address. Does nothing if the record has changed since it was read.
    pub(crate) async fn remove_address(&self, key: &Key, address: &Address) -> Result<()> {
        let values = [(":epoch", to_value(&address.epoch)?)];
        let key = key.to_item()?;
        let write = delete(&self.table, key, Some("epoch = :epoch"), &values)?;
        self.commit(Change::alone(write, |_| Ok(()))).await
    }

    /// Copies the record of an address to another key. The condition: neither record has changed
    /// since it was read.
    pub(crate) async fn copy_address(
        &self,
        from: &Key,
        address: &Address,
        to: &AddressSlot,
    ) -> Result<AddressCopy> {
        let values = [(":epoch", to_value(&address.epoch)?)];
        let unchanged = check(&self.table, from.to_item()?, "epoch = :epoch", &values)?;
        let writes = vec![self.put_address(to, address)?, unchanged];
        let copy = Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(AddressCopy::Written),
            Transacted::Refused(_) => Ok(AddressCopy::Changed),
        });
        self.commit(copy).await
    }
}
