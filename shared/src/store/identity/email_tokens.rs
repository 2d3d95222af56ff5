//! Calls about e-mail tokens, and about the key of their values.

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, Get, TransactGetItem},
};
use serde::Deserialize;

use super::{Identity, Key};
use crate::{
    domain::{
        email_token::{EmailToken, Kept, Place},
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId},
        owner::{Owner, OwnerKey, User},
        time::UnixSeconds,
        token::TokenId,
    },
    store::{
        identity::{owners::unchanged, users::PasswordRecord},
        item::{Item, WriteResult, from_item, number, to_item, to_value, unavailable},
        transaction::{Change, Transacted, check, delete, put, update},
    },
};

/// The index that lists e-mail tokens; sparse, for nothing else has its keys.
pub const EMAIL_TOKENS_INDEX: &str = "email-tokens";
/// The index's partition key: the account.
pub const EMAIL_ACCOUNT: &str = "email_account";
/// The index's sort key: the place in the list.
pub const EMAIL_USER: &str = "email_user";
/// What the index holds besides its keys and the table's: all but the value.
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

/// A word that DynamoDB keeps for itself.
const SCOPE: &[(&str, &str)] = &[("#scope", "scope")];

/// What became of an e-mail token that was to be written.
pub(crate) enum EmailTokenWrite {
    Written,
    /// The user, or the environment that it is of, is not as it was read.
    UserChanged,
    /// What is there now is not what was read.
    Conflict(Option<Box<Kept>>),
}

/// What a log-in reads, as it was at one moment.
pub(crate) struct LogInItems {
    pub(crate) user: Option<User>,
    pub(crate) password: Option<PasswordRecord>,
    pub(crate) kept: Option<Kept>,
}

