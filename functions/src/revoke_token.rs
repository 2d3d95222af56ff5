//! `POST /api/auth/revoke`: revokes the token that is sent (RFC 7009).

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{oauth, ok, token::to_revoke},
    service::tokens::revoke_itself,
};
use tokenry_api::Revoked;

/// Returns 200 with an empty object, even if the token does not exist. The token is the only
/// credential that is needed: a header, the credential of an OAuth client and a query are ignored.
///
/// # Errors
/// 400 if the field `token` is missing or repeated, 413, 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let result = revoke(app, &request).await;
    oauth(&request, result)
}

async fn revoke(app: &App, request: &Request) -> Result<Response<Body>> {
    if let Some(token) = to_revoke(request)?
        && app.has_valid_tag(&token).await?
    {
        revoke_itself(app, &token).await?;
    }
    ok(&Revoked {})
}
