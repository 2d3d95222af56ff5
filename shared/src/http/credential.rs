//! The credential of a request (RFC 6750 §2.1).

use lambda_http::{Request, http::header::AUTHORIZATION};

use crate::{
    domain::{
        error::{Error, Location, Problem, Result},
        token::PlainToken,
    },
    service::app::App,
};

/// The longest header that is parsed, in bytes. A token with its scheme has 96.
const MAX_HEADER: usize = 256;

/// Parses the token in the `Authorization` header: raw, or after `Bearer` (in any case) and one
/// space.
///
/// A token in the query or the body is not a credential.
///
/// # Errors
/// [`Error::Unauthorized`] unless it is a well-formed token, which is checked without a database
/// read; [`Error::Invalid`] if the header was sent twice (API Gateway joins the values with a
/// comma).
pub fn credential(app: &App, request: &Request) -> Result<PlainToken> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Error::Unauthorized { token_sent: false });
    };
    if value.as_bytes().contains(&b',') || values.next().is_some() {
        return Err(Error::from(Problem {
            location: Location::Header,
            path: "Authorization",
            message: "field must be given once".into(),
        }));
    }
    of_header(app, value.to_str().ok())
}

/// Parses the token in the value of an `Authorization` header; `None` stands for a value that is
/// not text.
///
/// # Errors
/// [`Error::Unauthorized`] unless it is a well-formed token.
pub fn of_header(app: &App, value: Option<&str>) -> Result<PlainToken> {
    let refused = Error::Unauthorized { token_sent: true };
    let Some(text) = value.filter(|text| text.len() <= MAX_HEADER) else {
        return Err(refused);
    };
    let token = match text.split_once(' ') {
        None if is_bearer(text) => "",
        None => text,
        Some((scheme, token)) if is_bearer(scheme) => token,
        // With another scheme, no token was sent (RFC 6750 §3.1).
        Some(_) => "",
    };
    if token.is_empty() {
        return Err(Error::Unauthorized { token_sent: false });
    }
    app.token(token).ok_or(refused)
}

fn is_bearer(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("bearer")
}
