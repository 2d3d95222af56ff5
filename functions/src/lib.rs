//! The Lambda handlers of Tokenry, one file per endpoint. No endpoint imports another.

pub mod authorize;
pub mod consume_shortcode;
pub mod create_ecosystem;
pub mod create_email_token;
pub mod create_environment;
pub mod create_server_token;
pub mod create_shortcode;
pub mod create_user_token;
pub mod delete_ecosystem;
pub mod delete_email_token;
pub mod delete_environment;
pub mod delete_user;
pub mod get_email_token_value;
pub mod get_user;
pub mod introspect_token;
pub mod list_email_tokens;
pub mod list_server_tokens;
pub mod list_user_tokens;
pub mod log_in_with_password;
pub mod put_user;
pub mod revoke_server_token;
pub mod revoke_token;
pub mod revoke_user_token;
pub mod revoke_user_tokens;
pub mod update_email_token;

use lambda_http::http::Method;
use shared::{config::Uses, http::Handler};

/// One endpoint: a Lambda function of its own when deployed, a route of the local gateway.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The Lambda handler's name, and the name in the log.
    pub name: &'static str,
    /// The route's method.
    pub method: Method,
    /// The route's path, with parameters in API Gateway's braces.
    pub path: &'static str,
    /// What it works with besides the identity table.
    pub uses: Uses,
    /// What answers.
    pub handler: Handler,
}

/// The name of the Lambda authorizer, which is no endpoint: [`authorize`].
pub const AUTHORIZER: &str = "authorize";

/// A line of [`ENDPOINTS`].
macro_rules! endpoint {
    ($name:literal, $method:ident $path:literal, $module:ident) => {
        endpoint!($name, $method $path, $module, Identity)
    };
    ($name:literal, $method:ident $path:literal, $module:ident, $uses:ident) => {
        Endpoint {
            name: $name,
            method: Method::$method,
            path: $path,
            uses: Uses::$uses,
            handler: |app, request| Box::pin($module::handle(app, request)),
        }
    };
}

/// What exists: the one table of it.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint!("create-user-token", POST "/api/users/{id}/tokens", create_user_token),
    endpoint!("list-user-tokens", GET "/api/users/{id}/tokens", list_user_tokens),
    endpoint!("revoke-user-tokens", DELETE "/api/users/{id}/tokens", revoke_user_tokens),
    endpoint!("revoke-user-token", DELETE "/api/users/{id}/tokens/{tokenId}", revoke_user_token),
    endpoint!("revoke-token", POST "/api/auth/revoke", revoke_token),
    endpoint!("introspect-token", POST "/api/auth/introspect", introspect_token),
    endpoint!("create-ecosystem", POST "/api/ecosystems", create_ecosystem),
    endpoint!("delete-ecosystem", DELETE "/api/ecosystems/{ecosystemId}", delete_ecosystem),
    endpoint!("create-environment", POST "/api/ecosystems/{ecosystemId}/environments", create_environment),
    endpoint!("delete-environment", DELETE "/api/environments/{environmentId}", delete_environment),
    endpoint!("put-user", PUT "/api/users/{id}", put_user),
    endpoint!("get-user", GET "/api/users/{id}", get_user),
    endpoint!("delete-user", DELETE "/api/users/{id}", delete_user),
    endpoint!("create-server-token", POST "/api/ecosystems/{ecosystemId}/tokens", create_server_token),
    endpoint!("list-server-tokens", GET "/api/ecosystems/{ecosystemId}/tokens", list_server_tokens),
    endpoint!("revoke-server-token", DELETE "/api/ecosystems/{ecosystemId}/tokens/{tokenId}", revoke_server_token),
    endpoint!("create-shortcode", POST "/api/auth/shortcode/create", create_shortcode, Ephemeral),
    endpoint!("consume-shortcode", POST "/api/auth/shortcode/consume", consume_shortcode, Ephemeral),
    endpoint!("create-email-token", POST "/_/user-token", create_email_token, ValueKey),
    endpoint!("list-email-tokens", GET "/_/user-token", list_email_tokens),
    endpoint!("update-email-token", PUT "/_/user-token", update_email_token),
    endpoint!("delete-email-token", DELETE "/_/user-token", delete_email_token),
    endpoint!("get-email-token-value", GET "/_/user-token/value", get_email_token_value, ValueKey),
    endpoint!("log-in-with-password", POST "/_/user-token/value", log_in_with_password, EphemeralAndValueKey),
];
