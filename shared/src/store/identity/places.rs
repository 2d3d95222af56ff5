//! The item `limit` of a user, which counts the user's tokens, and the operations that need it.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{Belongs, Identity, Key, TokenEnd, not_ended};
use crate::{
    domain::{
        error::{Error, Result},
        owner::{Epoch, OwnerKey},
        token::{Ending, Places, Token, TokenId},
    },
    store::{
        item::{present, to_item, to_value},
        transaction::{Attempt, Change, Transacted, put},
    },
};

/// The writes that give a new token a place among the tokens of its user.
pub(crate) struct PlacesChange<'a> {
    /// The stored item, as it was read. The condition of the transaction is that it has not
    /// changed.
    pub(crate) old: Option<&'a Places>,
    /// The new item.
    pub(crate) new: &'a Places,
    /// The tokens that end. The condition of the transaction is that each of them still has the
    /// epoch of the new item, and that none of them has ended, was disabled or enabled, or has made
    /// its first token since it was read.
    pub(crate) ends: &'a [Token],
    pub(crate) ending: &'a Ending,
}

impl Identity {
    /// Prepares to store a new token, and returns `outcome` if it is stored.
    pub(crate) fn token_insertion<R: Send + 'static>(
        &self,
        token: &Token,
        outcome: R,
    ) -> Result<Change<R>> {
        Ok(Change::together(
            vec![self.new_token(token)?],
            |transacted| match transacted {
                Transacted::Written => Ok(outcome),
                Transacted::Refused(_) => Err(Error::Internal {
                    cause: "the id of a new token is already in use".to_owned(),
                }),
            },
        ))
    }

    /// Sends the writes of `change` together with those of `places`. If only a condition of
    /// `places` is false, or if the transaction conflicts with another one, nothing was written,
    /// and `change` can be sent again.
    pub(crate) async fn attempt<R>(
        &self,
        change: Change<R>,
        user: OwnerKey,
        places: PlacesChange<'_>,
    ) -> Result<Attempt<R>> {
        let mut writes = vec![self.places_put(user, places.old, places.new)?];
        for token in places.ends {
            writes.extend(self.end_and_queue(TokenEnd {
                owner: user,
                id: token.id,
                belongs: Some(Belongs::ToEpoch(places.new.epoch)),
                has_descendants: token.descendants.is_some(),
                is_disabled: token.is_disabled,
                ending: places.ending,
            })?);
        }
        change.attempt(&self.client, writes).await
    }

    /// Stores the progress of a reading of the user's tokens. Returns `false` if the stored item
    /// has changed since it was read. Then nothing is written.
    pub(crate) async fn store_places(
        &self,
        user: OwnerKey,
        old: Option<&Places>,
        new: &Places,
    ) -> Result<bool> {
        let put = self.places_put(user, old, new)?;
        let change = Change::alone(put, |put| Ok(matches!(put, Transacted::Written)));
        self.commit(change).await
    }

    fn places_put(
        &self,
        user: OwnerKey,
        old: Option<&Places>,
        new: &Places,
    ) -> Result<TransactWriteItem> {
        let mut item = to_item(new)?;
        item.extend(Key::places(user).to_item()?);
        match old {
            None => put(&self.table, item, "attribute_not_exists(revision)", &[]),
            // The item of a deleted user and the item of a new user with the same id may have the
            // same revision, but not the same epoch.
            Some(old) => put(
                &self.table,
                item,
                "revision = :revision AND epoch = :epoch",
                &[
                    (":revision", to_value(&old.revision)?),
                    (":epoch", to_value(&old.epoch)?),
                ],
            ),
        }
    }

    /// Reads a page of the tokens of an owner that have this epoch and that were not revoked,
    /// newest first, with one strongly consistent `Query`. A page is at most a megabyte of items.
    /// Also returns the token id after which the next page starts, or `None` if there is no next
    /// page.
    pub(crate) async fn tokens_of_epoch(
        &self,
        owner: OwnerKey,
        epoch: Epoch,
        after: Option<TokenId>,
    ) -> Result<(Vec<Token>, Option<TokenId>)> {
        let output = self
            .query_tokens_after(owner, after)?
            .filter_expression("epoch = :epoch")
            .expression_attribute_values(":epoch", to_value(&epoch)?)
            .send()
            .await?;
        let items = present(output.items)?;
        let tokens = not_ended(items)?;
        Ok((tokens, super::tokens::last(output.last_evaluated_key)?))
    }
}
