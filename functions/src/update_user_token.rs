//! `PATCH /api/users/{id}/tokens/{tokenId}`: changes one token of a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{
        credential, ok,
        token::{record, token_change},
        token_id, user_ecosystem, user_id,
    },
    service::{access::rights, tokens::update, verify::Lookup},
};

/// Returns 200 with the changed record of the token. A field that is omitted keeps its value. Null
/// removes the label or the metadata. A user may rename and disable its own tokens, and narrow
/// their scopes.
///
/// # Errors
/// 400 if an id or the body is invalid, or if there is any query field; 401; 403, for example if a
/// user enables a token; 404 if the ecosystem, the user or the token is unknown; 409 if the token
/// has ended or is an e-mail token; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let (id, token_id) = (user_id(&request), token_id(&request));
    let (user, token) = (id.as_ref().ok(), token_id.as_ref().ok().copied());
    let lookup = Lookup::new(app).caller(&credential).user(user);
    let found = lookup.token_of(user, token).read().await?;

    let caller = found.caller(&credential)?;
    let ecosystem = user_ecosystem(&request);
    let permit = caller.may_for_user(rights::UPDATE_USER_TOKEN, ecosystem.as_ref(), user)?;
    let (id, (token_id, change)) = combine(id, combine(token_id, token_change(&request)))?;
    let user = permit.user(&id)?;

    let stored = update(app, &permit, &user.into(), token_id, &change).await?;
    ok(&record(&stored, app.now().seconds()))
}
