//! The identity table. Each owner of tokens (an account, an ecosystem or a user) has a partition
//! with its record and its tokens. Each environment, each e-mail address and each list also has a
//! partition.

mod addresses;
mod data_keys;
mod deployment;
mod descendants;
mod email_tokens;
mod erasures;
mod export;
mod lists;
mod owners;
mod places;
mod scan;
mod tokens;
mod users;

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::{
    Client,
    operation::{put_item::PutItemError, query::builders::QueryFluentBuilder},
    types::{
        AttributeValue, Get, KeysAndAttributes, ReturnValuesOnConditionCheckFailure,
        TransactGetItem,
    },
};
use serde::{Deserialize, Serialize};

use self::lists::LISTED;
pub(crate) use self::{
    addresses::{AddressCopy, AddressSlot},
    data_keys::{StoredDataKey, StoredDataKeys},
    descendants::{Belongs, Descent, Link, TokenEnd},
    email_tokens::{EmailTokenEnd, EmailTokenWrite, OldItem},
    erasures::{Erasure, QUEUES, Remnant, Target, random_place},
    lists::{CODE_USER_LISTS, Entry, List},
    owners::{owner_item, user_unchanged},
    places::PlacesChange,
    scan::Stored,
    tokens::Renewal,
    users::{AddressChange, OwnPasswordWrite, PasswordChange, PasswordRecord, UserWrite},
};
pub use self::{
    email_tokens::{EMAIL_ACCOUNT, EMAIL_TOKENS_INDEX, EMAIL_TOKENS_PROJECTION, EMAIL_USER},
    owners::Inserted,
};
use crate::{
    domain::{
        email::Email,
        email_token::StoredEmailToken,
        error::{Error, Result},
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Address, Ecosystem, Environment, Owner, OwnerKey, User},
        token::{EndedToken, Places, PlainToken, Token, TokenId},
    },
    store::{
        client::{in_time, may_retry, once},
        item::{Item, from_item, to_item, to_value, unavailable, unreadable},
        transaction::Change,
    },
};

/// The name of the attribute that is the partition key. Its value is an [`OwnerKey`].
pub const PARTITION_KEY: &str = "owner";
/// The name of the sort key.
pub const SORT_KEY: &str = "item";
/// An attribute that the item of every token has until the token is disabled or revoked. The record
/// of a revoked token does not have this attribute. Earlier releases replace the item of a revoked
/// token with a mark, which stays for an hour. The mark does not have this attribute either.
const TOKEN_HASH: &str = "token_hash";
/// The attribute that contains the hash of a disabled token. Such an item has no `token_hash`, so
/// earlier releases also refuse the token.
const DISABLED_HASH: &str = "disabled_hash";
/// The sort key of an owner's record.
pub const OWNER_ITEM: &str = "owner";
/// The sort key of an environment's record.
const ENVIRONMENT_ITEM: &str = "environment";

/// The sort key of the record of an e-mail address in an account.
const ADDRESS_ITEM: &str = "account-address";
/// The sort key of the record of an e-mail address in schema version 1.
pub const OLD_ADDRESS_ITEM: &str = "address";
/// The sort key of the item that counts a user's tokens.
const PLACES_ITEM: &str = "limit";
/// The prefix of the sort keys of links. See [`Link`].
pub(crate) const LINK_PREFIX: &str = "child#";
/// The sort key of the record of a user's password.
const PASSWORD_ITEM: &str = "password";
/// The sort key of the record of a user's e-mail token.
const EMAIL_TOKEN_ITEM: &str = "email-token";
/// The sort key of the item that contains the data keys, in wrapped (encrypted) form. The data keys
/// encrypt the values of e-mail tokens. The partition key of this item is `OwnerKey::NOBODY`.
const VALUE_KEY_ITEM: &str = "value-key";
/// The sort key of the record of the deployment. The partition key of this item is
/// `OwnerKey::NOBODY`.
const DEPLOYMENT_ITEM: &str = "deployment";

/// The maximum number of keys in one `BatchGetItem`.
const BATCH: usize = 100;
/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The partition key.
    pub owner: OwnerKey,
    /// The sort key.
    pub item: String,
}

impl Key {
    /// Returns the key of an owner's record.
    pub fn owner(owner: OwnerKey) -> Self {
        Self {
            owner,
            item: OWNER_ITEM.to_owned(),
        }
    }

    /// Returns the key of an environment's record.
    pub fn environment(id: &EnvironmentId) -> Self {
        Self {
            owner: id.into(),
            item: ENVIRONMENT_ITEM.to_owned(),
        }
    }

