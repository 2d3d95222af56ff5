//! The operations that end tokens, and the operations for links. A link connects a token to the
//! user's own token that made it.
//!
//! A link is the item `child#FAMILY#CHILD` in the owner's partition. It says which token made the
//! child. FAMILY is the lineage of the first maker. So the links of all tokens that descend from
//! the first maker are next to each other, and one query reads them.

use aws_sdk_dynamodb::types::{DeleteRequest, PutRequest, TransactWriteItem, WriteRequest};
use serde::{Deserialize, Serialize};

use super::{
    DISABLED_HASH, Erasure, Identity, Key, LINK_PREFIX, StoredToken, TOKEN_HASH, Target,
    stored_token,
};
use crate::{
    domain::{
        error::Result,
        owner::{Epoch, OwnerKey},
        time::UnixSeconds,
        token::{Descendants, EndReason, Ending, Maker, Token, TokenId},
    },
    store::{
        item::{
            Item, TTL_ATTRIBUTE, WriteResult, from_item, number, present, to_item, to_value,
            unavailable,
        },
        transaction::{Change, Transacted, delete, put, update},
    },
};

/// How long the record of a revoked token stays, in seconds: 90 days. This is also much longer than
/// any request to DynamoDB can be delayed, so a late `PutItem` cannot store the token again.
const ENDED_SECONDS: u32 = 90 * 24 * 60 * 60;

/// The expression that is true if the token of an item is not expired at `:now`. The same
/// expression is right for all kinds of tokens: it does not check an attribute that the item does
/// not have.
const IS_NOT_EXPIRED: &str = "\
    (valid_until > :now OR (attribute_not_exists(valid_until) \
        AND (attribute_not_exists(expires_at) OR expires_at > :now))) \
    AND (attribute_not_exists(max_expires_at) OR max_expires_at > :now) \
    AND (attribute_not_exists(ends_at) OR ends_at > :now)";

/// A link from a token to the token that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The token that was made.
    pub(crate) child: TokenId,
    /// The lineage of the token that made it.
    pub(crate) maker: TokenId,
    /// Whether the child has ended. Its own children may still be valid.
    #[serde(default)]
    pub(crate) ended: bool,
}

/// What must still be true of a token when it ends. If a user changes the password with a token,
/// the token moves into another epoch, and is not related to any other token any more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Belongs {
    /// The token has this epoch.
    ToEpoch(Epoch),
    /// The token was never moved into another epoch. So it still descends from its maker.
    ToMaker,
}

impl Belongs {
    /// Returns whether this is true of a token.
    pub(crate) fn is_true_of(self, token: &Token) -> bool {
        match self {
            Self::ToEpoch(epoch) => token.epoch == epoch,
            Self::ToMaker => token.previous_epoch.is_none(),
        }
    }
}

/// A write that ends a token, with its conditions: the token is stored and has not ended, and the
/// fields describe it.
#[derive(Clone, Copy)]
pub(crate) struct TokenEnd<'a> {
    pub(crate) owner: OwnerKey,
    pub(crate) id: TokenId,
    /// Where the token was read. `None` if it may have moved since then.
    pub(crate) belongs: Option<Belongs>,
    /// Whether the token may have made other tokens. If this is false, it is a condition that the
    /// token has made none.
    pub(crate) has_descendants: bool,
    /// Whether the token is disabled.
    pub(crate) is_disabled: bool,
    pub(crate) ending: &'a Ending,
}

/// A token that a user's own token makes.
#[derive(Clone, Copy)]
pub(crate) struct Descent<'a> {
    /// The user's own token.
    pub(crate) maker: &'a Maker,
    /// Whether the maker is valid only if it has a tag.
    pub(crate) must_have_tag: bool,
    /// The id of the new token.
    pub(crate) child: TokenId,
}

impl Identity {
    /// Prepares to end a token: the token's item loses its hash, and says for 90 days when, why and
    /// by whom the token was ended. If the token has not ended, but a field of `end` does not
    /// describe it, the conflict contains a `StoredToken::Token` or a `StoredToken::Disabled`.
    ///
    /// If `has_descendants` is true, the same transaction stores an erasure, unless the token ends
    /// because its maker ends. So the eraser ends the descendants if the request has no time to do
    /// it. The erasure of the maker covers everything that descends from the maker.
    pub(crate) fn token_end(&self, end: TokenEnd<'_>) -> Result<Change<WriteResult<StoredToken>>> {
        let mut writes = self.end_and_queue(end)?;
        let end = Change::alone(writes.remove(0), token_written);
        Ok(writes.into_iter().fold(end, Change::and))
    }

