//! `DELETE /api/ecosystems/{ecosystemId}/tokens/{tokenId}`: end a token of an ecosystem's servers.

use lambda_http::{Body, Request, Response};
use shared::{
    App, directory,
    error::{Result, both},
    http::{credential, ecosystem_id, fields, no_content, token_id},
    token::Scope,
};

/// Answers 204, also if it is gone already.
///
/// # Errors
/// 400 on an id or a query field, 401, 403 for anybody but an account, 404 on the ecosystem, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let id = ecosystem_id(&request);
    let lookup = app.lookup().token(&credential).ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    caller.must_be_account(Scope::ReadWrite)?;
    let (id, (token_id, ())) = both(id, both(token_id(&request), fields::none(&request)))?;
    let ecosystem = found.ecosystem(&caller, &id)?;

    directory::revoke(app, &ecosystem, token_id).await?;
    Ok(no_content())
}
