//! `POST /api/ecosystems/{ecosystemId}/tokens`: mint a token for an ecosystem's own servers.

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

/// Answers 200 with the token, shown this once; only its hash is stored.
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
    let permit = caller.may(rights::CREATE_SERVER_TOKEN, id.as_ref().ok())?;
    let (id, wanted) = combine(id, new_token(&request))?;
    let ecosystem = permit.ecosystem(&id)?;

    let (token, plain) = mint(app, permit.proof, ecosystem, wanted).await?;
    minted(&token, &plain)
}
