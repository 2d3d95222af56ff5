//! Requests and responses of the endpoints for e-mail tokens.

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
        token::{Author, Scope},
    },
    service::{
        access::{MayWrite, Right},
        app::App,
        email_token::{self, EmailUser},
        verify::Lookup,
    },
};

/// The name of the field that identifies the user.
const EMAIL: &str = "email";

/// Returns the record of a user's e-mail token, without its value. If the token never expires,
/// `expiration_date` is the time of the token's last change, because clients of this API expect
/// that time.
pub fn record(token: &EmailToken, user: &User) -> tokenry_api::EmailToken {
    let date = token.expiration_date.map(ExpirationDate::millis);
    tokenry_api::EmailToken {
        email: user.email.as_ref().map_or("", Email::as_given).into(),
        user_id: token.user_id.to_string(),
        token_id: token.token_id.to_string(),
        write: token.scope.can_write(),
        expiration_date: date.unwrap_or(token.updated_at.millis()),
        expiry_type: token.expiry_type(),
        created_at: token.created_at.millis(),
        updated_at: token.updated_at.millis(),
    }
}

/// Returns 200 with the value of an e-mail token.
///
/// # Errors
/// The response cannot be written as JSON.
pub fn value(value: &str) -> Result<Response<Body>> {
    let token = value.to_owned().into();
    ok_secret(&Data::from(EmailTokenValue { token }))
}

/// Parses the user's address and the token's properties in a body. `default` is the scope if the
/// body has no field `write`.
///
/// # Errors
/// The body is invalid, or there is a query field.
pub fn wanted(request: &Request, default: Scope) -> Result<(Email, Properties)> {
    let mut body = Fields::json(request)?;
    let email = body.required(EMAIL, Email::parse);
    let scope = match body.boolean("write") {
        Some(true) => Scope::read_write(),
        Some(false) => Scope::read(),
        None => default,
    };
    let properties = Properties {
        scope,
        expiration_date: body.number("expiration_date", ExpirationDate::parse),
    };
    combine(Fields::query(request).finish(), body.finish())?;
    Ok((email.ok_or(MISSING)?, properties))
}

/// A request that [`managed`] allowed.
pub struct Managed<T> {
    /// The proof that the caller may manage the user's e-mail token.
    pub proof: MayWrite,
    /// The caller's token.
    pub by: Author,
    /// The user with the address.
    pub user: EmailUser,
    /// The address.
    pub email: Email,
    /// The parsed request.
    pub asked: T,
}

/// Checks that the caller may change e-mail tokens. Returns the proof, the user whose address is in
/// the request, the address, and the other parsed parts of the request. `ask` parses the request.
/// The errors of `ask` are returned only if the caller is allowed to change e-mail tokens.
///
/// An admin user may give an e-mail token only properties that the admin user's own token covers.
/// Without this rule, an admin user with a short-lived token could read the value of an e-mail
/// token and then extend the lifetime of the e-mail token.
///
/// # Errors
/// [`Error::Unauthorized`] if the caller's credential is not valid; [`Error::Forbidden`] if the
/// caller does not have the right, or if the caller's token does not cover the properties in the
/// request; [`Error::NotFound`] if no user that the caller is allowed to see has the address;
/// [`Error::Unavailable`] if the database is unavailable. Also returns the errors of `ask`.
pub async fn managed<T: Clone + Into<Option<Properties>>>(
    app: &App,
    request: &Request,
    right: Right<MayWrite>,
    ask: impl FnOnce(&Request) -> Result<(Email, T)>,
) -> Result<Managed<T>> {
    let credential = credential(app, request).await?;
    let asked = ask(request);
    let found = Lookup::new(app).caller(&credential).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(right, None)?;
    let (email, asked) = asked?;
    if let Some(properties) = asked.clone().into() {
        permit
            .caller()
            .must_cover(&properties.scope, properties.expiry().expires_at())?;
    }
    let user = email_token::find(app, &permit, &email).await?;
    Ok(Managed {
        proof: permit.proof,
        by: permit.caller().author(),
        user,
        email,
        asked,
    })
}

/// Parses the user's address in a query.
///
/// # Errors
/// A query field is invalid, the address is missing, or the request has a body.
pub fn email_of_query(request: &Request) -> Result<Email> {
    let mut query = Fields::query(request);
    let email = query.required(EMAIL, Email::parse);
    combine(fields::no_body(request), query.finish())?;
    email.ok_or(MISSING)
}

/// Parses the user's address, which is in the body or in the query.
///
/// # Errors
/// The body or a query field is invalid, the address is missing, or both the body and the query
/// contain an address.
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

/// The error for a missing address. No client gets this error, because [`Fields`] reports a missing
/// field first.
const MISSING: Error = Error::InvalidBody("the request contains no email");
