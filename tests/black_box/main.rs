//! Black-box tests: what a client sees, one file for each endpoint, and what the database sees.

mod calls;
mod create_user_token;
mod events;
mod expiry;
mod faults;
mod introspect_token;
mod other_routes;

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
}

/// A path of an endpoint, for what holds for all: with a user that exists in it.
pub(crate) async fn paths(service: &Service) -> Vec<String> {
    let bob = service.user("bob").await;
    vec![
        format!("/api/users/{bob}/tokens"),
        "/api/auth/introspect".to_owned(),
    ]
}
