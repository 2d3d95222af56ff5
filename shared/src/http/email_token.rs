//! The shapes that e-mail tokens have on the wire (contract, section 4).

use lambda_http::{Body, Request, Response};
use tokenry_api::{Data, EmailTokenValue};

use super::{
    credential,
    fields::{self, Fields},
    response::ok_secret,
};
use crate::{
    domain::{
        email::Email,
        email_token::{EmailToken, ExpirationDate, Properties},
        error::{Error, Location, Problem, Result, combine},
        owner::User,
        token::Scope,
    },
    service::{
        access::{MayWrite, Right},
        app::App,
        email_token::{self, EmailUser},
        verify::Lookup,
    },
};

/// The field that names the user.
const EMAIL: &str = "email";

/// A user's e-mail token without its value. One that never expires has the time of its last change for a date,
/// as clients of this API know it.
pub fn record(token: &EmailToken, user: &User) -> tokenry_api::EmailToken {
    let date = token.expiration_date.map(ExpirationDate::millis);
    tokenry_api::EmailToken {
        email: user.email.as_ref().map_or("", Email::as_given).to_owned(),
        user_id: token.user_id.to_string(),
        token_id: token.token_id.to_string(),
        write: token.scope == Scope::ReadWrite,
        expiration_date: date.unwrap_or(token.updated_at.millis()),
        expiry_type: token.expiry_type(),
        created_at: token.created_at.millis(),
        updated_at: token.updated_at.millis(),
    }
}

/// 200 with the value of an e-mail token.
///
/// # Errors
/// It cannot be written as JSON.
pub fn value(value: &str) -> Result<Response<Body>> {
    let token = value.to_owned().into();
    ok_secret(&Data::from(EmailTokenValue { token }))
}

/// The user and the properties that a body asks for; a scope that is not said is `default`.
///
/// # Errors
/// The body, or a query field, is wrong.
pub fn wanted(request: &Request, default: Scope) -> Result<(Email, Properties)> {
    let mut body = Fields::json(request)?;
    let email = body.required(EMAIL, Email::parse);
    let scope = match body.boolean("write") {
        Some(true) => Scope::ReadWrite,
        Some(false) => Scope::Read,
        None => default,
    };
    let properties = Properties {
        scope,
        expiration_date: body.number("expiration_date", ExpirationDate::parse),
    };
    combine(Fields::query(request).finish(), body.finish())?;
    Ok((email.ok_or(MISSING)?, properties))
}

/// The user that a request names, and what else it asks for, if the caller may change e-mail tokens.
///
/// `ask` reads the request once there is a well-formed credential, and before the caller is verified:
/// the address that it names is looked up in the same round trip. An administrator gives an e-mail token
/// only properties that its own token covers: otherwise a short-lived one could revive what it may read.
///
/// # Errors
/// [`Error::Unauthorized`], [`Error::Forbidden`], what is wrong with the request,
/// [`Error::NotFound`]; the database is away.
pub async fn managed<T: Copy + Into<Option<Properties>>>(
    app: &App,
    request: &Request,
    right: Right<MayWrite>,
    ask: impl FnOnce(&Request) -> Result<(Email, T)>,
) -> Result<(MayWrite, EmailUser, Email, T)> {
    let credential = credential(app, request)?;
    let asked = ask(request);
    let email = asked.as_ref().ok().map(|(email, _)| email);
    let lookup = Lookup::new(app).token(&credential).address(email);
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(right, None)?;
    let (email, asked) = asked?;
    if let Some(properties) = asked.into() {
        permit
            .caller()
            .must_cover(properties.scope, properties.expiry().expires_at())?;
    }
    let user = email_token::find(app, &permit, &email).await?;
    Ok((permit.proof, user, email, asked))
}

/// The user that a query names.
///
/// # Errors
/// A query field is wrong or missing, or there is a body.
pub fn email_of_query(request: &Request) -> Result<Email> {
    let mut query = Fields::query(request);
    let email = query.required(EMAIL, Email::parse);
    combine(fields::no_body(request), query.finish())?;
    email.ok_or(MISSING)
}

/// The user that a body names, or a query.
///
/// # Errors
/// The body, or a query field, is wrong or missing; the user is named in both.
pub fn email_of_body_or_query(request: &Request) -> Result<Email> {
    if fields::body(request)?.is_empty() {
        return email_of_query(request);
    }
    let (mut body, mut query) = (Fields::json(request)?, Fields::query(request));
    let is_in_both = body.has(EMAIL) && query.has(EMAIL);
    let in_query = query
        .has(EMAIL)
        .then(|| query.required(EMAIL, Email::parse));
    let email = match in_query {
        Some(email) if !is_in_both => email,
        _ => body.required(EMAIL, Email::parse),
    };
    combine(query.finish(), body.finish())?;
    if is_in_both {
        return Err(Error::from(Problem {
            location: Location::Query,
            path: EMAIL,
            message: "field must be given once".into(),
        }));
    }
    email.ok_or(MISSING)
}

/// Never seen: a missing field is among the fields' problems.
const MISSING: Error = Error::InvalidBody("the request names no email");
