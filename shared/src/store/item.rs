//! Items, and the conversion between attributes and values.

use std::collections::HashMap;

use aws_sdk_dynamodb::{error::SdkError, types::AttributeValue};
use serde::{Serialize, de::DeserializeOwned};

use crate::domain::{
    error::{Error, Result},
    time::UnixSeconds,
};

/// The result of a conditional write.
pub(crate) enum WriteResult<T> {
    /// The write succeeded.
    Written,
    /// Nothing was written, because the condition was false. Contains the stored item, or `None` if
    /// there is no stored item.
    Conflict(Option<T>),
}

/// Returns `Ok` for a write that succeeded, and for a write whose condition was false. `is_refusal`
/// returns whether an error means that the condition was false.
///
/// # Errors
/// Any other error of the write.
pub(crate) fn unless_refused<O, E, R>(
    result: std::result::Result<O, SdkError<E, R>>,
    is_refusal: impl FnOnce(&E) -> bool,
) -> Result<()>
where
    Error: From<SdkError<E, R>>,
{
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.as_service_error().is_some_and(is_refusal) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The name of the TTL attribute of both tables. The attribute is a Number of seconds since 1970.
pub const TTL_ATTRIBUTE: &str = "expires_at";

/// An item, in the type that the SDK uses.
pub type Item = HashMap<String, AttributeValue>;

pub(crate) fn to_value<T: Serialize>(value: &T) -> Result<AttributeValue> {
    serde_dynamo::to_attribute_value(value).map_err(|_| unreadable::<T>())
}

pub(crate) fn number(seconds: UnixSeconds) -> AttributeValue {
    AttributeValue::N(seconds.0.to_string())
}

pub(crate) fn to_item<T: Serialize>(record: &T) -> Result<Item> {
    serde_dynamo::to_item(record).map_err(|_| unreadable::<T>())
}

pub(crate) fn from_item<T: DeserializeOwned>(item: Item) -> Result<T> {
    serde_dynamo::from_item(item).map_err(|_| unreadable::<T>())
}

/// Returns the error for an item or an attribute that cannot be converted. The error does not
/// contain the message of `serde_dynamo`, because that message may contain a value.
pub(crate) fn unreadable<T>() -> Error {
    Error::Internal {
        cause: format!(
            "DynamoDB: the item is not a valid {}",
            std::any::type_name::<T>()
        ),
    }
}

pub(crate) fn unavailable(what: &str) -> Error {
    Error::Unavailable {
        cause: format!("DynamoDB: {what}"),
    }
}

/// Returns the items of a response. A valid response contains a list of items, which may be empty.
///
/// # Errors
/// The response contains no list.
pub(crate) fn present(items: Option<Vec<Item>>) -> Result<Vec<Item>> {
    items.ok_or_else(|| unavailable("the response contains no items"))
}