    /// Prepares the writes of [`Identity::token_end`]. The first one changes the token's item. The
    /// other one has no condition.
    pub(super) fn end_and_queue(&self, end: TokenEnd<'_>) -> Result<Vec<TransactWriteItem>> {
        let mut writes = vec![self.end(end)?];
        let (owner, token) = (end.owner, end.id);
        if end.has_descendants && end.ending.reason != EndReason::MakerRevoked {
            let (target, at) = (Target::Descendants { owner, token }, end.ending.at.into());
            writes.push(self.queue(&Erasure { target, at })?);
        }
        Ok(writes)
    }

    /// Prepares the write that changes the token's item. Does not queue an erasure.
    pub(super) fn end(&self, end: TokenEnd<'_>) -> Result<TransactWriteItem> {
        let TokenEnd {
            owner,
            id,
            belongs,
            has_descendants,
            is_disabled,
            ending,
        } = end;
        let mut values = vec![
            (":at", number(ending.at)),
            (":reason", to_value(&ending.reason)?),
            (":by", to_value(&ending.by)?),
            (":delete_at", number(ending.at.plus(ENDED_SECONDS))),
            (":zero", to_value(&0)?),
            (":one", to_value(&1)?),
        ];
        let hash = if is_disabled {
            DISABLED_HASH
        } else {
            TOKEN_HASH
        };
        let (descendants, condition) = if has_descendants {
            values.push((":ending", to_value(&Descendants::Ending)?));
            (", descendants = :ending", "")
        } else {
            ("", " AND attribute_not_exists(descendants)")
        };
        let belongs = match belongs {
            Some(Belongs::ToEpoch(epoch)) => {
                values.push((":epoch", to_value(&epoch)?));
                " AND epoch = :epoch"
            }
            Some(Belongs::ToMaker) => " AND attribute_not_exists(previous_epoch)",
            None => "",
        };
        let condition = format!("attribute_exists({hash}){belongs}{condition}");
        let expression = format!(
            "SET ended_hash = {hash}, ended_at = :at, end_reason = :reason, ended_by = :by, \
             {TTL_ATTRIBUTE} = :delete_at, {NEXT_REVISION}{descendants} REMOVE {hash}, epoch"
        );
        let key = Key::token(owner, id).to_item()?;
        update(&self.table, key, &expression, &condition, &[], &values)
    }

    /// Prepares to record that all tokens that descend from an ended token have ended.
    pub(crate) fn descendants_ended(&self, owner: OwnerKey, id: TokenId) -> Result<Change<()>> {
        let values = [
            (":ending", to_value(&Descendants::Ending)?),
            (":zero", to_value(&0)?),
            (":one", to_value(&1)?),
        ];
        let expression = format!("SET {NEXT_REVISION} REMOVE descendants");
        let key = Key::token(owner, id).to_item()?;
        let condition = "descendants = :ending";
        let write = update(&self.table, key, &expression, condition, &[], &values)?;
        Ok(Change::alone(write, |_| Ok(())))
    }

    /// Prepares the writes that a transaction needs if a user's own token makes another token of
    /// the user: the maker's item says that there are descendants, and the link is stored. The
    /// condition is that the maker is valid.
    pub(crate) fn descent(
        &self,
        Descent {
            maker,
            must_have_tag,
            child,
        }: Descent<'_>,
        epoch: Epoch,
        now: UnixSeconds,
    ) -> Result<[TransactWriteItem; 2]> {
        let tag = if must_have_tag {
            " AND attribute_exists(tag_key)"
        } else {
            ""
        };
        let values = [
            (":some", to_value(&Descendants::Exist)?),
            (":zero", to_value(&0)?),
            (":one", to_value(&1)?),
            (":epoch", to_value(&epoch)?),
            (":now", number(now)),
        ];
        let mark = update(
            &self.table,
            Key::token(maker.owner, maker.token).to_item()?,
            &format!("SET descendants = :some, {NEXT_REVISION}"),
            &format!("attribute_exists(token_hash) AND epoch = :epoch AND {IS_NOT_EXPIRED}{tag}"),
            &[],
            &values,
        )?;
        let link = Link {
            child,
            maker: maker.ancestry.lineage(maker.token),
            ended: false,
        };
        let family = maker.ancestry.family(maker.token);
        let link = link_item(maker.owner, family, &link)?;
        Ok([mark, put(&self.table, link, None, &[])?])
    }

