//! The shape that a user has on the wire (contract, section 5).

use serde::Serialize;

use crate::domain::{email::Email, owner::User};

/// A user as `GET` and `PUT` answer.
#[derive(Clone, Debug, Serialize)]
pub struct Shown<'a> {
    id: &'a str,
    email: Option<&'a str>,
    admin: bool,
    active: bool,
}

impl<'a> From<&'a User> for Shown<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            id: user.id.as_str(),
            email: user.email.as_ref().map(Email::as_given),
            admin: user.admin,
            active: user.state.active,
        }
    }
}