    /// Returns the key of the record of an e-mail address in an account. Without an account,
    /// returns a key that no record has.
    pub(crate) fn address(account: Option<&AccountId>, email: &Email) -> Self {
        Self {
            owner: OwnerKey::address(account, email),
            item: ADDRESS_ITEM.to_owned(),
        }
    }

    /// Returns the key of the record of an e-mail address in schema version 1.
    pub(crate) fn old_address(email: &Email) -> Self {
        Self {
            owner: OwnerKey::old_address(email),
            item: OLD_ADDRESS_ITEM.to_owned(),
        }
    }

    /// Returns the key of the record of a user's password.
    pub fn password(user: OwnerKey) -> Self {
        Self {
            owner: user,
            item: PASSWORD_ITEM.to_owned(),
        }
    }

    /// Returns the key of the item that counts a user's tokens.
    pub(crate) fn places(user: OwnerKey) -> Self {
        Self {
            owner: user,
            item: PLACES_ITEM.to_owned(),
        }
    }

    /// Returns the key of the record of a user's e-mail token.
    pub fn email_token(user: OwnerKey) -> Self {
        Self {
            owner: user,
            item: EMAIL_TOKEN_ITEM.to_owned(),
        }
    }

    /// Returns the key of the item with the wrapped data keys.
    fn value_key() -> Self {
        Self {
            owner: OwnerKey::NOBODY,
            item: VALUE_KEY_ITEM.to_owned(),
        }
    }

    /// Returns the key of the record of the deployment.
    pub fn deployment() -> Self {
        Self {
            owner: OwnerKey::NOBODY,
            item: DEPLOYMENT_ITEM.to_owned(),
        }
    }

    /// Returns the key of the record of an owner's token.
    pub fn token(owner: OwnerKey, id: TokenId) -> Self {
        Self {
            owner,
            item: id.item(),
        }
    }

    /// Returns the key of a token's record. The text of the token contains this key.
    pub fn of(token: &PlainToken) -> Self {
        Self::token(token.owner(), token.id())
    }

    /// Returns the token whose record has this key, or `None` if this is the key of another item.
    pub(crate) fn token_id(&self) -> Option<TokenId> {
        let id = self.item.strip_prefix(TokenId::ITEM_PREFIX)?;
        TokenId::parse(id).ok()
    }

    pub(crate) fn to_item(&self) -> Result<Item> {
        to_item(self)
    }
}

/// The items that a read found.
#[derive(Default)]
pub(crate) struct Items {
    owners: HashMap<OwnerKey, Owner>,
    tokens: HashMap<(OwnerKey, TokenId), Token>,
    disabled_tokens: HashMap<(OwnerKey, TokenId), Token>,
    ended_tokens: HashMap<(OwnerKey, TokenId), EndedToken>,
    environments: HashMap<EnvironmentId, Environment>,
    addresses: HashMap<OwnerKey, Address>,
    email_tokens: HashMap<OwnerKey, StoredEmailToken>,
    places: HashMap<OwnerKey, Places>,
    entries: HashMap<Key, Entry>,
}

impl Items {
    /// Returns the owner with this partition key.
    pub(crate) fn owner(&self, key: OwnerKey) -> Option<&Owner> {
        self.owners.get(&key)
    }

    /// Returns an ecosystem. Returns `None` if the read found no ecosystem, or if it found an owner
    /// with a different id whose partition key is the same (hash collision).
    pub(crate) fn ecosystem(&self, id: &EcosystemId) -> Option<&Ecosystem> {
        match self.owner(id.into()) {
            Some(Owner::Ecosystem(ecosystem)) if ecosystem.id == *id => Some(ecosystem),
            _ => None,
        }
    }

    /// Returns a user. Returns `None` if the read found no user, or if it found an owner with a
    /// different id whose partition key is the same (hash collision).
    pub(crate) fn user(&self, id: &UserId) -> Option<&User> {
        match self.owner(id.into()) {
            Some(Owner::User(user)) if user.id == *id => Some(user),
            _ => None,
        }
    }

    /// Returns a token of an owner, if the token is not disabled.
    pub(crate) fn token(&self, owner: OwnerKey, id: TokenId) -> Option<&Token> {
        self.tokens.get(&(owner, id))
    }

    /// Returns a disabled token of an owner.
    pub(crate) fn disabled_token(&self, owner: OwnerKey, id: TokenId) -> Option<&Token> {
        self.disabled_tokens.get(&(owner, id))
    }

