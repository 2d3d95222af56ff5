//! The operations on DynamoDB. No other layer uses the DynamoDB SDK.
//!
//! Functions that send a request to DynamoDB return [`Error::Unavailable`] if the database is
//! unavailable.
//!
//! [`Error::Unavailable`]: crate::domain::error::Error::Unavailable

pub mod client;
pub mod ephemeral;
pub mod identity;
pub mod item;
pub mod schema;
pub(crate) mod transaction;
