//! Erases what a deletion leaves in the tables, and ends the tokens that a revocation had no time
//! to end.
//!
//! A deletion ends everything at once, and puts an erasure into a queue. A run of [`run`] goes
//! through the queue. Each step can be interrupted and repeated. A run is slow on purpose, so that
//! the requests of others are not throttled.
//!
//! An item belongs to an earlier life of its owner if the owner, which is read after the item, has
//! another incarnation or epoch: neither is ever used again. A token that was moved into another
//! epoch belongs to the present life ([`State::has_token`]). A transaction may write an item and
//! its owner, and the read of the item may see this transaction before it is complete. So the owner
//! is read with a transaction, which sees all of it. An item whose key may be used again is deleted
//! only if it still has the incarnation or the epoch that was read.
//!
//! An erasure stays in the queue until nothing is found, at least `SETTLED` after the deletion. A
//! request that was signed before the deletion can still store items until then.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt, future::join, stream};
use rand::seq::SliceRandom;
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use crate::{
    domain::{
        deployment::Schema,
        error::{Error, Result},
        id::{AccountId, UserId},
        owner::{Owner, OwnerKey, State, User},
        shortcode::Grantee,
        time::Timestamp,
        token::TokenId,
    },
    service::{
        addresses,
        app::App,
        deadline::Deadline,
        descendants::end_descendants_slowly,
        tokens::{change, revocation},
    },
    store::{
        ephemeral::StoredCode,
        identity::{
            CODE_USER_LISTS, Entry, Erasure, Key, LINK_PREFIX, Link, List, OWNER_ITEM, QUEUES,
            Remnant, Target, random_place,
        },
    },
};

/// How long an erasure stays in the queue at least, in milliseconds: 20 minutes. DynamoDB accepts a
/// signed request for 15 minutes.
const SETTLED: u64 = 20 * 60 * 1000;
/// The maximum number of passes over one erasure in one run.
const PASSES: usize = 3;
/// How long a run waits for each page that it reads, and for each item that it writes. So a run
/// uses at most 500 write units a second. A partition allows 1,000, and the smallest on-demand
/// table allows 4,000.
const PACE: Duration = Duration::from_millis(2);
/// How many erasures a run works on at the same time. So a few large erasures do not delay others.
const PARALLEL: usize = 10;
/// The maximum number of erasures that a run reads from each partition of the queue. They take
/// about 1 MB of memory for each partition.
const MAX_QUEUE: usize = 5000;
/// From this age in milliseconds on, an erasure is late: 12 hours. Everything must be erased within
/// a day.
const LATE: u64 = 12 * 60 * 60 * 1000;
/// How many erasures one query reads.
const QUEUE_PAGE: i32 = 100;
/// How many entries of a list are read at once.
const ENTRIES: u32 = 25;
/// How many tokens are read with one transaction, together with their owner. A transaction has at
/// most 100 reads.
const SNAPSHOT: usize = 99;

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The number of erasures in the queue when the run began.
    pub queued: usize,
    /// The number of erasures that are complete. They are not in the queue any more.
    pub finished: usize,
    /// The number of erasures that are late and still in the queue.
    pub late: usize,
}

