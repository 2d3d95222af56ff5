//! `DELETE /api/users/{id}`: deletes a user and revokes all its tokens.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, fields, no_content, user_ecosystem, user_id},
    service::{access::rights, directory, verify::Lookup},
};

/// Returns 204. From then on every token of the user is invalid, even if a user with the same id is
/// created later.
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
    let permit = caller.may(rights::DELETE_USER, user_ecosystem(&request).as_ref())?;
    let (id, ()) = combine(id, fields::no_input(&request))?;
    let user = permit.user(&id)?;

    directory::delete_user(app, permit.proof, user, &permit.caller().account).await?;
    Ok(no_content())
}
