//! The operations for tokens.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{
        query::builders::QueryFluentBuilder,
        update_item::{UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder},
    },
    primitives::Blob,
    types::{
        AttributeValue, DeleteRequest, ReturnConsumedCapacity, ReturnValue,
        ReturnValuesOnConditionCheckFailure, TransactWriteItem, WriteRequest,
    },
};
use futures_util::future::try_join_all;
use serde::Deserialize;

use super::{
    DISABLED_HASH, Identity, Key, LINK_PREFIX, SORT_KEY, StoredToken, TOKEN_HASH,
    descendants::token_written, is_invalid, not_ended, stored_token,
};
use crate::{
    domain::{
        error::{Error, Result},
        owner::{Epoch, Owner, OwnerKey},
        time::UnixSeconds,
        token::{Expiry, PlainToken, Token, TokenHash, TokenId},
    },
    store::{
        item::{
            Item, WriteResult, from_item, number, present, to_item, to_value, unavailable,
            unless_refused,
        },
        transaction::{Change, put, update},
    },
};

impl Identity {
    /// Stores a new token with one conditional `PutItem`. If the SDK retries the `PutItem`, it may
    /// find that the first attempt has stored the token. This counts as a success.
    ///
    /// # Errors
    /// The database is unavailable, or another token of the owner has the same id. (Then both
    /// tokens were created in the same millisecond with the same 80 random bits.)
    pub async fn insert_token(&self, token: &Token) -> Result<()> {
        match self.insert(to_item(token)?).await? {
            None => Ok(()),
            Some(old) if hash_of(old.clone())?.as_ref() == Some(&token.token_hash) => Ok(()),
            Some(_) => Err(Error::Internal {
                cause: "the id of a new token is already in use".to_owned(),
            }),
        }
    }

    /// Adds a new token to the transaction of another change.
    pub(crate) fn with_token<R>(&self, token: &Token, other: Change<R>) -> Result<Change<R>> {
        Ok(other.and(self.new_token(token)?))
    }

    /// Prepares to store a new token in a transaction.
    pub(super) fn new_token(&self, token: &Token) -> Result<TransactWriteItem> {
        let item = to_item(token)?;
        let condition = "attribute_not_exists(token_hash) AND attribute_not_exists(disabled_hash) \
             AND attribute_not_exists(ended_at)";
        put(&self.table, item, condition, &[])
    }

    /// Prepares the write that turns the token `old` into `new`: its label, its metadata, its
    /// scope, and whether it is disabled. The condition is that no other write has changed the
    /// token, except a renewal or a use. The conflict contains the stored token.
    pub(crate) fn token_update(
        &self,
        old: &Token,
        new: &Token,
    ) -> Result<Change<WriteResult<StoredToken>>> {
        let hash = |token: &Token| {
            if token.is_disabled {
                DISABLED_HASH
            } else {
                TOKEN_HASH
            }
        };
        let (from, to) = (hash(old), hash(new));
        let mut values = vec![
            (":scope", to_value(&new.scope)?),
            (":old", to_value(&old.revision)?),
            (":new", to_value(&new.revision)?),
        ];
        let mut set = "SET #scope = :scope, revision = :new".to_owned();
        let mut remove = Vec::new();
        match &new.name {
            Some(name) => {
                set.push_str(", #name = :name");
                values.push((":name", to_value(name)?));
            }
            None => remove.push("#name"),
        }
        match &new.metadata {
            Some(metadata) => {
                set.push_str(", metadata = :metadata");
                values.push((":metadata", to_value(metadata)?));
            }
            None => remove.push("metadata"),
        }
        if from != to {
            set = format!("{set}, {to} = {from}");
            remove.push(from);
        }
        if !remove.is_empty() {
            set = format!("{set} REMOVE {}", remove.join(", "));
        }
        let revision = if old.revision == 0 {
            values.retain(|(name, _)| *name != ":old");
            "attribute_not_exists(revision)"
        } else {
            "revision = :old"
        };
        let condition = format!("attribute_exists({from}) AND {revision}");
        let names = [("#scope", "scope"), ("#name", "name")];
        let key = Key::token(old.owner, old.id).to_item()?;
        let update = update(&self.table, key, &set, &condition, &names, &values)?;
        Ok(Change::alone(update, token_written))
    }

