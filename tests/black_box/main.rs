//! Black-box tests: what a client sees, one file for each endpoint, and what the database sees.

mod addresses;
mod authorize;
mod back_end;
mod calls;
mod consume_shortcode;
mod create_ecosystem;
mod create_email_token;
mod create_environment;
mod create_server_token;
mod create_shortcode;
mod create_user_token;
mod credentials;
mod delete_ecosystem;
mod delete_email_token;
mod delete_environment;
mod delete_user;
mod events;
mod expiry;
mod faults;
mod fuzz;
mod get_email_token_value;
mod get_user;
mod guesses;
mod introspect_token;
mod list_email_tokens;
mod list_server_tokens;
mod list_user_tokens;
mod lives;
mod log_in_limits;
mod log_in_with_password;
mod model;
mod not_before;
mod openapi;
mod other_routes;
mod page;
mod put_user;
mod races;
mod refusals;
mod request_bodies;
mod revoke_server_token;
mod revoke_token;
mod revoke_user_token;
mod revoke_user_tokens;
mod secrets_at_rest;
mod security;
mod template;
mod update_email_token;
mod value_key;

use tests::{Answer, Service};

/// Credentials that are no token, which everybody gets the same 401 for, and no read is made.
pub(crate) const RUBBISH: &[&[u8]] = &[
    b"|",
    b"tk_uf_",
    b"Bearer tk_uf_",
    b"Bearer  tk_uf_0000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    b"tk_xf_00000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    b"\xff\xfe",
    b"Bearer \xef\xbd\x81",
];

/// Asserts a 401 of the contract's form.
pub(crate) fn assert_unauthorized(answer: &Answer, challenge: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    assert_eq!(
        answer.body,
        r#"{"errorType":"Unauthorized","errors":[{"message":"a valid token is required"}]}"#
    );
}

/// Asserts a 400 `InvalidParams` of exactly these errors, each as place, path and message.
pub(crate) fn assert_invalid(answer: &Answer, errors: &[(&str, &str, &str)]) {
    assert_eq!(answer.status, 400, "{answer:?}");
    let errors: Vec<_> = errors
        .iter()
        .map(|(place, path, message)| {
            serde_json::json!({ "in": place, "path": path, "message": message })
        })
        .collect();
    let expected = serde_json::json!({ "errorType": "InvalidParams", "errors": errors });
    assert_eq!(answer.json(), expected);
}

/// Asserts the refusal of a caller that may not do this.
pub(crate) fn assert_forbidden(answer: &Answer) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "Forbidden");
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Bearer error="insufficient_scope""#)
    );
}

/// Asserts a 404 of the contract's form.
pub(crate) fn assert_unknown(answer: &Answer, text: &str) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, text),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}

/// A request to every endpoint that needs a credential, as method and path, for what holds for all: to a user, an
/// environment and a token that exist.
pub(crate) async fn requests(service: &Service) -> Vec<(&'static str, String)> {
    let ecosystem = service.ecosystem.id.as_str().to_owned();
    let bob = service.user("bob").await;
    let environment = service.environment(&service.ecosystem).await;
    let path = format!("/api/ecosystems/{ecosystem}/tokens");
    let token = service.manage("POST", &path, "").await.json()["tokenId"].clone();
    service.database.take_calls();
    let fill = |path: &str| {
        path.replace("{id}", &bob)
            .replace("{ecosystemId}", &ecosystem)
            .replace("{environmentId}", &environment)
            .replace("{tokenId}", token.as_str().expect("an id"))
    };
    functions::endpoints()
        .filter(|endpoint| refusals::needs_credential(endpoint.name))
        .map(|endpoint| (endpoint.method.as_str(), fill(endpoint.path)))
        .collect()
}
