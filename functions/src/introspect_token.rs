//! `POST /api/auth/introspect`: returns whether a token is valid, and its claims (RFC 7662).

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{error::Result, token::Holder},
    http::{
        client_credential, oauth, ok_secret,
        token::{claims, to_introspect},
    },
    service::{access::rights, verify::Lookup},
};

/// Returns 200 with the token's claims. If the token is invalid, or if the caller is not allowed to
/// introspect the token, returns 200 with only `{"active":false}`. Introspection counts as a use of
/// the token, so a sliding token is renewed.
///
/// # Errors
/// 400 if the form is invalid, if there is any query field, or if the request has a header and a
/// `client_secret`; 401; 403 if the caller is a user; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let result = introspect(app, &request).await;
    oauth(&request, result)
}

async fn introspect(app: &App, request: &Request) -> Result<Response<Body>> {
    let asked = to_introspect(request);
    let credential = client_credential(app, request).await?;
    // A user is not allowed to introspect, so a user's request must not renew the token in the
    // form.
    let token = match (&asked, credential.holder()) {
        (Ok(Some(token)), Holder::Account | Holder::Server)
            if !app.is_rejected(token.id()) && app.has_valid_tag(token).await? =>
        {
            Some(token)
        }
        _ => None,
    };
    let lookup = Lookup::new(app).caller(&credential);
    let lookup = token.into_iter().fold(lookup, Lookup::token);
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::INTROSPECT_TOKEN, None)?;
    let verified = token.and_then(|token| permit.introspect(token));
    asked?;
    ok_secret(&verified.as_ref().map(claims).unwrap_or_default())
}
