//! `POST /api/ecosystems`: creates an ecosystem.

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{created, credential, fields},
    service::{access::rights, directory, verify::Lookup},
};
use tokenry_api::CreatedEcosystem;

/// Returns 201 with the new id.
///
/// # Errors
/// 400 if there is any query field or body; 401; 403 if the credential is not an account token;
/// 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request).await?;
    let found = Lookup::new(app).caller(&credential).read().await?;

    let caller = found.caller(&credential)?;
    let permit = caller.may(rights::CREATE_ECOSYSTEM, None)?;
    fields::no_input(&request)?;

    let account = &permit.caller().account;
    let ecosystem = directory::create_ecosystem(app, permit.proof, account).await?;
    created(&CreatedEcosystem {
        id: ecosystem.id.to_string(),
    })
}
