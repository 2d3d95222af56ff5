//! The Lambda handlers of Tokenry, one file per endpoint. No endpoint imports another.

pub mod create_user_token;
pub mod introspect_token;

use lambda_http::http::Method;
use shared::http::Handler;

/// One endpoint: a Lambda function of its own when deployed, a route of the local gateway.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The Lambda handler's name, and the name in the log.
    pub name: &'static str,
    /// The route's method.
    pub method: Method,
    /// The route's path, with parameters in API Gateway's braces.
    pub path: &'static str,
    /// What answers.
    pub handler: Handler,
}

/// A line of [`ENDPOINTS`].
macro_rules! endpoint {
    ($name:literal, $method:ident $path:literal, $module:ident) => {
        Endpoint {
            name: $name,
            method: Method::$method,
            path: $path,
            handler: |app, request| Box::pin($module::handle(app, request)),
        }
    };
}

/// What exists: the one table of it.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint!("create-user-token", POST "/api/users/{id}/tokens", create_user_token),
    endpoint!("introspect-token", POST "/api/auth/introspect", introspect_token),
];
