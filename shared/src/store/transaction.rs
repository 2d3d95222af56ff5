//! Conditional writes. We send either a single write or a transaction. The writes of a transaction
//! all succeed or all fail.
//!
//! If the condition of a put, an update or a deletion is false, DynamoDB returns the stored item.

use aws_sdk_dynamodb::{
    Client,
    config::Builder,
    error::BuildError,
    operation::{
        delete_item::DeleteItemError, put_item::PutItemError,
        transact_write_items::TransactWriteItemsError, update_item::UpdateItemError,
    },
    types::{
        AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem, Update,
    },
};

use crate::{
    domain::error::{Error, Result},
    store::{
        client::{CONFLICT, ConflictIsFinal, REFUSED},
        item::Item,
    },
};

/// Writes that are prepared but not sent, and the function that interprets their result.
///
/// A write that revokes or changes tokens is a `Change`, and `service::tokens::change` sends it.
/// The documentation of that function lists the exceptions.
#[must_use]
pub(crate) struct Change<R> {
    writes: Vec<TransactWriteItem>,
    /// The number of required writes. They come first in `writes`. All writes after them are
    /// optional.
    required: usize,
    sending: Sending,
    outcome: Outcome<R>,
}

/// Interprets the result of the writes.
type Outcome<R> = Box<dyn FnOnce(Transacted) -> Result<R> + Send>;

enum Sending {
    /// As a `PutItem`, an `UpdateItem` or a `DeleteItem`, which uses half the capacity of a
    /// transaction. If the SDK retries this request, the request may take effect twice.
    Alone,
    /// As a transaction, which takes effect only once, even if the SDK retries it.
    Together,
}

impl<R> Change<R> {
    /// Prepares one put, update or deletion without a transaction.
    pub(crate) fn alone(
        write: TransactWriteItem,
        outcome: impl FnOnce(Transacted) -> Result<R> + Send + 'static,
    ) -> Self {
        Self {
            sending: Sending::Alone,
            ..Self::together(vec![write], outcome)
        }
    }

    /// Prepares a transaction.
    pub(crate) fn together(
        writes: Vec<TransactWriteItem>,
        outcome: impl FnOnce(Transacted) -> Result<R> + Send + 'static,
    ) -> Self {
        Self {
            required: writes.len(),
            writes,
            sending: Sending::Together,
            outcome: Box::new(outcome),
        }
    }

    /// Adds a required write to the transaction.
    pub(crate) fn and(mut self, write: TransactWriteItem) -> Self {
        self.writes.insert(self.required, write);
        self.required += 1;
        self.sending = Sending::Together;
        self
    }

    /// Adds an optional write to the transaction. If the condition of an optional write is false,
    /// but no condition of a required write is false, the transaction is sent again without the
    /// optional writes whose conditions were false.
    pub(crate) fn and_optional(mut self, write: TransactWriteItem) -> Self {
        self.writes.push(write);
        self.sending = Sending::Together;
        self
    }

    /// Sends the writes.
    pub(crate) async fn commit(mut self, client: &Client) -> Result<R> {
        if let Sending::Alone = self.sending {
            let write = self.writes.swap_remove(0);
            return (self.outcome)(send(client, write).await?);
        }
        loop {
            let transacted = transact(client, self.writes.clone()).await?;
            if let Transacted::Refused(refused) = &transacted
                && self.writes.len() > self.required
                && refused[..self.required].iter().all(Option::is_none)
            {
                let mut refused = refused.iter().map(Option::is_some);
                self.writes.retain(|_| refused.next() != Some(true));
                continue;
            }
            return (self.outcome)(transacted);
        }
    }
}

/// The result of [`Change::attempt`].
pub(crate) enum Attempt<R> {
    /// All writes succeeded.
    Written(R),
    /// A condition of the change was false, so nothing was written.
    Refused(R),
    /// Nothing was written, because of the other writes or because of another transaction. The
    /// change can be sent again.
    Again(Change<R>),
}

impl<R> Change<R> {
    /// Sends the writes in one transaction with other writes. The change must not have optional
    /// writes.
    pub(crate) async fn attempt(
        self,
        client: &Client,
        others: Vec<TransactWriteItem>,
    ) -> Result<Attempt<R>> {
        let own = self.writes.len();
        let writes = self.writes.iter().cloned().chain(others).collect();
        let mut refused = match try_transaction(
            client,
            writes,
            Builder::new().retry_classifier(ConflictIsFinal),
        )
        .await?
        {
            Tried::Written => return (self.outcome)(Transacted::Written).map(Attempt::Written),
            Tried::Refused(refused) => refused,
            Tried::Conflict(_) => return Ok(Attempt::Again(self)),
        };
        refused.truncate(own);
        if refused.iter().all(Option::is_none) {
            return Ok(Attempt::Again(self));
        }
        (self.outcome)(Transacted::Refused(refused)).map(Attempt::Refused)
    }
}

