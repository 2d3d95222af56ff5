//! Items, and the conversion of values to and from their attributes.

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
    /// Nothing was written, because the condition was false. Contains the item that is stored, if
    /// any.
    Conflict(Option<T>),
}

/// Ignores that the condition of a write did not hold. `is_refusal` recognises that error.
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

/// The TTL attribute of both tables: a Number of seconds since 1970.
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

/// Returns the error for an item that does not have the form that this version writes. It leaves
/// out the message of `serde_dynamo`, which may quote a value.
pub(crate) fn unreadable<T>() -> Error {
    Error::Internal {
        cause: format!("DynamoDB: not a valid {}", std::any::type_name::<T>()),
    }
}

pub(crate) fn unavailable(what: &str) -> Error {
    Error::Unavailable {
        cause: format!("DynamoDB: {what}"),
    }
}
