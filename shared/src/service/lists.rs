//! Lists ecosystems, environments and users.

use crate::{
    domain::{
        deployment::Schema,
        error::{Error, Result},
        id::{AccountId, EcosystemId},
    },
    service::{access::MayRead, app::App},
    store::identity::List,
};

/// A list that a client can read.
#[derive(Clone, Copy, Debug)]
pub enum Listed<'a> {
    /// The ecosystems of an account, by id.
    Ecosystems(&'a AccountId),
    /// The environments of an ecosystem, by id.
    Environments(&'a EcosystemId),
    /// The users of an ecosystem, by name, except the users that short codes created.
    Users(&'a EcosystemId),
}

impl Listed<'_> {
    /// Returns the name of the list. Each list has a different name.
    pub fn name(self) -> String {
        match self {
            Self::Ecosystems(account) => format!("ecosystems#{account}"),
            Self::Environments(ecosystem) => format!("environments#{ecosystem}"),
            Self::Users(ecosystem) => format!("users#{ecosystem}"),
        }
    }
}

/// Returns the ids on a page of a list: at most `limit`. The page starts after the sort key
/// `after`. If `prefix` is given, only users whose names begin with it are listed. Also returns the
/// sort key after which the next page starts, or `None` at the end of the list.
///
/// # Errors
/// [`Error::Conflict`] if the stored data has an earlier version, in which the lists are not
/// complete; [`Error::Unavailable`] if the database is unavailable.
pub async fn page(
    app: &App,
    _right: MayRead,
    listed: Listed<'_>,
    prefix: Option<&str>,
    after: Option<&str>,
    limit: u32,
) -> Result<(Vec<String>, Option<String>)> {
    if app.deployment().await?.schema < Schema::Three {
        return Err(Error::Conflict("run tokenry migrate first"));
    }
    let list = match listed {
        Listed::Ecosystems(account) => List::Ecosystems(account),
        Listed::Environments(ecosystem) => List::Environments(ecosystem),
        Listed::Users(ecosystem) => List::Users(ecosystem),
    };
    let page = app.identity.entries(list, prefix, after, limit);
    let (found, end) = page.await?;
    Ok((found.into_iter().map(|entry| entry.id).collect(), end))
}
