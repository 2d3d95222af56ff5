//! `DELETE /api/users/{ecosystemId};{userId}`: end a user and all its tokens.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, fields, no_content, user_ecosystem, user_id},
    service::{access::rights, directory, verify::Lookup},
};

/// Answers 204; from then on no token of the user counts, though one of the same name be made.
///
/// # Errors
/// 400 on the id, a query field or a body, 401, 403, 404 on the ecosystem, then on the user, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).token(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::DELETE_USER, user_ecosystem(&request).as_ref())?;
    let (id, ()) = combine(id, fields::no_input(&request))?;
    let user = permit.user(&id)?;

    directory::delete_user(app, permit.proof, user).await?;
    Ok(no_content())
}
