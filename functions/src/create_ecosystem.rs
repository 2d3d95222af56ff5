//! `POST /api/ecosystems`: make an ecosystem.

use lambda_http::{Body, Request, Response};
use serde_json::json;
use shared::{
    App,
    domain::{error::Result, token::Scope},
    http::{created, credential, fields},
    service::{directory, verify::Lookup},
};

/// Answers 201 with the new id.
///
/// # Errors
/// 400 on a query field or a body, 401, 403 for anybody but an account, 413.
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    let credential = credential(app, &request)?;
    let found = Lookup::new(app).token(&credential).read().await?;

    let caller = found.caller(&credential)?;
    caller.must_be_account(Scope::ReadWrite)?;
    fields::none(&request)?;

    let (id, _) = directory::create_ecosystem(app, &caller.account).await?;
    created(&json!({ "id": id }))
}
