//! `POST /api/auth/introspect`: whether a token counts, and what it says (RFC 7662).

use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::{
    App,
    domain::{
        error::Result,
        id::EnvironmentId,
        token::{ExpiryType, Holder, Scope},
    },
    http::{credential, ok_secret, token::to_introspect},
    service::{
        access::rights,
        verify::{Lookup, Verified},
    },
};

/// Answers 200 with the token's claims, or with `{"active":false}` alone for one that does not
/// count or that the caller may not know of. It is a use of the token: a sliding one is renewed.
///
/// # Errors
/// 400 on the form or a query field, 401, 403 for a user's token as the caller, 413, 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let asked = to_introspect(&request).map(|token| token.filter(|token| !app.is_void(token.id())));
    let credential = credential(app, &request)?;
    let mut lookup = Lookup::new(app).token(&credential);
    // A user may not ask, so that its asking is no use of what it asks about.
    if let (Ok(Some(token)), Holder::Account | Holder::Server) = (&asked, credential.holder()) {
        lookup = lookup.token(token);
    }
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::INTROSPECT_TOKEN, None)?;
    match asked?.and_then(|token| permit.introspect(&token)) {
        Some(token) => ok_secret(&Claims::from(token)),
        None => ok_secret(&Inactive { active: false }),
    }
}

#[derive(Serialize)]
struct Inactive {
    active: bool,
}

/// RFC 7662 §2.2.
#[derive(Serialize)]
struct Claims {
    active: bool,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecosystem_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_id: Option<EnvironmentId>,
    jti: String,
    holder: Holder,
    scope: Scope,
    expiry_type: ExpiryType,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
}

impl From<Verified> for Claims {
    fn from(token: Verified) -> Self {
        Self {
            active: true,
            sub: token.owner.as_str().to_owned(),
            ecosystem_id: token.ecosystem().map(ToString::to_string),
            environment_id: token.environment.clone(),
            jti: token.id.to_string(),
            holder: token.holder(),
            scope: token.scope,
            expiry_type: token.expiry.expiry_type(),
            iat: token.issued_at.0,
            exp: token.expiry.expires_at().map(|end| end.0),
        }
    }
}
