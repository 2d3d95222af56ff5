//! The calls to DynamoDB. No other layer names its SDK.

pub mod client;
pub mod ephemeral;
pub mod identity;
pub mod item;
pub mod schema;
pub(crate) mod transaction;
