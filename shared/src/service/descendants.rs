//! Ends tokens, with the tokens that descend from them.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;

use crate::{
    domain::{
        error::Result,
        owner::OwnerKey,
        token::{Ancestry, EndReason, Ending, Token, TokenId},
    },
    service::{app::App, erase::Pace, tokens::change},
    store::{
        identity::{Belongs, Link, StoredToken, TokenEnd},
        item::WriteResult,
    },
};

/// How many tokens are ended at once. It is also the maximum number of links in one write.
const BATCH: usize = 25;
/// How many links of a family are read at once.
const PAGE: i32 = 1000;

/// What is known about the descendants of a token that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DescendantState {
    /// The token has no descendants, or all of them have ended.
    Ended,
    /// Descendants may still be valid, and the token's record says so.
    Valid,
    /// The token's record is missing, or an earlier release revoked the token.
    Unknown,
}

/// The result of [`end_one`].
pub(super) enum End {
    /// The token has ended, now or before.
    Ended(DescendantState),
    /// The token has not ended, because it does not belong any more where it was read. Contains the
    /// token.
    Moved(Box<Token>),
}

/// Ends one token, unless it has ended. `belongs` says where the token was read. So the ancestry
/// that was read is still the token's ancestry when it ends. `has_descendants` says whether the
/// token is known to have descendants. If the token has made its first token meanwhile, or was
/// disabled or enabled, this function tries again.
///
/// The revision is not a condition of the write, because the write replaces nothing that was read.
/// Whoever holds the token can change its revision again and again, and must not be able to delay
/// the revocation.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn end_one(
    app: &App,
    owner: OwnerKey,
    id: TokenId,
    belongs: Belongs,
    has_descendants: bool,
    ending: &Ending,
) -> Result<End> {
    let (mut has_descendants, mut is_disabled) = (has_descendants, false);
    loop {
        let end = TokenEnd {
            owner,
            id,
            belongs: Some(belongs),
            has_descendants,
            is_disabled,
            ending,
        };
        match change(app, app.identity.token_end(end)?).await? {
            WriteResult::Written if has_descendants => {
                return Ok(End::Ended(DescendantState::Valid));
            }
            WriteResult::Written => return Ok(End::Ended(DescendantState::Ended)),
            WriteResult::Conflict(Some(
                StoredToken::Token(token) | StoredToken::Disabled(token),
            )) => {
                if !belongs.is_true_of(&token) {
                    return Ok(End::Moved(token));
                }
                has_descendants |= token.descendants.is_some();
                is_disabled = token.is_disabled;
            }
            WriteResult::Conflict(there) => return Ok(End::Ended(of_ended(there))),
        }
        // The embedded database never yields. Without this yield, the time limit of the request
        // could not stop the loop.
        tokio::task::yield_now().await;
    }
}

/// Returns what is known about the descendants of a token, from the stored item of the token, which
/// has ended.
pub(super) fn of_ended(there: Option<StoredToken>) -> DescendantState {
    match there {
        Some(StoredToken::Ended(token)) if token.has_valid_descendants() => DescendantState::Valid,
        Some(StoredToken::Ended(token)) if token.ended_hash.is_some() => DescendantState::Ended,
        _ => DescendantState::Unknown,
    }
}

/// Ends all tokens that descend from a token, and then deletes their links. The caller must end the
/// token itself before this call, so that it makes no more tokens. If a request runs out of time,
/// the eraser or the next revocation of the token ends the remaining tokens.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn end_descendants(
    app: &App,
    owner: OwnerKey,
    id: TokenId,
    ancestry: Ancestry,
    ending: &Ending,
) -> Result<()> {
    end_descendants_slowly(app, owner, id, ancestry, ending, None).await
}

