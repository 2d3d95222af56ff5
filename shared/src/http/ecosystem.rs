//! The response of the endpoints for an ecosystem.

use crate::domain::owner::Ecosystem;

/// Returns an ecosystem in the format of the responses to `GET` and `PATCH`.
pub fn shown(ecosystem: &Ecosystem) -> tokenry_api::Ecosystem {
    let settings = &ecosystem.settings;
    tokenry_api::Ecosystem {
        id: ecosystem.id.to_string(),
        max_tokens_per_user: settings.max_tokens_per_user.map(|max| max.count),
        when_full: settings.when_full,
        session_ttl: settings.session_ttl.seconds(),
        session_max_ttl: settings.session_max_ttl.seconds(),
        session_scope: settings.session_scope.to_string(),
    }
}
