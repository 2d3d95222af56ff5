//! The credential of a request (RFC 6750 §2.1).

use lambda_http::{Request, http::header::AUTHORIZATION};

use crate::{
    domain::{
        error::{Error, Location, Problem, Result},
        token::PlainToken,
    },
    service::app::App,
};

/// The maximum length of a header that is parsed, in bytes. `Bearer`, a space and a new token have
/// 96 bytes.
const MAX_HEADER: usize = 256;

/// Parses the token in the `Authorization` header. The header contains either only the token, or
/// `Bearer` (in upper or lower case), one space and the token.
///
/// A token in the query or the body is not a credential.
///
/// # Errors
/// [`Error::Unauthorized`] if the header is missing or contains no token that [`App::token`]
/// accepts; [`Error::Invalid`] if the header was sent more than once (API Gateway joins the values
/// with a comma). Also returns the errors of [`App::token`].
pub async fn credential(app: &App, request: &Request) -> Result<PlainToken> {
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
    of_header(app, value.to_str().ok()).await
}

/// Parses the token in the value of an `Authorization` header. `value` is `None` if the header's
/// value is not text.
///
/// # Errors
/// [`Error::Unauthorized`] if the value contains no token that [`App::token`] accepts. Also returns
/// the errors of [`App::token`].
pub async fn of_header(app: &App, value: Option<&str>) -> Result<PlainToken> {
    let refused = Error::Unauthorized { token_sent: true };
    let Some(text) = value.filter(|text| text.len() <= MAX_HEADER) else {
        return Err(refused);
    };
    let token = match text.split_once(' ') {
        None if is_bearer(text) => "",
        None => text,
        Some((scheme, token)) if is_bearer(scheme) => token,
        // A header with another scheme counts as no token (RFC 6750 §3.1).
        Some(_) => "",
    };
    if token.is_empty() {
        return Err(Error::Unauthorized { token_sent: false });
    }
    app.token(token).await?.ok_or(refused)
}

fn is_bearer(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("bearer")
}
