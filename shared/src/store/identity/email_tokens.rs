//! The operations for e-mail tokens. An e-mail token has two items: the record of the e-mail token,
//! of which each user has at most one, and the token's item, which every token has.

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, Get, TransactGetItem, TransactWriteItem},
};
use serde::Deserialize;

use super::{
    Identity, Key, StoredToken, TOKEN_HASH,
    descendants::{NEXT_REVISION, TokenEnd, stored_token_in},
};
use crate::{
    domain::{
        email_token::{EmailToken, ListKey, StoredEmailToken},
        error::{Error, Result},
        id::{AccountId, EcosystemId},
        owner::{Epoch, Owner, OwnerKey, User},
        time::UnixSeconds,
        token::{Ending, Token, TokenId},
    },
    store::{
        identity::{owners::user_unchanged, users::PasswordRecord},
        item::{Item, WriteResult, from_item, number, present, to_item, to_value, unavailable},
        transaction::{Change, Transacted, delete, put, update},
    },
};

/// The index that lists e-mail tokens. It contains no other items, because only the records of
/// e-mail tokens have the index's key attributes.
pub const EMAIL_TOKENS_INDEX: &str = "email-tokens";
/// The index's partition key: the account.
pub const EMAIL_ACCOUNT: &str = "email_account";
/// The index's sort key: the position in the list.
pub const EMAIL_USER: &str = "email_user";
/// The attributes that the index contains in addition to its own keys and the table's keys: all
/// attributes of the record except the encrypted value.
pub const EMAIL_TOKENS_PROJECTION: &[&str] = &[
    "user_id",
    "token_id",
    "scope",
    "expiration_date",
    "created_at",
    "updated_at",
    "revision",
    "epoch",
];

/// The placeholder for `scope`, which is a reserved word of DynamoDB.
const SCOPE: &[(&str, &str)] = &[("#scope", "scope")];

/// What happens to the item of the old token when a new e-mail token replaces it.
#[derive(Clone, Copy)]
pub(crate) enum OldItem {
    /// The item is deleted, unless tokens descend from the old token.
    Delete,
    /// The old token ends. Its item stays, so that a revocation of the old token finds the tokens
    /// that descend from it.
    End,
    /// The item stays as it is: the old token has ended.
    Keep,
}

/// The result of storing a new e-mail token.
pub(crate) enum EmailTokenWrite {
    Written,
    /// Tokens descend from the old token. Contains what must happen to the old token's item instead
    /// of its deletion.
    OldHasDescendants(OldItem),
    /// The user is inactive, is deleted or has a new epoch.
    UserChanged,
    /// The stored e-mail token has changed since it was read. Contains the stored e-mail token, or
    /// `None` if there is no stored e-mail token.
    Conflict(Option<Box<StoredEmailToken>>),
}

/// The result of deleting an e-mail token.
pub(crate) enum EmailTokenEnd {
    Written,
    /// The user's record of an e-mail token contains another token id. Contains the stored record,
    /// or `None` if there is no record.
    RecordChanged(Option<EmailToken>),
    /// The token's item is not as expected. Contains the stored item, or `None` if there is no
    /// item.
    TokenChanged(Option<StoredToken>),
}

/// The items that a log-in reads. All of them are from the same moment.
pub(crate) struct LogInItems {
    pub(crate) user: Option<User>,
    pub(crate) password: Option<PasswordRecord>,
    pub(crate) stored: Option<StoredEmailToken>,
}