    /// Prepares the write that moves a token into another epoch of its owner. The token then has no
    /// maker and no descendants, because all other tokens of the owner end. The conditions: the
    /// token has not been revoked or disabled, and no other write has changed it, except a renewal
    /// or a use. These two change other attributes, so they overwrite nothing of this write.
    pub(super) fn token_move(&self, token: &Token, epoch: Epoch) -> Result<TransactWriteItem> {
        let set = "SET epoch = :to, previous_epoch = :from, revision = :new \
             REMOVE lineage, #family, descendants";
        let condition = format!("attribute_exists({TOKEN_HASH}) AND epoch = :from");
        let mut values = vec![
            (":from", to_value(&token.epoch)?),
            (":to", to_value(&epoch)?),
            (":new", to_value(&(token.revision + 1))?),
        ];
        let revision = if token.revision == 0 {
            "attribute_not_exists(revision)"
        } else {
            values.push((":old", to_value(&token.revision)?));
            "revision = :old"
        };
        let condition = format!("{condition} AND {revision}");
        let key = Key::token(token.owner, token.id).to_item()?;
        // `family` is a reserved word of DynamoDB.
        let names = [("#family", "family")];
        update(&self.table, key, set, &condition, &names, &values)
    }

    /// Renews a sliding token. If the token was already renewed in this second, it is not written
    /// again.
    ///
    /// The renewal is one `UpdateItem`. Its condition is false if the token is not stored, is
    /// expired, has a fixed end (`valid_until`), or was already renewed in this second. If the
    /// token is expired because it was not used for its `ttl`, a second `UpdateItem` makes the
    /// expiry permanent (`end_idle`).
    pub(crate) async fn renew(&self, token: &PlainToken, now: UnixSeconds) -> Result<Renewal> {
        let renewed = self
            .update(&Key::of(token), &token.hashed(), now)?
            .update_expression("SET expires_at = :now + #ttl, last_used_at = :now")
            .condition_expression(
                "token_hash = :hash AND expires_at > :now AND attribute_not_exists(valid_until) \
                 AND (attribute_not_exists(last_used_at) OR last_used_at < :now) \
                 AND (attribute_not_exists(max_expires_at) OR max_expires_at > :now)",
            )
            .expression_attribute_names("#ttl", "ttl")
            .send()
            .await;
        let old = match updated(renewed)? {
            Updated::To(expires_at) => return Ok(Renewal::of(Some(expires_at))),
            Updated::Refused(Some(old)) if old.token_hash == token.hashed() => old,
            Updated::Refused(_) => return Ok(Renewal::of(None)),
        };
        match old.expiry {
            _ if old.is_renewed_at(now) => Ok(Renewal::elsewhere(&old.expiry)),
            // The end of the token is fixed (`valid_until`).
            expiry if expiry.is_valid_at(now) => Ok(Renewal::of(expiry.expires_at())),
            Expiry::SlidingTtl {
                max_expires_at: Some(max),
                ..
            } if max <= now => Ok(Renewal::of(None)),
            _ => {
                let (owner, id, hash) = (token.owner(), token.id(), token.hashed());
                let until = self.end_idle(owner, id, &hash, now).await?;
                Ok(Renewal::of(until))
            }
        }
    }

    /// Makes the expiry of a sliding token permanent. We do this before we tell a caller that the
    /// token is expired. Without this write, the token could become valid again: a renewal can be
    /// sent before the token expires, and reach the database later.
    ///
    /// If another request has renewed the token in the meantime, returns the time when the token
    /// expires. Otherwise returns `None`.
    pub(crate) async fn end_idle(
        &self,
        owner: OwnerKey,
        id: TokenId,
        hash: &TokenHash,
        now: UnixSeconds,
    ) -> Result<Option<UnixSeconds>> {
        let ended = self
            .update(&Key::token(owner, id), hash, now)?
            .update_expression("SET max_expires_at = :ended")
            .condition_expression("token_hash = :hash AND expires_at <= :now")
            .expression_attribute_values(":ended", number(Expiry::ENDED))
            .send()
            .await;
        Ok(match updated(ended)? {
            Updated::Refused(Some(old)) if old.token_hash == *hash => {
                old.expiry.expires_at().filter(|end| now < *end)
            }
            Updated::Refused(_) | Updated::To(_) => None,
        })
    }

