//! The response of the endpoints for users.

use crate::domain::{email::Email, owner::User};

/// Returns a user in the format of the responses to `GET` and `PUT`.
pub fn shown(user: &User) -> tokenry_api::User {
    tokenry_api::User {
        id: user.id.as_str().to_owned(),
        email: user.email.as_ref().map(Email::as_given).map(Into::into),
        admin: user.admin,
        active: user.state.active,
    }
}
