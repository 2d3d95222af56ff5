//! `GET /api/users/{ecosystemId};{userId}/tokens`: the live tokens of a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, token, user_ecosystem, user_id},
    service::{access::rights, verify::Lookup},
};

/// Answers 200 with a page of them, newest first, never with a secret.
///
/// # Errors
/// 400 on the id, a query field or a body, a foreign cursor among them, 401, 403, 404 on the ecosystem, then
/// on the user, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).token(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::LIST_USER_TOKENS, user_ecosystem(&request).as_ref())?;
    let page = token::page(&request, id.as_ref().ok().map(Into::into));
    let (id, page) = combine(id, page)?;
    let user = permit.user(&id)?;

    token::list(app, &user.into(), page).await
}