    /// Stores that a token was used, with one conditional `UpdateItem`. `record` is the token's
    /// record, which was just read. The condition is false if the token is not stored, was revoked
    /// or disabled in the meantime, or if another use was stored in the meantime. Then this
    /// function writes nothing.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn store_use(
        &self,
        token: &PlainToken,
        record: &Token,
        now: UnixSeconds,
    ) -> Result<()> {
        let update = self
            .update(&Key::of(token), &token.hashed(), now)?
            .update_expression("SET last_used_at = :now");
        let update = match record.last_used_at {
            None => update
                .condition_expression("token_hash = :hash AND attribute_not_exists(last_used_at)"),
            Some(last) => update
                .condition_expression("token_hash = :hash AND last_used_at = :last")
                .expression_attribute_values(":last", number(last)),
        };
        unless_refused(
            update.send().await,
            UpdateItemError::is_conditional_check_failed_exception,
        )
    }

    /// Returns an update of a token's item. The expressions of the update can use two values:
    /// `:hash` is the token's hash, and `:now` is the current time.
    fn update(
        &self,
        key: &Key,
        hash: &TokenHash,
        now: UnixSeconds,
    ) -> Result<UpdateItemFluentBuilder> {
        let hash = AttributeValue::B(Blob::new(hash.as_bytes().as_slice()));
        Ok(self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key.to_item()?))
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":hash", hash)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld))
    }

    /// Reads a page of an owner's tokens with one strongly consistent `Query`: up to `limit`
    /// records, newest first. The page starts after the token `after`. The page does not contain
    /// the tokens that were revoked.
    pub(crate) async fn tokens(
        &self,
        owner: OwnerKey,
        after: Option<TokenId>,
        limit: u32,
    ) -> Result<TokenPage> {
        let output = self
            .query_tokens_after(owner, after)?
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        let capacity = output.consumed_capacity.and_then(|of| of.capacity_units);
        let items = present(output.items)?;
        let looked_at = items.len();
        let tokens = not_ended(items)?;
        Ok(TokenPage {
            tokens,
            looked_at,
            capacity: capacity.unwrap_or_default(),
            last: last(output.last_evaluated_key)?,
        })
    }

    /// Deletes the records of an owner's tokens whose epoch differs from the owner's epoch. These
    /// tokens are already invalid. Sends as many requests as needed, but stops if DynamoDB leaves
    /// deletions unprocessed. Returns `true` if it deleted all of them and the owner has no links.
    pub(crate) async fn sweep_tokens(&self, owner: OwnerKey) -> Result<bool> {
        #[derive(Deserialize)]
        struct Ended {
            #[serde(flatten)]
            key: Key,
            epoch: Option<Epoch>,
            previous_epoch: Option<Epoch>,
        }
        let mut start = None;
        loop {
            let output = self
                .query_all(owner)?
                .scan_index_forward(false)
                .projection_expression("#owner, #item, epoch, previous_epoch")
                .expression_attribute_names("#item", SORT_KEY)
                .limit(SWEEP_PAGE)
                .set_exclusive_start_key(start)
                .send()
                .await?;
            let items = output.items.unwrap_or_default();
            let found: Vec<Ended> = items.into_iter().map(from_item).collect::<Result<_>>()?;
            // We must read the owner's epoch after the tokens. If we read the epoch first, another
            // request could then write a new epoch and store a token with the new epoch. The sweep
            // would delete this valid token. In our order, this cannot happen, because an epoch
            // that was replaced is never used again. A token that was moved into another epoch
            // meanwhile is not deleted either ([`State::may_have_token`]).
            let present = self.owner_after(owner).await?;
            let present = present.as_ref().map(Owner::state);
            // An item without an epoch is the record of a token that was revoked individually. It
            // must not be deleted.
            let ended = found.iter().filter(|item| {
                let token = item.key.token_id().zip(item.epoch);
                token.is_some_and(|(id, epoch)| {
                    present
                        .is_none_or(|state| !state.may_have_token(id, epoch, item.previous_epoch))
                })
            });
            let ended: Vec<_> = ended.map(|token| &token.key).collect();
            let deletions = ended.chunks(DELETE_BATCH).map(|keys| self.delete_all(keys));
            let all_done = try_join_all(deletions).await?.into_iter().all(|done| done);
            // In this order, the links come after all tokens.
            let is_link = |item: &Ended| item.key.item.starts_with(LINK_PREFIX);
            let all_done = all_done && !found.iter().any(is_link);
            start = output.last_evaluated_key;
            if start.is_none() || !all_done {
                return Ok(all_done);
            }
            // A request to the embedded database never yields to the runtime. So without this line,
            // a timeout could not stop the loop.
            tokio::task::yield_now().await;
        }
    }

    /// Deletes these items. Returns `false` if DynamoDB left a deletion unprocessed.
    pub(super) async fn delete_all(&self, keys: &[&Key]) -> Result<bool> {
        let deletions = keys.iter().map(|key| {
            let delete = DeleteRequest::builder().set_key(Some(key.to_item()?));
            let delete = delete
                .build()
                .map_err(|_| unavailable("the request for a deletion cannot be built"))?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        });
        let call = self.client.batch_write_item();
        let output = call
            .request_items(&self.table, deletions.collect::<Result<_>>()?)
            .send()
            .await?;
        Ok(output.unprocessed_items.is_none_or(|left| left.is_empty()))
    }

    /// Returns a strongly consistent query for an owner's tokens, newest first. The result starts
    /// after the token `after`.
    pub(super) fn query_tokens_after(
        &self,
        owner: OwnerKey,
        after: Option<TokenId>,
    ) -> Result<QueryFluentBuilder> {
        let start = after.map(|id| Key::token(owner, id).to_item());
        let query = self.query_tokens(owner)?;
        Ok(query.set_exclusive_start_key(start.transpose()?))
    }

    /// Returns a strongly consistent query for an owner's tokens, newest first.
    fn query_tokens(&self, owner: OwnerKey) -> Result<QueryFluentBuilder> {
        let query = self.query(owner, TokenId::ITEM_PREFIX)?;
        Ok(query.scan_index_forward(false))
    }
}

