//! `POST /api/ecosystems/{ecosystemId}/tokens`: creates a server token for an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{
        credential, ecosystem_id,
        token::{minted, new_token},
    },
    service::{access::rights, tokens::mint, verify::Lookup},
};

/// Returns 200 with the token, which is shown only once. Only its hash is stored.
///
/// # Errors
/// 400 if the id or a field is invalid; 401; 403 if the credential is not an account token, or
/// lacks a scope that the new token would have; 404; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::CREATE_SERVER_TOKEN, id.as_ref().ok())?;
    let (id, wanted) = combine(id, new_token(&request))?;
    let grant = permit.grant_to_server(permit.ecosystem(&id)?, wanted)?;

    let (token, plain) = mint(app, grant).await?;
    minted(&token, &plain)
}
