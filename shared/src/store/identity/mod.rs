//! The identity table: owners and their tokens, one partition for each owner.

mod email_tokens;
mod owners;
mod tokens;
mod users;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{KeysAndAttributes, ReturnValuesOnConditionCheckFailure},
};
use serde::{Deserialize, Serialize};

pub use self::{
    email_tokens::{EMAIL_ACCOUNT, EMAIL_TOKENS_INDEX, EMAIL_TOKENS_PROJECTION, EMAIL_USER},
    owners::Inserted,
};
pub(crate) use self::{
    email_tokens::{EmailTokenWrite, LogInItems},
    owners::{owner_item, unchanged},
    users::{AddressChange, PasswordChange, UserWrite},
};
use crate::{
    domain::{
        email::Email,
        email_token::Kept,
        error::Result,
        id::{EcosystemId, EnvironmentId, UserId},
        owner::{Address, Ecosystem, Environment, Owner, OwnerKey, User},
        token::{PlainToken, Token, TokenId},
    },
    store::{
        item::{Item, from_item, to_item, unavailable, unreadable},
        transaction::Change,
    },
};

/// The name of the partition key: the owner key.
pub const PARTITION_KEY: &str = "owner";
/// The name of the sort key.
pub const SORT_KEY: &str = "item";
/// What every token's item has, but that of one that was revoked.
const TOKEN_HASH: &str = "token_hash";
/// The sort key of an owner's own record.
pub const OWNER_ITEM: &str = "owner";
/// The sort key of an environment's record.
const ENVIRONMENT_ITEM: &str = "environment";

/// The sort key of what is kept under an e-mail address.
const ADDRESS_ITEM: &str = "address";
/// The sort key of a user's password.
const PASSWORD_ITEM: &str = "password";
/// The sort key of the one that names a user's e-mail token.
const EMAIL_TOKEN_ITEM: &str = "email-token";
/// The sort key of the wrapped data key, in a partition that no owner has.
const VALUE_KEY_ITEM: &str = "value-key";

/// How many keys one `BatchGetItem` takes.
const BATCH: usize = 100;
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

    /// What is kept under an e-mail address.
    pub fn address(email: &Email) -> Self {
        Self {
            owner: email.into(),
            item: ADDRESS_ITEM.to_owned(),
        }
    }

    /// A user's password.
    pub fn password(user: OwnerKey) -> Self {
        Self {
            owner: user,
            item: PASSWORD_ITEM.to_owned(),
        }
    }

    /// Which token is a user's e-mail token.
    pub fn email_token(user: OwnerKey) -> Self {
        Self {
            owner: user,
            item: EMAIL_TOKEN_ITEM.to_owned(),
        }
    }

    /// The wrapped data key of values.
    fn value_key() -> Self {
        Self {
            owner: OwnerKey::NOBODY,
            item: VALUE_KEY_ITEM.to_owned(),
        }
    }

    /// The record of a token of an owner.
    pub fn token(owner: OwnerKey, id: TokenId) -> Self {
        Self {
            owner,
            item: id.item(),
        }
    }

    /// The record that a token says it has.
    pub fn of(token: &PlainToken) -> Self {
        Self::token(token.owner(), token.id())
    }

    pub(crate) fn to_item(&self) -> Result<Item> {
        to_item(self)
    }
}

/// What one read found.
#[derive(Default)]
pub(crate) struct Items {
    owners: HashMap<OwnerKey, Owner>,
    tokens: HashMap<(OwnerKey, TokenId), Token>,
    environments: HashMap<EnvironmentId, Environment>,
    addresses: HashMap<OwnerKey, Address>,
    email_tokens: HashMap<OwnerKey, Kept>,
}

impl Items {
    /// The owner whose partition this is.
    pub(crate) fn owner(&self, key: OwnerKey) -> Option<&Owner> {
        self.owners.get(&key)
    }

    /// An ecosystem; `None` as well if its key belongs to another id (a hash collision).
    pub(crate) fn ecosystem(&self, id: &EcosystemId) -> Option<&Ecosystem> {
        match self.owner(id.into()) {
            Some(Owner::Ecosystem(ecosystem)) if ecosystem.id == *id => Some(ecosystem),
            _ => None,
        }
    }

