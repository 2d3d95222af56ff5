//! Passwords as clients send them.

use std::fmt;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use zeroize::Zeroizing;

/// The maximum length of a password, in characters.
const MAX_LENGTH: usize = 256;
/// The most common passwords, in normal form ([`normal`]), one in each line. They have at least 8
/// characters, because shorter passwords are too short anyway. OWASP ASVS 5.0 (6.2.4) requires at
/// least 3,000. `password/LICENSE` names the source of the list.
const COMMON: &str = include_str!("password/common.txt");

/// The minimum length of a new password, in characters: 8 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinLength(u8);

impl MinLength {
    /// Returns this minimum length, or `None` if it is not allowed.
    pub fn new(length: u8) -> Option<Self> {
        (8..=64).contains(&length).then_some(Self(length))
    }
}

impl Default for MinLength {
    /// Returns 8, the minimum that NIST SP 800-63B-4 allows for a password that is used together
    /// with another factor.
    fn default() -> Self {
        Self(8)
    }
}

/// A password exactly as the client sent it: not trimmed and not normalised. `Debug` prints `***`.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Parses a new password: `min` to 256 characters. All characters are allowed. Common passwords
    /// are not allowed, in any spelling that has the same normal form.
    ///
    /// # Errors
    /// If the password is not allowed, the error is the message for the client.
    pub fn parse_new(text: &str, MinLength(min): MinLength) -> Result<Self, String> {
        let password = Self::parse(text)?;
        if text.chars().count() < min.into() {
            return Err(format!("field must be at least {min} characters"));
        }
        let normal = normal(text);
        if COMMON.lines().any(|common| common == *normal) {
            return Err("password is too common".to_owned());
        }
        Ok(password)
    }

    /// Parses a password for a log-in. A short or common password is accepted here, because the
    /// user may have set it before the rules for new passwords became stricter.
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

/// Returns the form in which new passwords are compared with the common passwords: NFKC and case
/// folded, so that `Ｐａｓｓｗｏｒｄ` is as common as `password`.
fn normal(text: &str) -> Zeroizing<String> {
    let nfkc = ComposingNormalizer::new_nfkc();
    let composed = Zeroizing::new(nfkc.normalize(text).into_owned());
    let folded = Zeroizing::new(CaseMapper::new().fold_string(&composed).into_owned());
    Zeroizing::new(nfkc.normalize(&folded).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn parse_new(text: &str) -> Result<Password, String> {
        Password::parse_new(text, MinLength::default())
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        let password = Password::parse("correct horse").unwrap();
        assert_eq!(format!("{password:?}"), "***");
    }

    #[test]
    fn the_list_contains_at_least_3000_different_passwords_in_normal_form() {
        let different: HashSet<_> = COMMON.lines().collect();
        assert!(different.len() >= 3000, "{}", different.len());
        assert_eq!(different.len(), COMMON.lines().count());
        for common in different {
            assert!(common.chars().count() >= 8, "{common}");
            assert_eq!(*normal(common), common);
        }
    }

    #[test]
    fn a_new_password_must_not_be_common_in_any_spelling() {
        let some = COMMON.lines().step_by(500).chain(COMMON.lines().last());
        for common in some {
            assert_eq!(parse_new(common).unwrap_err(), "password is too common");
        }
        // Capitals, full-width letters, long s, a digit in a circle, a ligature.
        for spelling in [
            "PassWord1",
            "Ｐａｓｓｗｏｒｄ",
            "pa\u{17f}\u{17f}word",
            "①2345678",
            "tiﬀany1",
        ] {
            assert!(parse_new(spelling).is_err(), "{spelling}");
        }
        for other in [
            "password ",
            "password is too common",
            "pässword",
            "correct horse",
        ] {
            assert!(parse_new(other).is_ok(), "{other}");
        }
        assert!(
            Password::parse("password1").is_ok(),
            "a log-in accepts each password"
        );
    }

    #[test]
    fn a_new_password_has_at_least_the_minimum_length_in_characters() {
        let min = |length| MinLength::new(length).unwrap();
        let parsed = Password::parse_new("correct horse b", min(16));
        assert_eq!(parsed.unwrap_err(), "field must be at least 16 characters");
        assert!(Password::parse_new("correct horse ba", min(16)).is_ok());
        assert!(Password::parse_new("éééééééé", min(8)).is_ok());
        assert!(Password::parse_new("ééééééé", min(8)).is_err());
        assert_eq!(
            [7, 8, 64, 65].map(|l| MinLength::new(l).is_some()),
            [false, true, true, false]
        );
    }
}