/// Sends one put, update or deletion.
async fn send(client: &Client, write: TransactWriteItem) -> Result<Transacted> {
    let refused = match (write.put, write.update, write.delete) {
        (Some(put), ..) => send_put(client, put).await?,
        (_, Some(update), _) => send_update(client, update).await?,
        (_, _, Some(delete)) => send_delete(client, delete).await?,
        (None, None, None) => {
            return Err(Error::Internal {
                cause: "a condition cannot be sent without a transaction".to_owned(),
            });
        }
    };
    Ok(refused.map_or(Transacted::Written, |there| {
        Transacted::Refused(vec![Some(there)])
    }))
}

/// Sends a put. Returns `None` if the put succeeded. If its condition was false, returns the stored
/// item, or an empty item if no item is stored.
async fn send_put(client: &Client, put: Put) -> Result<Option<Item>> {
    let sent = client
        .put_item()
        .table_name(put.table_name)
        .set_item(Some(put.item))
        .set_condition_expression(put.condition_expression)
        .set_expression_attribute_names(put.expression_attribute_names)
        .set_expression_attribute_values(put.expression_attribute_values)
        .set_return_values_on_condition_check_failure(put.return_values_on_condition_check_failure)
        .send()
        .await;
    match sent {
        Ok(_) => Ok(None),
        Err(error) => match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refusal)) => {
                Ok(Some(refusal.item.clone().unwrap_or_default()))
            }
            _ => Err(error.into()),
        },
    }
}

/// Sends an update. Returns `None` if the update succeeded. If its condition was false, returns the
/// stored item, or an empty item if no item is stored.
async fn send_update(client: &Client, update: Update) -> Result<Option<Item>> {
    let sent = client
        .update_item()
        .table_name(update.table_name)
        .set_key(Some(update.key))
        .update_expression(update.update_expression)
        .set_condition_expression(update.condition_expression)
        .set_expression_attribute_names(update.expression_attribute_names)
        .set_expression_attribute_values(update.expression_attribute_values)
        .set_return_values_on_condition_check_failure(
            update.return_values_on_condition_check_failure,
        )
        .send()
        .await;
    match sent {
        Ok(_) => Ok(None),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                Ok(Some(refusal.item.clone().unwrap_or_default()))
            }
            _ => Err(error.into()),
        },
    }
}

/// Sends a deletion. Returns `None` if the deletion succeeded. If its condition was false, returns
/// the stored item, or an empty item if no item is stored.
async fn send_delete(client: &Client, delete: Delete) -> Result<Option<Item>> {
    let sent = client
        .delete_item()
        .table_name(delete.table_name)
        .set_key(Some(delete.key))
        .set_condition_expression(delete.condition_expression)
        .set_expression_attribute_names(delete.expression_attribute_names)
        .set_expression_attribute_values(delete.expression_attribute_values)
        .set_return_values_on_condition_check_failure(
            delete.return_values_on_condition_check_failure,
        )
        .send()
        .await;
    match sent {
        Ok(_) => Ok(None),
        Err(error) => match error.as_service_error() {
            Some(DeleteItemError::ConditionalCheckFailedException(refusal)) => {
                Ok(Some(refusal.item.clone().unwrap_or_default()))
            }
            _ => Err(error.into()),
        },
    }
}

