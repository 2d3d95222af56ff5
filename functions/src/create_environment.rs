//! `POST /api/ecosystems/{ecosystemId}/environments`: make an environment.

use lambda_http::{Body, Request, Response};
use serde_json::json;
use shared::{
    App,
    domain::{
        error::{Result, both},
        token::Scope,
    },
    http::{created, credential, ecosystem_id, fields},
    service::{directory, verify::Lookup},
};

/// Answers 201 with the new id.
///
/// # Errors
/// 400 on the id, a query field or a body, 401, 403, 404, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .token(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    caller.must_be_in(id.as_ref().ok(), Scope::ReadWrite)?;
    let (id, ()) = both(id, fields::none(&request))?;
    found.ecosystem(&caller, &id)?;

    let environment = directory::create_environment(app, &id).await?;
    created(&json!({ "id": environment.id }))
}
