//! `GET /_/user-token/value`: reads the value of a user's e-mail token.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{
        credential,
        email_token::{email_of_query, value},
    },
    service::{access::rights, email_token, verify::Lookup},
};

/// Returns 200 with the value, even if the e-mail token has expired. A user token may read the
/// value of the same user's e-mail token. An admin user's token may read the value of every e-mail
/// token in the admin user's ecosystem. In both cases the token must have at least the scope of the
/// e-mail token and must not expire before the e-mail token.
///
/// # Errors
/// 400 if a query field is invalid, or if there is a body; 401; 403; 404 if the address is unknown
/// or the user has no e-mail token; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let email = email_of_query(&request);
    let found = Lookup::new(app).caller(&credential).read().await?;

    let caller = found.caller(&credential)?;
    let is_own = email
        .as_ref()
        .is_ok_and(|email| caller.is_own_address(email));
    let right = if is_own {
        rights::GET_OWN_EMAIL_TOKEN_VALUE
    } else {
        rights::GET_EMAIL_TOKEN_VALUE
    };
    let permit = caller.may(right, None)?;
    let email = email?;

    let token = email_token::value(app, &permit, &email).await?;
    value(&token.ok_or_else(|| email_token::not_found(&email))?)
}
