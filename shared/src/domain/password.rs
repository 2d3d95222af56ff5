//! Passwords as they are sent.

use std::fmt;

use zeroize::Zeroizing;

/// The longest password, in characters.
const MAX_LENGTH: usize = 256;
/// The shortest one that is set.
const MIN_LENGTH: usize = 8;

/// A password as it was sent, which is what counts. It does not print.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password to set: 8 to 256 characters, of any kind.
    ///
    /// # Errors
    /// What a client is told of any other text.
    pub fn parse_new(text: &str) -> Result<Self, &'static str> {
        let password = Self::parse(text)?;
        if text.chars().count() < MIN_LENGTH {
            return Err("field must be at least 8 characters");
        }
        Ok(password)
    }

    /// A password to try: a shorter one is merely wrong.
    ///
    /// # Errors
    /// What a client is told of one that is too long to be any.
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
