//! `DELETE /api/environments/{environmentId}`: deletes an environment.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, environment_id, fields, no_content},
    service::{access::rights, directory, verify::Lookup},
};

/// Returns 204.
///
/// # Errors
/// 400 if the id is invalid, or if there is any query field or body; 401; 403 if the caller is a
/// user; 404 if the environment does not exist or does not belong to the caller; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = environment_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .environment(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::DELETE_ENVIRONMENT, None)?;
    let (id, ()) = combine(id, fields::no_input(&request))?;

    directory::delete_environment(app, &permit, &id).await?;
    Ok(no_content())
}