/// Works on the queue until there is nothing to do, or until the time `until`. The next run goes
/// on.
///
/// # Errors
/// Some erasures failed, or the database is unavailable. A failed erasure does not stop the others.
pub async fn run(app: &App, until: Deadline) -> Result<Erased> {
    let mut report = Erased {
        queued: 0,
        finished: 0,
        late: 0,
    };
    // In an earlier version, the lists are not complete.
    if app.deployment().await?.schema < Schema::Three {
        return Ok(report);
    }
    let eraser = Eraser {
        app,
        pace: Pace(Mutex::new(now())),
        pace_of_codes: Pace(Mutex::new(now())),
    };
    let started = app.now().millis();
    let (mut erasures, mut failed) = eraser.queue().await?;
    report.queued = erasures.len() + failed;
    if report.queued == 0 {
        return Ok(report);
    }
    let is_late = |erasure: &Erasure| erasure.at.millis() + LATE <= started;
    report.late = erasures.iter().filter(|erasure| is_late(erasure)).count();
    // If a run ends early, each erasure has the same chance to be worked on in the next run.
    erasures.shuffle(&mut *app.rng());
    let eraser = &eraser;
    let (empty, mut found_empty) = mpsc::unbounded_channel();
    let passes = async {
        let passes = stream::iter(erasures.clone()).map(|erasure| async move {
            let is_empty = eraser.erase(&erasure).await?;
            Ok::<_, Error>(is_empty.then_some(erasure))
        });
        let (mut passes, empty) = (passes.buffer_unordered(PARALLEL), empty);
        while let Some(result) = passes.next().await {
            match result {
                Ok(Some(erasure)) if erasure.at.millis() + SETTLED <= started => {
                    // The other end is closed only after this one.
                    let _ = empty.send(erasure);
                }
                Ok(_) => {}
                Err(error) => {
                    failed += 1;
                    tracing::warn!(cause = ?error, "an erasure failed");
                }
            }
        }
    };
    let (mut unfinished, mut scanned) = (0, Ok(()));
    // One scan finds the codes of all owners. The passes do not wait for it. If it finds codes of
    // an owner, only the next run finishes the owner's erasure. If it fails, any owner may have
    // codes.
    let codes = async {
        let gone = erasures.iter().filter_map(owner_of_codes).collect();
        let with_codes = match eraser.erase_codes(&gone).await {
            Ok(with_codes) => with_codes,
            Err(error) => {
                tracing::warn!(cause = ?error, "the short codes of deleted owners cannot be erased");
                scanned = Err(error);
                gone
            }
        };
        while let Some(erasure) = found_empty.recv().await {
            if owner_of_codes(&erasure).is_some_and(|owner| with_codes.contains(&owner)) {
                continue;
            }
            eraser.pace(1).await;
            match app.identity.finish_erasure(&erasure).await {
                Ok(()) => {
                    report.finished += 1;
                    report.late -= usize::from(is_late(&erasure));
                }
                Err(error) => {
                    unfinished += 1;
                    tracing::warn!(cause = ?error, "an erasure failed");
                }
            }
        }
    };
    // If the time is over, both stop.
    let _ = tokio::time::timeout_at(until.0, Box::pin(join(passes, codes))).await;
    failed += unfinished;
    if report.late > 0 {
        tracing::warn!(late = report.late, "erasures are late");
        if let Some(metrics) = &app.metrics {
            metrics.late_erasures(report.late, app.now());
        }
    }
    scanned?;
    match failed {
        0 => Ok(report),
        _ => Err(Error::Unavailable {
            cause: format!("{failed} of {} erasures failed", report.queued),
        }),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pace of the eraser does not use the clock that decides token expiry"
)]
fn now() -> Instant {
    Instant::now()
}

/// Limits how many pages the eraser reads and how many items it writes in a second.
pub(super) struct Pace(
    /// When the next read or write may begin.
    Mutex<Instant>,
);

impl Pace {
    /// Waits until this many items may be read or written.
    pub(super) async fn wait(&self, items: usize) {
        let until = {
            let mut next = self.0.lock().await;
            let begin = (*next).max(now());
            *next = begin + PACE * u32::try_from(items).unwrap_or(u32::MAX);
            *next
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the eraser is slow, so that others are not throttled"
        )]
        tokio::time::sleep(until - now()).await;
    }
}

struct Eraser<'a> {
    app: &'a App,
    pace: Pace,
    /// The pace of the scan of the codes, which are in another table. No erasure of an owner of
    /// codes finishes before this scan.
    pace_of_codes: Pace,
}

