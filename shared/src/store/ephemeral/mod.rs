//! The ephemeral table: what a restore must not bring back. Short codes and attempt counters, all
//! with a TTL.

mod codes;
pub(crate) mod counters;

use aws_sdk_dynamodb::Client;

pub(crate) use self::codes::{CodeWrite, ExchangeOwner, ExchangeWrite};

/// The name of the partition key; there is no sort key.
pub const PARTITION_KEY: &str = "key";

/// The ephemeral table, and the calls that are made of it.
#[derive(Clone, Debug)]
pub struct Ephemeral {
    client: Client,
    table: String,
}

impl Ephemeral {
    /// The table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}
