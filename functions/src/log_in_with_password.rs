//! `POST /_/user-token/value`: log in with a password, for the value of one's e-mail token.

use futures_util::future::join;
use lambda_http::{Body, Request, Response};
use shared::{
    App,
    attempts::Budget,
    email::Email,
    email_token::try_log_in,
    error::{Error, Result, both},
    http::{email_token::value, fields::Fields, source},
    password::Password,
};

/// How many attempts may fail in a window, and how long that is, in seconds.
const WINDOW: u64 = 15 * 60;
const OF_ADDRESS_AND_SOURCE: u32 = 10;
const OF_SOURCE: u32 = 30;
const OF_ADDRESS: u32 = 100;

/// Answers 200 with the value of the user's live e-mail token, or of one that is made now. No
/// credential is needed: the password is one.
///
/// An attempt is charged to its address and its source before anything is looked at, and refunded
/// unless it was wrong.
///
/// # Errors
/// 400 on the body or a query field, which is no attempt; 401, one and the same, on a wrong password, an
/// unknown address, and a user that is inactive or has no password; 413, 415, 429.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let (email, password) = given(&request)?;
    let (address, source) = (email.normal(), source(&request));
    let pair = format!("{source} {address}");
    let budgets = [
        Budget::new(
            "log-in of address and source",
            &pair,
            WINDOW,
            OF_ADDRESS_AND_SOURCE,
        ),
        Budget::new("log-in of source", &source, WINDOW, OF_SOURCE),
        Budget::new("log-in of address", address, WINDOW, OF_ADDRESS),
    ];
    let attempts = app.ephemeral()?;
    let charged = attempts.charge(&budgets, app.now().seconds()).await?;

    match try_log_in(app, &email, password).await {
        Ok(Some(user)) => {
            let (token, ()) = join(user.value(app), attempts.refund(charged)).await;
            value(&token?.ok_or(Error::WrongPassword)?)
        }
        Ok(None) => {
            attempts.failed(charged).await;
            Err(Error::WrongPassword)
        }
        // Nobody learned anything of the password.
        Err(error) => {
            attempts.refund(charged).await;
            Err(error)
        }
    }
}

fn given(request: &Request) -> Result<(Email, Password)> {
    let mut body = Fields::json(request)?;
    let email = body.required("email", Email::parse);
    let password = body.required("password", Password::parse);
    both(Fields::query(request).finish(), body.finish())?;
    email
        .zip(password)
        .ok_or(Error::InvalidBody("the body names no user"))
}
