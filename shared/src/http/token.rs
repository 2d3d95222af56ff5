//! Requests and responses of the endpoints for user and server tokens.

use lambda_http::{Body, Request, Response};
use tokenry_api::{ListedToken, MintedToken, TokenList};

use super::{
    fields::{self, Fields},
    response::{ok, ok_secret},
};
use crate::{
    domain::{
        error::{Error, Result, combine},
        owner::{Owner, OwnerKey},
        time::UnixSeconds,
        token::{Expiry, ExpiryType, NewToken, PlainToken, Token, TokenId, TokenName, Ttl},
    },
    http::cursor::{MAX_LIMIT, cursor, parse_cursor, parse_limit},
    service::{access::MayRead, app::App, tokens},
};

/// Parses the properties of a new token in a query.
///
/// # Errors
/// A query field is invalid, there is a JSON body, or the body is too large.
pub fn new_token(request: &Request) -> Result<NewToken> {
    let mut query = Fields::query(request);
    let wanted = NewToken {
        expiry_type: query
            .optional("expiryType", ExpiryType::parse)
            .unwrap_or_default(),
        ttl: query.optional("ttl", Ttl::parse).unwrap_or_default(),
        max_ttl: query.optional("maxTtl", Ttl::parse),
        name: query.optional("name", TokenName::parse),
    };
    combine(fields::no_json_body(request), query.finish()).map(|_| wanted)
}

/// Parses the field `token` of an introspection request, whose body is a form (RFC 7662 section
/// 2.1). Returns `None` if the text in this field is not a token. Other fields are ignored (RFC
/// 6749 section 3.2).
///
/// # Errors
/// The field `token` is missing or repeated, the form has too many fields, or there is a query
/// field. Also returns the errors of [`Fields::form`].
pub fn to_introspect(request: &Request) -> Result<Option<PlainToken>> {
    let (mut form, has_more) = Fields::form(request)?;
    let token = form.required("token", |text| Ok::<_, String>(PlainToken::parse(text)));
    let form = if has_more {
        Err(Error::InvalidBody("the form has more than 16 fields"))
    } else {
        form.finish_ignoring_others()
    };
    combine(Fields::query(request).finish(), form).map(|_| token.flatten())
}

/// Parses the field `token` of a revocation request, whose body is a form (RFC 7009 section 2.1).
/// Returns `None` if the text in this field is not a token.
///
/// Unlike [`to_introspect`], this function accepts a request with query fields, and a form with too
/// many fields, because an error would leave the token valid. It ignores all fields after the first
/// [`MAX_FORM_FIELDS`](super::MAX_FORM_FIELDS). It also ignores white space around the token, such
/// as the line end of a file.
///
/// # Errors
/// The field `token` is missing or repeated. Also returns the errors of [`Fields::form`].
pub fn to_revoke(request: &Request) -> Result<Option<PlainToken>> {
    let (mut form, _) = Fields::form(request)?;
    let parse = |text: &str| Ok::<_, String>(PlainToken::parse(text.trim_ascii()));
    let token = form.required("token", parse);
    form.finish_ignoring_others().map(|()| token.flatten())
}

/// Returns 200 with a new token, which is shown only once.
///
/// # Errors
/// The response cannot be written as JSON.
pub fn minted(token: &Token, plain: &PlainToken) -> Result<Response<Body>> {
    ok_secret(&MintedToken {
        token: plain.reveal().to_owned().into(),
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        expires_at: token.expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
    })
}

/// A requested page of a list of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    limit: u32,
    after: Option<TokenId>,
}

/// Parses the requested page of this owner's tokens. `owner` is `None` if the id in the path is
/// invalid. Then the cursor is ignored, because it cannot be checked without the owner. The request
/// fails anyway, because the id is invalid.
///
/// # Errors
/// A query field is invalid, or there is a body.
pub fn page(request: &Request, owner: Option<OwnerKey>) -> Result<Page> {
    let mut query = Fields::query(request);
    let limit = query.optional("limit", parse_limit);
    let after = query.optional("cursor", |text| {
        owner.map(|owner| parse_cursor(text, owner)).transpose()
    });
    let page = Page {
        limit: limit.unwrap_or(MAX_LIMIT),
        after: after.flatten(),
    };
    combine(fields::no_body(request), query.finish()).map(|_| page)
}

/// Returns 200 with a page of an owner's valid tokens, newest first. The page is shorter than
/// requested if some of the tokens that were read from the database are invalid.
///
/// # Errors
/// The database is unavailable.
pub async fn list(app: &App, right: MayRead, owner: &Owner, page: Page) -> Result<Response<Body>> {
    let (tokens, last) = tokens::list_valid(app, right, owner, page.after, page.limit).await?;
    let listed = tokens.into_iter().map(|token| ListedToken {
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        // Only a time after the year 9999 has no RFC 3339 format.
        created_at: token.created_at.to_rfc3339().unwrap_or_default(),
        last_used_at: match token.expiry {
            Expiry::SlidingTtl { last_used_at, .. } => {
                last_used_at.and_then(UnixSeconds::to_rfc3339)
            }
            Expiry::Infinite | Expiry::FixedTtl { .. } | Expiry::Email { .. } => None,
        },
        expires_at: token.expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
        name: token.name.map(TokenName::into_string),
    });
    ok(&TokenList {
        tokens: listed.collect(),
        cursor: last.map(|id| cursor(owner.key(), id)),
    })
}
