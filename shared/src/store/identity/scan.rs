//! Reads all items of the identity table, for a migration.

use std::collections::BTreeSet;

use super::{
    ADDRESS_ITEM, EMAIL_TOKEN_ITEM, ENVIRONMENT_ITEM, Entry, Identity, Key, LINK_PREFIX,
    OLD_ADDRESS_ITEM, OWNER_ITEM, PASSWORD_ITEM, PLACES_ITEM, SORT_KEY, is_invalid, lists::LISTED,
    partition, tokens::DELETE_BATCH,
};
use crate::{
    domain::{
        email_token::StoredEmailToken,
        error::Result,
        owner::{Account, Address, Environment, Owner, OwnerKey},
        token::{Token, TokenId},
    },
    store::item::{Item, from_item, present, unavailable},
};

/// An item that a migration reads.
pub(crate) enum Stored {
    Account(Account),
    /// The record of an ecosystem or a user.
    Owner(Box<Owner>),
    Environment(Environment),
    /// An entry of a list.
    Entry(Entry),
    /// The record of an e-mail address in schema version 1. Contains the key of the record.
    OldAddress(Key),
    /// The record of a user's e-mail token.
    EmailToken(Box<StoredEmailToken>),
    /// A token that was not revoked.
    Token(Box<Token>),
    /// The record of an e-mail address, and its key.
    Address(Key, Address),
    /// Another item in the partition of an owner, such as a password.
    OfOwner(OwnerKey),
    /// Any other item.
    Other,
}

/// A page of a scan, and the key after which the next page starts.
pub(crate) struct ScannedPage {
    pub(crate) items: Vec<Stored>,
    pub(crate) next: Option<Item>,
}

impl Identity {
    /// Reads a page of the table with strong consistency. The page starts after the key `after`.
    pub(crate) async fn scan(&self, after: Option<Item>) -> Result<ScannedPage> {
        let scan = self.client.scan().table_name(&self.table);
        let scan = scan.set_exclusive_start_key(after).consistent_read(true);
        let output = scan.send().await?;
        let items = present(output.items)?;
        Ok(ScannedPage {
            items: items.into_iter().map(stored).collect::<Result<_>>()?,
            next: output.last_evaluated_key,
        })
    }

    /// Deletes items, for example the items of invalid tokens.
    pub(crate) async fn delete_items(&self, keys: &BTreeSet<Key>) -> Result<()> {
        let keys: Vec<_> = keys.iter().collect();
        for keys in keys.chunks(DELETE_BATCH) {
            if !self.delete_all(keys).await? {
                return Err(unavailable("some items were not deleted"));
            }
        }
        Ok(())
    }
}

fn stored(item: Item) -> Result<Stored> {
    // The sort key of an entry can be the name of a user, so it can also be any other sort key.
    if item.contains_key(LISTED) {
        return from_item(item).map(Stored::Entry);
    }
    let sort_key = item.get(SORT_KEY).and_then(|key| key.as_s().ok());
    Ok(match sort_key.map_or("", String::as_str) {
        OWNER_ITEM => match from_item(item)? {
            Owner::Account(account) => Stored::Account(account),
            owner => Stored::Owner(Box::new(owner)),
        },
        ENVIRONMENT_ITEM => Stored::Environment(from_item(item)?),
        OLD_ADDRESS_ITEM => Stored::OldAddress(from_item(item)?),
        EMAIL_TOKEN_ITEM => Stored::EmailToken(Box::new(from_item(item)?)),
        key if key.starts_with(TokenId::ITEM_PREFIX) && !is_invalid(&item) => {
            Stored::Token(Box::new(from_item(item)?))
        }
        ADDRESS_ITEM => Stored::Address(from_item(item.clone())?, from_item(item)?),
        PASSWORD_ITEM | PLACES_ITEM => Stored::OfOwner(partition(&item)?),
        key if key.starts_with(TokenId::ITEM_PREFIX) || key.starts_with(LINK_PREFIX) => {
            Stored::OfOwner(partition(&item)?)
        }
        _ => Stored::Other,
    })
}
