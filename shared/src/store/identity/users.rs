//! Calls about users with an e-mail address or a password.

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, TransactWriteItem},
};
use serde::{Deserialize, Serialize};

use super::{Identity, Key, owner_item};
use crate::{
    domain::{
        email::Email,
        error::{Error, Result},
        owner::{Address, Epoch, Owner, OwnerId, OwnerKey},
    },
    store::{
        item::{from_item, is_written, to_item, to_value},
        transaction::{Transacted, delete, put, transact},
    },
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
    Conflict(Option<Owner>),
    /// What is kept under the address is not what was read.
    AddressChanged,
}

/// Why a user's transaction is refused.
enum Refusal {
    /// The user is not as it was read, but so.
    User(Option<Owner>),
    /// What is kept under an address is not.
    Address,
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
                writes.push(put(&self.table, item, None, &[])?);
            }
        }
        if let AddressChange::Is(email, there) = address {
            let mut item = to_item(&Address {
                user_id: id.clone(),
                born: new.born,
                // Another one with each address that the user gets.
                epoch: new.epoch,
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
        let before_old = writes.len();
        let old_email = old.and_then(|old| old.email.as_ref());
        if let (AddressChange::Is(..) | AddressChange::Goes, Some(email)) = (address, old_email) {
            writes.push(self.delete_address(email, new)?);
        }
        let refused = self.transact_or_leave(writes, before_old).await?;
        Ok(match refused {
            None => UserWrite::Written,
            Some(Refusal::User(there)) => UserWrite::Conflict(there),
            Some(Refusal::Address) => UserWrite::AddressChanged,
        })
    }

    /// Writes a user's transaction, whose first write is its record; without the last one, after so
    /// many, if that alone is refused: an address that another user has is none of this one's to
    /// delete. Returns why it is refused, if it is.
    async fn transact_or_leave(
        &self,
        mut writes: Vec<TransactWriteItem>,
        others: usize,
    ) -> Result<Option<Refusal>> {
        loop {
            let mut refused = match transact(&self.client, writes.clone()).await? {
                Transacted::Written => return Ok(None),
                Transacted::Refused(refused) => refused,
            };
            if refused.len() > others && refused[..others].iter().all(Option::is_none) {
                writes.truncate(others);
                continue;
            }
            return Ok(Some(match refused.swap_remove(0) {
                None => Refusal::Address,
                Some(there) if there.is_empty() => Refusal::User(None),
                Some(there) => Refusal::User(Some(from_item(there)?)),
            }));
        }
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
        let others = writes.len();
        if let Some(email) = &user.email {
            writes.push(self.delete_address(email, user)?);
        }
        match self.transact_or_leave(writes, others).await? {
            Some(Refusal::User(there)) => Ok(there),
            None | Some(Refusal::Address) => Ok(None),
        }
    }

    fn delete_address(&self, email: &Email, user: &Owner) -> Result<TransactWriteItem> {
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
        let item = self.get(&Key::address(email)).await?;
        item.map(from_item).transpose()
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
        let is_refusal = UpdateItemError::is_conditional_check_failed_exception;
        is_written(replaced, is_refusal).map(|_| ())
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
