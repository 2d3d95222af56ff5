//! `GET /api/ecosystems/{ecosystemId}/users`: lists the users of an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{list, ok},
    service::{access::rights, lists::Listed},
};
use tokenry_api::{ListedUser, UserList};

/// Returns 200 with a page of the list, by name. The users that short codes created are not listed.
///
/// # Errors
/// 400 if the id is invalid, if a query field is invalid (for example, if the cursor is from
/// another list), or if there is a body; 401; 403; 404; 409 if the stored data must be migrated;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let page = list::of_ecosystem(
        app,
        &request,
        rights::LIST_USERS,
        |id| Listed::Users(id),
        list::page_of_users,
    );
    let (ids, cursor) = page.await?;
    let users = ids.into_iter().map(|id| ListedUser { id });
    ok(&UserList {
        users: users.collect(),
        cursor,
    })
}
