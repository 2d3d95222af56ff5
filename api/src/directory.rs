//! Ecosystems, environments and users (contract, section 5).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Secret;

/// A new ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEcosystem {
    /// Its id.
    pub id: String,
}

/// A new environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEnvironment {
    /// Its id.
    pub id: String,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id, `ECOSYSTEM;NAME`.
    pub id: String,
    /// Its e-mail address as it was given.
    pub email: Option<String>,
    /// Whether its tokens may manage the e-mail tokens of its ecosystem.
    pub admin: bool,
    /// Whether tokens can be made for it.
    pub active: bool,
}

/// The body that makes or changes a user.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserChange {
    /// Its e-mail address. Another one ends all of its tokens.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub email: Change<String>,
    /// Its password, 8 to 256 characters. Any change ends all of its tokens.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub password: Change<Secret>,
    /// Whether its tokens may manage the e-mail tokens of its ecosystem; false for a new user without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    /// Whether tokens can be made for it; true for a new user without it. False ends all of its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// What a request does to a field that may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Keeps the value: the request does not have the field.
    #[default]
    Keep,
    /// Removes the value: the field is null.
    Clear,
    /// Replaces the value.
    Set(T),
}

impl<T> Change<T> {
    /// Whether the request does not have the field.
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
    fn a_field_is_kept_cleared_or_set_by_its_absence_null_or_a_value() {
        for (json, email) in [
            ("{}", Change::Keep),
            (r#"{"email":null}"#, Change::Clear),
            (r#"{"email":"bob"}"#, Change::Set("bob".to_owned())),
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
