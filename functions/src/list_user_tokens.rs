//! `GET /api/users/{id}/tokens`: lists the valid and disabled tokens of a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, token, user_ecosystem, user_id},
    service::{access::rights, verify::Lookup},
};

/// Returns 200 with a page of the list, newest token first, without the secrets of the tokens.
/// A user may list its own tokens.
///
/// # Errors
/// 400 if the id is invalid, if a query field is invalid (for example, if the cursor is from
/// another list), or if there is a body; 401; 403; 404 if the ecosystem or the user is unknown;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).caller(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let (ecosystem, user) = (user_ecosystem(&request), id.as_ref().ok());
    let permit = caller.may_for_user(rights::LIST_USER_TOKENS, ecosystem.as_ref(), user)?;
    let page = token::page(&request, id.as_ref().ok().map(Into::into));
    let (id, page) = combine(id, page)?;
    let user = permit.user(&id)?;

    token::list(app, permit.proof, &user.into(), page).await
}
