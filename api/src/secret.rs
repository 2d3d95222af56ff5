//! Strings that must not appear in logs.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// A token, a password, a short code or an e-mail address.
///
/// `Debug` prints `***`. The memory is cleared when the value is dropped.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Returns the secret as text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.reveal())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use crate::{
        CreatedShortcode, EmailTokenValueData, ExchangedToken, LogIn, MintedToken, TypedShortcode,
        User, UserChange,
    };

    #[test]
    fn no_type_shows_a_secret_in_debug_output() {
        fn shown<T: Debug + DeserializeOwned>(json: Value) -> String {
            format!("{:?}", serde_json::from_value::<T>(json).unwrap())
        }
        let minted = json!({
            "token": "hidden", "tokenId": "id", "expiryType": "Infinite", "expiresAt": null,
            "ecosystemId": "C", "userId": "C;bob",
        });
        let code =
            json!({ "shortcode": "hidden", "ecosystemId": "of", "userId": "of;short|hidden" });
        let user = json!({ "id": "C;bob", "email": "hidden", "admin": false, "active": true });
        for (shown, expected) in [
            (shown::<MintedToken>(minted.clone()), "id"),
            (shown::<ExchangedToken>(minted), "C;bob"),
            (shown::<CreatedShortcode>(code.clone()), "of"),
            (shown::<TypedShortcode>(code), "***"),
            (
                shown::<EmailTokenValueData>(json!({ "data": [{ "token": "hidden" }] })),
                "***",
            ),
            (
                shown::<UserChange>(json!({ "password": "hidden", "admin": true })),
                "admin",
            ),
            (
                shown::<LogIn>(json!({ "email": "hidden", "password": "hidden" })),
                "***",
            ),
            (shown::<User>(user), "C;bob"),
        ] {
            assert!(!shown.contains("hidden"), "{shown}");
            assert!(shown.contains(expected), "{shown}");
        }
    }
}