/// The placeholders of an expression, each with its value.
pub(crate) type Values<'a> = &'a [(&'a str, AttributeValue)];

/// Asks DynamoDB to return the stored item if the condition is false.
const ALL_OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

/// The result of a transaction.
pub(crate) enum Transacted {
    /// All writes succeeded.
    Written,
    /// Nothing was written. Contains an element for each write, in order. If the write's condition
    /// was false, the element is the stored item, or an empty item if DynamoDB returned no item.
    /// For all other writes, the element is `None`.
    Refused(Vec<Option<Item>>),
}

/// Sends a transaction. If a response is lost, the SDK sends the transaction again with the same
/// `ClientRequestToken`. So the transaction does not take effect a second time.
pub(crate) async fn transact(
    client: &Client,
    writes: Vec<TransactWriteItem>,
) -> Result<Transacted> {
    match try_transaction(client, writes, Builder::new()).await? {
        Tried::Written => Ok(Transacted::Written),
        Tried::Refused(refused) => Ok(Transacted::Refused(refused)),
        Tried::Conflict(error) => Err(error),
    }
}

/// The result of a transaction. The first two variants are those of [`Transacted`].
enum Tried {
    Written,
    Refused(Vec<Option<Item>>),
    /// Another transaction was using the same item, even after the retries of the SDK.
    Conflict(Error),
}

async fn try_transaction(
    client: &Client,
    writes: Vec<TransactWriteItem>,
    config: Builder,
) -> Result<Tried> {
    let conditions = writes.len();
    let call = client.transact_write_items();
    let call = call.set_transact_items(Some(writes)).customize();
    let Err(error) = call.config_override(config).send().await else {
        return Ok(Tried::Written);
    };
    if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    {
        let reasons = cancelled.cancellation_reasons().iter();
        let refused: Vec<_> = reasons
            .map(|reason| {
                let refused = reason.code() == Some(REFUSED);
                refused.then(|| reason.item().cloned().unwrap_or_default())
            })
            .collect();
        if refused.len() == conditions && refused.iter().any(Option::is_some) {
            return Ok(Tried::Refused(refused));
        }
        let mut reasons = cancelled.cancellation_reasons().iter();
        if reasons.any(|reason| reason.code() == Some(CONFLICT)) {
            return Ok(Tried::Conflict(error.into()));
        }
    }
    Err(error.into())
}

/// Prepares a put with an optional condition.
pub(crate) fn put<'a>(
    table: &str,
    item: Item,
    condition: impl Into<Option<&'a str>>,
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let condition = condition.into();
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .set_return_values_on_condition_check_failure(condition.map(|_| ALL_OLD))
        .set_condition_expression(condition.map(str::to_owned))
        .set_expression_attribute_values(of(values));
    let put = put.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// Prepares an update with a condition.
pub(crate) fn update(
    table: &str,
    key: Item,
    expression: &str,
    condition: &str,
    names: &[(&str, &str)],
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let owned = |(name, of): &(&str, &str)| ((*name).to_owned(), (*of).to_owned());
    // DynamoDB rejects an empty map of names.
    let names = (!names.is_empty()).then(|| names.iter().map(owned).collect());
    let update = Update::builder()
        .set_expression_attribute_names(names)
        .table_name(table)
        .set_key(Some(key))
        .update_expression(expression)
        .condition_expression(condition)
        .set_expression_attribute_values(of(values))
        .return_values_on_condition_check_failure(ALL_OLD);
    let update = update.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

/// Prepares a deletion with an optional condition.
pub(crate) fn delete(
    table: &str,
    key: Item,
    condition: Option<&str>,
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let delete = Delete::builder()
        .table_name(table)
        .set_key(Some(key))
        .set_return_values_on_condition_check_failure(condition.map(|_| ALL_OLD))
        .set_condition_expression(condition.map(str::to_owned))
        .set_expression_attribute_values(of(values));
    let delete = delete.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}

/// Prepares a condition on an item that the transaction does not write.
pub(crate) fn check(
    table: &str,
    key: Item,
    condition: &str,
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let check = ConditionCheck::builder()
        .table_name(table)
        .set_key(Some(key))
        .condition_expression(condition)
        .set_expression_attribute_values(of(values));
    let check = check.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().condition_check(check).build())
}

fn of(values: Values<'_>) -> Option<Item> {
    let named = |(name, value): &(&str, AttributeValue)| ((*name).to_owned(), value.clone());
    // DynamoDB rejects an empty map of values.
    (!values.is_empty()).then(|| values.iter().map(named).collect())
}

fn incomplete(error: &BuildError) -> Error {
    Error::Internal {
        cause: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
    use aws_smithy_runtime_api::client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    };

    use super::*;

    /// An HTTP client that stores the bodies of the requests. Its response to each request is 200.
    #[derive(Clone, Debug, Default)]
    struct Sent(Arc<Mutex<Vec<String>>>);

    impl HttpConnector for Sent {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let body = request.body().bytes().unwrap_or_default();
            let body = String::from_utf8_lossy(body).into_owned();
            self.0.lock().unwrap().push(body);
            let status = 200.try_into().unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, "{}".into())))
        }
    }

    impl HttpClient for Sent {
        fn http_connector(
            &self,
            _: &HttpConnectorSettings,
            _: &RuntimeComponents,
        ) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    #[tokio::test]
    async fn a_write_that_is_added_to_a_single_write_is_sent_in_the_same_request() {
        let put = |key: &str| {
            let item = Item::from([("item".to_owned(), AttributeValue::S(key.to_owned()))]);
            put("table", item, None, &[]).unwrap()
        };
        for add in [Change::and, Change::and_optional] {
            let sent = Sent::default();
            let config = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-central-1"))
                .credentials_provider(Credentials::new("id", "key", None, None, "test"))
                .http_client(sent.clone());
            let change = Change::alone(put("first"), |_| Ok(()));
            let change = add(change, put("second"));
            change
                .commit(&Client::from_conf(config.build()))
                .await
                .unwrap();
            let sent = sent.0.lock().unwrap();
            assert_eq!(sent.len(), 1);
            assert!(sent[0].contains("first") && sent[0].contains("second"));
        }
    }
}
