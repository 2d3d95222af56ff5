//! The queue of erasures, and the operations that erase what is left of something that was deleted.
//!
//! A deletion ends everything at once, but it leaves items in the table, such as tokens, or the
//! users of an ecosystem. The transaction of the deletion also stores an erasure, which says what
//! must be erased. The queue has several partitions, so that many deletions at the same time do not
//! write to the same partition.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Identity, Key};
use crate::{
    domain::{
        error::Result,
        id::{AccountId, EcosystemId, EnvironmentId},
        owner::{Epoch, OwnerKey},
        time::Timestamp,
        token::TokenId,
    },
    store::{
        item::{Item, from_item, present, to_item, to_value},
        transaction::{Change, delete, put},
    },
};

/// The number of partitions of the queue.
pub(crate) const QUEUES: u8 = 16;

/// What must be erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// What is left of a deleted user. Contains the key of the user's partition.
    User(OwnerKey),
    /// The tokens and links that a revocation of all tokens of a user left. Contains the key of the
    /// user's partition.
    Tokens(OwnerKey),
    /// The tokens that descend from a token that was revoked.
    Descendants { owner: OwnerKey, token: TokenId },
    /// What is left of a deleted ecosystem.
    Ecosystem {
        id: EcosystemId,
        /// The account of the ecosystem. Unknown if an earlier release deleted the ecosystem.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
    },
    /// The users that the short codes of a deleted environment created.
    Environment {
        id: EnvironmentId,
        ecosystem: EcosystemId,
        /// The account of the ecosystem. Unknown if an earlier release deleted the ecosystem.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
    },
}

/// An item of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Erasure {
    #[serde(rename = "erase")]
    pub(crate) target: Target,
    /// When the target was deleted.
    #[serde(rename = "deleted_at")]
    pub(crate) at: Timestamp,
}

impl Erasure {
    fn item(&self) -> Result<Item> {
        let mut item = to_item(self)?;
        item.extend(self.key().to_item()?);
        Ok(item)
    }

    /// Returns the key of the item. An erasure with the same target has the same key.
    pub(crate) fn key(&self) -> Key {
        let text = match &self.target {
            Target::User(key) => format!("user#{}", hex::encode(key.as_bytes())),
            Target::Tokens(key) => format!("tokens#{}", hex::encode(key.as_bytes())),
            Target::Descendants { owner, token } => {
                format!("descendants#{}#{token}", hex::encode(owner.as_bytes()))
            }
            Target::Ecosystem { id, .. } => id.to_string(),
            Target::Environment { id, .. } => id.to_string(),
        };
        let hash = Sha256::digest(text);
        Key {
            owner: queue(hash[0] % QUEUES),
            item: hex::encode(&hash[1..17]),
        }
    }
}

fn queue(number: u8) -> OwnerKey {
    OwnerKey::list(&format!("erasures#{number}"))
}

/// Returns a random sort key of the queue.
pub(crate) fn random_place(rng: &mut dyn CryptoRng) -> String {
    let mut place = [0; 16];
    rng.fill_bytes(&mut place);
    hex::encode(place)
}

/// An item in the partition of an owner, with the attributes that say which life of the owner the
/// item belongs to. If an owner is deleted and created again, the two lives have different values.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Remnant {
    #[serde(flatten)]
    pub(crate) key: Key,
    /// The incarnation of the owner.
    #[serde(rename = "born")]
    pub(crate) incarnation: Option<Epoch>,
    /// The epoch of the owner. The record of a token that was revoked individually has none.
    pub(crate) epoch: Option<Epoch>,
    /// The epoch that a token had before it was moved into its present epoch.
    pub(crate) previous_epoch: Option<Epoch>,
}

impl Identity {
    /// Prepares to store an erasure.
    pub(crate) fn queue(&self, erasure: &Erasure) -> Result<TransactWriteItem> {
        put(&self.table, erasure.item()?, None, &[])
    }

    /// Stores an erasure.
    pub(crate) async fn store_erasure(&self, erasure: &Erasure) -> Result<()> {
        let write = self.queue(erasure)?;
        self.commit(Change::alone(write, |_| Ok(()))).await
    }

    /// Stores an erasure, unless the queue contains one with the same target.
    pub(crate) async fn store_erasure_if_none(&self, erasure: &Erasure) -> Result<()> {
        self.insert(erasure.item()?).await.map(|_| ())
    }

    /// Reads a page of one of the [`QUEUES`] partitions of the queue: the erasures after a sort
    /// key. An erasure that cannot be read is an `Err` in the page. Also returns the sort key after
    /// which the next page starts, or `None` at the end.
    pub(crate) async fn erasures(
        &self,
        number: u8,
        after: Option<String>,
        limit: i32,
    ) -> Result<(Vec<Result<Erasure>>, Option<String>)> {
        let owner = queue(number);
        let start = after
            .map(|item| Key { owner, item }.to_item())
            .transpose()?;
        let query = self.query_all(owner)?.limit(limit);
        let output = query.set_exclusive_start_key(start).send().await?;
        let items = present(output.items)?;
        let erasures = items.into_iter().map(from_item).collect();
        let last = output
            .last_evaluated_key
            .map(from_item::<Key>)
            .transpose()?;
        Ok((erasures, last.map(|key| key.item)))
    }

    /// Deletes an erasure from the queue. Does nothing if the same target was deleted again.
    pub(crate) async fn finish_erasure(&self, erasure: &Erasure) -> Result<()> {
        let key = erasure.key().to_item()?;
        let values = [(":at", to_value(&erasure.at)?)];
        let write = delete(&self.table, key, Some("deleted_at = :at"), &values)?;
        self.commit(Change::alone(write, |_| Ok(()))).await
    }

    /// Reads a page of a partition with strong consistency. Also returns the key after which the
    /// next page starts, or `None` at the end.
    pub(crate) async fn remnants(
        &self,
        owner: OwnerKey,
        after: Option<Item>,
    ) -> Result<(Vec<Remnant>, Option<Item>)> {
        let output = self
            .query_all(owner)?
            .projection_expression("#owner, #item, born, epoch, previous_epoch")
            .expression_attribute_names("#item", super::SORT_KEY)
            .limit(REMNANTS)
            .set_exclusive_start_key(after)
            .send()
            .await?;
        let items = present(output.items)?;
        let remnants = items.into_iter().map(from_item).collect::<Result<_>>()?;
        Ok((remnants, output.last_evaluated_key))
    }

    /// Deletes an item whose key may be used again, if it still belongs to the same life of its
    /// owner.
    pub(crate) async fn delete_remnant(&self, remnant: &Remnant) -> Result<()> {
        let (condition, value) = match (&remnant.incarnation, &remnant.epoch) {
            (Some(incarnation), _) => ("born = :value", Some(to_value(incarnation)?)),
            (None, Some(epoch)) => ("epoch = :value", Some(to_value(epoch)?)),
            (None, None) => (
                "attribute_not_exists(born) AND attribute_not_exists(epoch)",
                None,
            ),
        };
        let values: Vec<(&str, AttributeValue)> =
            value.into_iter().map(|value| (":value", value)).collect();
        let write = delete(
            &self.table,
            remnant.key.to_item()?,
            Some(condition),
            &values,
        )?;
        self.commit(Change::alone(write, |_| Ok(()))).await
    }
}

/// How many items of a partition are read at once.
const REMNANTS: i32 = 100;
