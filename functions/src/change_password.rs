//! `POST /api/auth/password`: changes the password of the calling user.

use futures_util::future::join;
use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        email::Email,
        error::{Error, Result, combine},
        password::Password,
    },
    http::{Origin, credential, fields::Fields, log_in::check, no_content},
    service::{
        access::rights,
        own_password::{StoredPassword, change_password, stored_password},
        rate_limit::take_back,
        verify::Lookup,
    },
};

/// Returns 204. Every token of the user ends, except the calling token.
///
/// Before the current password is checked, the attempt is counted like a log-in of the user. If the
/// password is correct, the attempt is taken back.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field. Such a request does not count as an
/// attempt. 401, also if the token ends during the request; 403 if the caller is not a user, lacks
/// the scope, sends a wrong current password or has no password; 409 if another request changes the
/// password or ends all tokens of the user at the same time; 413; 415; 429.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let found = Lookup::new(app).caller(&credential).read().await?;

    let caller = found.caller(&credential)?;
    let id = caller.user().cloned().ok_or(Error::Forbidden)?;
    let permit = caller.may(rights::CHANGE_PASSWORD, Some(id.ecosystem()))?;
    let (current, new) = passwords(app, &request)?;
    let user = permit.user(&id)?;

    let origin = Origin::of_client(&request);
    let subject = user.email.as_ref().map_or(id.as_str(), Email::normal);
    let read = stored_password(app, user);
    let is_correct = async |stored: StoredPassword| {
        let is_correct = stored.is(app, current).await?;
        Ok(is_correct.then_some(()))
    };
    let checked = Box::pin(check(app, &request, &origin, subject, read, is_correct)).await?;
    let ((), counted) = checked.ok_or(Error::WrongCurrentPassword)?;
    let change = change_password(app, &permit, user, new);
    let (changed, ()) = join(change, take_back(app.ephemeral()?, counted)).await;
    changed?;
    Ok(no_content())
}

/// Returns the current password and the new one.
fn passwords(app: &App, request: &Request) -> Result<(Password, Password)> {
    let mut body = Fields::json(request)?;
    let min_length = app.settings().password_min_length;
    let current = body.required("currentPassword", Password::parse);
    let new = body.required("newPassword", |text| Password::parse_new(text, min_length));
    combine(Fields::query(request).finish(), body.finish())?;
    current.zip(new).ok_or(Error::InvalidBody(
        "the body contains no current password or no new password",
    ))
}
