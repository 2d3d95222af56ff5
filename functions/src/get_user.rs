//! `GET /api/users/{id}`: returns a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, fields, ok, user::shown, user_ecosystem, user_id},
    service::{access::rights, verify::Lookup},
};

/// Returns 200 with the user.
///
/// # Errors
/// 400 if the id is invalid, or if there is any query field or body; 401; 403; 404 if the ecosystem
/// or the user is unknown; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).caller(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::GET_USER, user_ecosystem(&request).as_ref())?;
    let (id, ()) = combine(id, fields::no_input(&request))?;

    ok(&shown(permit.user(&id)?))
}
