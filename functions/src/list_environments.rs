//! `GET /api/ecosystems/{ecosystemId}/environments`: lists the environments of an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{list, ok},
    service::{access::rights, lists::Listed},
};
use tokenry_api::{EnvironmentList, ListedEnvironment};

/// Returns 200 with a page of the list, by id.
///
/// # Errors
/// 400 if the id is invalid, if a query field is invalid (for example, if the cursor is from
/// another list), or if there is a body; 401; 403; 404; 409 if the stored data must be migrated;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let page = list::of_ecosystem(
        app,
        &request,
        rights::LIST_ENVIRONMENTS,
        |id| Listed::Environments(id),
        list::page,
    );
    let (ids, cursor) = page.await?;
    let environments = ids.into_iter().map(|id| ListedEnvironment { id });
    ok(&EnvironmentList {
        environments: environments.collect(),
        cursor,
    })
}
