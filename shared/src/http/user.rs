//! The shape that a user has on the wire (contract, section 5).

use crate::domain::{email::Email, owner::User};

/// A user as `GET` and `PUT` answer.
pub fn shown(user: &User) -> tokenry_api::User {
    tokenry_api::User {
        id: user.id.as_str().to_owned(),
        email: user.email.as_ref().map(Email::as_given).map(str::to_owned),
        admin: user.admin,
        active: user.state.active,
    }
}