impl Identity {
    /// Reads the items of these users for a log-in with one `TransactGetItems`. So all items are
    /// from the same moment, and an old password is never read together with a new epoch. All users
    /// must be different.
    pub(crate) async fn log_in_items(&self, users: &[OwnerKey]) -> Result<Vec<LogInItems>> {
        let keys = users.iter().flat_map(|user| {
            [
                Key::owner(*user),
                Key::password(*user),
                Key::email_token(*user),
            ]
        });
        let gets = keys.map(|key| {
            let get = Get::builder()
                .table_name(&self.table)
                .set_key(Some(key.to_item()?))
                .build()
                .map_err(|_| unavailable("the request for a read cannot be built"))?;
            Ok(TransactGetItem::builder().get(get).build())
        });
        let call = self.client.transact_get_items();
        let output = call
            .set_transact_items(Some(gets.collect::<Result<_>>()?))
            .send()
            .await?;
        let items = output.responses.unwrap_or_default().into_iter();
        let items: Vec<Option<Item>> = items
            .map(|response| response.item.filter(|item| !item.is_empty()))
            .collect();
        let (of_users, []) = items.as_chunks() else {
            return Err(unavailable("the response does not contain all items"));
        };
        if of_users.len() != users.len() {
            return Err(unavailable("the response does not contain all items"));
        }
        let of_users = of_users.iter().cloned().map(|[user, password, stored]| {
            Ok(LogInItems {
                user: user.map(from_item).transpose()?.and_then(Owner::into_user),
                password: password.map(from_item).transpose()?,
                stored: stored.map(from_item).transpose()?,
            })
        });
        of_users.collect()
    }

    /// Prepares to move the record of an e-mail token into another epoch of its user. The
    /// condition: the record is still the record of this token.
    pub(super) fn email_token_move(
        &self,
        token: &Token,
        epoch: Epoch,
    ) -> Result<TransactWriteItem> {
        let values = [
            (":id", to_value(&token.id)?),
            (":from", to_value(&token.epoch)?),
            (":to", to_value(&epoch)?),
        ];
        let key = Key::email_token(token.owner).to_item()?;
        let condition = "token_id = :id AND epoch = :from";
        let set = "SET epoch = :to, previous_epoch = :from";
        update(&self.table, key, set, condition, &[], &values)
    }

