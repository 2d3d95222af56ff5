//! Replaces the data keys that encrypt the values of e-mail tokens. An operator runs these
//! functions with `tokenry value-key`. Each function can be interrupted and called again.
//!
//! The order is: add a data key, then seal all values again with it, then remove the old data keys.

use futures_util::future::try_join_all;
use serde_bytes::ByteBuf;

use crate::{
    domain::{
        deployment::Schema,
        email_token::{DataKeyId, StoredEmailToken},
        error::{Error, Result},
        owner::OwnerKey,
        time::Timestamp,
    },
    service::{
        access::MayWrite,
        app::App,
        deployment,
        email_token::{bound_to, open},
        sealing::{Key, ValueKey, check},
    },
    store::{
        identity::{StoredDataKey, StoredDataKeys},
        item::WriteResult,
    },
};

/// How many milliseconds after the addition of a data key the older ones may be removed.
///
/// An execution environment may seal a value with an older key until a minute after the addition,
/// and its request may take some seconds more. The rest is a reserve for clocks that differ.
pub const SETTLED: u64 = 10 * 60_000;

/// How many values are sealed again at the same time.
const AT_ONCE: usize = 16;

/// What [`reseal`] did: the numbers of values, and the number of removed data keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// The values that were sealed again with the newest data key.
    pub resealed: u64,
    /// The values that the newest data key had sealed already, and the values that were deleted
    /// meanwhile.
    pub current: u64,
    /// The values that can never be opened. They stay as they are.
    pub lost: u64,
    /// The data keys that were removed.
    pub removed: u64,
}

enum Outcome {
    Resealed,
    Current,
    Lost,
}

/// Adds a data key, which seals all new values. Returns the key's id.
///
/// # Errors
/// [`Error::Conflict`] if an earlier release may still run, if no data key is stored, if another
/// command changed the data keys at the same time, or if the value key cannot unwrap the stored
/// data keys; [`Error::Unavailable`] if the value key or the database is unavailable.
pub async fn add(app: &App, _right: MayWrite) -> Result<String> {
    // Earlier releases know only the first data key. So they could not open new values, and they
    // would go on to seal values with the first key.
    if deployment::read(app).await?.schema != Schema::CURRENT {
        return Err(Error::Conflict(
            "an earlier release may still run, which knows only the first data key: run `tokenry migrate` first",
        ));
    }
    let value_key = app.value_key()?;
    let stored = stored(app).await?;
    let mut keys = stored.keys();
    // A new key that this value key wraps would be of no use to environments that have another
    // value key. So check that this value key can unwrap the stored keys.
    for key in &mut keys {
        let unwrapped = unwrap(value_key, key).await?;
        // Keys of earlier releases have no check value.
        key.key_check = Some(check(&unwrapped));
    }
    let (key, wrapped) = value_key.make(&app.random).await?;
    let id = format!("{:016x}", app.rng().next_u64());
    keys.push(StoredDataKey {
        id: Some(id.clone()),
        added_at: Some(app.now()),
        key_check: Some(check(&key)),
        wrapped: vec![ByteBuf::from(wrapped)],
    });
    replace(app, &stored, keys).await?;
    Ok(id)
}

/// Wraps all data keys with a second value key, `to`, too. Afterwards both value keys can unwrap
/// the data keys. Returns how many data keys `to` could not unwrap before.
///
/// # Errors
/// [`Error::Conflict`] if no data key is stored, if another command changed the data keys at the
/// same time, or if the present value key cannot unwrap the data keys; [`Error::Unavailable`] if
/// one of the value keys or the database is unavailable.
pub async fn rewrap(app: &App, _right: MayWrite, to: &ValueKey) -> Result<usize> {
    let value_key = app.value_key()?;
    let stored = stored(app).await?;
    let mut keys = stored.keys();
    // Unwrap all keys before the first call of `wrap`. If the value key `to` is in a file that does
    // not exist, `wrap` creates the file. It must not do so if a key cannot be unwrapped.
    let mut unwrapped = Vec::new();
    for key in &keys {
        unwrapped.push(unwrap(value_key, key).await?);
    }
    let mut wrapped = 0;
    for (key, plain) in keys.iter_mut().zip(&unwrapped) {
        let new = to.wrap(plain, &app.random).await?;
        if to.unwrap(key).await?.is_none() {
            key.wrapped.insert(0, ByteBuf::from(new));
            wrapped += 1;
        }
    }
    if wrapped > 0 {
        replace(app, &stored, keys).await?;
    }
    Ok(wrapped)
}

