//! Calls about short codes. Making and exchanging one are transactions over both tables.

use aws_sdk_dynamodb::{
    operation::delete_item::DeleteItemError,
    types::{AttributeValue, TransactWriteItem},
};

use super::{Ephemeral, PARTITION_KEY};
use crate::{
    domain::{
        error::Result,
        id::{AccountId, EnvironmentId, UserId},
        owner::{Environment, Epoch, User},
        shortcode::{Code, Record},
        time::UnixSeconds,
    },
    store::{
        identity::{Identity, Key, owner_item, unchanged},
        item::{Item, from_item, is_written, number, to_item, to_value},
        transaction::{Change, Transacted, check, delete, put, transact},
    },
};

/// What became of a code that was to be written.
pub(crate) enum CodeWrite {
    /// It is there now.
    Written,
    /// Its user has changed, or its ecosystem is gone.
    OwnerChanged,
    /// Another code of these characters is valid, or the user that it would make exists.
    Taken,
}

/// The owner of the token that a code gives, in the exchange's transaction.
#[derive(Clone, Copy)]
pub(crate) enum ExchangeOwner<'a> {
    /// A user that must have this epoch still.
    Existing(&'a UserId, Epoch),
    /// A user that is made.
    New(&'a User),
}

/// What became of an exchange.
pub(crate) enum ExchangeWrite {
    /// The code is spent, and its token stored.
    Written,
    /// The code is gone.
    CodeGone,
    /// The user, its ecosystem or its environment is not what it was.
    OwnerChanged,
}

impl Ephemeral {
    /// Writes a code for a user that must have this epoch and be active.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn insert_code_of_user(
        &self,
        identity: &Identity,
        code: &Code,
        record: &Record,
        (user, epoch): (&UserId, Epoch),
        now: UnixSeconds,
    ) -> Result<CodeWrite> {
        let writes = vec![
            self.put_code(code, record, now)?,
            unchanged(&identity.table, user.into(), epoch)?,
        ];
        self.insert_code(writes).await
    }

    /// Writes a code for an environment, whose ecosystem must be this account's. Nobody may have the
    /// name of the user that the code will make.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn insert_code_of_environment(
        &self,
        identity: &Identity,
        code: &Code,
        record: &Record,
        (account, environment): (&AccountId, &Environment),
        now: UnixSeconds,
    ) -> Result<CodeWrite> {
        let table = &identity.table;
        let ecosystem = Key::owner((&environment.ecosystem).into()).to_item()?;
        let account = [(":account", text(account.as_str()))];
        let nobody = Key::owner(record.grantee.user().into()).to_item()?;
        let writes = vec![
            self.put_code(code, record, now)?,
            check(table, ecosystem, "account = :account", &account)?,
            check(table, nobody, "attribute_not_exists(epoch)", &[])?,
        ];
        self.insert_code(writes).await
    }

    /// Writes a code where none is valid: a transaction, because that arrives once. A put that was held
    /// up and tried again could bring a spent code back. The second write is the condition on the owner.
    async fn insert_code(&self, writes: Vec<TransactWriteItem>) -> Result<CodeWrite> {
        Ok(match transact(&self.client, writes).await? {
            Transacted::Written => CodeWrite::Written,
            Transacted::Refused(refused) if refused[1].is_some() => CodeWrite::OwnerChanged,
            Transacted::Refused(_) => CodeWrite::Taken,
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

    /// Reads a code's record, strongly consistent.
    ///
    /// # Errors
    /// The database is unavailable.
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

    /// Spends a code. Its token's item belongs in the same transaction. Tried again after a lost response,
    /// it is the same transaction (the SDK sends the same request token).
    pub(crate) fn exchange_code(
        &self,
        identity: &Identity,
        (code, record): (&Code, &Record),
        owner: ExchangeOwner<'_>,
        environment: Option<&EnvironmentId>,
        now: UnixSeconds,
    ) -> Result<Change<ExchangeWrite>> {
        let table = &identity.table;
        let spend = delete(
            &self.table,
            code_key(code),
            Some("nonce = :nonce AND expires_at > :now"),
            &[(":nonce", to_value(&record.nonce)?), (":now", number(now))],
        )?;
        let owner = match owner {
            ExchangeOwner::Existing(user, epoch) => unchanged(table, user.into(), epoch)?,
            ExchangeOwner::New(owner) => {
                let item = owner_item(&owner.into())?;
                put(table, item, "attribute_not_exists(epoch)", &[])?
            }
        };
        let ecosystem = record.grantee.user().ecosystem();
        let ecosystem = Key::owner(ecosystem.into()).to_item()?;
        let mut writes = vec![
            spend,
            owner,
            check(table, ecosystem, "attribute_exists(epoch)", &[])?,
        ];
        if let Some(environment) = environment {
            let key = Key::environment(environment).to_item()?;
            writes.push(check(table, key, "attribute_exists(ecosystem)", &[])?);
        }
        Ok(Change::together(writes, |transacted| {
            Ok(match transacted {
                Transacted::Written => ExchangeWrite::Written,
                Transacted::Refused(refused) if refused[0].is_some() => ExchangeWrite::CodeGone,
                Transacted::Refused(_) => ExchangeWrite::OwnerChanged,
            })
        }))
    }

    /// Deletes a code that gives nothing, unless it is another by now.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn spend_code(&self, code: &Code, record: &Record) -> Result<()> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(code_key(code)))
            .condition_expression("attribute_not_exists(nonce) OR nonce = :nonce")
            .expression_attribute_values(":nonce", to_value(&record.nonce)?)
            .send()
            .await;
        let is_refusal = DeleteItemError::is_conditional_check_failed_exception;
        is_written(deleted, is_refusal).map(|_| ())
    }
}

fn code_key(code: &Code) -> Item {
    let key = text(&format!("code#{}", code.reveal()));
    Item::from([(PARTITION_KEY.to_owned(), key)])
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}