    /// Prepares to delete the link to a token.
    pub(super) fn delete_link(
        &self,
        owner: OwnerKey,
        family: TokenId,
        child: TokenId,
    ) -> Result<TransactWriteItem> {
        let key = link_key(owner, family, child).to_item()?;
        delete(&self.table, key, None, &[])
    }

    /// Reads all links of a family with strong consistency: one `Query` for each megabyte, which is
    /// about 7,000 links.
    pub(crate) async fn links(&self, owner: OwnerKey, family: TokenId) -> Result<Vec<Link>> {
        let (mut links, mut start) = (Vec::new(), None);
        loop {
            let query = self.query(owner, link_prefix(family))?;
            let output = query.set_exclusive_start_key(start).send().await?;
            let items = present(output.items)?;
            for item in items {
                links.push(from_item(item)?);
            }
            start = output.last_evaluated_key;
            if start.is_none() {
                return Ok(links);
            }
        }
    }

    /// Reads the first links of a family with strong consistency: at most `limit`.
    pub(crate) async fn first_links(
        &self,
        owner: OwnerKey,
        family: TokenId,
        limit: i32,
    ) -> Result<Vec<Link>> {
        let output = self
            .query(owner, link_prefix(family))?
            .limit(limit)
            .send()
            .await?;
        let items = present(output.items)?;
        items.into_iter().map(from_item).collect()
    }

    /// Stores and deletes links of a family, at most 25 in all, with one `BatchWriteItem`.
    ///
    /// # Errors
    /// The database is unavailable, or it left a write unprocessed.
    pub(crate) async fn write_links(
        &self,
        owner: OwnerKey,
        family: TokenId,
        links: &[Link],
        to_delete: &[Link],
    ) -> Result<()> {
        let puts = links.iter().map(|link| {
            let put = PutRequest::builder().set_item(Some(link_item(owner, family, link)?));
            let put = put.build().map_err(|_| not_built())?;
            Ok(WriteRequest::builder().put_request(put).build())
        });
        let deletions = to_delete.iter().map(|link| {
            let key = link_key(owner, family, link.child).to_item()?;
            let delete = DeleteRequest::builder().set_key(Some(key));
            let delete = delete.build().map_err(|_| not_built())?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        });
        let writes: Vec<_> = puts.chain(deletions).collect::<Result<_>>()?;
        if writes.is_empty() {
            return Ok(());
        }
        let call = self.client.batch_write_item();
        let output = call.request_items(&self.table, writes).send().await?;
        if output.unprocessed_items.is_none_or(|left| left.is_empty()) {
            Ok(())
        } else {
            Err(unavailable("links are still unprocessed"))
        }
    }
}

/// Increases the revision of a token's item by 1. Needs the values `:zero` and `:one`.
pub(super) const NEXT_REVISION: &str = "revision = if_not_exists(revision, :zero) + :one";

/// Returns the result of a conditional write of a token's item.
pub(super) fn token_written(transacted: Transacted) -> Result<WriteResult<StoredToken>> {
    match transacted {
        Transacted::Written => Ok(WriteResult::Written),
        Transacted::Refused(mut refused) => {
            stored_token_in(refused.swap_remove(0)).map(WriteResult::Conflict)
        }
    }
}

/// Returns the token's item that DynamoDB returned for a write whose condition was false. Returns
/// `None` if there is no item.
pub(super) fn stored_token_in(refused: Option<Item>) -> Result<Option<StoredToken>> {
    let there = refused.filter(|there| !there.is_empty());
    there.map(stored_token).transpose()
}

fn link_prefix(family: TokenId) -> String {
    format!("{LINK_PREFIX}{family}#")
}

fn link_key(owner: OwnerKey, family: TokenId, child: TokenId) -> Key {
    Key {
        owner,
        item: format!("{}{child}", link_prefix(family)),
    }
}

fn link_item(owner: OwnerKey, family: TokenId, link: &Link) -> Result<Item> {
    let mut item = to_item(link)?;
    item.extend(link_key(owner, family, link.child).to_item()?);
    Ok(item)
}

fn not_built() -> crate::domain::error::Error {
    unavailable("the request for a link cannot be built")
}
