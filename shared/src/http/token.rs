//! Requests and responses of the endpoints for user and server tokens.

use lambda_http::{Body, Request, Response, http::HeaderValue};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use serde_json::Value;
use tokenry_api::{EndedBy, Introspection, ListedToken, MintedToken, TokenList, TokenState};

use super::{
    fields::{self, Fields},
    response::{created_secret, ok, ok_secret},
};
use crate::{
    domain::{
        error::{Error, Result, combine},
        id::{EcosystemId, InvalidId},
        owner::{Owner, OwnerKey},
        time::UnixSeconds,
        token::{
            ExpiryType, Holder, Metadata, NewToken, PlainToken, Scope, Token, TokenChange, TokenId,
            TokenName, Ttl,
        },
    },
    http::cursor::{MAX_LIMIT, cursor, parse_cursor, parse_limit},
    service::{
        access::MayRead,
        app::App,
        session::CreatedSession,
        tokens::{self, TokenRecord},
        verify::Verified,
    },
};

/// The form field with the token to introspect or to revoke.
const TOKEN: &str = "token";

/// Parses the properties of a new token. `scope` and `metadata` are only in a JSON body. Each other
/// property is in the query or in a JSON body.
///
/// # Errors
/// A field is invalid, or is both in the query and in the body; a body with a JSON content type is
/// not a JSON object; the body is too large.
pub fn new_token(request: &Request) -> Result<NewToken> {
    let (mut query, mut body) = (Fields::query(request), Fields::optional_json(request)?);
    for name in ["expiryType", "ttl", "maxTtl", "name"] {
        body.reject_if_also_in(&mut query, name);
    }
    let expiry_type = query.optional("expiryType", ExpiryType::parse);
    let ttl = query.optional("ttl", Ttl::parse);
    let max_ttl = query.optional("maxTtl", Ttl::parse);
    let name = query.optional("name", TokenName::parse);
    let wanted = NewToken {
        expiry_type: expiry_type
            .or_else(|| body.text("expiryType", ExpiryType::parse))
            .unwrap_or_default(),
        ttl: ttl
            .or_else(|| body.number("ttl", Ttl::parse))
            .unwrap_or_default(),
        max_ttl: max_ttl.or_else(|| body.number("maxTtl", Ttl::parse)),
        name: name.or_else(|| body.text("name", TokenName::parse)),
        scope: body.text("scope", Scope::parse).unwrap_or_default(),
        metadata: body.value("metadata", Metadata::parse),
    };
    combine(body.finish(), query.finish()).map(|_| wanted)
}

/// Parses the field `token` of an introspection request, whose body is a form (RFC 7662 section
/// 2.1). Returns `None` if the text in this field is not a token. Other fields are ignored (RFC
/// 6749 section 3.2).
///
/// # Errors
/// The field `token` is missing or repeated, or there is a query field. Also returns the errors of
/// [`Fields::form`].
pub fn to_introspect(request: &Request) -> Result<Option<PlainToken>> {
    let mut form = Fields::form(request, &[TOKEN])?;
    let token = form.required(TOKEN, |text| Ok::<_, String>(PlainToken::parse(text)));
    let form = form.finish_ignoring_others();
    combine(Fields::query(request).finish(), form).map(|_| token.flatten())
}

/// Parses the field `token` of a revocation request, whose body is a form (RFC 7009 section 2.1).
/// Returns `None` if the text in this field is not a token.
///
/// Unlike [`to_introspect`], this function accepts a request with query fields, because an error
/// would leave the token valid. It also ignores white space around the token, such as the line end
/// of a file.
///
/// # Errors
/// The field `token` is missing or repeated. Also returns the errors of [`Fields::form`].
pub fn to_revoke(request: &Request) -> Result<Option<PlainToken>> {
    let mut form = Fields::form(request, &[TOKEN])?;
    let parse = |text: &str| Ok::<_, String>(PlainToken::parse(text.trim_ascii()));
    let token = form.required(TOKEN, parse);
    form.finish_ignoring_others().map(|()| token.flatten())
}