/// Seals the values of all e-mail tokens again with the newest data key. With `remove_old`, then
/// removes all other data keys.
///
/// # Errors
/// [`Error::Conflict`] if no data key is stored. With `remove_old`, also [`Error::Conflict`] in two
/// cases: if there are older data keys and the newest one was added less than [`SETTLED`] ago (then
/// nothing was changed), or if another command changed the data keys at the same time.
/// [`Error::Unavailable`] if the value key or the database is unavailable.
pub async fn reseal(app: &App, _right: MayWrite, remove_old: bool) -> Result<Resealed> {
    // Read the keys before the values: a value that is sealed after the scan is sealed with the
    // newest of these keys or with a newer one, because `SETTLED` has passed.
    let stored = stored(app).await?;
    let mut keys = stored.keys();
    let newest = keys
        .pop()
        .ok_or(Error::Conflict("there is no data key yet"))?;
    if remove_old && !keys.is_empty() && !is_settled(&newest, app.now()) {
        return Err(Error::Conflict(
            "the newest data key is younger than 10 minutes: functions may still use older ones, so try again later",
        ));
    }
    let mut done = Resealed::default();
    let mut after = None;
    loop {
        let (page, last) = app.identity.scan_email_tokens(after).await?;
        for part in page.chunks(AT_ONCE) {
            let each = part
                .iter()
                .map(|(user, record)| reseal_one(app, &newest.id, *user, record.clone()));
            for outcome in try_join_all(each).await? {
                match outcome {
                    Outcome::Resealed => done.resealed += 1,
                    Outcome::Current => done.current += 1,
                    Outcome::Lost => done.lost += 1,
                }
            }
        }
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if remove_old && !keys.is_empty() {
        done.removed = keys.len() as u64;
        replace(app, &stored, vec![newest]).await?;
    }
    Ok(done)
}

/// Seals one value again. `record` is `None` if the stored item is malformed.
async fn reseal_one(
    app: &App,
    newest: &DataKeyId,
    user: OwnerKey,
    mut record: Option<StoredEmailToken>,
) -> Result<Outcome> {
    if record.is_none() {
        return Ok(Outcome::Lost);
    }
    let mut outcome = Outcome::Current;
    while let Some(stored) = record {
        if stored.sealed.data_key == *newest {
            return Ok(outcome);
        }
        // The value is bound to the id of the user in whose partition the item is.
        let id = &stored.token.user_id;
        if OwnerKey::from(id) != user {
            return Ok(Outcome::Lost);
        }
        let Some(value) = open(app, id, &stored).await? else {
            return Ok(Outcome::Lost);
        };
        let bound_to = bound_to(id, stored.token.token_id);
        let sealed = app.seal(&value, &bound_to).await?;
        outcome = Outcome::Resealed;
        record = match app.identity.replace_sealed(user, &stored, &sealed).await? {
            WriteResult::Written => return Ok(outcome),
            WriteResult::Conflict(there) => there,
        };
    }
    Ok(outcome)
}

fn is_settled(newest: &StoredDataKey, now: Timestamp) -> bool {
    let age = newest
        .added_at
        .and_then(|added_at| now.millis().checked_sub(added_at.millis()));
    age.is_some_and(|age| age >= SETTLED)
}

/// Reads the stored data keys. From now on, this app seals with the newest of them.
async fn stored(app: &App) -> Result<StoredDataKeys> {
    let now = app.now();
    let stored = app.identity.data_keys().await?;
    let stored = stored.ok_or(Error::Conflict(
        "there is no data key yet: the first e-mail token creates it",
    ))?;
    app.value_key()?.adopt(Some(&stored), now);
    Ok(stored)
}

async fn unwrap(value_key: &ValueKey, key: &StoredDataKey) -> Result<Key> {
    let unwrapped = value_key.unwrap(key).await?;
    unwrapped.ok_or(Error::Conflict(
        "this is not the value key that wraps the data keys",
    ))
}

async fn replace(app: &App, old: &StoredDataKeys, keys: Vec<StoredDataKey>) -> Result<()> {
    if app.identity.replace_data_keys(old, keys).await? {
        return Ok(());
    }
    Err(Error::Conflict(
        "another command changed the data keys at the same time: try again",
    ))
}
