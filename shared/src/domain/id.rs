//! The ids of accounts, ecosystems, environments and users, in the form that clients send.

use std::{borrow::Cow, fmt};

use percent_encoding::percent_decode_str;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

/// The error for a text that is not a valid id. It does not contain the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

/// Defines an id type: one capital letter and 24 lowercase hex digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses an id.
            ///
            /// # Errors
            /// The text is not the letter followed by 24 lowercase hex digits.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix($letter).ok_or(InvalidId)?;
                let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                if digits.len() == 24 && digits.bytes().all(hex) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId)
                }
            }

            /// Generates a new id from 96 random bits.
            pub fn generate(rng: &mut dyn CryptoRng) -> Self {
                let mut bytes = [0; 12];
                rng.fill_bytes(&mut bytes);
                Self(format!("{}{}", $letter, hex::encode(bytes)))
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text).map_err(|InvalidId| concat!("not a ", stringify!($name)))
            }
        }
    };
}

hex_id!(
    /// The id of an account: `A` and 24 lowercase hex digits. An account owns ecosystems.
    AccountId,
    'A'
);
hex_id!(
    /// The id of an ecosystem: `C` and 24 lowercase hex digits. Each user belongs to an ecosystem.
    EcosystemId,
    'C'
);

hex_id!(
    /// The id of an environment: `E` and 24 lowercase hex digits. An environment belongs to an
    /// ecosystem, and short codes can be created for an environment.
    EnvironmentId,
    'E'
);

/// The id of a user: `ECOSYSTEM;NAME`. ECOSYSTEM is the id of the user's ecosystem.
///
/// NAME has 1 to 256 characters. Control characters, white space and `; / ? # % \` are not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId {
    ecosystem: EcosystemId,
    /// The full id, `ECOSYSTEM;NAME`.
    text: String,
}

impl UserId {
    /// The maximum length of NAME, in characters.
    pub const MAX_NAME: usize = 256;

    /// Parses a user id.
    ///
    /// # Errors
    /// The text does not have the form `ECOSYSTEM;NAME` with a valid ecosystem id and a valid NAME.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (ecosystem, name) = text.split_once(';').ok_or(InvalidId)?;
        let ecosystem = EcosystemId::parse(ecosystem)?;
        if Self::is_name(name) {
            Ok(Self {
                ecosystem,
                text: text.to_owned(),
            })
        } else {
            Err(InvalidId)
        }
    }

    /// Returns whether a text is a valid NAME.
    pub fn is_name(text: &str) -> bool {
        let allowed = |c: char| {
            !c.is_control()
                && !c.is_whitespace()
                && !matches!(c, ';' | '/' | '?' | '#' | '%' | '\\')
        };
        let length = text.chars().take(Self::MAX_NAME + 1).count();
        (1..=Self::MAX_NAME).contains(&length) && text.chars().all(allowed)
    }

    /// Returns the id of the user that is created when an environment's short code is exchanged.
    pub(crate) fn of_code(ecosystem: &EcosystemId, code: &str) -> Self {
        Self {
            ecosystem: ecosystem.clone(),
            text: format!("{ecosystem};short|{code}"),
        }
    }

    /// Returns whether the exchange of a short code created this user. No other request can create
    /// a user whose NAME starts with `short|`.
    pub fn is_short_code(&self) -> bool {
        self.text[self.ecosystem.as_str().len()..].starts_with(";short|")
    }

    /// Returns the ecosystem that the user belongs to.
    pub fn ecosystem(&self) -> &EcosystemId {
        &self.ecosystem
    }

    /// Returns the NAME.
    pub fn name(&self) -> &str {
        &self.text[self.ecosystem.as_str().len() + 1..]
    }

    /// Returns the full id, `ECOSYSTEM;NAME`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for UserId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).map_err(|InvalidId| "not a UserId")
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.text
    }
}

/// Decodes a path parameter once. An API Gateway REST API passes the parameter percent-encoded. An
/// HTTP API has already decoded the parameter.
///
/// The decoded text may still contain a `%`. Then the parser of the id rejects the text, because no
/// id contains a `%`.
///
/// # Errors
/// The decoded bytes are not UTF-8.
pub fn decode_path_parameter(raw: &str) -> Result<Cow<'_, str>, InvalidId> {
    percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_not_utf8| InvalidId)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECOSYSTEM: &str = "C58521fd8a5d9b5cc21987501";

    fn user(name: &str) -> Result<UserId, InvalidId> {
        UserId::parse(&format!("{ECOSYSTEM};{name}"))
    }

    #[test]
    fn an_ecosystem_id_is_c_and_24_lowercase_hex_digits() {
        assert_eq!(EcosystemId::parse(ECOSYSTEM).unwrap().as_str(), ECOSYSTEM);
        for wrong in [
            "",
            "C",
            "58521fd8a5d9b5cc21987501",
            "A58521fd8a5d9b5cc21987501",
            "c58521fd8a5d9b5cc21987501",
            "C58521FD8A5D9B5CC21987501",
            "C58521fd8a5d9b5cc2198750",
            "C58521fd8a5d9b5cc219875011",
            "C58521fd8a5d9b5cc2198750g",
            "C58521fd8a5d9b5cc2198750１",
        ] {
            assert_eq!(EcosystemId::parse(wrong), Err(InvalidId), "{wrong}");
        }
    }

    #[test]
    fn a_name_of_256_four_byte_characters_is_valid() {
        assert!(user(&"😀".repeat(256)).is_ok());
        assert_eq!(user(&"😀".repeat(257)), Err(InvalidId));
    }

    #[test]
    fn names_that_look_like_dynamodb_expressions_are_valid() {
        for name in [
            "auth0|59ad5e8843f89ba26c5b80ca",
            ":v",
            "attribute_exists(x)",
            "..",
            "\"'",
        ] {
            assert_eq!(user(name).unwrap().ecosystem().as_str(), ECOSYSTEM);
        }
    }

    #[test]
    fn a_name_with_a_separator_white_space_or_control_character_is_invalid() {
        for name in [
            "",
            "a;b",
            "a/b",
            "a?b",
            "a#b",
            "a%b",
            "a\\b",
            "a b",
            "a\u{a0}b",
            "a\u{2028}b",
            "a\0b",
            "a\u{7f}b",
            "a\u{85}b",
        ] {
            assert_eq!(user(name), Err(InvalidId), "{name:?}");
        }
        assert_eq!(UserId::parse(ECOSYSTEM), Err(InvalidId));
        assert_eq!(UserId::parse("bob"), Err(InvalidId));
    }

    proptest! {
        #[test]
        fn an_encoded_and_a_decoded_path_parameter_give_the_same_id(name in "[^\\p{C}\\s;/?#%\\\\]{1,40}") {
            let text = format!("{ECOSYSTEM};{name}");
            let encoded = percent_encoding::utf8_percent_encode(
                &text,
                percent_encoding::NON_ALPHANUMERIC,
            )
            .to_string();
            let from_rest_api = UserId::parse(&decode_path_parameter(&encoded).unwrap());
            let from_http_api = UserId::parse(&decode_path_parameter(&text).unwrap());
            prop_assert!(from_rest_api.is_ok());
            prop_assert_eq!(from_rest_api, from_http_api);
        }

        #[test]
        fn parsing_any_text_never_panics(text in "\\PC*") {
            let _ = UserId::parse(&text);
            let _ = decode_path_parameter(&text);
        }
    }
}