/// Does the same as [`end_descendants`], at this pace.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn end_descendants_slowly(
    app: &App,
    owner: OwnerKey,
    id: TokenId,
    ancestry: Ancestry,
    ending: &Ending,
    pace: Option<&Pace>,
) -> Result<()> {
    let (family, lineage) = (ancestry.family(id), ancestry.lineage(id));
    let ending = Ending {
        reason: EndReason::MakerRevoked,
        ..*ending
    };
    if family == id {
        return end_family(app, owner, id, &ending, pace).await;
    }
    // The tokens that had ended before the links were read.
    let mut ended = HashSet::new();
    loop {
        let below = below(lineage, app.identity.links(owner, family).await?);
        if below.iter().all(|link| ended.contains(&link.child)) {
            // A token makes others only while it is valid, so there are no more links than these.
            // Delete the links of the last generation first. If the request ends in between, a
            // chain of links still leads from the token to each remaining link.
            let mut last_first = below;
            last_first.reverse();
            for links in last_first.chunks(BATCH) {
                app.identity.write_links(owner, family, &[], links).await?;
                rest(pace, links.len()).await;
            }
            return change(app, app.identity.descendants_ended(owner, id)?).await;
        }
        let mut valid = below.clone();
        valid.retain(|link| !link.ended && !ended.contains(&link.child));
        for links in valid.chunks(BATCH) {
            end_children(app, owner, family, links, &ending).await?;
            rest(pace, 2 * links.len()).await;
        }
        ended.extend(below.iter().map(|link| link.child));
    }
}

/// Ends all tokens of the family of a token that has ended and that is the family's first maker.
/// All tokens of the family descend from it, so each link can be deleted as soon as its child has
/// ended. If a request runs out of time, its progress is kept.
///
/// A new link can be stored only while its maker is valid. The maker's own link is in the list
/// until the maker has ended. So if the list is empty, all tokens of the family have ended.
async fn end_family(
    app: &App,
    owner: OwnerKey,
    id: TokenId,
    ending: &Ending,
    pace: Option<&Pace>,
) -> Result<()> {
    loop {
        let links = app.identity.first_links(owner, id, PAGE).await?;
        if links.is_empty() {
            return change(app, app.identity.descendants_ended(owner, id)?).await;
        }
        for links in links.chunks(BATCH) {
            let ends = links
                .iter()
                .map(|link| end_child(app, owner, link.child, ending));
            try_join_all(ends).await?;
            app.identity.write_links(owner, id, &[], links).await?;
            rest(pace, 2 * links.len()).await;
        }
    }
}

/// Ends a token that another token made. If the user has changed the password with it, it does not
/// descend from its maker any more, and does not end.
async fn end_child(
    app: &App,
    owner: OwnerKey,
    child: TokenId,
    ending: &Ending,
) -> Result<DescendantState> {
    match end_one(app, owner, child, Belongs::ToMaker, false, ending).await? {
        End::Ended(descendants) => Ok(descendants),
        // The change of the password has ended everything that the token had made before.
        End::Moved(_) => Ok(DescendantState::Ended),
    }
}

/// Waits after this many writes. Without a pace, only yields: the embedded database never yields,
/// so the time limit of the request could not stop a loop without this.
async fn rest(pace: Option<&Pace>, writes: usize) {
    match pace {
        Some(pace) => pace.wait(writes).await,
        None => tokio::task::yield_now().await,
    }
}

/// Ends the children of `links`. Deletes the link of a child that has no descendants. Any other
/// link stays, because it leads to the child's own children.
async fn end_children(
    app: &App,
    owner: OwnerKey,
    family: TokenId,
    links: &[Link],
    ending: &Ending,
) -> Result<()> {
    let ends = links
        .iter()
        .map(|link| end_child(app, owner, link.child, ending));
    let (mut to_keep, mut to_delete) = (Vec::new(), Vec::new());
    for (link, descendants) in links.iter().zip(try_join_all(ends).await?) {
        match descendants {
            DescendantState::Ended => to_delete.push(*link),
            DescendantState::Valid | DescendantState::Unknown => to_keep.push(Link {
                ended: true,
                ..*link
            }),
        }
    }
    let identity = &app.identity;
    identity
        .write_links(owner, family, &to_keep, &to_delete)
        .await
}

/// Returns the links of all tokens that descend from a token, generation by generation.
fn below(token: TokenId, links: Vec<Link>) -> Vec<Link> {
    let mut children: HashMap<TokenId, Vec<Link>> = HashMap::new();
    for link in links {
        children.entry(link.maker).or_default().push(link);
    }
    let mut below = children.remove(&token).unwrap_or_default();
    let mut next = 0;
    while let Some(link) = below.get(next) {
        let of_child = children.remove(&link.child);
        below.extend(of_child.into_iter().flatten());
        next += 1;
    }
    below
}
