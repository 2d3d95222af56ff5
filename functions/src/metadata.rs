//! `GET /.well-known/oauth-authorization-server`: describes the endpoints for OAuth libraries (RFC
//! 8414).

use lambda_http::{Body, Request, Response};
use shared::{
    App,
    domain::error::Result,
    http::{fields::no_input, ok_cached, public_url},
};
use tokenry_api::ServerMetadata;

/// The path of this endpoint.
const PATH: &str = "/.well-known/oauth-authorization-server";
/// How many seconds clients may cache the response. It changes only if the operator changes the
/// address of the API, so an hour is short enough.
const CACHED: u32 = 3600;

/// Returns 200 with the metadata. Needs no credential, and reads nothing from the database.
///
/// # Errors
/// 400 if the request has a query field, a body or an invalid host; 413.
#[expect(
    clippy::unused_async,
    reason = "the handler of every endpoint is async"
)]
pub async fn handle(app: &App, request: Request) -> Result<Response<Body>> {
    no_input(&request)?;
    let issuer = public_url(app, &request, PATH)?;
    let methods = ["client_secret_basic", "client_secret_post"].map(str::to_owned);
    let metadata = ServerMetadata {
        introspection_endpoint: format!("{issuer}/api/auth/introspect"),
        introspection_endpoint_auth_methods_supported: methods.to_vec(),
        revocation_endpoint: format!("{issuer}/api/auth/revoke"),
        revocation_endpoint_auth_methods_supported: [&methods[..], &["none".to_owned()]].concat(),
        response_types_supported: Vec::new(),
        issuer,
    };
    ok_cached(&metadata, CACHED)
}
