//! The ephemeral table: short codes and attempt counters. All items have a TTL. The items have
//! their own table, because a restore of the identity table from a backup must not restore them.

mod codes;
pub(crate) mod counters;

use aws_sdk_dynamodb::Client;

pub(crate) use self::codes::{CodeWrite, ExchangeOwner, ExchangeWrite, StoredCode};

/// The name of the partition key. The table has no sort key.
pub const PARTITION_KEY: &str = "key";

/// The ephemeral table and its operations.
#[derive(Clone, Debug)]
pub struct Ephemeral {
    client: Client,
    table: String,
}

impl Ephemeral {
    /// Returns the table with this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}
