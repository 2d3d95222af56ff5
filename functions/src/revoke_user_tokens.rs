//! `DELETE /api/users/{id}/tokens`: revokes all tokens of a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, deadline, fields, no_content, user_ecosystem, user_id},
    service::{access::rights, tokens::revoke_all, verify::Lookup},
};

/// Returns 204. From then on, every earlier token of the user is invalid, including the caller's
/// own. A user may revoke its own tokens.
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
    let (ecosystem, user) = (user_ecosystem(&request), id.as_ref().ok());
    let permit = caller.may_for_user(rights::REVOKE_USER_TOKENS, ecosystem.as_ref(), user)?;
    let (id, ()) = combine(id, fields::no_input(&request))?;
    let user = permit.user(&id)?;

    revoke_all(app, permit.proof, user, deadline(&request)).await?;
    Ok(no_content())
}