    /// Returns the record of an owner's token that was revoked.
    pub(crate) fn ended_token(&self, owner: OwnerKey, id: TokenId) -> Option<&EndedToken> {
        self.ended_tokens.get(&(owner, id))
    }

    /// Returns an environment.
    pub(crate) fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.environments.get(id)
    }

    /// Returns the address record that has this key.
    pub(crate) fn address(&self, key: &Key) -> Option<&Address> {
        self.addresses.get(&key.owner)
    }

    /// Returns the stored item of a user's e-mail token.
    pub(crate) fn email_token(&self, user: OwnerKey) -> Option<&StoredEmailToken> {
        self.email_tokens.get(&user)
    }

    /// Returns the item that counts a user's tokens.
    pub(crate) fn places(&self, user: OwnerKey) -> Option<&Places> {
        self.places.get(&user)
    }

    /// Returns the entry of a list that has this key.
    fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Adds an item. The sort key determines the type of the record.
    fn add(&mut self, item: Item) -> Result<()> {
        // The sort key of an entry can be the name of a user, so it can also be any other sort key.
        if item.contains_key(LISTED) {
            let entry: Entry = from_item(item)?;
            self.entries.insert(entry.key().clone(), entry);
            return Ok(());
        }
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
            ADDRESS_ITEM | OLD_ADDRESS_ITEM => {
                let key = partition(&item)?;
                self.addresses.insert(key, from_item(item)?);
            }
            EMAIL_TOKEN_ITEM => {
                let key = partition(&item)?;
                self.email_tokens.insert(key, from_item(item)?);
            }
            PLACES_ITEM => {
                let key = partition(&item)?;
                self.places.insert(key, from_item(item)?);
            }
            _ => match stored_token(item)? {
                StoredToken::Token(token) => {
                    self.tokens.insert((token.owner, token.id), *token);
                }
                StoredToken::Disabled(token) => {
                    self.disabled_tokens.insert((token.owner, token.id), *token);
                }
                StoredToken::Ended(token) => {
                    self.ended_tokens.insert((token.owner, token.id), *token);
                }
            },
        }
        Ok(())
    }
}