    /// A user; `None` as well if its key belongs to another id (a hash collision).
    pub(crate) fn user(&self, id: &UserId) -> Option<&User> {
        match self.owner(id.into()) {
            Some(Owner::User(user)) if user.id == *id => Some(user),
            _ => None,
        }
    }

    /// A token of an owner.
    pub(crate) fn token(&self, owner: OwnerKey, id: TokenId) -> Option<&Token> {
        self.tokens.get(&(owner, id))
    }

    /// An environment.
    pub(crate) fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.environments.get(id)
    }

    /// What is kept under an e-mail address.
    pub(crate) fn address(&self, email: &Email) -> Option<&Address> {
        self.addresses.get(&email.into())
    }

    /// What is kept of a user's e-mail token.
    pub(crate) fn email_token(&self, user: OwnerKey) -> Option<&Kept> {
        self.email_tokens.get(&user)
    }

    /// Adds an item, which its sort key tells the kind of.
    fn add(&mut self, item: Item) -> Result<()> {
        let sort_key = item.get(SORT_KEY).and_then(|key| key.as_s().ok());
        match sort_key.map_or("", String::as_str) {
            OWNER_ITEM => {
                let owner: Owner = from_item(item)?;
                self.owners.insert(owner.key(), owner);
            }
            ENVIRONMENT_ITEM => {
                let environment: Environment = from_item(item)?;
                self.environments
                    .insert(environment.id.clone(), environment);
            }
            ADDRESS_ITEM => {
                let key = partition(&item)?;
                self.addresses.insert(key, from_item(item)?);
            }
            EMAIL_TOKEN_ITEM => {
                let key = partition(&item)?;
                self.email_tokens.insert(key, from_item(item)?);
            }
            _ if is_revoked(&item) => {}
            _ => {
                let token: Token = from_item(item)?;
                self.tokens.insert((token.owner, token.id), token);
            }
        }
        Ok(())
    }
}

/// The identity table, and the calls that are made of it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl Identity {
    /// The table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Reads these items, strongly consistent, in one `BatchGetItem` for each 100.
    ///
    /// # Errors
    /// The database is away, or leaves keys unprocessed however often it is asked: such a key is
    /// not an absent item.
    pub(crate) async fn read(&self, keys: &BTreeSet<Key>) -> Result<Items> {
        let mut keys = keys.iter().map(Key::to_item).collect::<Result<Vec<_>>>()?;
        let mut found = Items::default();
        while !keys.is_empty() {
            let batch = keys.drain(..keys.len().min(BATCH)).collect();
            // The SDK's future has 6 KB, which everybody who waits for this one would move about.
            Box::pin(self.read_batch(batch, &mut found)).await?;
        }
        Ok(found)
    }

    async fn read_batch(&self, mut missing: Vec<Item>, found: &mut Items) -> Result<()> {
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
                    found.add(item)?;
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
        }
        Err(unavailable("keys stay unprocessed"))
    }

    /// Reads one item, strongly consistent.
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        let call = self.client.get_item().table_name(&self.table);
        let call = call.set_key(Some(key.to_item()?)).consistent_read(true);
        Ok(call.send().await?.item)
    }

    /// Asks for an item that does not exist, so that the connection is open before the first
    /// request comes: during init Lambda gives a whole CPU, afterwards a share.
    ///
    /// # Errors
    /// The database is away.
    pub async fn warm_up(&self) -> Result<()> {
        let nobody = Key::owner(OwnerKey::NOBODY);
        let call = self.client.get_item().table_name(&self.table);
        call.set_key(Some(nobody.to_item()?)).send().await?;
        Ok(())
    }

    /// Sends what changes tokens.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn commit<R>(&self, change: Change<R>) -> Result<R> {
        change.commit(&self.client).await
    }

    /// Puts an item where none is; returns the one that is there otherwise.
    pub(crate) async fn insert(&self, item: Item) -> Result<Option<Item>> {
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

/// Whether an item only says that the token under its key was revoked.
fn is_revoked(item: &Item) -> bool {
    !item.contains_key(TOKEN_HASH)
}

/// The partition that an item is in.
fn partition(item: &Item) -> Result<OwnerKey> {
    let owner = item.get(PARTITION_KEY).cloned();
    let owner = owner.ok_or_else(unreadable::<OwnerKey>)?;
    serde_dynamo::from_attribute_value(owner).map_err(|_| unreadable::<OwnerKey>())
}
