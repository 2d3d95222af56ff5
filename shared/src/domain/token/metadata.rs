//! The metadata of a token: values that the application stores with the token.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A JSON object of strings, numbers and booleans. Tokenry stores it as JSON text and never reads
/// the values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The maximum number of keys.
    pub const MAX_KEYS: usize = 32;
    /// The maximum length of a key, in characters.
    pub const MAX_KEY: usize = 64;
    /// The maximum length of a string value, in characters.
    pub const MAX_STRING: usize = 256;
    /// The maximum length of the object as JSON text without white space, in bytes.
    pub const MAX_LENGTH: usize = 1024;

    /// Checks a JSON value that a client sent.
    ///
    /// # Errors
    /// If the value is not valid metadata, the error is the message for the client.
    pub fn parse(value: Value) -> Result<Self, &'static str> {
        let Value::Object(members) = value else {
            return Err("expected field to be an object");
        };
        if members.len() > Self::MAX_KEYS {
            return Err("field must have at most 32 keys");
        }
        let is_character = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let is_key = |key: &String| {
            (1..=Self::MAX_KEY).contains(&key.len()) && key.chars().all(is_character)
        };
        if !members.keys().all(is_key) {
            return Err("each key must be 1 to 64 of the characters A-Z a-z 0-9 _ . -");
        }
        let is_allowed = |value: &Value| match value {
            Value::String(text) => text.chars().count() <= Self::MAX_STRING,
            Value::Number(_) | Value::Bool(_) => true,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        if !members.values().all(is_allowed) {
            return Err(
                "each value must be a string of at most 256 characters, a number or a boolean",
            );
        }
        let metadata = Self(members);
        if metadata.to_string().len() > Self::MAX_LENGTH {
            return Err("field must be at most 1024 bytes of JSON");
        }
        Ok(metadata)
    }

    /// Returns the JSON object.
    pub fn to_object(&self) -> Map<String, Value> {
        self.0.clone()
    }
}

impl TryFrom<String> for Metadata {
    type Error = serde_json::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        serde_json::from_str(&text).map(Self)
    }
}

impl From<Metadata> for String {
    fn from(metadata: Metadata) -> Self {
        metadata.to_string()
    }
}

/// Writes the JSON text.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// Does not show the values, because they may be personal data.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_small_flat_objects_are_metadata() {
        let key = |length| "k".repeat(length);
        let keys = |count| {
            (0..count)
                .map(|n| (format!("k{n}"), json!(n)))
                .collect::<Map<_, _>>()
        };
        for good in [
            json!({}),
            json!({ "plan": "pro", "seats": 3, "share": 0.5, "trial": false, "a.b-c_d": "" }),
            json!({ key(64): "ü".repeat(256) }),
            Value::Object(keys(32)),
        ] {
            let parsed = Metadata::parse(good.clone()).expect("the metadata is valid");
            let stored = String::from(parsed.clone());
            assert_eq!(Metadata::try_from(stored).ok(), Some(parsed));
        }
        for bad in [
            json!(null),
            json!([]),
            json!("{}"),
            json!({ "": 1 }),
            json!({ key(65): 1 }),
            json!({ "a b": 1 }),
            json!({ "ü": 1 }),
            json!({ "a": null }),
            json!({ "a": [] }),
            json!({ "a": {} }),
            json!({ "a": "x".repeat(257) }),
            Value::Object(keys(33)),
            json!({ "a": "x".repeat(256), "b": "x".repeat(256), "c": "x".repeat(256), "d": "x".repeat(256) }),
        ] {
            assert!(Metadata::parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
