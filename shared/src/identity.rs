//! The identity table: owners and their tokens, one partition for each owner.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::{
        put_item::PutItemError,
        update_item::{UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder},
    },
    primitives::Blob,
    types::{AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    id::EnvironmentId,
    owner::{Owner, OwnerKey},
    time::UnixSeconds,
    token::{Expiry, PlainToken, Token},
};

/// One item as the SDK has it.
pub type Item = HashMap<String, AttributeValue>;

/// The name of the partition key: the owner key.
pub const PARTITION_KEY: &str = "owner";
/// The name of the sort key.
pub const SORT_KEY: &str = "item";
/// The sort key of an owner's own record.
pub const OWNER_ITEM: &str = "owner";
/// The sort key of an environment's record.
const ENVIRONMENT_ITEM: &str = "environment";

/// How often keys that DynamoDB left unprocessed are asked for again, and the pause before the
/// first of those, which doubles.
const UNPROCESSED_TRIES: u32 = 5;
const UNPROCESSED_PAUSE: Duration = Duration::from_millis(20);

/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The partition.
    pub owner: OwnerKey,
    /// The sort key.
    pub item: String,
}

impl Key {
    /// The record of an owner.
    pub fn owner(owner: OwnerKey) -> Self {
        Self {
            owner,
            item: OWNER_ITEM.to_owned(),
        }
    }

    /// The record of an environment.
    pub fn environment(id: &EnvironmentId) -> Self {
        Self {
            owner: id.into(),
            item: ENVIRONMENT_ITEM.to_owned(),
        }
    }

    /// The record of a token.
    pub fn token(token: &PlainToken) -> Self {
        Self {
            owner: token.owner(),
            item: token.id().item(),
        }
    }

    fn to_item(&self) -> Result<Item> {
        to_item(self)
    }
}

/// What one read found.
pub struct Items(HashMap<Key, Item>);

impl Items {
    /// The record under this key.
    ///
    /// # Errors
    /// The item is not what it should be.
    pub fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.0.get(key).cloned().map(from_item).transpose()
    }
}

/// What became of an owner that was to be written where none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there now.
    New,
    /// The same id was there already, in this state.
    Existing(Owner),
    /// Another id has its key: a collision of hashes. Nothing was overwritten.
    KeyTaken,
}

/// The identity table, and the calls that are made of it.
#[derive(Clone, Debug)]
pub struct Identity {
    client: Client,
    table: String,
}