    /// Prepares to store the record of a new e-mail token. The caller must add the token's item to
    /// the same transaction. The conditions:
    ///
    /// - The user is active and still has the epoch of the record.
    /// - The stored record is still `old`, with the same epoch and encrypted value. A change of the
    ///   password can move the record into another epoch. The new record replaces
    ///   `old`, and [`OldItem`] says what happens to the item of the old token. The old token is
    ///   then invalid, so the caller must check that it may be replaced. If `old` is `None`, there
    ///   must be no stored record.
    ///
    /// The transaction does not check that the user's environment exists. Otherwise the
    /// transactions of all users of one environment would use the same item, and would conflict.
    /// The caller has read the environment. If it is deleted meanwhile, the new token is never
    /// valid.
    pub(crate) fn email_token_insertion(
        &self,
        new: &StoredEmailToken,
        old: Option<(&StoredEmailToken, OldItem)>,
        ending: &Ending,
    ) -> Result<Change<EmailTokenWrite>> {
        let user = OwnerKey::from(&new.token.user_id);
        let mut item = to_item(new)?;
        item.extend(Key::email_token(user).to_item()?);
        let put_new = match old {
            None => put(&self.table, item, "attribute_not_exists(token_id)", &[])?,
            Some((old, _)) => put(
                &self.table,
                item,
                "token_id = :old AND epoch = :epoch AND revision = :revision AND sealed = :sealed",
                &[
                    (":old", to_value(&old.token.token_id)?),
                    (":epoch", to_value(&old.token.epoch)?),
                    (":revision", to_value(&old.token.revision)?),
                    (
                        ":sealed",
                        AttributeValue::B(Blob::new(old.sealed.bytes.as_slice())),
                    ),
                ],
            )?,
        };
        let mut writes = vec![put_new, user_unchanged(&self.table, user, new.token.epoch)?];
        match old {
            Some((old, OldItem::Delete)) => {
                let key = Key::token(user, old.token.token_id).to_item()?;
                let condition = Some("attribute_not_exists(descendants)");
                writes.push(delete(&self.table, key, condition, &[])?);
            }
            Some((old, OldItem::End)) => {
                // No erasure: the descendants stay valid until the old token is revoked.
                writes.push(self.end(TokenEnd {
                    owner: user,
                    id: old.token.token_id,
                    belongs: None,
                    has_descendants: true,
                    is_disabled: false,
                    ending,
                })?);
            }
            Some((_, OldItem::Keep)) | None => {}
        }
        let changes_old = writes.len() > 2;
        Ok(Change::together(
            writes,
            move |transacted| match transacted {
                Transacted::Written => Ok(EmailTokenWrite::Written),
                Transacted::Refused(refused)
                    if changes_old && matches!(&refused[..], [None, None, Some(_), ..]) =>
                {
                    let has_hash = |item: &Item| item.contains_key(TOKEN_HASH);
                    let instead = if refused[2].as_ref().is_some_and(has_hash) {
                        OldItem::End
                    } else {
                        OldItem::Keep
                    };
                    Ok(EmailTokenWrite::OldHasDescendants(instead))
                }
                Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                    Some(there) if refused.iter().all(Option::is_none) => {
                        let there = (!there.is_empty()).then(|| from_item(there).map(Box::new));
                        Ok(EmailTokenWrite::Conflict(there.transpose()?))
                    }
                    _ => Ok(EmailTokenWrite::UserChanged),
                },
            },
        ))
    }

    /// Prepares to change the record of a user's e-mail token and the token's item. The conditions:
    /// the record has not changed since it was read, and the token is not revoked.
    pub(crate) fn email_token_update(
        &self,
        user: OwnerKey,
        old: &EmailToken,
        new: &EmailToken,
        ends_at: Option<UnixSeconds>,
    ) -> Result<Change<WriteResult<EmailToken>>> {
        let mut values = vec![
            (":id", to_value(&old.token_id)?),
            (":old", to_value(&old.revision)?),
            (":revision", to_value(&new.revision)?),
            (":scope", to_value(&new.scope)?),
            (":updated_at", to_value(&new.updated_at)?),
        ];
        let mut set =
            "SET updated_at = :updated_at, revision = :revision, #scope = :scope".to_owned();
        if let Some(date) = &new.expiration_date {
            values.push((":date", to_value(date)?));
            set += ", expiration_date = :date";
        } else {
            set += " REMOVE expiration_date";
        }
        let record = update(
            &self.table,
            Key::email_token(user).to_item()?,
            &set,
            "token_id = :id AND revision = :old",
            SCOPE,
            &values,
        )?;

        let mut values = vec![
            (":scope", to_value(&new.scope)?),
            (":zero", to_value(&0)?),
            (":one", to_value(&1)?),
        ];
        let mut set = format!("SET #scope = :scope, {NEXT_REVISION}");
        if let Some(ends_at) = ends_at {
            values.push((":end", number(ends_at)));
            set += ", ends_at = :end";
        } else {
            set += " REMOVE ends_at";
        }
        let token = update(
            &self.table,
            Key::token(user, new.token_id).to_item()?,
            &set,
            // A revoked token must not become valid again.
            "attribute_exists(token_hash)",
            SCOPE,
            &values,
        )?;
        Ok(Change::together(vec![record, token], email_token_in))
    }

    /// Prepares to delete the record of a user's e-mail token, and to end the token. The condition:
    /// the record still contains this token id. For the token's item, the conditions are those of
    /// [`Identity::token_end`]. If `has_descendants` is `None`, the token's item is neither checked
    /// nor changed.
    pub(crate) fn email_token_deletion(
        &self,
        user: OwnerKey,
        id: TokenId,
        has_descendants: Option<bool>,
        ending: &Ending,
    ) -> Result<Change<EmailTokenEnd>> {
        let values = [(":id", to_value(&id)?)];
        let mut writes = vec![delete(
            &self.table,
            Key::email_token(user).to_item()?,
            Some("token_id = :id"),
            &values,
        )?];
        if let Some(has_descendants) = has_descendants {
            writes.extend(self.end_and_queue(TokenEnd {
                owner: user,
                id,
                belongs: None,
                has_descendants,
                is_disabled: false,
                ending,
            })?);
        }
        Ok(Change::together(writes, email_token_end_in))
    }

    /// Prepares to end a user's e-mail token that has descendants, to queue an erasure of them, and
    /// to mark the record of the token as [ending](EmailToken::ending). `epoch` must be new. The
    /// conditions are those of [`Identity::email_token_deletion`].
    pub(crate) fn email_token_end(
        &self,
        user: OwnerKey,
        id: TokenId,
        epoch: Epoch,
        is_disabled: bool,
        ending: &Ending,
    ) -> Result<Change<EmailTokenEnd>> {
        let values = [
            (":id", to_value(&id)?),
            (":epoch", to_value(&epoch)?),
            (":true", AttributeValue::Bool(true)),
        ];
        let mut writes = vec![update(
            &self.table,
            Key::email_token(user).to_item()?,
            "SET ending = :true, epoch = :epoch REMOVE previous_epoch",
            "token_id = :id",
            &[],
            &values,
        )?];
        writes.extend(self.end_and_queue(TokenEnd {
            owner: user,
            id,
            belongs: None,
            has_descendants: true,
            is_disabled,
            ending,
        })?);
        Ok(Change::together(writes, email_token_end_in))
    }

    /// Reads a page of the e-mail tokens of an account, or of one of its ecosystems, with one
    /// `Query` of the index. The page has up to `limit` tokens and starts after the position
    /// `after`. Also returns the position after which the next page starts, or `None` if there is
    /// no next page. The index is eventually consistent.
    pub(crate) async fn email_tokens(
        &self,
        account: &AccountId,
        ecosystem: Option<&EcosystemId>,
        after: Option<&ListKey>,
        limit: u32,
    ) -> Result<(Vec<EmailToken>, Option<ListKey>)> {
        #[derive(Deserialize)]
        struct Last {
            email_user: ListKey,
        }
        let start = after.map(|place| {
            let user = place
                .user()
                .ok_or_else(|| unavailable("the list position contains no user"))?;
            let mut key = Key::email_token(user).to_item()?;
            key.insert(EMAIL_ACCOUNT.to_owned(), to_value(account)?);
            key.insert(EMAIL_USER.to_owned(), to_value(place)?);
            Ok::<_, Error>(key)
        });
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(EMAIL_TOKENS_INDEX)
            .expression_attribute_values(":account", to_value(account)?)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start.transpose()?);
        let query = match ecosystem {
            None => query.key_condition_expression("email_account = :account"),
            Some(ecosystem) => query
                .key_condition_expression(
                    "email_account = :account AND begins_with(email_user, :ecosystem)",
                )
                .expression_attribute_values(
                    ":ecosystem",
                    AttributeValue::S(format!("{ecosystem};")),
                ),
        };
        let output = query.send().await?;
        let items = present(output.items)?;
        let tokens = items.into_iter().map(from_item).collect::<Result<_>>()?;
        let last = output.last_evaluated_key.map(from_item::<Last>);
        Ok((tokens, last.transpose()?.map(|last| last.email_user)))
    }
}

