//! `GET /api/ecosystems/{ecosystemId}/tokens`: lists the valid and disabled server tokens of an
//! ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, ecosystem_id, token},
    service::{access::rights, verify::Lookup},
};

/// Returns 200 with a page of the list, newest token first, without the secrets of the tokens.
///
/// # Errors
/// 400 if the id is invalid, if a query field is invalid (for example, if the cursor is from
/// another list), or if there is a body; 401; 403 if the credential is not an account token; 404;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::LIST_SERVER_TOKENS, id.as_ref().ok())?;
    let page = token::page(&request, id.as_ref().ok().map(Into::into));
    let (id, page) = combine(id, page)?;
    let ecosystem = permit.ecosystem(&id)?;

    token::list(app, permit.proof, &ecosystem.into(), page).await
}
