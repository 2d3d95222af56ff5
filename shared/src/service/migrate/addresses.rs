//! The migration of the records of e-mail addresses from schema version 1 to 2.
//!
//! 1. In version 1, [`copy`] stores a new record for each old record. Meanwhile each change of an
//!    address writes both records.
//! 2. The version is raised. Each execution environment learns this within
//!    [`REREAD_SECONDS`](crate::service::deployment::REREAD_SECONDS). Until then, it reads and
//!    writes both records. So it sees the addresses that other environments store in version 2, and
//!    no user gets the address of another user.
//! 3. When every environment has learned of version 2, `remove` copies each old record again and
//!    deletes it. A function of the earlier release may have stored the old record after step 1.
//!    What such a function stores after step 3 is copied when the migration runs again.
//!
//! Each step may be interrupted and run again.

use crate::{
    domain::{error::Result, owner::Address},
    service::{access::MayWrite, app::App, verify::Lookup},
    store::identity::{AddressCopy, AddressSlot, Key},
};

/// Stores the new record of an address whose old record has this key. Does nothing if the old
/// record does not exist or is out of date, or if the new record counts already.
///
/// # Errors
/// The database is unavailable.
pub async fn copy(app: &App, _right: MayWrite, old: &Key) -> Result<()> {
    copied(app, old).await.map(|_| ())
}

/// Does the same as [`copy`], and then deletes the old record. If the old record changes meanwhile,
/// it stays.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn remove(app: &App, _right: MayWrite, old: &Key) -> Result<()> {
    match copied(app, old).await? {
        Some(address) => app.identity.remove_address(old, &address).await,
        None => Ok(()),
    }
}

/// Copies an old record if this is necessary. Returns the old record, or `None` if it does not
/// exist.
async fn copied(app: &App, old: &Key) -> Result<Option<Address>> {
    loop {
        let Some(address) = read(app, old).await?.address else {
            return Ok(None);
        };
        let Some(new) = slot_of_copy(app, old, &address).await? else {
            return Ok(Some(address));
        };
        let copied = app.identity.copy_address(old, &address, &new).await?;
        if let AddressCopy::Written = copied {
            return Ok(Some(address));
        }
        // Another request has changed one of the records. Read both again.
    }
}

/// Returns the slot of the new record that a copy of the old record must replace. Returns `None` if
/// there is nothing to copy.
async fn slot_of_copy(app: &App, old: &Key, address: &Address) -> Result<Option<AddressSlot>> {
    let id = &address.user_id;
    let found = Lookup::new(app).user(Some(id)).read().await?;
    let (user, ecosystem) = (
        found.user_record(id),
        found.ecosystem_record(id.ecosystem()),
    );
    // The record does not contain the address. The user's record contains it.
    let email = user
        .filter(|user| user.state.incarnation == address.incarnation)
        .and_then(|user| user.email.as_ref())
        .filter(|email| Key::old_address(email) == *old);
    let (Some(email), Some(ecosystem)) = (email, ecosystem) else {
        return Ok(None);
    };
    let new = read(app, &Key::address(Some(&ecosystem.account), email)).await?;
    if let Some(there) = &new.address {
        let id = &there.user_id;
        let found = Lookup::new(app).user(Some(id)).read().await?;
        let holder = found.user_record(id);
        let counts = holder.is_some_and(|user| there.is_of(user, email));
        if counts && found.ecosystem_record(id.ecosystem()).is_some() {
            return Ok(None);
        }
    }
    Ok(Some(new))
}

async fn read(app: &App, key: &Key) -> Result<AddressSlot> {
    let slots = app.identity.addresses(vec![key.clone()]).await?;
    Ok(slots.into_iter().next().unwrap_or(AddressSlot {
        key: key.clone(),
        address: None,
    }))
}
