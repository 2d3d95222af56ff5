//! `POST /_/user-token/value`: logs a user in with a password and returns the value of the user's
//! e-mail token.

use futures_util::future::join;
use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Error, Result, combine},
    http::{back_end, email_token::value, fields::Fields, log_in::LogIn},
    service::{rate_limit::take_back, verify::Verified},
};

/// Returns 200 with the value of the user's e-mail token. If the user has no valid e-mail token, a
/// new e-mail token is created. The password is the only credential that is needed.
///
/// Before the password is checked, the attempt is counted for its source and for its e-mail
/// address. If the log-in does not fail with a 401, the attempt is taken back.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field. Such a request does not count as an
/// attempt. 401 if the password is wrong, if the address is unknown, or if the user is inactive,
/// has no password or belongs to a deleted environment. The response is the same in all these
/// cases. 413, 415, 429.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let back_end = back_end(app, &request).await?;
    let log_in = given(&request, back_end.as_ref())?;
    let (user, counted) = log_in.run(app, &request).await?;
    let (token, ()) = join(user.value(app), take_back(app.ephemeral()?, counted)).await;
    value(&token?.ok_or(Error::WrongPassword)?)
}

fn given(request: &Request, back_end: Option<&Verified>) -> Result<LogIn> {
    let mut body = Fields::json(request)?;
    let log_in = LogIn::take(request, back_end, &mut body);
    combine(Fields::query(request).finish(), body.finish())?;
    log_in.ok_or(Error::InvalidBody(
        "the body contains no email or no password",
    ))
}
