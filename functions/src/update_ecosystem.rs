//! `PATCH /api/ecosystems/{ecosystemId}`: changes the settings of an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::{
        error::{Result, combine},
        number::positive,
        owner::{MaxTokens, SettingsChange, WhenFull},
        token::{Scope, Ttl},
    },
    http::{credential, ecosystem::shown, ecosystem_id, fields::Fields, ok},
    service::{access::rights, directory, verify::Lookup},
};

/// Returns 200 with the changed ecosystem. A field that is omitted keeps its value. Null removes
/// the limit of tokens, and gives a setting of sessions its default value.
///
/// # Errors
/// 400 if the id or the body is invalid, or if there is any query field; 401; 403 if the credential
/// is not an account token; 404; 413; 415.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::UPDATE_ECOSYSTEM, id.as_ref().ok())?;
    let (id, change) = combine(id, change(&request))?;
    let ecosystem = permit.ecosystem(&id)?;

    let changed = directory::update_ecosystem(app, permit.proof, ecosystem, change).await?;
    ok(&shown(&changed))
}

fn change(request: &Request) -> Result<SettingsChange> {
    let mut body = Fields::json(request)?;
    let count = |text: &str| positive(text, MaxTokens::LARGEST);
    let change = SettingsChange {
        max_tokens_per_user: body.nullable_number("maxTokensPerUser", count),
        when_full: body.text("whenFull", WhenFull::parse),
        session_ttl: body.nullable_number("sessionTtl", Ttl::parse),
        session_max_ttl: body.nullable_number("sessionMaxTtl", Ttl::parse),
        session_scope: body.nullable("sessionScope", Scope::parse),
    };
    combine(Fields::query(request).finish(), body.finish()).map(|_| change)
}
