//! `PATCH /api/ecosystems/{ecosystemId}/tokens/{tokenId}`: changes one server token of an
//! ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{
        credential, ecosystem_id, ok,
        token::{record, token_change},
        token_id,
    },
    service::{access::rights, tokens::update, verify::Lookup},
};

/// Returns 200 with the changed record of the token. A field that is omitted keeps its value. Null
/// removes the label or the metadata.
///
/// # Errors
/// 400 if an id or the body is invalid, or if there is any query field; 401; 403, for example if
/// the token gets a scope that the caller lacks; 404 if the ecosystem or the token is unknown; 409
/// if the token has ended; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let (id, token_id) = (ecosystem_id(&request), token_id(&request));
    let (ecosystem, token) = (id.as_ref().ok(), token_id.as_ref().ok().copied());
    let lookup = Lookup::new(app).caller(&credential).ecosystem(ecosystem);
    let found = lookup.token_of(ecosystem, token).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::UPDATE_SERVER_TOKEN, ecosystem)?;
    let (id, (token_id, change)) = combine(id, combine(token_id, token_change(&request)))?;
    let ecosystem = permit.ecosystem(&id)?;

    let stored = update(app, &permit, &ecosystem.into(), token_id, &change).await?;
    ok(&record(&stored, app.now().seconds()))
}
