//! The operations for the record of the deployment.

use aws_sdk_dynamodb::types::{AttributeValue, Select};

use super::{Identity, Key};
use crate::{
    domain::{
        deployment::{Deployment, Schema, UnknownSchema},
        error::{Error, Result},
    },
    store::{
        item::{Item, from_item, to_item},
        transaction::{Change, Transacted, put},
    },
};

impl Identity {
    /// Reads the record of the deployment with strong consistency. Returns the default if no record
    /// is stored. This is the case in an empty table, and in the table of a deployment that an
    /// earlier release created.
    ///
    /// # Errors
    /// [`Error::Internal`] if this release cannot read the stored data; [`Error::Unavailable`] if
    /// the database is unavailable.
    pub async fn deployment(&self) -> Result<Deployment> {
        let item = self.get(&Key::deployment()).await?;
        item.map_or_else(|| Ok(Deployment::default()), deployment_in)
    }

    /// Stores a changed record of the deployment. The revision of `next` must be the stored
    /// revision plus 1, or 1 if no record is stored. Returns `false` if another process has changed
    /// the record since it was read.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn put_deployment(&self, next: &Deployment) -> Result<bool> {
        let mut item = to_item(next)?;
        item.extend(Key::deployment().to_item()?);
        let previous = AttributeValue::N((next.revision - 1).to_string());
        let (condition, values) = match next.revision {
            1 => ("attribute_not_exists(revision)", vec![]),
            _ => ("revision = :previous", vec![(":previous", previous)]),
        };
        let put = put(&self.table, item, condition, &values)?;
        let next = next.clone();
        let change = Change::alone(put, move |transacted| match transacted {
            Transacted::Written => Ok(true),
            Transacted::Refused(mut refused) => match refused.swap_remove(0) {
                // The first attempt may have written the record, and its response was lost.
                Some(there) if !there.is_empty() => Ok(deployment_in(there)? == next),
                _ => Ok(false),
            },
        });
        self.commit(change).await
    }

    /// Returns whether the table contains no item.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn is_empty(&self) -> Result<bool> {
        let scan = self.client.scan().table_name(&self.table).limit(1);
        let output = scan
            .select(Select::Count)
            .consistent_read(true)
            .send()
            .await?;
        Ok(output.count == 0)
    }
}

/// Reads the record from an item. The version is checked first, because a later version may have
/// other attributes.
fn deployment_in(item: Item) -> Result<Deployment> {
    let stored = item.get("schema").and_then(|schema| schema.as_n().ok());
    let version = stored.and_then(|version| version.parse().ok()).unwrap_or(0);
    Schema::try_from(version).map_err(|unknown: UnknownSchema| Error::Internal {
        cause: unknown.to_string(),
    })?;
    from_item(item)
}
