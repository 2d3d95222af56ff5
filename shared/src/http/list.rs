//! Requests of the endpoints that list ecosystems, environments and users.

use std::borrow::Cow;

use lambda_http::Request;

use super::{
    credential, ecosystem_id,
    fields::{self, Fields},
};
use crate::{
    domain::{
        error::{Result, combine},
        id::{EcosystemId, UserId},
    },
    http::cursor::{MAX_LIMIT, name_cursor, parse_limit, parse_name_cursor},
    service::{
        access::{MayRead, Right},
        app::App,
        lists::{self, Listed},
        verify::Lookup,
    },
};

/// A requested page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    limit: u32,
    after: Option<String>,
    prefix: Option<String>,
}

/// Parses the requested page of a list of ecosystems or environments. `listed` is `None` if the id
/// in the path is invalid. Then the cursor is ignored, and the request fails because of the id.
///
/// # Errors
/// A query field is invalid, or there is a body.
pub fn page(request: &Request, listed: Option<Listed<'_>>) -> Result<Page> {
    parse(request, Fields::query(request), listed, None)
}

/// Parses the requested page of a list of users. See [`page`].
///
/// # Errors
/// A query field is invalid, or there is a body.
pub fn page_of_users(request: &Request, listed: Option<Listed<'_>>) -> Result<Page> {
    let mut query = Fields::query(request);
    let prefix = query.optional("prefix", |text| {
        let is_valid = UserId::is_name(text);
        is_valid.then(|| text.to_owned()).ok_or("invalid prefix")
    });
    parse(request, query, listed, prefix)
}

fn parse<'a>(
    request: &Request,
    mut query: Fields<'a, Cow<'a, str>>,
    listed: Option<Listed<'_>>,
    prefix: Option<String>,
) -> Result<Page> {
    let limit = query.optional("limit", parse_limit);
    let after = query.optional("cursor", |text| {
        let Some(listed) = listed else {
            return Ok(None);
        };
        let after = parse_name_cursor(text, &listed.name())?;
        // A client can send the cursor of a page with another prefix. DynamoDB rejects such a
        // start.
        let is_inside = prefix
            .as_ref()
            .is_none_or(|prefix| after.starts_with(prefix));
        is_inside.then_some(Some(after)).ok_or("invalid cursor")
    });
    let page = Page {
        limit: limit.unwrap_or(MAX_LIMIT),
        after: after.flatten(),
        prefix,
    };
    combine(fields::no_body(request), query.finish()).map(|_| page)
}

/// Handles a request for a list of an ecosystem, up to the response: checks the caller's right, and
/// returns the ids on the page and the cursor of the next page. `listed` returns the list for the
/// ecosystem's id, and `parse` is [`page`] or [`page_of_users`].
///
/// # Errors
/// 401, 403, 400 or 404 if the caller, the request or the ecosystem is invalid. Also returns the
/// errors of [`ids`].
pub async fn of_ecosystem(
    app: &App,
    request: &Request,
    right: Right<MayRead>,
    listed: fn(&EcosystemId) -> Listed<'_>,
    parse: fn(&Request, Option<Listed<'_>>) -> Result<Page>,
) -> Result<(Vec<String>, Option<String>)> {
    let credential = credential(app, request).await?;
    let id = ecosystem_id(request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(right, id.as_ref().ok())?;
    let page = parse(request, id.as_ref().ok().map(listed));
    let (id, page) = combine(id, page)?;
    permit.ecosystem(&id)?;
    ids(app, permit.proof, listed(&id), &page).await
}

/// Returns the ids on a page of a list, and the cursor of the next page.
///
/// # Errors
/// [`Error::Conflict`](crate::domain::error::Error::Conflict) if the stored data must be migrated;
/// [`Error::Unavailable`](crate::domain::error::Error::Unavailable) if the database is unavailable.
pub async fn ids(
    app: &App,
    right: MayRead,
    listed: Listed<'_>,
    page: &Page,
) -> Result<(Vec<String>, Option<String>)> {
    let (prefix, after) = (page.prefix.as_deref(), page.after.as_deref());
    let (ids, last) = lists::page(app, right, listed, prefix, after, page.limit).await?;
    Ok((ids, last.map(|name| name_cursor(&listed.name(), &name))))
}
