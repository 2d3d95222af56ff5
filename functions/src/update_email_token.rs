//! `PUT /_/user-token`: replaces the scope and the expiry of a user's e-mail token.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{error::Result, token::Scope},
    http::{
        email_token::{managed, record, wanted},
        ok,
    },
    service::{access::rights, email_token},
};
use tokenry_api::Data;

/// Returns 200 with the token's record. The token's value stays the same. The next verification
/// uses the new scope and expiry.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field; 401; 403; 404 if the address is
/// unknown or the user has no e-mail token; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let ask = |request: &Request| wanted(request, Scope::read());
    let request = managed(app, &request, rights::UPDATE_EMAIL_TOKEN, ask).await?;

    let (user, properties) = (&request.user, request.asked);
    let updated = email_token::update(app, request.proof, user, properties).await?;
    let token = updated.ok_or_else(|| email_token::not_found(&request.email))?;
    ok(&Data::from(record(&token, &user.user)))
}
