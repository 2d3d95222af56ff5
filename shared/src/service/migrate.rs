//! Migrates the stored data of a deployment to the schema version of this release.
//!
//! The migration from version 1 to version 2 has three steps: [`prepare`], [`finish`] and
//! [`clean_up`]. The migration from version 2 to version 3 has one step:
//! [`list_all`](lists::list_all). Each step can be interrupted at any point and run again.

pub mod addresses;
pub mod lists;

use std::collections::BTreeSet;

use crate::{
    domain::{
        deployment::{Deployment, Schema},
        error::{Error, Result},
        id::AccountId,
        owner::Account,
    },
    service::{access::MayWrite, app::App, deployment, email_token},
    store::identity::{Key, Stored},
};

/// Calls `each` for every item of the identity table.
async fn scan(app: &App, mut each: impl AsyncFnMut(Stored) -> Result<()>) -> Result<()> {
    scan_pages(app, async |items| {
        for item in items {
            each(item).await?;
        }
        Ok(())
    })
    .await
}

/// Calls `each` for every page of items of the identity table.
async fn scan_pages(app: &App, mut each: impl AsyncFnMut(Vec<Stored>) -> Result<()>) -> Result<()> {
    let mut after = None;
    loop {
        let page = app.identity.scan(after).await?;
        each(page.items).await?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Creates the record of the deployment with a tag key, if there is none. From then on, every new
/// token has a tag. If the deployment has accounts, `choose` gets them and the id of the present
/// first account, and returns the id of the new first account. Returns all accounts.
///
/// # Errors
/// [`Error::Internal`] if this release cannot read the stored data; [`Error::Unavailable`] if the
/// database is unavailable. Also returns the error of `choose`.
pub async fn prepare(
    app: &App,
    right: MayWrite,
    choose: impl FnOnce(&[Account], Option<AccountId>) -> Result<AccountId>,
) -> Result<Vec<Account>> {
    let deployment = deployment::create_if_none(app, right).await?;
    let mut accounts = Vec::new();
    scan(app, async |item| {
        if let Stored::Account(account) = item {
            accounts.push(account);
        }
        Ok(())
    })
    .await?;
    if !accounts.is_empty() {
        let first = choose(&accounts, deployment.first_account.clone())?;
        deployment::set_first_account(app, right, &first).await?;
    }
    Ok(accounts)
}

/// Returns whether an account has a valid token with a tag.
///
/// # Errors
/// The database is unavailable.
pub async fn has_tagged_token(app: &App, account: &Account) -> Result<bool> {
    let now = app.now().seconds();
    let mut after = None;
    loop {
        let page = app
            .identity
            .tokens((&account.id).into(), after, 100)
            .await?;
        let mut tokens = page.tokens.iter();
        if tokens.any(|token| token.tag_key.is_some() && token.is_valid_for(&account.state, now)) {
            return Ok(true);
        }
        match page.last {
            Some(_) => after = page.last,
            None => return Ok(false),
        }
    }
}

/// Replaces each e-mail token without a tag with a new token that has the same properties. Copies
/// the records of e-mail addresses. Then raises the schema version to 2. Every token without a tag
/// becomes invalid in at most [`REREAD_SECONDS`](deployment::REREAD_SECONDS). Returns the number of
/// replaced e-mail tokens.
///
/// # Errors
/// The value key or the database is unavailable.
pub async fn finish(app: &App, right: MayWrite) -> Result<u64> {
    let mut replaced = 0;
    scan(app, async |item| {
        match item {
            Stored::EmailToken(stored) => {
                let id = &stored.token.user_id;
                replaced += u64::from(email_token::replace_untagged(app, right, id).await?);
            }
            Stored::OldAddress(key) => addresses::copy(app, right, &key).await?,
            _ => {}
        }
        Ok(())
    })
    .await?;
    raise(app, Schema::Two).await?;
    Ok(replaced)
}

/// Raises the schema version, unless the stored data has this version or a later one.
async fn raise(app: &App, to: Schema) -> Result<()> {
    let raise = |deployment: Deployment| {
        Ok(Deployment {
            schema: deployment.schema.max(to),
            ..deployment
        })
    };
    deployment::change(app, raise).await.map(|_| ())
}

/// Deletes the records that version 2 does not use: tokens without a tag, and the old records of
/// e-mail addresses. Copies an old record before, if it was not copied. Returns the number of
/// deleted tokens. Call this function when every execution environment knows the new version: at
/// least [`REREAD_SECONDS`](deployment::REREAD_SECONDS) after [`finish`].
///
/// # Errors
/// [`Error::Internal`] if the schema version is not raised yet; [`Error::Unavailable`] if the value
/// key or the database is unavailable.
pub async fn clean_up(app: &App, right: MayWrite) -> Result<u64> {
    if deployment::read(app).await?.schema == Schema::One {
        return Err(Error::Internal {
            cause: "the schema version is not raised yet".to_owned(),
        });
    }
    // A request that began before the deployment had a tag key may have stored an e-mail token
    // without a tag after `finish` looked for such tokens. A function of an earlier release may
    // have stored an old record of an address after `finish` looked for such records.
    scan(app, async |item| {
        match item {
            Stored::EmailToken(stored) => {
                email_token::replace_untagged(app, right, &stored.token.user_id).await?;
            }
            Stored::OldAddress(key) => addresses::remove(app, right, &key).await?,
            _ => {}
        }
        Ok(())
    })
    .await?;
    // The first scan has ended some tokens. In this second scan, they are not a `Stored::Token` any
    // more, so their records stay.
    let mut untagged = BTreeSet::new();
    scan(app, async |item| {
        if let Stored::Token(token) = item
            && token.tag_key.is_none()
        {
            untagged.insert(Key::token(token.owner, token.id));
        }
        Ok(())
    })
    .await?;
    app.identity.delete_items(&untagged).await?;
    Ok(untagged.len() as u64)
}
