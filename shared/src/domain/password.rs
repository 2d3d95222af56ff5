//! Passwords as clients send them.

use std::fmt;

use zeroize::Zeroizing;

/// The maximum length of a password, in characters.
const MAX_LENGTH: usize = 256;
/// The minimum length of a new password, in characters.
const MIN_LENGTH: usize = 8;

/// A password exactly as the client sent it: not trimmed and not normalised. `Debug` prints `***`.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Parses a new password: 8 to 256 characters. All characters are allowed.
    ///
    /// # Errors
    /// If the length is wrong, the error is the message for the client.
    pub fn parse_new(text: &str) -> Result<Self, &'static str> {
        let password = Self::parse(text)?;
        if text.chars().count() < MIN_LENGTH {
            return Err("field must be at least 8 characters");
        }
        Ok(password)
    }

    /// Parses a password for a log-in. A password that is too short is accepted here. The log-in
    /// then fails, because no user has such a password.
    ///
    /// # Errors
    /// If the text is longer than 256 characters, the error is the message for the client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().nth(MAX_LENGTH).is_some() {
            return Err("field must be at most 256 characters");
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        let password = Password::parse("correct horse").unwrap();
        assert_eq!(format!("{password:?}"), "***");
    }
}
