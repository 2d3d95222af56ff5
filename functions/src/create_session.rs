//! `POST /api/auth/sessions`: logs a user in with a password and creates a session. Each session
//! has its own token.

use futures_util::future::join;
use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        error::{Error, Result, combine},
        token::{ExpiryType, Metadata, Scope, TokenName, Ttl},
    },
    http::{back_end, fields::Fields, log_in::LogIn, token::created_session},
    service::{rate_limit::take_back, session::NewSession, verify::Verified},
};

/// The error for a field that only a back end may send.
const NEEDS_BACK_END: &str = "field needs a valid server token";

/// Returns 201 with the session's token, which is shown only once. The password is the only
/// credential that is needed.
///
/// The attempt is counted as for `POST /_/user-token/value`. Both endpoints use the same limits.
///
/// # Errors
/// 400 if the body is invalid, or if there is any query field. Such a request does not count as an
/// attempt. 401 as for `POST /_/user-token/value`. If the password is correct: 400 if the settings
/// of the user's ecosystem do not allow such a long time; 403 if a back end chooses the scope for
/// an admin user and may not do that; 409 if the user has the most tokens allowed. 413, 415, 429.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let back_end = back_end(app, &request).await?;
    let (log_in, wanted) = given(&request, back_end.as_ref())?;
    let (user, counted) = log_in.run(app, &request).await?;
    let session = user.session(app, back_end.as_ref(), &wanted);
    let (session, ()) = join(session, take_back(app.ephemeral()?, counted)).await;
    created_session(&session?.ok_or(Error::WrongPassword)?)
}

fn given(request: &Request, back_end: Option<&Verified>) -> Result<(LogIn, NewSession)> {
    let mut body = Fields::json(request)?;
    let log_in = LogIn::take(request, back_end, &mut body);
    let expiry_type = body.text("expiryType", |text| match ExpiryType::parse(text) {
        Ok(ExpiryType::Infinite) | Err(_) => {
            Err("field must be one of the following values: FixedTtl, SlidingTtl")
        }
        Ok(expiry_type) => Ok(expiry_type),
    });
    let wanted = NewSession {
        expiry_type: expiry_type.unwrap_or(ExpiryType::SlidingTtl),
        ttl: body.number("ttl", Ttl::parse),
        max_ttl: body.number("maxTtl", Ttl::parse),
        name: body.text("name", TokenName::parse),
        scope: body.text("scope", |text| match back_end {
            None => Err(NEEDS_BACK_END.to_owned()),
            Some(_) => Scope::parse(text).map_err(str::to_owned),
        }),
        metadata: body.value("metadata", |value| match back_end {
            None => Err(NEEDS_BACK_END.to_owned()),
            Some(_) => Metadata::parse(value).map_err(Into::into),
        }),
    };
    combine(Fields::query(request).finish(), body.finish())?;
    let log_in = log_in.ok_or(Error::InvalidBody(
        "the body contains no email or no password",
    ))?;
    Ok((log_in, wanted))
}
