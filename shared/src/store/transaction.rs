//! Several writes that happen together or not at all.
//!
//! Each asks for the item that its condition did not hold for, so that a refusal tells what is
//! there instead.

use aws_sdk_dynamodb::{
    Client,
    error::BuildError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem, Update,
    },
};

use crate::{
    domain::error::{Error, Result},
    store::item::Item,
};

/// The values that an expression names.
pub(crate) type Values<'a> = &'a [(&'a str, AttributeValue)];

/// What became of a transaction.
pub(crate) enum Transacted {
    /// All was written.
    Written,
    /// Nothing was: for each write whose condition did not hold, the item that is there.
    Refused(Vec<Option<Item>>),
}

/// Writes all of these, or none. Tried again after a lost answer it is the same transaction: the
/// SDK sends the same request token.
///
/// # Errors
/// The database is away.
pub(crate) async fn transact(
    client: &Client,
    writes: Vec<TransactWriteItem>,
) -> Result<Transacted> {
    let conditions = writes.len();
    let call = client.transact_write_items();
    let Err(error) = call.set_transact_items(Some(writes)).send().await else {
        return Ok(Transacted::Written);
    };
    if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    {
        let reasons = cancelled.cancellation_reasons().iter();
        let refused: Vec<_> = reasons
            .map(|reason| {
                let refused = reason.code() == Some("ConditionalCheckFailed");
                refused.then(|| reason.item().cloned().unwrap_or_default())
            })
            .collect();
        if refused.len() == conditions && refused.iter().any(Option::is_some) {
            return Ok(Transacted::Refused(refused));
        }
    }
    Err(error.into())
}

/// A put, under a condition if there is one.
pub(crate) fn put<'a>(
    table: &str,
    item: Item,
    condition: impl Into<Option<&'a str>>,
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .set_condition_expression(condition.into().map(str::to_owned))
        .set_expression_attribute_values(of(values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let put = put.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// An update under a condition.
pub(crate) fn update(
    table: &str,
    key: Item,
    expression: &str,
    condition: &str,
    names: &[(&str, &str)],
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let owned = |(name, of): &(&str, &str)| ((*name).to_owned(), (*of).to_owned());
    // DynamoDB refuses an empty set of names.
    let names = (!names.is_empty()).then(|| names.iter().map(owned).collect());
    let update = Update::builder()
        .set_expression_attribute_names(names)
        .table_name(table)
        .set_key(Some(key))
        .update_expression(expression)
        .condition_expression(condition)
        .set_expression_attribute_values(of(values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let update = update.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

/// A deletion, under a condition if there is one.
pub(crate) fn delete(
    table: &str,
    key: Item,
    condition: Option<&str>,
    values: Values<'_>,
) -> Result<TransactWriteItem> {
    let delete = Delete::builder()
        .table_name(table)
        .set_key(Some(key))
        .set_condition_expression(condition.map(str::to_owned))
        .set_expression_attribute_values(of(values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let delete = delete.build().map_err(|error| incomplete(&error))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}

/// A condition on an item that is not written.
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
    // DynamoDB refuses an empty set of values.
    (!values.is_empty()).then(|| values.iter().map(named).collect())
}

fn incomplete(error: &BuildError) -> Error {
    Error::Internal {
        cause: error.to_string(),
    }
}