impl Eraser<'_> {
    /// Waits until this many items may be read or written.
    async fn pace(&self, items: usize) {
        self.pace.wait(items).await;
    }

    /// Reads the queue. From a partition with more than [`MAX_QUEUE`] erasures, each run reads a
    /// random part. Also returns the number of erasures that cannot be read.
    async fn queue(&self) -> Result<(Vec<Erasure>, usize)> {
        let (mut erasures, mut failed) = (Vec::new(), 0);
        for number in 0..QUEUES {
            let (mut found, is_all) = self.part_of_queue(number, None, MAX_QUEUE).await?;
            if !is_all {
                // The sort keys are hashes, so each erasure has the same chance to be read.
                let start = random_place(&mut *self.app.rng());
                (found, _) = self.part_of_queue(number, Some(start), MAX_QUEUE).await?;
                let missing = MAX_QUEUE.saturating_sub(found.len());
                found.extend(self.part_of_queue(number, None, missing).await?.0);
            }
            for erasure in found {
                match erasure {
                    Ok(erasure) => erasures.push(erasure),
                    Err(error) => {
                        failed += 1;
                        tracing::warn!(cause = ?error, "an erasure cannot be read");
                    }
                }
            }
        }
        Ok((erasures, failed))
    }

    /// Reads the erasures of a partition of the queue after a sort key: about `most`, or all of
    /// them. Also returns whether there are no more.
    async fn part_of_queue(
        &self,
        number: u8,
        mut after: Option<String>,
        most: usize,
    ) -> Result<(Vec<Result<Erasure>>, bool)> {
        let mut found = Vec::new();
        while found.len() < most {
            let page = self.app.identity.erasures(number, after, QUEUE_PAGE);
            let (erasures, next) = page.await?;
            found.extend(erasures);
            if next.is_none() {
                return Ok((found, true));
            }
            after = next;
            self.pace(1).await;
        }
        Ok((found, false))
    }

    /// Erases until a pass finds nothing, and then returns `true`. After some passes, returns
    /// `false`: somebody may store new items all the time, and other erasures must not wait for
    /// that.
    async fn erase(&self, erasure: &Erasure) -> Result<bool> {
        for _ in 0..PASSES {
            if !self.pass(erasure).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Erases everything that it finds. Returns whether it found something.
    async fn pass(&self, Erasure { target, at }: &Erasure) -> Result<bool> {
        match target {
            Target::User(key) => self.erase_partition(*key, Some(*at)).await,
            Target::Tokens(key) => self.erase_partition(*key, None).await,
            Target::Descendants { owner, token } => self.end_remaining(*owner, *token).await,
            Target::Environment {
                id,
                ecosystem,
                account,
            } => {
                let (mut found, of) = (Ok(false), format!("{id};"));
                for number in 0..CODE_USER_LISTS {
                    let list = List::CodeUsers(ecosystem, number);
                    let users = self.erase_users(list, Some(&of), account.as_ref(), *at);
                    found = both(found, users.await);
                }
                found
            }
            Target::Ecosystem { id, account } => {
                let account = account.as_ref();
                let code_users = (0..CODE_USER_LISTS).map(|number| List::CodeUsers(id, number));
                let mut found = self.erase_partition(id.into(), Some(*at)).await;
                for list in code_users.chain([List::Users(id)]) {
                    found = both(found, self.erase_users(list, None, account, *at).await);
                }
                let environments = List::Environments(id);
                both(found, self.erase_environments(environments).await)
            }
        }
    }

    /// Ends the tokens that descend from a revoked token, if the revocation had no time to end all
    /// of them. If the token is an e-mail token, then deletes its record. Returns whether there was
    /// something to do.
    async fn end_remaining(&self, owner: OwnerKey, id: TokenId) -> Result<bool> {
        let app = self.app;
        self.pace(1).await;
        let keys = BTreeSet::from([Key::token(owner, id), Key::email_token(owner)]);
        let found = app.identity.read(&keys).await?;
        let token = found.ended_token(owner, id);
        let Some((token, by)) = token.and_then(|token| token.ended_by.map(|by| (token, by))) else {
            return Ok(false);
        };
        let (ending, pace) = (revocation(app, by), Some(&self.pace));
        let has_descendants = token.has_valid_descendants();
        if has_descendants {
            end_descendants_slowly(app, owner, id, token.ancestry(), &ending, pace).await?;
        }
        let record = found.email_token(owner);
        let has_record = record.is_some_and(|record| record.token.token_id == id);
        if has_record {
            self.pace(1).await;
            let deletion = app
                .identity
                .email_token_deletion(owner, id, None, &ending)?;
            change(app, deletion).await?;
        }
        Ok(has_descendants || has_record)
    }

    /// Erases the users in a list. If one user cannot be erased, the others are still erased.
    async fn erase_users(
        &self,
        list: List<'_>,
        prefix: Option<&str>,
        account: Option<&AccountId>,
        at: Timestamp,
    ) -> Result<bool> {
        let (mut found, mut failure, mut after) = (false, None, None);
        loop {
            self.pace(1).await;
            let identity = &self.app.identity;
            let page = identity.entries(list, prefix, after.as_deref(), ENTRIES);
            let (entries, next) = page.await?;
            for entry in entries {
                found = true;
                if let Err(error) = self.erase_user(&entry, account, at).await {
                    failure = Some(error);
                }
            }
            after = next;
            if after.is_none() {
                return failure.map_or(Ok(found), Err);
            }
        }
    }

    /// Erases a user of a deleted ecosystem or environment. The entry is deleted last, because it
    /// leads to everything else.
    async fn erase_user(
        &self,
        entry: &Entry,
        account: Option<&AccountId>,
        at: Timestamp,
    ) -> Result<()> {
        let app = self.app;
        let key = entry.of()?.owner;
        let owner = app.identity.owner_after(key).await?;
        let mut current = owner.and_then(Owner::into_user);
        while let Some(user) = current.filter(|user| is_of(entry, user)) {
            let addresses = match &user.email {
                Some(email) => addresses::keys(app, account, email).await?,
                None => Vec::new(),
            };
            self.pace(5).await;
            let deletion = app.identity.user_removal(&user, &addresses)?;
            current = change(app, deletion).await?;
        }
        while self.erase_partition(key, Some(at)).await? {}
        self.pace(1).await;
        app.identity.remove_entry(entry).await
    }

    async fn erase_environments(&self, list: List<'_>) -> Result<bool> {
        let mut found = false;
        loop {
            self.pace(1).await;
            let identity = &self.app.identity;
            let (entries, _) = identity.entries(list, None, None, ENTRIES).await?;
            if entries.is_empty() {
                return Ok(found);
            }
            found = true;
            for entry in entries {
                self.pace(2).await;
                identity
                    .delete_items(&BTreeSet::from([entry.of()?]))
                    .await?;
                identity.remove_entry(&entry).await?;
            }
        }
    }

    /// Erases the items in a partition that do not belong to the present life of the owner. `at` is
    /// the time when the owner was deleted, or `None` if only its tokens were revoked. Returns
    /// whether there was such an item.
    async fn erase_partition(&self, owner: OwnerKey, at: Option<Timestamp>) -> Result<bool> {
        let identity = &self.app.identity;
        let (mut found, mut after) = (false, None);
        loop {
            self.pace(1).await;
            let (remnants, next) = identity.remnants(owner, after).await?;
            // The owner must be read after the items. See the module's documentation.
            let present = identity.owner_after(owner).await?;
            let present = present.as_ref().map(Owner::state);
            let (mut unique, mut families) = (BTreeSet::new(), BTreeSet::new());
            for remnant in remnants {
                match fate(&remnant, present, at) {
                    Fate::Stays => {}
                    Fate::Goes => {
                        unique.insert(remnant.key);
                    }
                    Fate::GoesIfUnchanged => {
                        found = true;
                        self.pace(1).await;
                        identity.delete_remnant(&remnant).await?;
                    }
                    Fate::GoesWithFamily(family) => {
                        families.insert(family);
                    }
                }
            }
            found |= !unique.is_empty();
            self.pace(unique.len()).await;
            identity.delete_items(&unique).await?;
            for family in families {
                found |= self.erase_links(owner, family).await?;
            }
            after = next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Deletes each link of a family if the link's child and all descendants of the child have
    /// ended. Such a link leads to no token that could still be ended. Returns whether there were
    /// such links.
    ///
    /// A token that is made meanwhile gets its own link. Its maker is valid, so the links that lead
    /// to its maker stay.
    async fn erase_links(&self, owner: OwnerKey, family: TokenId) -> Result<bool> {
        let identity = &self.app.identity;
        let links = identity.links(owner, family).await?;
        let mut valid: Vec<&Link> = Vec::new();
        for links in links.chunks(SNAPSHOT) {
            self.pace(links.len()).await;
            let keys = links.iter().map(|link| Key::token(owner, link.child));
            // Each token is read together with its owner. So if a token seems to have an earlier
            // epoch, this is true, and it never gets a later one.
            let found = identity
                .snapshot(&keys.chain([Key::owner(owner)]).collect())
                .await?;
            let present = found.owner(owner).map(Owner::state);
            let is_valid = |link: &&Link| {
                // A disabled token can be enabled again.
                let token = found.token(owner, link.child);
                let token = token.or(found.disabled_token(owner, link.child));
                token
                    .zip(present)
                    .is_some_and(|(token, state)| token.has_epoch_of(state))
            };
            valid.extend(links.iter().filter(is_valid));
        }
        let link_of: HashMap<_, _> = links.iter().map(|link| (link.child, link)).collect();
        let mut needed = HashSet::new();
        for mut link in valid {
            // The links from the token to its makers.
            while needed.insert(link.child)
                && let Some(of_maker) = link_of.get(&link.maker)
            {
                link = of_maker;
            }
        }
        let mut ended = links;
        ended.retain(|link| !needed.contains(&link.child));
        for links in ended.chunks(25) {
            self.pace(links.len()).await;
            identity.write_links(owner, family, &[], links).await?;
        }
        Ok(!ended.is_empty())
    }

    /// Deletes the short codes of these deleted owners. Returns the owners of the deleted codes. If
    /// one code cannot be read or deleted, the others are still deleted.
    async fn erase_codes(&self, gone: &HashSet<OwnerKey>) -> Result<HashSet<OwnerKey>> {
        let (mut found, mut failure, mut after) = (HashSet::new(), None, None);
        if gone.is_empty() {
            return Ok(found);
        }
        let ephemeral = self.app.ephemeral()?;
        loop {
            self.pace_of_codes.wait(1).await;
            let (codes, next) = ephemeral.codes(after).await?;
            for code in codes {
                let erased = async { self.erase_code(gone, code?).await };
                match erased.await {
                    Ok(owners) => found.extend(owners),
                    Err(error) => failure = Some(error),
                }
            }
            after = next;
            if after.is_none() {
                return failure.map_or(Ok(found), Err);
            }
        }
    }

    /// Deletes a short code if its user, environment or ecosystem was deleted. Returns those that
    /// were deleted.
    async fn erase_code(
        &self,
        gone: &HashSet<OwnerKey>,
        code: StoredCode,
    ) -> Result<Vec<OwnerKey>> {
        let grantee = &code.record.grantee;
        let user = OwnerKey::from(grantee.user());
        let mut owners = vec![user, grantee.user().ecosystem().into()];
        owners.extend(grantee.environment().map(OwnerKey::from));
        owners.retain(|owner| gone.contains(owner));
        // The code may belong to a later life of the user.
        if owners.iter().all(|owner| *owner == user) {
            let is_old = match grantee {
                Grantee::User { epoch, .. } if !owners.is_empty() => {
                    let owner = self.app.identity.owner(user).await?;
                    owner.is_none_or(|owner| owner.state().epoch != *epoch)
                }
                _ => false,
            };
            if !is_old {
                return Ok(Vec::new());
            }
        }
        self.pace(1).await;
        self.app.ephemeral()?.delete_stored_code(code).await?;
        Ok(owners)
    }
}

/// Returns the user, ecosystem or environment whose short codes an erasure deletes. Returns `None`
/// if only a token was revoked, because its codes cannot be exchanged any more and soon expire.
fn owner_of_codes(Erasure { target, .. }: &Erasure) -> Option<OwnerKey> {
    match target {
        Target::User(key) | Target::Tokens(key) => Some(*key),
        Target::Descendants { .. } => None,
        Target::Ecosystem { id, .. } => Some(id.into()),
        Target::Environment { id, .. } => Some(id.into()),
    }
}

/// Returns whether one of two steps found something, or the error of a step. Both steps were
/// already done, so an error of one step does not prevent the other.
fn both(one: Result<bool>, other: Result<bool>) -> Result<bool> {
    Ok(one? | other?)
}

/// Returns whether an entry lists this life of a user.
fn is_of(entry: &Entry, user: &User) -> bool {
    let id = UserId::parse(&entry.id);
    id.is_ok_and(|id| id == user.id) && entry.incarnation == Some(user.state.incarnation)
}

/// What happens to an item in the partition of an owner.
enum Fate {
    Stays,
    /// The item is deleted. Its key is never used again.
    Goes,
    /// The item is deleted if it has not changed.
    GoesIfUnchanged,
    /// The item is a link of this family. It is deleted if its child and all descendants of the
    /// child have ended.
    GoesWithFamily(TokenId),
}

/// Decides about an item. `present` is the state of the owner, or `None` if there is no owner.
fn fate(remnant: &Remnant, present: Option<&State>, at: Option<Timestamp>) -> Fate {
    let item = remnant.key.item.as_str();
    if item == OWNER_ITEM {
        return Fate::Stays;
    }
    let token = remnant.key.token_id();
    let link = item.strip_prefix(LINK_PREFIX);
    let is_unique = token.is_some() || link.is_some();
    if let Some(state) = present {
        let is_present = match (&remnant.incarnation, &remnant.epoch) {
            (Some(incarnation), _) => *incarnation == state.incarnation,
            (None, Some(epoch)) => match token {
                Some(id) => state.may_have_token(id, *epoch, remnant.previous_epoch),
                None => *epoch == state.epoch,
            },
            (None, None) => {
                let family = link.and_then(|link| link.split('#').next());
                if let Some(Ok(family)) = family.map(TokenId::parse) {
                    return Fate::GoesWithFamily(family);
                }
                // The record of a token that was revoked individually has no epoch. If its owner
                // was deleted, the time of the token's creation tells which life of the owner the
                // token belongs to.
                token.zip(at).is_none_or(|(id, at)| id.created_at() >= at)
            }
        };
        if is_present {
            return Fate::Stays;
        }
    }
    if is_unique {
        Fate::Goes
    } else {
        Fate::GoesIfUnchanged
    }
}
