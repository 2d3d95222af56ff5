//! The credential of a request (contract, section 1; RFC 6750 §2.1).

use lambda_http::{Request, http::header::AUTHORIZATION};

use crate::{
    domain::{
        error::{Error, Location, Problem, Result},
        token::PlainToken,
    },
    service::app::App,
};

/// A longer header is refused unparsed; a token with its scheme is 96 bytes.
const MAX_HEADER: usize = 256;

/// The token in the `Authorization` header: raw, or after `Bearer` (in any case) and one space.
/// Nowhere else: a token in the query or the body is no credential.
///
/// # Errors
/// [`Error::Unauthorized`] unless it is a well-formed token, which is decided without a read;
/// [`Error::Invalid`] if the header was sent twice, which API Gateway joins with a comma.
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

/// The token in the value of an `Authorization` header; none of a value that is no text.
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
        // Another scheme: no token was sent (RFC 6750 §3.1).
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
