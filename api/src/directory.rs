//! Ecosystems, environments and users.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Secret;

/// A new ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEcosystem {
    /// The ecosystem's id.
    pub id: String,
}

/// An ecosystem with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ecosystem {
    /// The ecosystem's id.
    pub id: String,
    /// The maximum number of tokens of each user, 1 to 100. `None` if there is no limit.
    pub max_tokens_per_user: Option<u32>,
    /// What happens if a token is created for a user that has the maximum number of tokens.
    pub when_full: WhenFull,
    /// The default and the maximum of the `ttl` of a session, in seconds. 0 if an older service
    /// sent the response.
    #[serde(default)]
    pub session_ttl: u32,
    /// The default and the maximum of the `maxTtl` of a session, in seconds. 0 if an older service
    /// sent the response.
    #[serde(default)]
    pub session_max_ttl: u32,
    /// The scope of a session. Empty if an older service sent the response.
    #[serde(default)]
    pub session_scope: String,
}

/// The request body that changes the settings of an ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EcosystemChange {
    /// The maximum number of tokens of each user, 1 to 100. Null removes the limit.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub max_tokens_per_user: Change<u32>,
    /// What happens if a token is created for a user that has the maximum number of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// The default and the maximum of the `ttl` of a session, in seconds. Null restores 1209600 (14
    /// days).
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub session_ttl: Change<u32>,
    /// The default and the maximum of the `maxTtl` of a session, in seconds. Null restores 7776000
    /// (90 days).
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub session_max_ttl: Change<u32>,
    /// The scope of a session. Null restores `read write`.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub session_scope: Change<String>,
}

/// What happens if a token is created for a user that has the maximum number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The request is rejected with a 409.
    #[default]
    Reject,
    /// The user's oldest token is revoked. An e-mail token is never revoked in this way.
    RevokeOldest,
}

impl WhenFull {
    /// Parses a value.
    ///
    /// # Errors
    /// If the text is not one of the values, the error is the message for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "reject" => Ok(Self::Reject),
            "revoke-oldest" => Ok(Self::RevokeOldest),
            _ => Err("field must be one of the following values: reject, revoke-oldest"),
        }
    }
}

/// A new environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedEnvironment {
    /// The environment's id.
    pub id: String,
}

/// An ecosystem in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEcosystem {
    /// The ecosystem's id.
    pub id: String,
}

/// A page of the list of an account's ecosystems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcosystemList {
    /// The ecosystems, by id.
    pub ecosystems: Vec<ListedEcosystem>,
    /// The cursor of the next page, or `None` if this is the last page.
    pub cursor: Option<String>,
}

/// An environment in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEnvironment {
    /// The environment's id.
    pub id: String,
}

/// A page of the list of an ecosystem's environments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentList {
    /// The environments, by id.
    pub environments: Vec<ListedEnvironment>,
    /// The cursor of the next page, or `None` if this is the last page.
    pub cursor: Option<String>,
}

/// A user in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedUser {
    /// The user's id, `ECOSYSTEM;NAME`.
    pub id: String,
}

/// A page of the list of an ecosystem's users. The list does not contain the users that short codes
/// created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserList {
    /// The users, by name.
    pub users: Vec<ListedUser>,
    /// The cursor of the next page, or `None` if this is the last page.
    pub cursor: Option<String>,
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
    /// The user's password, 8 to 256 characters. A deployment can require more than 8. Setting or
    /// removing the password revokes all tokens of the user.
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
