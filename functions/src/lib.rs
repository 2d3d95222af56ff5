//! The Lambda handlers of Tokenry, one file per function, and the list of all functions,
//! [`FUNCTIONS`].
//!
//! No handler imports another handler.

pub mod authorize;
pub mod change_password;
pub mod consume_shortcode;
pub mod create_ecosystem;
pub mod create_email_token;
pub mod create_environment;
pub mod create_server_token;
pub mod create_session;
pub mod create_shortcode;
pub mod create_user_token;
pub mod delete_ecosystem;
pub mod delete_email_token;
pub mod delete_environment;
pub mod delete_user;
pub mod erase;
pub mod get_ecosystem;
pub mod get_email_token_value;
pub mod get_server_token;
pub mod get_user;
pub mod get_user_token;
pub mod introspect_token;
pub mod list_ecosystems;
pub mod list_email_tokens;
pub mod list_environments;
pub mod list_server_tokens;
pub mod list_user_tokens;
pub mod list_users;
pub mod log_in_with_password;
pub mod metadata;
pub mod put_user;
pub mod revoke_server_token;
pub mod revoke_token;
pub mod revoke_user_token;
pub mod revoke_user_tokens;
pub mod update_ecosystem;
pub mod update_email_token;
pub mod update_server_token;
pub mod update_user_token;
pub mod whoami;

use std::pin::Pin;

use lambda_http::http::Method;
use shared::{
    App, config::Uses, domain::error::Result, http::Handler, service::deadline::Deadline,
};

/// A Lambda function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The `Handler` value in `template.yaml`, and the name in the log.
    pub name: &'static str,
    /// The resources that the function uses besides the identity table.
    pub uses: Uses,
    /// The kind of the function.
    pub kind: Kind,
}

/// The kind of a function.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Handles the requests to a route.
    Route {
        /// The route's method.
        method: Method,
        /// The route's path. Each parameter is in braces, as in API Gateway.
        path: &'static str,
        /// Whether requests with the method HEAD have a route too. The response to HEAD has no
        /// body.
        head: bool,
        /// The handler of the route.
        handler: Handler,
    },
    /// Decides which callers may use a customer's own API: [`authorize`].
    Authorizer,
    /// Runs at intervals, without a request.
    Schedule {
        /// What the function does.
        task: Task,
    },
}

/// The work of a function that runs at intervals. It ends by the deadline.
pub type Task =
    for<'a> fn(&'a App, Deadline) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A function with a route.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The function's name.
    pub name: &'static str,
    /// The route's method.
    pub method: &'static Method,
    /// The route's path. Each parameter is in braces, as in API Gateway.
    pub path: &'static str,
    /// Whether requests with the method HEAD have a route too.
    pub head: bool,
    /// The handler of the route.
    pub handler: Handler,
}

/// Returns the functions with a route, in the order of [`FUNCTIONS`].
pub fn endpoints() -> impl Iterator<Item = Endpoint> {
    FUNCTIONS
        .iter()
        .filter_map(|function| match &function.kind {
            Kind::Route {
                method,
                path,
                head,
                handler,
            } => Some(Endpoint {
                name: function.name,
                method,
                path,
                head: *head,
                handler: *handler,
            }),
            Kind::Authorizer | Kind::Schedule { .. } => None,
        })
}

/// Builds an entry of [`FUNCTIONS`] with a route.
macro_rules! route {
    ($name:literal, GET HEAD $path:literal, $module:ident) => {
        route!($name, GET $path, $module, Identity, true)
    };
    ($name:literal, $method:ident $path:literal, $module:ident) => {
        route!($name, $method $path, $module, Identity)
    };
    ($name:literal, $method:ident $path:literal, $module:ident, $uses:ident) => {
        route!($name, $method $path, $module, $uses, false)
    };
    ($name:literal, $method:ident $path:literal, $module:ident, $uses:ident, $head:literal) => {
        Function {
            name: $name,
            uses: Uses::$uses,
            kind: Kind::Route {
                method: Method::$method,
                path: $path,
                head: $head,
                handler: |app, request| Box::pin($module::handle(app, request)),
            },
        }
    };
}

