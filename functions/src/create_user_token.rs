//! `POST /api/users/{ecosystemId};{userId}/tokens`: mint a token for a user.

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

/// Answers 200 with the token, shown this once; only its hash is stored.
///
/// # Errors
/// 400 on the user's id, a query field or a body, 401, 403, 404 on the ecosystem, then on the user, 409
/// on a user that is inactive or of a deleted environment, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let id = user_id(&request);
    let lookup = Lookup::new(app).token(&credential).user(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::CREATE_USER_TOKEN, user_ecosystem(&request).as_ref())?;
    let (id, wanted) = combine(id, new_token(&request))?;
    let user = permit.user(&id)?;
    must_be_active(app, user).await?;

    let (token, plain) = mint(app, permit.proof, user, wanted).await?;
    minted(&token, &plain)
}
