//! The shapes that users' and servers' tokens have on the wire (contract, section 2).

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
    service::{app::App, tokens},
};

/// The token that a query asks for.
///
/// # Errors
/// A query field is wrong, there is a JSON body, or a body that is too large.
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

/// The token that an introspection's form names (RFC 7662 section 2.1); `None` if the text is not a
/// token's. Other fields are ignored (RFC 6749 section 3.2).
///
/// # Errors
/// The field `token` is missing or repeated, the form has too many fields, or there is a query field.
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

/// The token that a revocation's form names (RFC 7009 section 2.1), as [`to_introspect`] reads it. A
/// query, or a form with too many fields, does not keep a token valid: fields after the first
/// [`MAX_FORM_FIELDS`](super::MAX_FORM_FIELDS) are ignored like unknown ones, and so is white space around
/// the token, which has a line end if it is sent from a file.
///
/// # Errors
/// The field `token` is missing or repeated.
pub fn to_revoke(request: &Request) -> Result<Option<PlainToken>> {
    let (mut form, _) = Fields::form(request)?;
    let parse = |text: &str| Ok::<_, String>(PlainToken::parse(text.trim_ascii()));
    let token = form.required("token", parse);
    form.finish_ignoring_others().map(|()| token.flatten())
}

/// 200 with a new token, shown this once.
///
/// # Errors
/// It cannot be written as JSON.
pub fn minted(token: &Token, plain: &PlainToken) -> Result<Response<Body>> {
    ok_secret(&MintedToken {
        token: plain.reveal().to_owned().into(),
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        expires_at: token.expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
    })
}

/// The page of a list of tokens that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    limit: u32,
    after: Option<TokenId>,
}

/// The page that a query asks for of this owner's tokens; a cursor for an owner that is not known
/// cannot be checked, and is not needed.
///
/// # Errors
/// A query field is wrong, or there is a body.
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

/// 200 with a page of an owner's live tokens, newest first. It is shorter than was asked for where
/// some that were looked at are dead.
///
/// # Errors
/// The database is away.
pub async fn list(app: &App, owner: &Owner, page: Page) -> Result<Response<Body>> {
    let (tokens, last) = tokens::list_valid(app, owner, page.after, page.limit).await?;
    let listed = tokens.into_iter().map(|token| ListedToken {
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        // RFC 3339 can write it until the year 9999.
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