/// Interprets the result of a transaction that first changes the record of an e-mail token, and
/// then ends the token.
fn email_token_end_in(transacted: Transacted) -> Result<EmailTokenEnd> {
    let Transacted::Refused(mut refused) = transacted else {
        return Ok(EmailTokenEnd::Written);
    };
    if refused[0].is_none() {
        let token = refused.swap_remove(1);
        return stored_token_in(token).map(EmailTokenEnd::TokenChanged);
    }
    let there = refused.swap_remove(0).filter(|there| !there.is_empty());
    let there = there.map(from_item::<EmailToken>).transpose()?;
    Ok(EmailTokenEnd::RecordChanged(there))
}

/// Interprets the result of a transaction whose first write changes the record of an e-mail token.
/// If the condition of this write was false, the conflict contains the stored record, or `None` if
/// no record is stored. If only another condition was false, the conflict contains `None`.
fn email_token_in(transacted: Transacted) -> Result<WriteResult<EmailToken>> {
    match transacted {
        Transacted::Written => Ok(WriteResult::Written),
        Transacted::Refused(mut refused) => {
            let there = refused.swap_remove(0).filter(|there| !there.is_empty());
            let there = there.map(from_item::<EmailToken>).transpose()?;
            Ok(WriteResult::Conflict(there))
        }
    }
}
