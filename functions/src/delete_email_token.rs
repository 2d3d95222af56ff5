//! `DELETE /_/user-token`: deletes a user's e-mail token.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{
        email_token::{email_of_body_or_query, managed, record},
        ok,
    },
    service::{access::rights, email_token},
};
use tokenry_api::Data;

/// Returns 200 with the record of the deleted token. The token is invalid from then on.
///
/// # Errors
/// 400 if the body or a query field is invalid; 401; 403; 404 if the address is unknown or the user
/// has no e-mail token; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let ask = |request: &Request| email_of_body_or_query(request).map(|email| (email, None));
    let request = managed(app, &request, rights::DELETE_EMAIL_TOKEN, ask).await?;

    let deleted = email_token::delete(app, request.proof, &request.user, request.by).await?;
    let token = deleted.ok_or_else(|| email_token::not_found(&request.email))?;
    ok(&Data::from(record(&token, &request.user.user)))
}
