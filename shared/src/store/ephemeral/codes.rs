//! The operations for short codes. The creation of a code and the exchange of a code are
//! transactions over both tables.

use aws_sdk_dynamodb::{
    operation::delete_item::DeleteItemError,
    types::{AttributeValue, TransactWriteItem},
};

use super::{Ephemeral, PARTITION_KEY};
use crate::{
    domain::{
        error::Result,
        id::UserId,
        owner::{Epoch, User},
        shortcode::{Code, Record},
        time::UnixSeconds,
    },
    store::{
        identity::{Descent, Entry, Identity, Key, owner_item, user_unchanged},
        item::{Item, from_item, number, to_item, to_value, unless_refused, unreadable},
        transaction::{Change, Transacted, check, delete, put, transact},
    },
};

/// The result of storing a new code.
pub(crate) enum CodeWrite {
    /// The code is stored.
    Written,
    /// The user is inactive, is deleted or has a new epoch.
    OwnerChanged,
    /// A code with the same characters is already valid, or the user that the code would create
    /// already exists.
    Taken,
}

/// The owner of the token that an exchange creates.
#[derive(Clone, Copy)]
pub(crate) enum ExchangeOwner<'a> {
    /// An existing user, which must be active and still have this epoch.
    Existing(&'a UserId, Epoch),
    /// A user that the exchange creates.
    New(&'a User),
}

/// The result of an exchange.
pub(crate) enum ExchangeWrite {
    /// The code is deleted, and its token is stored.
    Written,
    /// The code was used, is expired, or was replaced by another code with the same characters.
    CodeGone,
    /// The existing user is inactive, is deleted or has a new epoch. Or the new user already
    /// exists. Or the user's own token that created the code was revoked or is expired.
    OwnerChanged,
}

impl Ephemeral {
    /// Stores a code for a user. The user must be active and still have this epoch.
    pub(crate) async fn insert_code_of_user(
        &self,
        identity: &Identity,
        code: &Code,
        record: &Record,
        (user, epoch): (&UserId, Epoch),
        now: UnixSeconds,
    ) -> Result<CodeWrite> {
        let unchanged = user_unchanged(&identity.table, user.into(), epoch)?;
        let refused = self.insert_code(code, record, unchanged, now).await?;
        Ok(match refused {
            None => CodeWrite::Written,
            Some(refused) if refused[1].is_some() => CodeWrite::OwnerChanged,
            Some(_) => CodeWrite::Taken,
        })
    }

    /// Stores a code for an environment. The user that the code will create must not exist.
    ///
    /// The transaction does not check that the ecosystem exists. Otherwise all transactions for
    /// codes of one ecosystem would use the same item, and would conflict. The caller has read the
    /// ecosystem, and the exchange reads it again.
    pub(crate) async fn insert_code_of_environment(
        &self,
        identity: &Identity,
        code: &Code,
        record: &Record,
        now: UnixSeconds,
    ) -> Result<CodeWrite> {
        let nobody = Key::owner(record.grantee.user().into()).to_item()?;
        let nobody = check(&identity.table, nobody, "attribute_not_exists(epoch)", &[])?;
        let refused = self.insert_code(code, record, nobody, now).await?;
        Ok(refused.map_or(CodeWrite::Written, |_| CodeWrite::Taken))
    }

    /// Stores a code, unless the table contains a valid code with the same characters.
    ///
    /// The writes are sent as a transaction, which takes effect only once. If we sent a plain
    /// `PutItem` and the SDK retried it, the `PutItem` could take effect a second time after the
    /// code was used. Then the code would be valid again. Returns `None` if the code was stored.
    /// Otherwise returns two elements: the first is for the condition of the code, the second is
    /// for the condition of the user. An element is `Some` if its condition was false.
    async fn insert_code(
        &self,
        code: &Code,
        record: &Record,
        user: TransactWriteItem,
        now: UnixSeconds,
    ) -> Result<Option<Vec<Option<Item>>>> {
        let writes = vec![self.put_code(code, record, now)?, user];
        Ok(match transact(&self.client, writes).await? {
            Transacted::Written => None,
            Transacted::Refused(refused) => Some(refused),
        })
    }

    fn put_code(
        &self,
        code: &Code,
        record: &Record,
        now: UnixSeconds,
    ) -> Result<TransactWriteItem> {
        let mut item = to_item(record)?;
        item.extend(code_key(code));
        put(
            &self.table,
            item,
            "attribute_not_exists(nonce) OR expires_at <= :now",
            &[(":now", number(now))],
        )
    }

    /// Reads a code's record with strong consistency.
    pub(crate) async fn code(&self, code: &Code) -> Result<Option<Record>> {
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(code_key(code)))
            .consistent_read(true)
            .send()
            .await?;
        read.item.map(from_item).transpose()
    }

    /// Prepares the exchange of a code. The caller must add the token's item to the same
    /// transaction.
    ///
    /// If a response is lost, the SDK sends the transaction again with the same
    /// `ClientRequestToken`. So the exchange does not take effect a second time.
    pub(crate) fn code_exchange(
        &self,
        identity: &Identity,
        (code, record): (&Code, &Record),
        owner: ExchangeOwner<'_>,
        descent: Option<Descent<'_>>,
        now: UnixSeconds,
    ) -> Result<Change<ExchangeWrite>> {
        let table = &identity.table;
        let code_deletion = delete(
            &self.table,
            code_key(code),
            Some("nonce = :nonce AND expires_at > :now"),
            &[(":nonce", to_value(&record.nonce)?), (":now", number(now))],
        )?;
        let mut writes = vec![code_deletion];
        match owner {
            ExchangeOwner::Existing(user, epoch) => {
                writes.push(user_unchanged(table, user.into(), epoch)?);
                if let Some(descent) = descent {
                    writes.extend(identity.descent(descent, epoch, now)?);
                }
            }
            ExchangeOwner::New(owner) => {
                let item = owner_item(&owner.into())?;
                writes.push(put(table, item, "attribute_not_exists(epoch)", &[])?);
                writes.push(identity.put_entry(&Entry::of_user(owner))?);
            }
        }
        Ok(Change::together(writes, |transacted| {
            Ok(match transacted {
                Transacted::Written => ExchangeWrite::Written,
                Transacted::Refused(refused) if refused[0].is_some() => ExchangeWrite::CodeGone,
                Transacted::Refused(_) => ExchangeWrite::OwnerChanged,
            })
        }))
    }

    /// Reads a page of all codes. A code that cannot be read is an `Err` in the page. Also returns
    /// the key after which the next page starts, or `None` at the end.
    pub(crate) async fn codes(
        &self,
        after: Option<Item>,
    ) -> Result<(Vec<Result<StoredCode>>, Option<Item>)> {
        let scan = self.client.scan().table_name(&self.table);
        let output = scan
            .filter_expression("begins_with(#key, :code)")
            .expression_attribute_names("#key", PARTITION_KEY)
            .expression_attribute_values(":code", text(CODE_PREFIX))
            .limit(SCANNED)
            .set_exclusive_start_key(after)
            .consistent_read(true)
            .send()
            .await?;
        let items = output.items.unwrap_or_default().into_iter();
        let codes = items.map(|item| {
            let key = item.get(PARTITION_KEY).cloned();
            let key = key.ok_or_else(unreadable::<Record>)?;
            let key = Item::from([(PARTITION_KEY.to_owned(), key)]);
            let record = from_item(item)?;
            Ok(StoredCode { key, record })
        });
        Ok((codes.collect(), output.last_evaluated_key))
    }

    /// Deletes a code that [`Self::codes`] read, unless another code with the same characters has
    /// replaced it.
    pub(crate) async fn delete_stored_code(&self, code: StoredCode) -> Result<()> {
        self.delete(code.key, &code.record).await
    }

    /// Deletes a code that cannot be exchanged any more, unless another code with the same
    /// characters has replaced it.
    pub(crate) async fn delete_code(&self, code: &Code, record: &Record) -> Result<()> {
        self.delete(code_key(code), record).await
    }

    async fn delete(&self, key: Item, record: &Record) -> Result<()> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression("attribute_not_exists(nonce) OR nonce = :nonce")
            .expression_attribute_values(":nonce", to_value(&record.nonce)?)
            .send()
            .await;
        let is_refusal = DeleteItemError::is_conditional_check_failed_exception;
        unless_refused(deleted, is_refusal)
    }
}

/// The prefix of the key of a code's item.
const CODE_PREFIX: &str = "code#";
/// How many items of the table one scan looks at.
const SCANNED: i32 = 500;

/// A code that a scan read.
pub(crate) struct StoredCode {
    key: Item,
    pub(crate) record: Record,
}

fn code_key(code: &Code) -> Item {
    let key = text(&format!("{CODE_PREFIX}{}", code.reveal()));
    Item::from([(PARTITION_KEY.to_owned(), key)])
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}
