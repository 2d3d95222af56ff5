//! The shapes that users' and servers' tokens have on the wire (contract, section 2).

use futures_util::future::try_join;
use lambda_http::{Body, Request, Response};
use serde::Serialize;

use super::{
    fields::{self, Fields},
    response::{ok, ok_secret},
};
use crate::{
    app::App,
    error::{Result, both},
    owner::{Owner, OwnerKey},
    page::{MAX_LIMIT, cursor, parse_cursor, parse_limit},
    time::UnixSeconds,
    token::{Expiry, ExpiryType, NewToken, PlainToken, Token, TokenId, TokenName, Ttl},
};

/// The token that a query asks for; a body is not read.
///
/// # Errors
/// A query field is wrong, or the body too large.
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
    both(fields::body(request), query.finish()).map(|_| wanted)
}

/// The token that a form asks about (RFC 7662 §2.1, RFC 7009 §2.1); none if it is no token's text,
/// which is not the form's fault.
///
/// # Errors
/// The form, or a query field, is wrong.
pub fn of_form(request: &Request) -> Result<Option<PlainToken>> {
    let mut form = Fields::form(request)?;
    let token = form.required("token", |text| Ok::<_, String>(PlainToken::parse(text)));
    // A hint about the type, which a token tells by itself.
    form.optional("token_type_hint", |_| Ok::<_, String>(()));
    both(Fields::query(request).finish(), form.finish()).map(|_| token.flatten())
}

/// 200 with a new token, shown this once.
///
/// # Errors
/// It cannot be written as JSON.
pub fn minted(token: &Token, plain: &PlainToken) -> Result<Response<Body>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Minted<'a> {
        token: &'a str,
        token_id: String,
        expiry_type: ExpiryType,
        expires_at: Option<String>,
    }
    ok_secret(&Minted {
        token: plain.reveal(),
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
/// A query field is wrong, or the body too large.
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
    both(fields::body(request), query.finish()).map(|_| page)
}

/// 200 with a page of an owner's live tokens, newest first. It is shorter than was asked for where
/// some that were looked at are dead.
///
/// # Errors
/// The database is away.
pub async fn list(app: &App, owner: &Owner, page: Page) -> Result<Response<Body>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        token_id: String,
        name: Option<TokenName>,
        expiry_type: ExpiryType,
        created_at: Option<String>,
        last_used_at: Option<String>,
        expires_at: Option<String>,
    }
    #[derive(Serialize)]
    struct List {
        tokens: Vec<Listed>,
        cursor: Option<String>,
    }
    let key = owner.id.key();
    let now = app.now().seconds();
    // Tokens of a short code's user count no longer than its environment.
    let environment = owner.environment.as_ref();
    let lookup = app.lookup().environment(environment);
    let (tokens, found) = try_join(
        app.identity.tokens(key, page.after, page.limit),
        lookup.read(),
    )
    .await?;
    let (tokens, last) = tokens;
    let ended = environment.is_some_and(|id| found.environment(id).is_none());
    let counts = |token: &Token| token.counts_for(owner, now) && !app.is_void(token.id);
    let live = tokens.into_iter().filter(|token| !ended && counts(token));
    let listed = live.map(|token| Listed {
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        created_at: token.created_at.to_rfc3339(),
        last_used_at: match token.expiry {
            Expiry::SlidingTtl { last_used_at, .. } => {
                last_used_at.and_then(UnixSeconds::to_rfc3339)
            }
            Expiry::Infinite | Expiry::FixedTtl { .. } | Expiry::Email { .. } => None,
        },
        expires_at: token.expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
        name: token.name,
    });
    ok(&List {
        tokens: listed.collect(),
        cursor: last.map(|id| cursor(key, id)),
    })
}