/// Returns the id of the last token that a query read, or `None` at the end of the list.
pub(super) fn last(key: Option<Item>) -> Result<Option<TokenId>> {
    #[derive(Deserialize)]
    struct Last {
        #[serde(rename = "item")]
        id: TokenId,
    }
    let last = key.map(from_item::<Last>).transpose()?;
    Ok(last.map(|last| last.id))
}

/// A page of an owner's tokens.
pub(crate) struct TokenPage {
    pub(crate) tokens: Vec<Token>,
    /// The number of records that were read.
    pub(crate) looked_at: usize,
    /// The capacity units that the query used.
    pub(crate) capacity: f64,
    /// The token after which the next page starts, or `None` if there is no next page.
    pub(crate) last: Option<TokenId>,
}

/// Returns the hash of the token that an item belongs to, even if the token was revoked.
fn hash_of(item: Item) -> Result<Option<TokenHash>> {
    Ok(match stored_token(item)? {
        StoredToken::Token(token) | StoredToken::Disabled(token) => Some(token.token_hash),
        StoredToken::Ended(token) => token.ended_hash,
    })
}

/// How many tokens one query of a sweep reads.
const SWEEP_PAGE: i32 = 100;
/// How many items one `BatchWriteItem` deletes: DynamoDB's maximum.
pub(super) const DELETE_BATCH: usize = 25;

/// The result of a renewal.
#[derive(Clone, Copy)]
pub(crate) struct Renewal {
    /// The token's `expires_at` after the renewal, or `None` if the token is expired or revoked.
    pub(crate) until: Option<UnixSeconds>,
    /// Whether another execution environment had already renewed the token in this second.
    pub(crate) elsewhere: bool,
}

impl Renewal {
    const fn of(until: Option<UnixSeconds>) -> Self {
        Self {
            until,
            elsewhere: false,
        }
    }

    /// Returns the result for a token that another execution environment has renewed in this
    /// second.
    pub(crate) fn elsewhere(renewed: &Expiry) -> Self {
        Self {
            until: renewed.expires_at(),
            elsewhere: true,
        }
    }
}

/// The result of an update of a token's item.
enum Updated {
    /// The update succeeded. Contains the item's `expires_at` after the update.
    To(UnixSeconds),
    /// The condition was false. Contains the stored token, or `None` if the token does not exist or
    /// is revoked.
    Refused(Option<Box<Token>>),
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
                .ok_or_else(|| unavailable("the response contains no attributes"))
        }
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                let old = refusal.item.clone().filter(|item| !is_invalid(item));
                let old = old.map(from_item).transpose()?;
                Ok(Updated::Refused(old.map(Box::new)))
            }
            _ => Err(error.into()),
        },
    }
}
