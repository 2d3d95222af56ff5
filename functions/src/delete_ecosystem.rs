//! `DELETE /api/ecosystems/{ecosystemId}`: deletes an ecosystem and everything in it.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::{Result, combine},
    http::{credential, ecosystem_id, fields, no_content},
    service::{access::rights, directory, verify::Lookup},
};

/// Returns 204. From then on the ecosystem's id is unknown. An execution environment that has the
/// ecosystem in its cache accepts the tokens of the ecosystem's users for up to 30 seconds. All
/// other execution environments reject them immediately.
///
/// # Errors
/// 400 if the id is invalid, or if there is any query field or body; 401; 403 if the credential is
/// not an account token; 404; 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let id = ecosystem_id(&request);
    let lookup = Lookup::new(app)
        .caller(&credential)
        .ecosystem(id.as_ref().ok());
    let found = lookup.read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::DELETE_ECOSYSTEM, id.as_ref().ok())?;
    let (id, ()) = combine(id, fields::no_input(&request))?;
    let ecosystem = permit.ecosystem(&id)?;

    directory::delete_ecosystem(app, permit.proof, ecosystem).await?;
    Ok(no_content())
}
