//! `GET /api/ecosystems/{ecosystemId}/tokens/{tokenId}`: returns what is stored about one server
//! token of an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, ecosystem_id, fields, ok, token::record, token_id},
    service::{access::rights, tokens::look, verify::Lookup},
};

/// Returns 200 with the record of the token, without its secret.
///
/// # Errors
/// 400 if an id is invalid, or if there is any query field or body; 401; 403; 404 if the ecosystem
/// or the token is unknown; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let (id, token_id) = (ecosystem_id(&request), token_id(&request));
    let (ecosystem, token) = (id.as_ref().ok(), token_id.as_ref().ok().copied());
    let lookup = Lookup::new(app).caller(&credential).ecosystem(ecosystem);
    let found = lookup.token_of(ecosystem, token).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::GET_SERVER_TOKEN, ecosystem)?;
    let (id, (token_id, ())) = combine(id, combine(token_id, fields::no_input(&request)))?;
    let ecosystem = permit.ecosystem(&id)?;

    let stored = look(app, &permit, &ecosystem.into(), token_id).await?;
    ok(&record(&stored, app.now().seconds()))
}
