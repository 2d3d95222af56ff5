//! The records of e-mail addresses.
//!
//! An address is unique in an account: the key of its record is computed from the account and the
//! address. In schema version 1, an address was unique in the deployment: the key of its record,
//! which is now called the old record, is computed from the address alone. While the stored data
//! has version 1, an address has both a new and an old record, because the previous release reads
//! and writes only the old record.
//!
//! Any record may be out of date. A record counts only if its user has the address
//! ([`Address::is_of`](crate::domain::owner::Address::is_of)). The new and the old record of an
//! address can count at the same time. They then belong to users of two different accounts. This
//! happens if an execution environment that has learned of version 2 stores only the new record,
//! while the old record still belongs to a user of another account. The new record is then the
//! right one.

use crate::{
    domain::{deployment::Schema, email::Email, error::Result, id::AccountId},
    service::app::App,
    store::identity::{AddressSlot, Key},
};

/// Returns the keys of the records of an address in an account: the key of the new record, and in
/// schema version 1 also the key of the old record. If `account` is `None`, the first key is one
/// that no record has.
///
/// # Errors
/// [`Error::Unavailable`](crate::domain::error::Error::Unavailable) if the record of the deployment
/// must be read, and the database is unavailable.
pub(super) async fn keys(
    app: &App,
    account: Option<&AccountId>,
    email: &Email,
) -> Result<Vec<Key>> {
    let new = Key::address(account, email);
    Ok(match app.deployment().await?.schema {
        Schema::One => vec![new, Key::old_address(email)],
        Schema::Two | Schema::Three => vec![new],
    })
}

/// Reads the records of an address in an account.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn read(
    app: &App,
    account: Option<&AccountId>,
    email: &Email,
) -> Result<Vec<AddressSlot>> {
    app.identity
        .addresses(keys(app, account, email).await?)
        .await
}