impl Identity {
    /// The table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Reads these items, strongly consistent, in one `BatchGetItem`.
    ///
    /// # Errors
    /// The database is away, or leaves keys unprocessed however often it is asked: such a key is
    /// not an absent item.
    pub(crate) async fn read(&self, keys: &BTreeSet<Key>) -> Result<Items> {
        let mut missing = keys.iter().map(Key::to_item).collect::<Result<Vec<_>>>()?;
        let mut found = HashMap::with_capacity(missing.len());
        for attempt in 0..=UNPROCESSED_TRIES {
            if attempt > 0 {
                #[expect(clippy::disallowed_methods, reason = "the database asks for a pause")]
                tokio::time::sleep(UNPROCESSED_PAUSE * 2u32.pow(attempt - 1)).await;
            }
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(missing))
                .consistent_read(true)
                .build()
                .map_err(|_| unreadable::<KeysAndAttributes>())?;
            let output = self
                .client
                .batch_get_item()
                .request_items(&self.table, wanted)
                .send()
                .await?;
            missing = output
                .unprocessed_keys
                .into_iter()
                .flatten()
                .flat_map(|(_, left)| left.keys)
                .collect();
            if output.responses.is_none() && missing.is_empty() {
                // Not even an empty list: no answer to the question.
                return Err(unavailable("a read without items"));
            }
            for (_, items) in output.responses.into_iter().flatten() {
                for item in items {
                    found.insert(from_item::<Key>(item.clone())?, item);
                }
            }
            if missing.is_empty() {
                return Ok(Items(found));
            }
        }
        Err(unavailable("keys stay unprocessed"))
    }

    /// Starts another life of a sliding token, unless it is dead or this second already did, and
    /// says when it expires now; `None` if it is dead.
    ///
    /// One conditional `UpdateItem`: it can neither create an item nor revive a dead one. A token
    /// that is found idle for too long is ended by a second one.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn renew(
        &self,
        token: &PlainToken,
        now: UnixSeconds,
    ) -> Result<Option<UnixSeconds>> {
        let renewed = self
            .update(token, now)?
            .update_expression("SET expires_at = :now + #ttl, last_used_at = :now")
            .condition_expression(
                "token_hash = :hash AND expires_at > :now \
                 AND (attribute_not_exists(last_used_at) OR last_used_at < :now) \
                 AND (attribute_not_exists(max_expires_at) OR max_expires_at > :now)",
            )
            .expression_attribute_names("#ttl", "ttl")
            .send()
            .await;
        let old = match updated(renewed)? {
            Updated::To(expires_at) => return Ok(Some(expires_at)),
            Updated::Refused(Some(old)) if old.token_hash == token.hashed() => old.expiry,
            Updated::Refused(_) => return Ok(None),
        };
        match old {
            Expiry::SlidingTtl {
                last_used_at: Some(last),
                ..
            } if last >= now && old.is_alive_at(now) => Ok(old.expires_at()),
            Expiry::SlidingTtl {
                max_expires_at: Some(max),
                ..
            } if max <= now => Ok(None),
            _ => self.end_idle(token, now).await,
        }
    }

    /// Ends a sliding token whose time has passed for good, before anybody is told that it is
    /// dead: a renewal that was sent while it lived, and arrives late, would revive it.
    ///
    /// Says when the token expires if it was renewed meanwhile.
    async fn end_idle(&self, token: &PlainToken, now: UnixSeconds) -> Result<Option<UnixSeconds>> {
        let ended = self
            .update(token, now)?
            .update_expression("SET max_expires_at = :ended")
            .condition_expression("token_hash = :hash AND expires_at <= :now")
            .expression_attribute_values(":ended", number(Expiry::ENDED))
            .send()
            .await;
        Ok(match updated(ended)? {
            Updated::Refused(Some(old)) if old.token_hash == token.hashed() => {
                old.expiry.expires_at().filter(|end| now < *end)
            }
            Updated::Refused(_) | Updated::To(_) => None,
        })
    }

    /// An update of a token's item, with its hash and the time for the condition.
    fn update(&self, token: &PlainToken, now: UnixSeconds) -> Result<UpdateItemFluentBuilder> {
        let hash = AttributeValue::B(Blob::new(token.hashed().as_bytes().as_slice()));
        Ok(self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::token(token).to_item()?))
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":hash", hash)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld))
    }

    /// Writes a new token, in one conditional `PutItem`. Safe to repeat: the write of the same
    /// token over itself has succeeded.
    ///
    /// # Errors
    /// The database is away, or (by a collision of 80 random bits within a millisecond) another
    /// token of the owner has the id.
    pub async fn insert_token(&self, token: &Token) -> Result<()> {
        match self.insert(to_item(token)?).await? {
            None => Ok(()),
            Some(old) if from_item::<Token>(old.clone())?.token_hash == token.token_hash => Ok(()),
            Some(_) => Err(Error::Internal {
                cause: "a new token met another under its id".to_owned(),
            }),
        }
    }

    /// Writes a new owner, in one conditional `PutItem`. Safe to repeat.
    ///
    /// # Errors
    /// The database is away.
    pub async fn insert_owner(&self, owner: &Owner) -> Result<Inserted> {
        let mut item = to_item(owner)?;
        item.extend(Key::owner(owner.id.key()).to_item()?);
        match self
            .insert(item)
            .await?
            .map(from_item::<Owner>)
            .transpose()?
        {
            None => Ok(Inserted::New),
            Some(old) if old == *owner => Ok(Inserted::New),
            Some(old) if old.id == owner.id => Ok(Inserted::Existing(old)),
            Some(_) => Ok(Inserted::KeyTaken),
        }
    }

    /// Reads an owner's record.
    ///
    /// # Errors
    /// The database is away.
    pub async fn owner(&self, key: OwnerKey) -> Result<Option<Owner>> {
        let key = Key::owner(key);
        self.read(&BTreeSet::from([key.clone()])).await?.get(&key)
    }

    /// Asks for an item that does not exist, so that the connection is open before the first
    /// request comes: during init Lambda gives a whole CPU, afterwards a share.
    pub async fn warm_up(&self) {
        let nobody = Key::owner(OwnerKey::from_bytes([0; OwnerKey::LENGTH]));
        let Ok(key) = nobody.to_item() else { return };
        let call = self.client.get_item().table_name(&self.table);
        if let Err(error) = call.set_key(Some(key)).send().await {
            // Not fatal: the first request will say the same to its caller.
            tracing::warn!(cause = ?Error::from(error), "the identity table does not answer");
        }
    }

    /// Puts an item where none is; returns the one that is there otherwise.
    async fn insert(&self, item: Item) -> Result<Option<Item>> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#item)")
            .expression_attribute_names("#item", SORT_KEY)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match put {
            Ok(_) => Ok(None),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(Some(refusal.item.clone().unwrap_or_default()))
                }
                _ => Err(error.into()),
            },
        }
    }
}

/// What became of an update of a token's item.
enum Updated {
    /// It was made: when the item says that it expires now.
    To(UnixSeconds),
    /// Its condition does not hold for the item as it is.
    Refused(Option<Token>),
}

fn updated(result: Result<UpdateItemOutput, SdkError<UpdateItemError>>) -> Result<Updated> {
    #[derive(Deserialize)]
    struct New {
        expires_at: UnixSeconds,
    }
    match result {
        Ok(output) => {
            let new = output.attributes.map(from_item::<New>).transpose()?;
            new.map(|new| Updated::To(new.expires_at))
                .ok_or_else(|| unavailable("an update without its result"))
        }
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                let old = refusal.item.clone().map(from_item).transpose()?;
                Ok(Updated::Refused(old))
            }
            _ => Err(error.into()),
        },
    }
}

fn number(seconds: UnixSeconds) -> AttributeValue {
    AttributeValue::N(seconds.0.to_string())
}

fn to_item<T: Serialize>(record: &T) -> Result<Item> {
    serde_dynamo::to_item(record).map_err(|_| unreadable::<T>())
}

fn from_item<T: DeserializeOwned>(item: Item) -> Result<T> {
    serde_dynamo::from_item(item).map_err(|_| unreadable::<T>())
}

/// An item that is not as this version writes it. The mapper's own message is left out because it
/// may quote a value.
fn unreadable<T>() -> Error {
    Error::Internal {
        cause: format!("identity table: not a {}", std::any::type_name::<T>()),
    }
}

fn unavailable(what: &str) -> Error {
    Error::Unavailable {
        cause: format!("DynamoDB: {what}"),
    }
}
