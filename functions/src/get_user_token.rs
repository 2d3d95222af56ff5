//! `GET /api/users/{id}/tokens/{tokenId}`: returns what is stored about one token of a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, fields, ok, token::record, token_id, user_ecosystem, user_id},
    service::{access::rights, tokens::look, verify::Lookup},
};

/// Returns 200 with the record of the token, without its secret. A user may ask for its own tokens.
///
/// # Errors
/// 400 if an id is invalid, or if there is any query field or body; 401; 403; 404 if the ecosystem,
/// the user or the token is unknown; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let (id, token_id) = (user_id(&request), token_id(&request));
    let (user, token) = (id.as_ref().ok(), token_id.as_ref().ok().copied());
    let lookup = Lookup::new(app).caller(&credential).user(user);
    let found = lookup.token_of(user, token).read().await?;

    let caller = found.caller(&credential)?;
    let ecosystem = user_ecosystem(&request);
    let permit = caller.may_for_user(rights::GET_USER_TOKEN, ecosystem.as_ref(), user)?;
    let (id, (token_id, ())) = combine(id, combine(token_id, fields::no_input(&request)))?;
    let user = permit.user(&id)?;

    let stored = look(app, &permit, &user.into(), token_id).await?;
    ok(&record(&stored, app.now().seconds()))
}
