//! `DELETE /api/ecosystems/{ecosystemId}/tokens/{tokenId}`: revokes a server token of an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, ecosystem_id, fields, no_content, token_id},
    service::{access::rights, tokens::revoke, verify::Lookup},
};

/// Returns 204 if the token was revoked now or had ended before.
///
/// # Errors
/// 400 if an id is invalid, or if there is any query field or body; 401; 403 if the credential is
/// not an account token; 404 if the ecosystem or the token is unknown; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let token_id = token_id(&request);
    let (ecosystem, token) = (id.as_ref().ok(), token_id.as_ref().ok().copied());
    let lookup = Lookup::new(app).caller(&credential).ecosystem(ecosystem);
    let found = lookup.token_of(ecosystem, token).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::REVOKE_SERVER_TOKEN, ecosystem)?;
    let (id, (token_id, ())) = combine(id, combine(token_id, fields::no_input(&request)))?;
    let ecosystem = permit.ecosystem(&id)?;

    revoke(app, &permit, ecosystem, token_id).await?;
    Ok(no_content())
}
