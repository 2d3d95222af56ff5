//! `DELETE /api/ecosystems/{ecosystemId}`: end an ecosystem and everything in it.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        error::{Result, both},
        token::Scope,
    },
    http::{credential, ecosystem_id, fields, no_content},
    service::{directory, verify::Lookup},
};

/// Answers 204. The id is unknown at once; the tokens of its users stop within 30 seconds where it is
/// remembered, and at once elsewhere.
///
/// # Errors
/// 400 on the id, a query field or a body, 401, 403 for anybody but an account, 404, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .token(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    caller.must_be_account(Scope::ReadWrite)?;
    let (id, ()) = both(id, fields::none(&request))?;
    let ecosystem = found.ecosystem(&caller, &id)?;

    directory::delete(app, &ecosystem).await?;
    Ok(no_content())
}
