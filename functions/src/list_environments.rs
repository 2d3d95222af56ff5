//! `GET /api/ecosystems/{ecosystemId}/environments`: lists the environments of an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, ecosystem_id, list, ok},
    service::{access::rights, lists::Listed, verify::Lookup},
};
use tokenry_api::{EnvironmentList, ListedEnvironment};

/// Returns 200 with a page of the list, by id.
///
/// # Errors
/// 400 if the id is invalid, if a query field is invalid (for example, if the cursor is from
/// another list), or if there is a body; 401; 403; 404; 409 if the stored data must be migrated;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::LIST_ENVIRONMENTS, id.as_ref().ok())?;
    let page = list::page(&request, id.as_ref().ok().map(Listed::Environments));
    let (id, page) = combine(id, page)?;
    permit.ecosystem(&id)?;

    let listed = Listed::Environments(&id);
    let (ids, cursor) = list::ids(app, permit.proof, listed, &page).await?;
    let environments = ids.into_iter().map(|id| ListedEnvironment { id });
    ok(&EnvironmentList {
        environments: environments.collect(),
        cursor,
    })
}
