//! `GET /api/ecosystems/{ecosystemId}`: returns an ecosystem with its settings.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, ecosystem::shown, ecosystem_id, fields, ok},
    service::{access::rights, verify::Lookup},
};

/// Returns 200 with the ecosystem.
///
/// # Errors
/// 400 if the id is invalid, or if there is any query field or body; 401; 403; 404; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::GET_ECOSYSTEM, id.as_ref().ok())?;
    let (id, ()) = combine(id, fields::no_input(&request))?;

    ok(&shown(permit.ecosystem(&id)?))
}