/// The list of all Lambda functions.
///
/// Every other list of the functions is generated from this list, or a test compares it with this
/// list.
pub static FUNCTIONS: &[Function] = &[
    route!("create-user-token", POST "/api/users/{id}/tokens", create_user_token),
    route!("list-user-tokens", GET "/api/users/{id}/tokens", list_user_tokens),
    route!("revoke-user-tokens", DELETE "/api/users/{id}/tokens", revoke_user_tokens),
    route!("get-user-token", GET "/api/users/{id}/tokens/{tokenId}", get_user_token),
    route!("update-user-token", PATCH "/api/users/{id}/tokens/{tokenId}", update_user_token),
    route!("revoke-user-token", DELETE "/api/users/{id}/tokens/{tokenId}", revoke_user_token),
    route!("revoke-token", POST "/api/auth/revoke", revoke_token),
    route!("introspect-token", POST "/api/auth/introspect", introspect_token),
    route!("create-ecosystem", POST "/api/ecosystems", create_ecosystem),
    route!("list-ecosystems", GET "/api/ecosystems", list_ecosystems),
    route!("get-ecosystem", GET "/api/ecosystems/{ecosystemId}", get_ecosystem),
    route!("update-ecosystem", PATCH "/api/ecosystems/{ecosystemId}", update_ecosystem),
    route!("delete-ecosystem", DELETE "/api/ecosystems/{ecosystemId}", delete_ecosystem),
    route!("create-environment", POST "/api/ecosystems/{ecosystemId}/environments", create_environment),
    route!("list-environments", GET "/api/ecosystems/{ecosystemId}/environments", list_environments),
    route!("delete-environment", DELETE "/api/environments/{environmentId}", delete_environment),
    route!("list-users", GET "/api/ecosystems/{ecosystemId}/users", list_users),
    route!("put-user", PUT "/api/users/{id}", put_user),
    route!("get-user", GET "/api/users/{id}", get_user),
    route!("delete-user", DELETE "/api/users/{id}", delete_user),
    route!("create-server-token", POST "/api/ecosystems/{ecosystemId}/tokens", create_server_token),
    route!("list-server-tokens", GET "/api/ecosystems/{ecosystemId}/tokens", list_server_tokens),
    route!("get-server-token", GET "/api/ecosystems/{ecosystemId}/tokens/{tokenId}", get_server_token),
    route!("update-server-token", PATCH "/api/ecosystems/{ecosystemId}/tokens/{tokenId}", update_server_token),
    route!("revoke-server-token", DELETE "/api/ecosystems/{ecosystemId}/tokens/{tokenId}", revoke_server_token),
    route!("create-shortcode", POST "/api/auth/shortcode/create", create_shortcode, Ephemeral),
    route!("consume-shortcode", POST "/api/auth/shortcode/consume", consume_shortcode, Ephemeral),
    route!("create-email-token", POST "/_/user-token", create_email_token, ValueKey),
    route!("list-email-tokens", GET "/_/user-token", list_email_tokens),
    route!("update-email-token", PUT "/_/user-token", update_email_token),
    route!("delete-email-token", DELETE "/_/user-token", delete_email_token),
    route!("get-email-token-value", GET "/_/user-token/value", get_email_token_value, ValueKey),
    route!("log-in-with-password", POST "/_/user-token/value", log_in_with_password, EphemeralAndValueKey),
    route!("create-session", POST "/api/auth/sessions", create_session, Ephemeral),
    route!("change-password", POST "/api/auth/password", change_password, Ephemeral),
    route!("whoami", GET HEAD "/api/auth/whoami", whoami),
    route!("metadata", GET "/.well-known/oauth-authorization-server", metadata),
    Function {
        name: authorize::NAME,
        uses: Uses::Identity,
        kind: Kind::Authorizer,
    },
    Function {
        name: erase::NAME,
        uses: Uses::Ephemeral,
        kind: Kind::Schedule {
            task: |app, until| Box::pin(async move { erase::handle(app, until).await.map(|_| ()) }),
        },
    },
];
