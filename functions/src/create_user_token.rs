//! `POST /api/users/{id}/tokens`: creates a token for a user.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{
        credential,
        token::{minted, new_token},
        user_ecosystem, user_id,
    },
    service::{access::rights, directory::must_be_active, tokens::mint, verify::Lookup},
};

/// Returns 200 with the token, which is shown only once. Only its hash is stored.
///
/// # Errors
/// 400 if the user id or a field is invalid; 401; 403; 404 if the ecosystem or the user is unknown;
/// 409 if the user is inactive, belongs to a deleted environment or has the most tokens allowed;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).caller(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::CREATE_USER_TOKEN, user_ecosystem(&request).as_ref())?;
    let (id, wanted) = combine(id, new_token(&request))?;
    let user = permit.user(&id)?;
    let grant = permit.grant_to_user(user, wanted)?;
    must_be_active(app, user).await?;

    let (token, plain) = mint(app, grant).await?;
    minted(&token, &plain)
}
