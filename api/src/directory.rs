//! Ecosystems, environments and users.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Secret;

/// A new ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEcosystem {
    /// The ecosystem's id.
    pub id: String,
}

/// A new environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEnvironment {
    /// The environment's id.
    pub id: String,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's id, `ECOSYSTEM;NAME`.
    pub id: String,
    /// The user's e-mail address, in the spelling that the client sent.
    pub email: Option<Secret>,
    /// Whether the user's tokens may manage the e-mail tokens of the user's ecosystem.
    pub admin: bool,
    /// Whether tokens can be created for the user.
    pub active: bool,
}

/// The request body that creates or changes a user.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserChange {
    /// The user's e-mail address. If the address changes, all tokens of the user are revoked.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub email: Change<Secret>,
    /// The user's password, 8 to 256 characters. Setting or removing the password revokes all
    /// tokens of the user.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub password: Change<Secret>,
    /// Whether the user's tokens may manage the e-mail tokens of the user's ecosystem. The default
    /// for a new user is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    /// Whether tokens can be created for the user. The default for a new user is true. If the field
    /// is false, all tokens of the user are revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// The change that a request makes to a field that may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Keeps the value: the request omits the field.
    #[default]
    Keep,
    /// Removes the value: the field is null.
    Clear,
    /// Replaces the value.
    Set(T),
}

impl<T> Change<T> {
    /// Returns whether the request omits the field.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Clear, Self::Set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_kept_if_it_is_omitted_removed_if_it_is_null_and_otherwise_replaced() {
        for (json, email) in [
            ("{}", Change::Keep),
            (r#"{"email":null}"#, Change::Clear),
            (r#"{"email":"bob"}"#, Change::Set("bob".into())),
        ] {
            let change = UserChange {
                email,
                ..UserChange::default()
            };
            assert_eq!(serde_json::to_string(&change).unwrap(), json);
            assert_eq!(serde_json::from_str::<UserChange>(json).unwrap(), change);
        }
    }
}
