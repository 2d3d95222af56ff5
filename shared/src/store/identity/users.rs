//! The operations for users with an e-mail address or a password.

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, TransactWriteItem},
};
use serde::{Deserialize, Serialize};

use super::{
    Identity, Key,
    owners::{AS_READ, as_read, owner_in, owner_item},
};
use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        owner::{Address, Epoch, OwnerKey, User},
    },
    store::{
        item::{Item, from_item, to_item, to_value, unless_refused},
        transaction::{Change, Transacted, delete, put},
    },
};

/// The record of a user's password: the item `password` in the user's partition. The password has
/// its own record, because every verification of a user token reads the user's record and does not
/// need the password.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PasswordRecord {
    /// The hash as a PHC string.
    pub(crate) password_hash: String,
    /// The incarnation of the user that has the password.
    #[serde(rename = "born")]
    pub(crate) incarnation: Epoch,
}

/// A change of a user's password.
#[derive(Clone, Copy)]
pub(crate) enum PasswordChange<'a> {
    Keep,
    Remove,
    /// The new password's hash as a PHC string.
    Set(&'a str),
}

/// A change of a user's e-mail address.
#[derive(Clone, Copy)]
pub(crate) enum AddressChange<'a> {
    Keep,
    Remove,
    /// The new address, and the stored record of the new address (`None` if there is no record).
    /// The caller must check that the stored record does not belong to another user, because the
    /// new record replaces the stored record.
    Set(&'a Email, Option<&'a Address>),
}

/// The result of storing a user.
pub(crate) enum UserWrite {
    Written,
    /// The stored user has changed since it was read. Contains the stored user, or `None` if there
    /// is no stored user.
    Conflict(Option<User>),
    /// The record of the address has changed since it was read.
    AddressChanged,
}

impl Identity {
    /// Prepares one transaction that stores a user, its password and its address. The conditions:
    ///
    /// - The stored user is still `old`. If `old` is `None`, there is no stored user.
    /// - The stored record of the new address has not changed since it was read. If no record was
    ///   found, there still is no record.
    pub(crate) fn user_put(
        &self,
        old: Option<&User>,
        new: &User,
        password: PasswordChange<'_>,
        address: AddressChange<'_>,
    ) -> Result<Change<UserWrite>> {
        let key = (&new.id).into();
        let owner = owner_item(&new.into())?;
        let mut writes = vec![match old {
            None => put(&self.table, owner, "attribute_not_exists(epoch)", &[])?,
            Some(old) => put(&self.table, owner, AS_READ, &as_read(&old.state)?)?,
        }];
        match password {
            PasswordChange::Keep => {}
            PasswordChange::Remove => {
                let key = Key::password(key).to_item()?;
                writes.push(delete(&self.table, key, None, &[])?);
            }
            PasswordChange::Set(hash) => {
                let mut item = to_item(&PasswordRecord {
                    password_hash: hash.to_owned(),
                    incarnation: new.state.incarnation,
                })?;
                item.extend(Key::password(key).to_item()?);
                writes.push(put(&self.table, item, None, &[])?);
            }
        }
        if let AddressChange::Set(email, there) = address {
            let mut item = to_item(&Address {
                user_id: new.id.clone(),
                incarnation: new.state.incarnation,
                // The user gets a new epoch with each new address.
                epoch: new.state.epoch,
            })?;
            item.extend(Key::address(email).to_item()?);
            writes.push(match there {
                None => put(&self.table, item, "attribute_not_exists(user_id)", &[])?,
                Some(there) => {
                    let values = [(":epoch", to_value(&there.epoch)?)];
                    put(&self.table, item, "epoch = :epoch", &values)?
                }
            });
        }
        let change = Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(UserWrite::Written),
            Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                None => Ok(UserWrite::AddressChanged),
                there => Ok(UserWrite::Conflict(user_in(there)?)),
            },
        });
        let old_email = old.and_then(|old| old.email.as_ref());
        match (address, old_email) {
            (AddressChange::Set(..) | AddressChange::Remove, Some(email)) => {
                // The record of the old address is deleted only if it still belongs to this user.
                Ok(change.and_optional(self.delete_address(email, new)?))
            }
            _ => Ok(change),
        }
    }

    /// Prepares one transaction that deletes a user, its password, its address and the record of
    /// its e-mail token. The condition: the user has not changed since it was read. If the user has
    /// changed, nothing is deleted, and the result is the stored user. The result `None` means that
    /// the user does not exist any more.
    pub(crate) fn user_deletion(&self, user: &User) -> Result<Change<Option<User>>> {
        let key = (&user.id).into();
        let of = |key: Key| delete(&self.table, key.to_item()?, None, &[]);
        let owner = Key::owner(key).to_item()?;
        let writes = vec![
            delete(&self.table, owner, Some(AS_READ), &as_read(&user.state)?)?,
            of(Key::password(key))?,
            of(Key::email_token(key))?,
        ];
        let change = Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(None),
            Transacted::Refused(mut refused) => user_in(refused.swap_remove(0)),
        });
        match &user.email {
            Some(email) => Ok(change.and_optional(self.delete_address(email, user)?)),
            None => Ok(change),
        }
    }

    fn delete_address(&self, email: &Email, user: &User) -> Result<TransactWriteItem> {
        delete(
            &self.table,
            Key::address(email).to_item()?,
            Some("attribute_not_exists(user_id) OR born = :born"),
            &[(":born", to_value(&user.state.incarnation)?)],
        )
    }

    /// Reads the record of an e-mail address.
    pub(crate) async fn address(&self, email: &Email) -> Result<Option<Address>> {
        let item = self.get(&Key::address(email)).await?;
        item.map(from_item).transpose()
    }

    /// Replaces the hash of a password with another hash of the same password. Does nothing if the
    /// old hash is not stored any more.
    pub(crate) async fn replace_hash(&self, user: OwnerKey, old: &str, new: &str) -> Result<()> {
        let replaced = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::password(user).to_item()?))
            .update_expression("SET password_hash = :new")
            .condition_expression("password_hash = :old")
            .expression_attribute_values(":old", AttributeValue::S(old.to_owned()))
            .expression_attribute_values(":new", AttributeValue::S(new.to_owned()))
            .send()
            .await;
        let is_refusal = UpdateItemError::is_conditional_check_failed_exception;
        unless_refused(replaced, is_refusal)
    }
}

/// Returns the stored user, from the item that DynamoDB returned for a write whose condition was
/// false. Returns `None` if there is no stored user.
fn user_in(refused: Option<Item>) -> Result<Option<User>> {
    let Some(there) = owner_in(refused)? else {
        return Ok(None);
    };
    let user = there.into_user().ok_or_else(|| Error::Internal {
        cause: "an account or an ecosystem has the user's key".to_owned(),
    });
    user.map(Some)
}
