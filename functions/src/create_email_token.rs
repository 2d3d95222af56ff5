//! `POST /_/user-token`: creates a user's e-mail token.

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

/// Returns 201 with the token's record. A separate request reads the token's value.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field; 401; 403; 404 if the address is
/// unknown; 409 if the user has a valid e-mail token, is inactive or belongs to a deleted
/// environment; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let ask = |request: &Request| wanted(request, Scope::read_write());
    let request = managed(app, &request, rights::CREATE_EMAIL_TOKEN, ask).await?;

    let (user, properties) = (&request.user, request.asked);
    let token = email_token::create(app, request.proof, user, properties).await?;
    created(&Data::from(record(&token, &user.user)))
}
