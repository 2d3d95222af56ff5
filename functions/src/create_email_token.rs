//! `POST /_/user-token`: make a user's e-mail token.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{error::Result, token::Scope},
    http::{
        created,
        email_token::{managed, record, wanted},
    },
    service::{access::rights, email_token},
};
use tokenry_api::Data;

/// Answers 201 with the token's record; its value is read apart.
///
/// # Errors
/// 400 on the body or a query field, 401, 403, 404 on the address, 409 if there is one that lives or
/// the user is inactive or of a deleted environment, 413, 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let ask = |request: &Request| wanted(request, Scope::ReadWrite);
    let (proof, user, _, properties) =
        managed(app, &request, rights::CREATE_EMAIL_TOKEN, ask).await?;

    let token = email_token::create(app, proof, &user, properties).await?;
    created(&Data::from(record(&token, &user.user)))
}
