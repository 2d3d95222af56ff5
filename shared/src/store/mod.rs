//! The calls to DynamoDB. No other layer uses its SDK.
//!
//! Functions that call DynamoDB return [`Error::Unavailable`] if the database is unavailable.
//!
//! [`Error::Unavailable`]: crate::domain::error::Error::Unavailable

pub mod client;
pub mod ephemeral;
pub mod identity;
pub mod item;
pub mod schema;
pub(crate) mod transaction;
