//! Calls about users with an e-mail address or a password.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::{Identity, Key, from_item, owner_item, to_item, to_value};
use crate::{
    email::Email,
    error::{Error, Result},
    owner::{Address, Epoch, Owner, OwnerId, OwnerKey},
    transaction::{Transacted, delete, put, transact},
};

/// A user's password as it is kept: the item `password` of its partition, apart from what every
/// verification reads.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PasswordRecord {
    /// The PHC string.
    pub(crate) password_hash: String,
    /// The life of the user's id that has it.
    pub(crate) born: Epoch,
}

/// What becomes of a user's password.
#[derive(Clone, Copy)]
pub(crate) enum PasswordChange<'a> {
    Stays,
    Goes,
    /// The PHC string of the new one.
    Is(&'a str),
}

/// What becomes of a user's address.
#[derive(Clone, Copy)]
pub(crate) enum AddressChange<'a> {
    Stays,
    Goes,
    /// The new one, and what is kept under it though its user is gone.
    Is(&'a Email, Option<&'a Address>),
}

/// What became of a user that was to be written.
pub(crate) enum UserWrite {
    Written,
    /// What is there is not what was read.
    Instead(Option<Owner>),
    /// What is kept under the address is not what was read.
    AddressChanged,
}

impl Identity {
    /// Writes a user with its password and its address, in the place of the state that was read:
    /// one transaction.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn put_user(
        &self,
        old: Option<&Owner>,
        new: &Owner,
        password: PasswordChange<'_>,
        address: AddressChange<'_>,
    ) -> Result<UserWrite> {
        let OwnerId::User(id) = &new.id else {
            return Err(Error::Internal {
                cause: "a user that is none".to_owned(),
            });
        };
        let key = new.id.key();
        let owner = owner_item(new)?;
        let mut writes = vec![match old {
            None => put(&self.table, owner, "attribute_not_exists(epoch)", &[])?,
            Some(old) => put(&self.table, owner, AS_READ, &as_read(old)?)?,
        }];
        if let AddressChange::Is(email, gone) = address {
            let mut item = to_item(&Address {
                user_id: id.clone(),
                born: new.born,
            })?;
            item.extend(Key::address(email).to_item()?);
            writes.push(match gone {
                None => put(&self.table, item, "attribute_not_exists(user_id)", &[])?,
                Some(gone) => {
                    let values = [
                        (":user", to_value(&gone.user_id)?),
                        (":born", to_value(&gone.born)?),
                    ];
                    put(
                        &self.table,
                        item,
                        "user_id = :user AND born = :born",
                        &values,
                    )?
                }
            });
        }
        let old_email = old.and_then(|old| old.email.as_ref());
        if let (AddressChange::Is(..) | AddressChange::Goes, Some(email)) = (address, old_email) {
            writes.push(self.delete_address(email, new)?);
        }
        match password {
            PasswordChange::Stays => {}
            PasswordChange::Goes => {
                let key = Key::password(key).to_item()?;
                writes.push(delete(&self.table, key, None, &[])?);
            }
            PasswordChange::Is(hash) => {
                let mut item = to_item(&PasswordRecord {
                    password_hash: hash.to_owned(),
                    born: new.born,
                })?;
                item.extend(Key::password(key).to_item()?);
                // Whatever is there: the owner's condition says that this is the next state.
                let always = "attribute_not_exists(born) OR attribute_exists(born)";
                writes.push(put(&self.table, item, always, &[])?);
            }
        }
        Ok(match transact(&self.client, writes).await? {
            Transacted::Written => UserWrite::Written,
            Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                Some(there) if there.is_empty() => UserWrite::Instead(None),
                Some(there) => UserWrite::Instead(Some(from_item(there)?)),
                None => UserWrite::AddressChanged,
            },
        })
    }

    /// Deletes a user as it was read, with its password, its address and what is kept of its
    /// e-mail token: one transaction. Returns the user that is there instead, if there is one.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn delete_user(&self, user: &Owner) -> Result<Option<Owner>> {
        let key = user.id.key();
        let of = |key: Key| delete(&self.table, key.to_item()?, None, &[]);
        let owner = Key::owner(key).to_item()?;
        let mut writes = vec![
            delete(&self.table, owner, Some(AS_READ), &as_read(user)?)?,
            of(Key::password(key))?,
            of(Key::email_token(key))?,
        ];
        if let Some(email) = &user.email {
            writes.push(self.delete_address(email, user)?);
        }
        match transact(&self.client, writes).await? {
            Transacted::Written => Ok(None),
            Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                Some(there) if !there.is_empty() => from_item(there).map(Some),
                _ => Ok(None),
            },
        }
    }

    fn delete_address(
        &self,
        email: &Email,
        user: &Owner,
    ) -> Result<aws_sdk_dynamodb::types::TransactWriteItem> {
        delete(
            &self.table,
            Key::address(email).to_item()?,
            Some("attribute_not_exists(user_id) OR born = :born"),
            &[(":born", to_value(&user.born)?)],
        )
    }

    /// Whose an address is said to be.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn address(&self, email: &Email) -> Result<Option<Address>> {
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::address(email).to_item()?))
            .consistent_read(true)
            .send()
            .await?;
        read.item.map(from_item).transpose()
    }

    /// Puts another hash of the same password in the place of this one, if it is still there.
    ///
    /// # Errors
    /// The database is away.
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
        match replaced {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(aws_sdk_dynamodb::operation::update_item::UpdateItemError::is_conditional_check_failed_exception) =>
            {
                Ok(())
            }
            other => other.map(|_| ()).map_err(Error::from),
        }
    }
}

/// That an owner is in the state that was read.
const AS_READ: &str = "epoch = :epoch AND born = :born AND version = :version";

fn as_read(owner: &Owner) -> Result<[(&'static str, AttributeValue); 3]> {
    Ok([
        (":epoch", to_value(&owner.epoch)?),
        (":born", to_value(&owner.born)?),
        (":version", to_value(&owner.version)?),
    ])
}
