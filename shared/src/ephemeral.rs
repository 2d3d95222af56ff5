//! The ephemeral table: what a restore must not bring back. Short codes and attempt counters, all
//! with a TTL.

use aws_sdk_dynamodb::Client;
use serde::de::DeserializeOwned;

use crate::{
    error::{Error, Result},
    identity::Item,
};

/// The name of the partition key; there is no sort key.
pub const PARTITION_KEY: &str = "key";

/// The ephemeral table; [`attempts`](crate::attempts) and [`shortcode`](crate::shortcode) make the
/// calls of it.
#[derive(Clone, Debug)]
pub struct Ephemeral {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl Ephemeral {
    /// The table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    pub(crate) fn read_as<T: DeserializeOwned>(&self, item: Item) -> Result<T> {
        serde_dynamo::from_item(item).map_err(|_| Error::Internal {
            cause: format!("{}: not a {}", self.table, std::any::type_name::<T>()),
        })
    }
}
