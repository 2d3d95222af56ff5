//! The credential of a request: a token (RFC 6750 §2.1). OAuth clients may also send it as their
//! client secret (RFC 6749 §2.3.1).

use base64::{Engine, prelude::BASE64_STANDARD};
use lambda_http::{
    Request,
    http::{HeaderValue, header::AUTHORIZATION},
};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::fields::Fields;

use crate::{
    domain::{
        error::{Error, Location, Problem, Result},
        token::PlainToken,
    },
    service::app::App,
};

/// The maximum length of a header that is parsed, in bytes. `Bearer`, a space and a new token have
/// 96 bytes. A `Basic` credential is longer: it also contains the client's id, which may be a URL.
const MAX_HEADER: usize = 1024;

/// The form fields of a client's credential.
const CLIENT_ID: &str = "client_id";
const CLIENT_SECRET: &str = "client_secret";

/// Parses the token in the `Authorization` header. The header contains either only the token, or
/// `Bearer` (in upper or lower case), spaces and the token.
///
/// A token in the query or the body is not a credential.
///
/// # Errors
/// [`Error::Unauthorized`] if the header is missing or contains no token that [`App::token`]
/// accepts; [`Error::Invalid`] if the header was sent more than once (API Gateway joins the values
/// with a comma). Also returns the errors of [`App::token`].
pub async fn credential(app: &App, request: &Request) -> Result<PlainToken> {
    match only_header(request)? {
        Some(value) => of_header(app, value.to_str().ok()).await,
        None => Err(Error::Unauthorized { token_sent: false }),
    }
}

/// Parses the token of an OAuth client. [`credential`] describes the first form of the credential.
/// In two other forms, the token is the client's secret, and the client's id may be any text (RFC
/// 6749 section 2.3.1):
///
/// - The header contains `Basic`, spaces, and the id and the secret in base64, with a colon between
///   them. The id and the secret may be percent-encoded.
/// - The form in the body has the fields `client_id` and `client_secret`.
///
/// # Errors
/// [`Error::Unauthorized`] if the header and the form contain no token that [`App::token`] accepts,
/// or if the client's id is empty; [`Error::Invalid`] if the header was sent more than once, if
/// there are both a header and a `client_secret`, or if the form has a `client_secret` and
/// `client_id` is missing or a field is repeated. Also returns the errors of [`App::token`].
pub async fn client_credential(app: &App, request: &Request) -> Result<PlainToken> {
    let header = only_header(request)?;
    let secret = match (header, secret_of_form(request)?) {
        (_, Some(secret)) => Some(secret),
        (Some(value), None) if is_basic(request) => secret_of_basic(value),
        (_, None) => return credential(app, request).await,
    };
    let token = match secret {
        Some(secret) => app.token(&secret).await?,
        None => None,
    };
    token.ok_or(Error::Unauthorized { token_sent: true })
}

/// Returns whether the credential in the `Authorization` header has the scheme `Basic`.
pub(super) fn is_basic(request: &Request) -> bool {
    let header = request.headers().get(AUTHORIZATION);
    header.is_some_and(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
    })
}

/// Returns the `Authorization` header, if there is one.
fn only_header(request: &Request) -> Result<Option<&HeaderValue>> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let value = values.next();
    let has_comma = |value: &HeaderValue| value.as_bytes().contains(&b',');
    if value.is_some_and(has_comma) || values.next().is_some() {
        return Err(Error::from(Problem {
            location: Location::Header,
            path: "Authorization",
            message: "field must be given once".into(),
        }));
    }
    Ok(value)
}

/// Returns the client's secret in a `Basic` credential. Returns `None` if the credential is
/// malformed, or if the client's id is empty.
fn secret_of_basic(value: &HeaderValue) -> Option<Zeroizing<String>> {
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_HEADER);
    let (_, encoded) = text?.split_once(' ')?;
    let pair = BASE64_STANDARD.decode(encoded.trim_start_matches(' '));
    let pair = Zeroizing::new(pair.ok()?);
    let (id, secret) = str::from_utf8(&pair).ok()?.split_once(':')?;
    let secret = percent_decode_str(secret).decode_utf8().ok()?;
    (!id.is_empty()).then(|| Zeroizing::new(secret.into_owned()))
}

/// Returns the client's secret in the form in the body, if there is one. A field without a value
/// counts as missing (RFC 6749 section 3.2). A body that is not a form contains no secret.
///
/// # Errors
/// There is a secret, and there is also a header, or the id is missing or repeated; or the secret
/// is repeated.
fn secret_of_form(request: &Request) -> Result<Option<Zeroizing<String>>> {
    let Ok(mut form) = Fields::form(request, &[CLIENT_ID, CLIENT_SECRET]) else {
        return Ok(None);
    };
    let has_header = request.headers().contains_key(AUTHORIZATION);
    let secret = form.optional(CLIENT_SECRET, |text| {
        if has_header && !text.is_empty() {
            Err("field is not allowed with an Authorization header")
        } else {
            Ok(Zeroizing::new(text.to_owned()))
        }
    });
    let secret = secret.filter(|secret| !secret.is_empty());
    if secret.is_some() {
        form.required(CLIENT_ID, |id| match id {
            "" => Err("field is required"),
            _ => Ok(()),
        });
    }
    form.finish_ignoring_others().map(|()| secret)
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
        Some((scheme, token)) if is_bearer(scheme) => token.trim_start_matches(' '),
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
