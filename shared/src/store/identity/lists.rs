//! The lists of what exists: the ecosystems of an account, the environments of an ecosystem, and
//! the users of an ecosystem.
//!
//! A list is a partition, and each item in it is an entry. An entry is stored in the transaction
//! that creates what the entry lists, and deleted in the transaction that deletes it. So a list is
//! complete and up to date, without an index.
//!
//! The sort key of an entry is the id. For a user, it is only the name, because the name alone can
//! have 1,024 bytes, the maximum of DynamoDB. The users that short codes created are in other
//! partitions, which are only read to erase these users. There are several of these partitions,
//! because many devices exchange codes of the same ecosystem at the same time.

use aws_sdk_dynamodb::types::TransactWriteItem;
use serde::{Deserialize, Serialize};

use super::{Identity, Key};
use crate::{
    domain::{
        error::Result,
        id::{AccountId, EcosystemId, EnvironmentId, UserId},
        owner::{Environment, Epoch, Owner, OwnerKey, User},
    },
    store::{
        item::{from_item, present, to_item, to_value, unreadable},
        transaction::{Change, check, delete, put},
    },
};

/// The number of partitions that list the users that the short codes of an ecosystem created.
pub(crate) const CODE_USER_LISTS: u8 = 16;
/// The attribute that only entries of lists have. Its value is the id of what is listed.
pub(super) const LISTED: &str = "listed";

