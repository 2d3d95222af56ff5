//! The operations for users with an e-mail address or a password.

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, TransactWriteItem},
};
use serde::{Deserialize, Serialize};

use super::{
    AddressSlot, Entry, Erasure, Identity, Key, StoredToken, Target,
    descendants::stored_token_in,
    owners::{AS_READ, as_read, owner_in, owner_item},
};
use crate::{
    domain::{
        error::{Error, Result},
        owner::{Address, Epoch, OwnerKey, User},
        time::Timestamp,
        token::{Expiry, Token},
    },
    store::{
        item::{Item, from_item, to_item, unless_refused},
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

/// A change of a user's e-mail address. If both fields are empty, the address stays the same.
#[derive(Clone, Copy)]
pub(crate) struct AddressChange<'a> {
    /// The slots of the records of the new address. The caller must check that no stored record
    /// belongs to another user, because the new record replaces the stored records.
    pub(crate) new: &'a [AddressSlot],
    /// The keys of the records of the old address.
    pub(crate) old: &'a [Key],
}

/// The result of storing a user.
pub(crate) enum UserWrite {
    Written,
    /// The stored user has changed since it was read. Contains the stored user, or `None` if there
    /// is no stored user.
    Conflict(Option<User>),
    /// A record of the address has changed since it was read.
    AddressChanged,
}

/// The result of a change of a user's password with the user's own token.
pub(crate) enum OwnPasswordWrite {
    Written,
    /// The stored user has changed since it was read. Contains the stored user, or `None` if there
    /// is no stored user.
    UserChanged(Option<User>),
    /// The token has changed since it was read, or has ended. Contains the stored token, or `None`
    /// if there is no such item.
    TokenChanged(Option<StoredToken>),
}

impl Identity {
    /// Prepares one transaction that stores a user with a new epoch and a new password, and moves
    /// one token of the user into the new epoch. An e-mail token is moved together with its record.
    /// The token does not descend from its maker any more, because all other tokens of the user
    /// end.
    ///
    /// The conditions: the stored user is still `old`, and the token is still as it was read,
    /// except for renewals and uses.
    pub(crate) fn own_password_put(
        &self,
        old: &User,
        new: &User,
        hash: &str,
        token: &Token,
    ) -> Result<Change<OwnPasswordWrite>> {
        let owner = owner_item(&new.into())?;
        let mut writes = vec![
            put(&self.table, owner, AS_READ, &as_read(&old.state)?)?,
            self.token_move(token, new.state.epoch)?,
            self.put_password(new, hash)?,
        ];
        if let Expiry::Email { .. } = token.expiry {
            writes.push(self.email_token_move(token, new.state.epoch)?);
        }
        if let Some(family) = token.ancestry.family {
            writes.push(self.delete_link(token.owner, family, token.id)?);
        }
        Ok(Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(OwnPasswordWrite::Written),
            Transacted::Refused(mut refused) => {
                let token = refused.swap_remove(1);
                match refused.swap_remove(0) {
                    None => stored_token_in(token).map(OwnPasswordWrite::TokenChanged),
                    there => user_in(there).map(OwnPasswordWrite::UserChanged),
                }
            }
        }))
    }

    fn put_password(&self, user: &User, hash: &str) -> Result<TransactWriteItem> {
        let mut item = to_item(&PasswordRecord {
            password_hash: hash.to_owned(),
            incarnation: user.state.incarnation,
        })?;
        item.extend(Key::password((&user.id).into()).to_item()?);
        put(&self.table, item, None, &[])
    }

    /// Reads the record of a user's password with strong consistency.
    pub(crate) async fn password(&self, user: OwnerKey) -> Result<Option<PasswordRecord>> {
        let item = self.get(&Key::password(user)).await?;
        item.map(from_item).transpose()
    }

    /// Prepares one transaction that stores a user, its password and its address. The conditions:
    ///
    /// - The stored user is still `old`. If `old` is `None`, there is no stored user.
    /// - The stored records of the new address have not changed since they were read. If no record
    ///   was found, there still is no record.
    ///
    /// A record of the old address is deleted only if it still belongs to this user. A new user
    /// gets an entry in a list.
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
            PasswordChange::Set(hash) => writes.push(self.put_password(new, hash)?),
        }
        let record = Address {
            user_id: new.id.clone(),
            incarnation: new.state.incarnation,
            // The user gets a new epoch with each new address.
            epoch: new.state.epoch,
        };
        for slot in address.new {
            writes.push(self.put_address(slot, &record)?);
        }
        if old.is_none() {
            writes.push(self.put_entry(&Entry::of_user(new))?);
        }
        let change = Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(UserWrite::Written),
            Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                None => Ok(UserWrite::AddressChanged),
                there => Ok(UserWrite::Conflict(user_in(there)?)),
            },
        });
        self.and_delete_addresses(change, address.old, new)
    }

    /// Prepares one transaction that deletes a user with everything that [`Self::user_removal`]
    /// deletes, and the user's entry. It also stores an erasure.
    pub(crate) fn user_deletion(
        &self,
        user: &User,
        addresses: &[Key],
        at: Timestamp,
    ) -> Result<Change<Option<User>>> {
        let target = Target::User((&user.id).into());
        let removal = self.user_removal(user, addresses)?;
        Ok(removal
            .and(self.delete_entry(&Entry::of_user(user))?)
            .and(self.queue(&Erasure { target, at })?))
    }

    /// Prepares one transaction that deletes a user's record, password, address and record of an
    /// e-mail token. The condition: the user has not changed since it was read. If the user has
    /// changed, nothing is deleted, and the result is the stored user. The result `None` means that
    /// the user does not exist any more.
    pub(crate) fn user_removal(
        &self,
        user: &User,
        addresses: &[Key],
    ) -> Result<Change<Option<User>>> {
        let key = (&user.id).into();
        let of = |key: Key| delete(&self.table, key.to_item()?, None, &[]);
        let owner = Key::owner(key).to_item()?;
        let mut writes = vec![delete(
            &self.table,
            owner,
            Some(AS_READ),
            &as_read(&user.state)?,
        )?];
        if user.email.is_some() || user.has_password {
            writes.extend([of(Key::password(key))?, of(Key::email_token(key))?]);
        }
        let change = Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(None),
            Transacted::Refused(mut refused) => user_in(refused.swap_remove(0)),
        });
        self.and_delete_addresses(change, addresses, user)
    }

    fn and_delete_addresses<R>(
        &self,
        mut change: Change<R>,
        keys: &[Key],
        user: &User,
    ) -> Result<Change<R>> {
        for key in keys {
            change = change.and_optional(self.delete_address(key, user)?);
        }
        Ok(change)
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
