//! Names the next step for errors of the API.

use tokenry_api::ApiError;
use ureq::http::{HeaderMap, header::WWW_AUTHENTICATE};

/// Returns what the user can do about an error, if the error does not say it.
pub(super) fn next_step(error: &ApiError, headers: &HeaderMap) -> Option<String> {
    let is_full = || {
        let mut problems = error.errors.iter();
        problems.any(|problem| problem.message == "user has the most tokens allowed")
    };
    match error.error_type.as_str() {
        // A problem with a field is not about the token.
        "Forbidden" if error.errors.iter().all(|problem| problem.path.is_none()) => {
            Some(match missing_scope(headers) {
                Some(scope) => format!("it lacks the scope {scope}"),
                None => "`tokenry whoami` shows the token".to_owned(),
            })
        }
        "Conflict" if is_full() => Some(
            "revoke a token with `tokenry user revoke-token`, or change the limit with \
             `tokenry ecosystem update`"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Returns the scope in the challenge `Bearer error="insufficient_scope", scope="…"`.
fn missing_scope(headers: &HeaderMap) -> Option<&str> {
    let challenge = headers.get(WWW_AUTHENTICATE)?.to_str().ok()?;
    let (_, scope) = challenge.split_once(" scope=\"")?;
    scope.split('"').next()
}
