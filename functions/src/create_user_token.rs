//! `POST /api/users/{ecosystemId};{userId}/tokens`: mint a token for a user.

use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::{
    App,
    directory::mint,
    error::{Error, Problem, Result},
    http::{credential, fields, fields::Fields, ok_secret, user_ecosystem, user_id},
    time::UnixSeconds,
    token::{ExpiryType, NewToken, TokenName, Ttl},
};

/// Answers 200 with the token, shown this once; only its hash is stored.
///
/// # Errors
/// 400 on the user's id or a query field, 401, 403, 404 on the ecosystem, then on the user, 409
/// on an inactive user, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(&request)?;
    let (wanted, mut problems) = wanted(&request);
    let user_id = user_id(&request)
        .map_err(|problem| problems.insert(0, problem))
        .ok();

    let mut lookup = app.lookup();
    lookup.token(&credential);
    if let Some(id) = &user_id {
        lookup.user(id);
    }
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    caller.must_manage(user_ecosystem(&request).as_ref())?;
    fields::body(&request)?;
    let Some(user_id) = user_id.filter(|_| problems.is_empty()) else {
        return Err(Error::Invalid(problems));
    };
    let user = found.user(&caller, &user_id)?;
    if !user.active {
        return Err(Error::Conflict("user is inactive"));
    }

    let (token, plain) = mint(app, &user, wanted).await?;
    ok_secret(&Minted {
        token: plain.reveal(),
        token_id: token.id.to_string(),
        expiry_type: token.expiry.expiry_type(),
        expires_at: token.expiry.expires_at().and_then(UnixSeconds::to_rfc3339),
    })
}

/// The token that the query asks for, and what is wrong with the query.
fn wanted(request: &Request) -> (NewToken, Vec<Problem>) {
    let mut query = Fields::query(request);
    let wanted = NewToken {
        expiry_type: query
            .optional("expiryType", ExpiryType::parse)
            .unwrap_or_default(),
        ttl: query.optional("ttl", Ttl::parse).unwrap_or_default(),
        max_ttl: query.optional("maxTtl", Ttl::parse),
        name: query.optional("name", TokenName::parse),
    };
    (wanted, query.finish())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Minted<'a> {
    token: &'a str,
    token_id: String,
    expiry_type: ExpiryType,
    expires_at: Option<String>,
}
