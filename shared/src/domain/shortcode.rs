//! Short codes. A short code is a few characters, which a person types on a device. The device
//! exchanges the code once for a token (RFC 8628 §5.1 and §6.1).

use std::fmt;

use rand::{CryptoRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use crate::domain::{
    id::{EnvironmentId, UserId},
    number::{self, NotInRange},
    owner::Epoch,
    time::{Timestamp, UnixSeconds},
    token::{ExpiryType, Maker, NewToken, Ttl},
};

/// The characters of a code: digits and capital letters, without characters that look alike (RFC
/// 8628 §6.1).
pub const ALPHABET: &str = "23456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The set of all codes that a deployment can create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSpace {
    alphabet: &'static str,
    length: usize,
}

impl CodeSpace {
    /// The minimum length of a code, which is also the default length.
    pub const MIN_LENGTH: usize = 6;
    /// The maximum length of a code.
    pub const MAX_LENGTH: usize = 12;

    /// Returns the set of all codes of this length, or `None` if the length is not from
    /// [`CodeSpace::MIN_LENGTH`] to [`CodeSpace::MAX_LENGTH`].
    pub fn of_length(length: usize) -> Option<Self> {
        let possible = Self::MIN_LENGTH..=Self::MAX_LENGTH;
        possible
            .contains(&length)
            .then_some(Self::new(ALPHABET, length))
    }

    /// Returns the set of all codes with this alphabet and this length. The alphabet must be ASCII.
    /// Tests use this function to create a set with only a few codes.
    pub const fn new(alphabet: &'static str, length: usize) -> Self {
        Self { alphabet, length }
    }

    /// Generates a random code. All codes are equally likely.
    pub fn draw(self, mut rng: &mut dyn CryptoRng) -> Code {
        let characters = self.alphabet.as_bytes();
        let drawn = (0..self.length).filter_map(|_| characters.choose(&mut rng));
        Code(drawn.map(|&byte| char::from(byte)).collect())
    }

    /// Parses a code that a person typed. Ignores case, white space and dashes.
    pub fn parse(self, typed: &str) -> Option<Code> {
        let dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
        let code: String = typed
            .chars()
            .filter(|&c| !c.is_whitespace() && !dash(c))
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let known = |c| self.alphabet.contains(c);
        (code.len() == self.length && code.chars().all(known)).then_some(Code(code))
    }
}

impl Default for CodeSpace {
    fn default() -> Self {
        Self::new(ALPHABET, Self::MIN_LENGTH)
    }
}

/// A short code. `Debug` prints `***`, because a valid code can be exchanged for a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Code(String);

impl Code {
    /// Returns the code as text. The text of a valid code is secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How long a code is valid, in whole seconds: 1 to [`CodeTtl::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeTtl(u32);

impl CodeTtl {
    /// One hour.
    pub const MAX: u32 = 3600;

    /// Parses a number of seconds.
    ///
    /// # Errors
    /// The text is not a whole number from 1 to [`CodeTtl::MAX`].
    pub fn parse(text: &str) -> Result<Self, NotInRange> {
        number::positive(text, Self::MAX).map(Self)
    }
}

impl Default for CodeTtl {
    /// Five minutes.
    fn default() -> Self {
        Self(300)
    }
}

/// The properties of a new code and of its token. The request that creates the code sets all of
/// them. The exchange can only make the token expire earlier.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NewCode {
    /// How long the code is valid.
    pub ttl: CodeTtl,
    /// How the token expires.
    pub token_expiry_type: ExpiryType,
    /// How long the token is valid.
    pub token_ttl: Ttl,
    /// The latest time at which the code and its token expire, or `None` if there is no limit. If a
    /// user token creates the code, the limit is the expiry time of that user token.
    pub ends_at: Option<UnixSeconds>,
}

/// The user that will own the token of a code. This type does not implement `Debug`, because a
/// user's id can contain the code.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grantee {
    /// An existing user. The code becomes invalid if the user is deleted or gets a new epoch. If
    /// the user has an environment, the code also becomes invalid if the environment is deleted.
    User {
        user: UserId,
        epoch: Epoch,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentId>,
    },
    /// A new user of an environment, with the NAME `short|CODE`. The exchange creates the user.
    Environment {
        user: UserId,
        environment: EnvironmentId,
    },
}

impl Grantee {
    pub(crate) const fn user(&self) -> &UserId {
        match self {
            Self::User { user, .. } | Self::Environment { user, .. } => user,
        }
    }