impl Identity {
    /// Reads what a log-in needs in one `TransactGetItems`, so that no old password meets a new
    /// epoch.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn log_in_items(&self, user: OwnerKey) -> Result<LogInItems> {
        let keys = [
            Key::owner(user),
            Key::password(user),
            Key::email_token(user),
        ];
        let gets = keys.iter().map(|key| {
            let get = Get::builder()
                .table_name(&self.table)
                .set_key(Some(key.to_item()?))
                .build()
                .map_err(|_| unavailable("a read that cannot be built"))?;
            Ok(TransactGetItem::builder().get(get).build())
        });
        let call = self.client.transact_get_items();
        let output = call
            .set_transact_items(Some(gets.collect::<Result<_>>()?))
            .send()
            .await?;
        let items = output.responses.unwrap_or_default().into_iter();
        let items: Result<[Option<Item>; 3], _> = items
            .map(|response| response.item.filter(|item| !item.is_empty()))
            .collect::<Vec<_>>()
            .try_into();
        let [user, password, kept] = items.map_err(|_| unavailable("a read without its items"))?;
        Ok(LogInItems {
            user: user.map(from_item).transpose()?.and_then(Owner::into_user),
            password: password.map(from_item).transpose()?,
            kept: kept.map(from_item).transpose()?,
        })
    }

    /// Stores the record of a new e-mail token in the place of the invalid one that was read, or where none
    /// was, if the user is as it was read. Its token's item belongs in the same transaction.
    pub(crate) fn insert_email_token(
        &self,
        new: &Kept,
        old: Option<&EmailToken>,
        environment: Option<&EnvironmentId>,
    ) -> Result<Change<EmailTokenWrite>> {
        let user = OwnerKey::from(&new.token.user_id);
        let mut item = to_item(new)?;
        item.extend(Key::email_token(user).to_item()?);
        let put_new = match old {
            None => put(&self.table, item, "attribute_not_exists(token_id)", &[])?,
            Some(old) => put(
                &self.table,
                item,
                "token_id = :old AND revision = :revision",
                &[
                    (":old", to_value(&old.token_id)?),
                    (":revision", to_value(&old.revision)?),
                ],
            )?,
        };
        let mut writes = vec![put_new, unchanged(&self.table, user, new.token.epoch)?];
        if let Some(environment) = environment {
            let key = Key::environment(environment).to_item()?;
            writes.push(check(&self.table, key, "attribute_exists(ecosystem)", &[])?);
        }
        if let Some(old) = old {
            let key = Key::token(user, old.token_id).to_item()?;
            writes.push(delete(&self.table, key, None, &[])?);
        }
        Ok(Change::together(writes, |transacted| match transacted {
            Transacted::Written => Ok(EmailTokenWrite::Written),
            Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                Some(there) if refused.iter().all(Option::is_none) => {
                    let there = (!there.is_empty()).then(|| from_item(there).map(Box::new));
                    Ok(EmailTokenWrite::Conflict(there.transpose()?))
                }
                _ => Ok(EmailTokenWrite::UserChanged),
            },
        }))
    }

    /// Changes a user's e-mail token and its token's item, if both are as they were read.
    pub(crate) fn update_email_token(
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

        let mut values = vec![(":scope", to_value(&new.scope)?)];
        let mut set = "SET #scope = :scope".to_owned();
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
            // One that was revoked is not brought back.
            "attribute_exists(token_hash)",
            SCOPE,
            &values,
        )?;
        Ok(Change::together(vec![record, token], email_token_in))
    }

    /// Deletes a user's e-mail token and its token's item, if this is still the one.
    pub(crate) fn delete_email_token(
        &self,
        user: OwnerKey,
        id: TokenId,
    ) -> Result<Change<WriteResult<EmailToken>>> {
        let values = [(":id", to_value(&id)?)];
        let writes = vec![
            delete(
                &self.table,
                Key::email_token(user).to_item()?,
                Some("token_id = :id"),
                &values,
            )?,
            delete(&self.table, Key::token(user, id).to_item()?, None, &[])?,
        ];
        Ok(Change::together(writes, email_token_in))
    }

    /// Reads up to `limit` e-mail tokens of an account, or of one of its ecosystems, in the order
    /// of their places from the one after `after` on; and the last place that was looked at, unless
    /// it was the last. One `Query` of the index, which may lag.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn email_tokens(
        &self,
        account: &AccountId,
        ecosystem: Option<&EcosystemId>,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<(Vec<EmailToken>, Option<Place>)> {
        #[derive(Deserialize)]
        struct Last {
            email_user: Place,
        }
        let start = after.map(|place| {
            let user = place
                .user()
                .ok_or_else(|| unavailable("a place of nobody"))?;
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
        let items = output
            .items
            .ok_or_else(|| unavailable("a query without items"))?;
        let tokens = items.into_iter().map(from_item).collect::<Result<_>>()?;
        let last = output.last_evaluated_key.map(from_item::<Last>);
        Ok((tokens, last.transpose()?.map(|last| last.email_user)))
    }

    /// The wrapped data key of values, if there is one.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn value_key(&self) -> Result<Option<Vec<u8>>> {
        let item = self.get(&Key::value_key()).await?;
        item.map(wrapped).transpose()
    }

    /// Keeps a wrapped data key where none is; returns the one that is there otherwise.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn insert_value_key(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let mut item = Key::value_key().to_item()?;
        let value = AttributeValue::B(Blob::new(key.as_slice()));
        item.insert("wrapped".to_owned(), value);
        let there = self.insert(item).await?.map(wrapped).transpose()?;
        // Its own earlier write, whose answer was lost, is no other.
        Ok(there.filter(|there| *there != key))
    }
}

/// Reads the result of a transaction whose first write is an e-mail token's record. A conflict has the record
/// that is there, if it is the first write that is refused.
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

fn wrapped(item: Item) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct Wrapped {
        #[serde(with = "serde_bytes")]
        wrapped: Vec<u8>,
    }
    from_item::<Wrapped>(item).map(|item| item.wrapped)
}