/// The identity table and its operations.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl Identity {
    /// Returns the table with this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Reads these items with strong consistency. Sends one `BatchGetItem` for each 100 keys.
    ///
    /// # Errors
    /// The database is unavailable, or keys are still unprocessed after all retries. An item with
    /// an unprocessed key may exist, so it must not be treated as missing.
    pub(crate) async fn read(&self, keys: &BTreeSet<Key>) -> Result<Items> {
        let mut keys = keys.iter().map(Key::to_item).collect::<Result<Vec<_>>>()?;
        let mut found = Items::default();
        while !keys.is_empty() {
            let batch = keys.drain(..keys.len().min(BATCH)).collect();
            // The SDK's future has a size of 6 KB. Without the box, every future that awaits this
            // function would contain these 6 KB.
            Box::pin(in_time(self.read_batch(batch, &mut found))).await?;
        }
        Ok(found)
    }

    /// Reads up to 100 items. Only this loop retries unprocessed keys and errors. If the SDK also
    /// retried the errors, one read could send nine requests.
    async fn read_batch(&self, mut missing: Vec<Item>, found: &mut Items) -> Result<()> {
        let mut retry = 0;
        loop {
            match self.read_once(&mut missing, found).await {
                Err(Error::Unavailable { .. }) if may_retry(retry).await => retry += 1,
                result => return result,
            }
        }
    }

    /// Reads the items with the keys in `missing`. Afterwards, `missing` contains only the keys
    /// that DynamoDB did not process.
    ///
    /// # Errors
    /// The database is unavailable, or did not process all keys.
    async fn read_once(&self, missing: &mut Vec<Item>, found: &mut Items) -> Result<()> {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(missing.clone()))
            .consistent_read(true)
            .build()
            .map_err(|_| unreadable::<KeysAndAttributes>())?;
        let call = self.client.batch_get_item();
        let call = call.request_items(&self.table, wanted).customize();
        let output = call.config_override(once()).send().await?;
        let unprocessed = output.unprocessed_keys.into_iter().flatten();
        let unprocessed: Vec<_> = unprocessed.flat_map(|(_, left)| left.keys).collect();
        if output.responses.is_none() && unprocessed.is_empty() {
            // A valid response contains a list of items, which may be empty.
            return Err(unavailable("the response contains no items"));
        }
        for (_, items) in output.responses.into_iter().flatten() {
            for item in items {
                found.add(item)?;
            }
        }
        *missing = unprocessed;
        if missing.is_empty() {
            return Ok(());
        }
        Err(unavailable("DynamoDB left keys unprocessed"))
    }

    /// Reads these items with one transaction: at most 100 items. So the result contains all writes
    /// of another transaction, or none of them. If an earlier read has returned one write of a
    /// transaction, the result contains all its writes, or later ones: while a transaction is being
    /// applied to these items, DynamoDB rejects this read.
    pub(crate) async fn snapshot(&self, keys: &BTreeSet<Key>) -> Result<Items> {
        let gets = keys.iter().map(|key| {
            let get = Get::builder().table_name(&self.table);
            let get = get.set_key(Some(key.to_item()?)).build();
            let get = get.map_err(|_| unreadable::<Get>())?;
            Ok(TransactGetItem::builder().get(get).build())
        });
        let call = self.client.transact_get_items();
        let gets = gets.collect::<Result<_>>()?;
        let output = call.set_transact_items(Some(gets)).send().await?;
        let responses = output.responses.unwrap_or_default();
        if responses.len() != keys.len() {
            return Err(unavailable("the response does not contain all items"));
        }
        let mut found = Items::default();
        for item in responses.into_iter().filter_map(|response| response.item) {
            if !item.is_empty() {
                found.add(item)?;
            }
        }
        Ok(found)
    }

    /// Reads one item with strong consistency.
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        let call = self.client.get_item().table_name(&self.table);
        let call = call.set_key(Some(key.to_item()?)).consistent_read(true);
        Ok(call.send().await?.item)
    }

    /// Returns a strongly consistent query for the items of an owner whose sort keys have this
    /// prefix.
    fn query(&self, owner: OwnerKey, prefix: impl Into<String>) -> Result<QueryFluentBuilder> {
        Ok(self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#owner = :owner AND begins_with(#item, :prefix)")
            .expression_attribute_names("#owner", PARTITION_KEY)
            .expression_attribute_names("#item", SORT_KEY)
            .expression_attribute_values(":owner", to_value(&owner)?)
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.into()))
            .consistent_read(true))
    }

    /// Returns a strongly consistent query for all items of a partition.
    fn query_all(&self, owner: OwnerKey) -> Result<QueryFluentBuilder> {
        let query = self.client.query().table_name(&self.table);
        Ok(query
            .key_condition_expression("#owner = :owner")
            .expression_attribute_names("#owner", PARTITION_KEY)
            .expression_attribute_values(":owner", to_value(&owner)?)
            .consistent_read(true))
    }

    /// Sends prepared writes and returns their result.
    pub(crate) async fn commit<R>(&self, change: Change<R>) -> Result<R> {
        change.commit(&self.client).await
    }

    /// Stores an item if no stored item has the same key. Otherwise returns the stored item.
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

/// A token's item.
pub(crate) enum StoredToken {
    /// The token was not revoked and is not disabled. It may have expired.
    Token(Box<Token>),
    /// The token is disabled. It is invalid until it is enabled again.
    Disabled(Box<Token>),
    /// The token was revoked.
    Ended(Box<EndedToken>),
}

/// Parses a token's item.
fn stored_token(item: Item) -> Result<StoredToken> {
    if item.contains_key(TOKEN_HASH) {
        from_item(item).map(|token| StoredToken::Token(Box::new(token)))
    } else if item.contains_key(DISABLED_HASH) {
        from_item(item).map(|token| StoredToken::Disabled(Box::new(token)))
    } else {
        from_item(item).map(|token| StoredToken::Ended(Box::new(token)))
    }
}

/// Parses the items of tokens, and leaves out the tokens that were revoked.
fn not_ended(items: Vec<Item>) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for item in items {
        match stored_token(item)? {
            StoredToken::Token(token) | StoredToken::Disabled(token) => tokens.push(*token),
            StoredToken::Ended(_) => {}
        }
    }
    Ok(tokens)
}

/// Returns whether a token's item says that the token is invalid, because it is disabled or was
/// revoked.
fn is_invalid(item: &Item) -> bool {
    !item.contains_key(TOKEN_HASH)
}

/// Returns the partition key of an item.
fn partition(item: &Item) -> Result<OwnerKey> {
    let owner = item.get(PARTITION_KEY).cloned();
    let owner = owner.ok_or_else(unreadable::<OwnerKey>)?;
    serde_dynamo::from_attribute_value(owner).map_err(|_| unreadable::<OwnerKey>())
}