    pub(crate) const fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Self::User { environment, .. } => environment.as_ref(),
            Self::Environment { environment, .. } => Some(environment),
        }
    }
}

/// A code's item in the ephemeral table, without the item's key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    /// When the code was created.
    #[serde(rename = "made_at")]
    pub(crate) created_at: Timestamp,
    /// A random value that distinguishes the code from earlier and later codes with the same
    /// characters.
    pub(crate) nonce: Epoch,
    pub(crate) grantee: Grantee,
    token_expiry_type: ExpiryType,
    token_ttl: Ttl,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<UnixSeconds>,
    /// The token that created the code. The code is invalid once this token is revoked or expired.
    /// A code that an earlier release created has no maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) maker: Option<Maker>,
    /// When the code expires. This is the table's TTL attribute.
    pub(crate) expires_at: UnixSeconds,
}

impl Record {
    pub(crate) fn new(
        wanted: &NewCode,
        grantee: Grantee,
        maker: Maker,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let expires_at = now.seconds().plus(wanted.ttl.0);
        Self {
            created_at: now,
            nonce: Epoch::generate(rng),
            grantee,
            token_expiry_type: wanted.token_expiry_type,
            token_ttl: wanted.token_ttl,
            ends_at: wanted.ends_at,
            maker: Some(maker),
            expires_at: wanted.ends_at.map_or(expires_at, |end| end.min(expires_at)),
        }
    }

    /// Returns the properties of the token that an exchange creates at the time `now`. The token
    /// expires at `latest` and at the code's `ends_at` at the latest, if they are given: `max_ttl`
    /// is set, and an `Infinite` token becomes a `FixedTtl` token.
    pub(crate) fn token(&self, now: UnixSeconds, latest: Option<UnixSeconds>) -> NewToken {
        let ends_at = [self.ends_at, latest].into_iter().flatten().min();
        let left = ends_at.map(|end| Ttl::until(now, end));
        let (expiry_type, ttl) = match (self.token_expiry_type, left) {
            (ExpiryType::Infinite, Some(left)) => (ExpiryType::FixedTtl, left),
            (expiry_type, _) => (expiry_type, self.token_ttl),
        };
        NewToken {
            expiry_type,
            ttl,
            max_ttl: left,
            ..NewToken::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn all_characters_are_equally_likely_at_each_position_of_a_code() {
        let mut rng = StdRng::seed_from_u64(8628);
        let mut counts = [[0_u32; 30]; 6];
        let draws = 1_000_000 / 6;
        for _ in 0..draws {
            let code = CodeSpace::default().draw(&mut rng);
            for (place, character) in code.reveal().chars().enumerate() {
                counts[place][ALPHABET.find(character).unwrap()] += 1;
            }
        }
        let expected = f64::from(draws) / 30.0;
        for place in counts {
            let chi_square: f64 = place
                .iter()
                .map(|&count| (f64::from(count) - expected).powi(2) / expected)
                .sum();
            // With 29 degrees of freedom, 1 of 10,000 unbiased samples has a value above 66.2.
            assert!(chi_square < 66.2, "{chi_square}");
        }
    }

    #[test]
    fn case_white_space_and_dashes_in_a_typed_code_are_ignored() {
        let space = CodeSpace::default();
        for typed in [
            "A6ER7D",
            "a6er7d",
            "a6e-r7d",
            " A6E R7D\t",
            "a6e\u{2013}r7d",
            "\u{a0}a6er7d",
        ] {
            assert_eq!(space.parse(typed).unwrap().reveal(), "A6ER7D", "{typed:?}");
        }
        for typed in [
            "",
            "A6ER7",
            "A6ER7DD",
            "A6ER7O",
            "A6ER7I",
            "A6ER7_",
            "Ａ6ER7D",
            "a6er7\u{212a}",
        ] {
            assert_eq!(space.parse(typed), None, "{typed:?}");
        }
    }

    #[test]
    fn a_code_has_6_to_12_characters() {
        assert_eq!(CodeSpace::of_length(5), None);
        assert_eq!(CodeSpace::of_length(13), None);
        assert_eq!(CodeSpace::of_length(6), Some(CodeSpace::default()));
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(
            CodeSpace::of_length(12)
                .unwrap()
                .draw(&mut rng)
                .reveal()
                .len(),
            12
        );
    }

    #[test]
    fn a_code_does_not_show_in_debug_output() {
        let code = CodeSpace::default().parse("A6ER7D").unwrap();
        assert_eq!(format!("{code:?}"), "***");
    }
}
