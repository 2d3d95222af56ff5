//! `POST /api/ecosystems/{ecosystemId}/environments`: creates an environment.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{created, credential, ecosystem_id, fields},
    service::{access::rights, directory, verify::Lookup},
};
use tokenry_api::CreatedEnvironment;

/// Returns 201 with the new id.
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
    let permit = caller.may(rights::CREATE_ENVIRONMENT, id.as_ref().ok())?;
    let (id, ()) = combine(id, fields::no_input(&request))?;
    let ecosystem = permit.ecosystem(&id)?;

    let environment = directory::create_environment(app, permit.proof, ecosystem).await?;
    created(&CreatedEnvironment {
        id: environment.id.to_string(),
    })
}
