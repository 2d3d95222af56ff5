//! `GET /api/auth/whoami`: returns the claims of the caller's own token, and checks that the token
//! has what the query requires. Gateways use it for forward authentication.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{
        credential,
        token::{ok_claims, required},
    },
    service::verify::Lookup,
};

/// Returns 200 with the claims of the caller's token, in the body and in headers. Any valid token
/// may call this endpoint. The call counts as a use of the token, and a body is ignored.
///
/// # Errors
/// 400 if the query is invalid; 401; 403 if the token does not have what the query requires.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let required = required(&request);
    let credential = credential(app, &request).await?;
    // `Lookup::token` instead of `Lookup::caller`: a gateway must not accept a token that was
    // revoked since this execution environment last verified it.
    let found = Lookup::new(app).token(&credential).read().await?;

    let caller = found.caller(&credential)?;
    required?.check(caller.own_token())?;
    ok_claims(caller.own_token())
}
