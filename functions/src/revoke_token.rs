//! `POST /api/auth/revoke`: end a token by the token itself (RFC 7009).

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{ok_empty, token::to_revoke},
    service::tokens::revoke_itself,
};

/// Answers 200, whatever the token was. No credential is needed: the token is one.
///
/// # Errors
/// 400 on the field `token`, 413, 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    if let Some(token) = to_revoke(&request)? {
        revoke_itself(app, &token).await?;
    }
    Ok(ok_empty())
}
