//! `GET /api/ecosystems`: lists the ecosystems of an account.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{credential, list, ok},
    service::{access::rights, lists::Listed, verify::Lookup},
};
use tokenry_api::{EcosystemList, ListedEcosystem};

/// Returns 200 with a page of the list, by id.
///
/// # Errors
/// 400 if a query field is invalid (for example, if the cursor is from another list), or if there
/// is a body; 401; 403; 409 if the stored data must be migrated; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let found = Lookup::new(app).caller(&credential).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::LIST_ECOSYSTEMS, None)?;
    let account = &permit.caller().account;
    let page = list::page(&request, Some(Listed::Ecosystems(account)))?;

    let listed = Listed::Ecosystems(account);
    let (ids, cursor) = list::ids(app, permit.proof, listed, &page).await?;
    let ecosystems = ids.into_iter().map(|id| ListedEcosystem { id });
    ok(&EcosystemList {
        ecosystems: ecosystems.collect(),
        cursor,
    })
}