/// Returns the claims of a valid token.
pub fn claims(token: &Verified) -> Introspection {
    Introspection {
        active: true,
        sub: Some(token.owner.as_str().to_owned()),
        ecosystem_id: token.ecosystem().map(ToString::to_string),
        environment_id: token.environment.as_ref().map(ToString::to_string),
        jti: Some(token.id.to_string()),
        holder: Some(token.holder()),
        username: Some(token.owner.as_str().to_owned()),
        metadata: token.metadata.as_ref().map(Metadata::to_object),
        scope: Some(token.scope.to_string()),
        expiry_type: Some(token.expiry.expiry_type()),
        iat: Some(token.issued_at.0),
        exp: token.expiry.expires_at().map(|end| end.0),
    }
}

/// Returns 200 with the claims of a valid token. The headers repeat the claims that gateways need,
/// because many gateways read only the headers of this response.
///
/// # Errors
/// The response cannot be written as JSON.
pub fn ok_claims(token: &Verified) -> Result<Response<Body>> {
    let claims = claims(token);
    let mut response = ok_secret(&claims)?;
    let holder = claims.holder.map(|holder| holder.to_string());
    for (name, value) in [
        ("x-tokenry-sub", &claims.sub),
        ("x-tokenry-ecosystem", &claims.ecosystem_id),
        ("x-tokenry-holder", &holder),
        ("x-tokenry-scope", &claims.scope),
        ("x-tokenry-token-id", &claims.jti),
    ] {
        // Only the name of a user can have characters that are not ASCII. A name never contains
        // `%`, so the encoding is unambiguous.
        let encoded = value
            .as_ref()
            .map(|text| utf8_percent_encode(text, CONTROLS));
        let value = encoded.and_then(|text| HeaderValue::try_from(text.to_string()).ok());
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// What a gateway requires of the caller's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    ecosystem: Option<EcosystemId>,
    holders: Option<Vec<Holder>>,
    scope: Option<Scope>,
}

/// Parses what a gateway requires of the caller's token, from the query.
///
/// # Errors
/// A query field is invalid or unknown.
pub fn required(request: &Request) -> Result<Required> {
    let mut query = Fields::query(request);
    let ecosystem = query.optional("ecosystem", |id| {
        EcosystemId::parse(id).map_err(|InvalidId| "invalid ecosystem id")
    });
    let holders = query.optional("holder", |list| {
        let holders = list.split(',').map(Holder::parse).collect::<Option<_>>();
        holders.ok_or("field must be a list of the following values: account, server, user")
    });
    let scope = query.optional("scope", Scope::parse);
    query.finish().map(|()| Required {
        ecosystem,
        holders,
        scope,
    })
}

impl Required {
    /// Checks that a token belongs to the required ecosystem, has a required holder and has all
    /// required scopes. If an ecosystem is required but no holder, the holder must be a user.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the token belongs to another ecosystem or has another holder;
    /// [`Error::InsufficientScope`] if the token lacks scopes.
    pub fn check(&self, token: &Verified) -> Result<()> {
        let is_in = |id| token.ecosystem() == Some(id);
        let only_users = || self.ecosystem.is_none() || token.holder() == Holder::User;
        let is_held = self
            .holders
            .as_ref()
            .map_or_else(only_users, |holders| holders.contains(&token.holder()));
        if !self.ecosystem.as_ref().is_none_or(is_in) || !is_held {
            return Err(Error::Forbidden);
        }
        let scope = self.scope.as_ref();
        match scope.and_then(|scope| token.scope.missing(scope)) {
            Some(missing) => Err(Error::InsufficientScope(missing.into())),
            None => Ok(()),
        }
    }
}

/// Returns 200 with a new token, which is shown only once.
///
/// # Errors
/// The response cannot be written as JSON.
pub fn minted(token: &Token, plain: &PlainToken) -> Result<Response<Body>> {
    ok_secret(&minted_token(token, plain))
}

fn minted_token(token: &Token, plain: &PlainToken) -> MintedToken {
    MintedToken {
        token: plain.reveal().to_owned().into(),
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        expires_at: token.expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
        scope: token.scope.to_string(),
        metadata: token.metadata.as_ref().map(Metadata::to_object),
    }
}

/// Returns 201 with a new session, whose token is shown only once.
///
/// # Errors
/// The response cannot be written as JSON.
pub fn created_session(session: &CreatedSession) -> Result<Response<Body>> {
    created_secret(&tokenry_api::CreatedSession {
        token: minted_token(&session.token, &session.plain),
        user_id: session.user.to_string(),
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

/// Returns 200 with a page of an owner's valid and disabled tokens, newest first. A page can be
/// shorter than requested, even if it is not the last one: the list stops reading if many of the
/// tokens that it reads are invalid.
///
/// # Errors
/// The database is unavailable.
pub async fn list(app: &App, right: MayRead, owner: &Owner, page: Page) -> Result<Response<Body>> {
    let (tokens, last) = tokens::list_valid(app, right, owner, page.after, page.limit).await?;
    let listed = tokens.iter().map(listed);
    ok(&TokenList {
        tokens: listed.collect(),
        cursor: last.map(|id| cursor(owner.key(), id)),
    })
}

fn listed(token: &Token) -> ListedToken {
    ListedToken {
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        // Only a time after the year 9999 has no RFC 3339 format.
        created_at: token.created_at.to_rfc3339().unwrap_or_default(),
        last_used_at: token.last_used_at.and_then(UnixSeconds::to_rfc3339),
        expires_at: token
            .expiry
            .shown_expires_at()
            .and_then(UnixSeconds::to_rfc3339),
        name: token.name.clone().map(TokenName::into_string),
        scope: token.scope.to_string(),
        metadata: token.metadata.as_ref().map(Metadata::to_object),
        disabled: token.is_disabled,
    }
}

/// Returns the record of a token, as clients see it. `now` decides whether the token is expired.
pub fn record(stored: &TokenRecord, now: UnixSeconds) -> tokenry_api::TokenRecord {
    let active = |token: &Token, state| tokenry_api::TokenRecord {
        token: listed(token),
        state,
        ended_at: None,
        end_reason: None,
        ended_by: None,
        replaced_by: None,
    };
    match stored {
        TokenRecord::Token(token) if !token.expiry.is_valid_at(now) => {
            let record = active(token, TokenState::Expired);
            tokenry_api::TokenRecord {
                ended_at: record.token.expires_at.clone(),
                end_reason: Some("expired".to_owned()),
                ..record
            }
        }
        TokenRecord::Token(token) if token.is_disabled => active(token, TokenState::Disabled),
        TokenRecord::Token(token) => active(token, TokenState::Active),
        TokenRecord::Ended(token) => {
            let ended_at = token.ended_at.and_then(UnixSeconds::to_rfc3339);
            let created_at = token.created_at.unwrap_or(token.id.created_at().seconds());
            tokenry_api::TokenRecord {
                token: ListedToken {
                    token_id: token.id.to_string(),
                    expiry_type: token.expiry_type(),
                    created_at: created_at.to_rfc3339().unwrap_or_default(),
                    last_used_at: token.last_used_at.and_then(UnixSeconds::to_rfc3339),
                    expires_at: ended_at.clone(),
                    name: token.name.clone().map(TokenName::into_string),
                    scope: token.scope.clone().unwrap_or_default().to_string(),
                    metadata: token.metadata.as_ref().map(Metadata::to_object),
                    disabled: false,
                },
                state: TokenState::Revoked,
                ended_at,
                end_reason: token.end_reason.clone(),
                ended_by: token.ended_by.as_ref().map(|by| EndedBy {
                    holder: by.holder,
                    token_id: by.token.to_string(),
                }),
                replaced_by: None,
            }
        }
    }
}

/// Parses the changes to a token in a body.
///
/// # Errors
/// The body is invalid, or there is a query field.
pub fn token_change(request: &Request) -> Result<TokenChange> {
    let mut body = Fields::json(request)?;
    let change = TokenChange {
        name: body.nullable("name", TokenName::parse),
        metadata: body.value("metadata", |value| match value {
            Value::Null => Ok(None),
            value => Metadata::parse(value).map(Some),
        }),
        scope: body.text("scope", Scope::parse),
        disabled: body.boolean("disabled"),
    };
    combine(Fields::query(request).finish(), body.finish()).map(|_| change)
}