/// A list.
#[derive(Clone, Copy)]
pub(crate) enum List<'a> {
    /// The ecosystems of an account, by id.
    Ecosystems(&'a AccountId),
    /// The environments of an ecosystem, by id.
    Environments(&'a EcosystemId),
    /// The users of an ecosystem, by name, except the users that short codes created.
    Users(&'a EcosystemId),
    /// One of the [`CODE_USER_LISTS`] lists of users that the short codes of an ecosystem created.
    /// They are sorted by the id of their environment.
    CodeUsers(&'a EcosystemId, u8),
}

impl List<'_> {
    /// Returns the partition key of the list.
    pub(crate) fn key(self) -> OwnerKey {
        OwnerKey::list(&match self {
            Self::Ecosystems(account) => format!("ecosystems#{account}"),
            Self::Environments(ecosystem) => format!("environments#{ecosystem}"),
            Self::Users(ecosystem) => format!("users#{ecosystem}"),
            Self::CodeUsers(ecosystem, number) => format!("code-users#{ecosystem}#{number}"),
        })
    }
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    key: Key,
    /// The id of what is listed.
    #[serde(rename = "listed")]
    pub(crate) id: String,
    /// The incarnation of what is listed. An environment has none, because its id is never used
    /// again.
    #[serde(rename = "born", skip_serializing_if = "Option::is_none")]
    pub(crate) incarnation: Option<Epoch>,
}

impl Entry {
    fn new(list: List<'_>, sort_key: &str, id: &str, incarnation: Option<Epoch>) -> Self {
        Self {
            key: Key {
                owner: list.key(),
                item: sort_key.to_owned(),
            },
            id: id.to_owned(),
            incarnation,
        }
    }

    /// Returns the entry of an owner, or `None` for an account, because no list contains accounts.
    pub(crate) fn of_owner(owner: &Owner) -> Option<Self> {
        match owner {
            Owner::Account(_) => None,
            Owner::Ecosystem(ecosystem) => {
                let (list, id) = (List::Ecosystems(&ecosystem.account), ecosystem.id.as_str());
                Some(Self::new(list, id, id, Some(ecosystem.state.incarnation)))
            }
            Owner::User(user) => Some(Self::of_user(user)),
        }
    }

    /// Returns the entry of a user.
    pub(crate) fn of_user(user: &User) -> Self {
        let (ecosystem, name) = (user.id.ecosystem(), user.id.name());
        let (id, incarnation) = (user.id.as_str(), Some(user.state.incarnation));
        if !user.id.is_short_code() {
            return Self::new(List::Users(ecosystem), name, id, incarnation);
        }
        let key = OwnerKey::from(&user.id);
        let number = key.as_bytes()[OwnerKey::LENGTH - 1] % CODE_USER_LISTS;
        let environment = user.environment.as_ref().map_or("", EnvironmentId::as_str);
        let sort_key = format!("{environment};{name}");
        Self::new(
            List::CodeUsers(ecosystem, number),
            &sort_key,
            id,
            incarnation,
        )
    }

    /// Returns the entry of an environment.
    pub(crate) fn of_environment(environment: &Environment) -> Self {
        let (list, id) = (List::Environments(&environment.ecosystem), &environment.id);
        Self::new(list, id.as_str(), id.as_str(), None)
    }

    /// Returns the entry's own key.
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the key of the record that the entry lists.
    ///
    /// # Errors
    /// The id is not that of an ecosystem, an environment or a user.
    pub(crate) fn of(&self) -> Result<Key> {
        if let Ok(id) = UserId::parse(&self.id) {
            return Ok(Key::owner((&id).into()));
        }
        if let Ok(id) = EcosystemId::parse(&self.id) {
            return Ok(Key::owner((&id).into()));
        }
        let id = EnvironmentId::parse(&self.id).map_err(|_| unreadable::<Self>())?;
        Ok(Key::environment(&id))
    }
}

impl Identity {
    /// Prepares to store an entry.
    pub(crate) fn put_entry(&self, entry: &Entry) -> Result<TransactWriteItem> {
        put(&self.table, to_item(entry)?, None, &[])
    }

    /// Prepares to delete an entry, in the transaction that deletes what the entry lists. If that
    /// transaction has a condition on the incarnation, the entry has the same incarnation.
    pub(super) fn delete_entry(&self, entry: &Entry) -> Result<TransactWriteItem> {
        delete(&self.table, entry.key.to_item()?, None, &[])
    }

    /// Returns the entries that are not stored.
    pub(crate) async fn not_listed(&self, mut entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let keys = entries.iter().map(|entry| entry.key.clone()).collect();
        let found = self.read(&keys).await?;
        entries.retain(|entry| found.entry(&entry.key) != Some(entry));
        Ok(entries)
    }

    /// Stores the entry of something that exists already. Does nothing if it was deleted meanwhile.
    pub(crate) async fn list_existing(&self, entry: &Entry) -> Result<()> {
        let (condition, values) = match &entry.incarnation {
            Some(incarnation) => ("born = :born", vec![(":born", to_value(incarnation)?)]),
            None => ("attribute_exists(ecosystem)", vec![]),
        };
        let exists = check(&self.table, entry.of()?.to_item()?, condition, &values)?;
        let writes = vec![exists, self.put_entry(entry)?];
        self.commit(Change::together(writes, |_| Ok(()))).await
    }

    /// Deletes the entry of something that was deleted before. Does nothing if the stored entry is
    /// that of a later user with the same id.
    pub(crate) async fn remove_entry(&self, entry: &Entry) -> Result<()> {
        let key = entry.key.to_item()?;
        let write = match &entry.incarnation {
            Some(incarnation) => {
                let values = [(":born", to_value(incarnation)?)];
                delete(&self.table, key, Some("born = :born"), &values)?
            }
            None => delete(&self.table, key, None, &[])?,
        };
        self.commit(Change::alone(write, |_| Ok(()))).await
    }

    /// Reads a page of a list with one strongly consistent `Query`: up to `limit` entries whose
    /// sort keys begin with `prefix`. The page starts after the sort key `after`. Also returns the
    /// sort key after which the next page starts, or `None` if there is no next page.
    pub(crate) async fn entries(
        &self,
        list: List<'_>,
        prefix: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Entry>, Option<String>)> {
        let owner = list.key();
        // DynamoDB does not accept an empty prefix.
        let query = match prefix {
            Some(prefix) => self.query(owner, prefix)?,
            None => self.query_all(owner)?,
        };
        let start = after.map(|item| {
            let item = item.to_owned();
            Key { owner, item }.to_item()
        });
        let output = query
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start.transpose()?)
            .send()
            .await?;
        let items = present(output.items)?;
        let entries = items.into_iter().map(from_item).collect::<Result<_>>()?;
        let end = output
            .last_evaluated_key
            .map(from_item::<Key>)
            .transpose()?;
        Ok((entries, end.map(|key| key.item)))
    }
}
