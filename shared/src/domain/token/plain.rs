//! The text of a token.
//!
//! The text has five parts:
//!
//! - a prefix, which is `tk_`
//! - one letter for the holder (`a`, `s` or `u`) and one letter for the expiry type (`i`, `f` or
//!   `s`)
//! - `_`
//! - 77 letters and digits: 56 bytes in base62. The bytes are the owner key (20), the token id
//!   (16), random bytes (16) and the tag (4).
//! - 6 letters and digits: the CRC-32 of all characters before them
//!
//! A token has 89 characters. A secret scanner can find leaked tokens with the pattern
//! `tk_[asu][ifs]_[0-9A-Za-z]{83}`. A malformed text is rejected before the database is read.
//!
//! The tag is the first 4 bytes of an HMAC-SHA256 with a key of the deployment. The HMAC covers the
//! start of the text (for example `tk_uf_`) and the 52 bytes before the tag. From schema version 2
//! on, a text with a wrong tag is rejected before the token's record is read. So an invented token
//! costs no read in the partition of an owner. In schema version 1, a token may have 4 more random
//! bytes instead of a tag, so a wrong tag is accepted. The tag does not make a token valid: the
//! record must contain the hash of the whole text.

use std::fmt::{self, Write};

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{ExpiryType, Holder, TokenId};
use crate::domain::{
    deployment::{TAG, TagKey},
    owner::OwnerKey,
};

/// The prefix of new tokens. `parse` accepts any prefix of 2 to 10 lower-case letters and digits.
const PREFIX: &str = "tk";
/// The length of a prefix, without `_`.
const PREFIX_LENGTH: std::ops::RangeInclusive<usize> = 2..=10;
/// The length of `_`, two letters and `_`.
const LETTERS: usize = 4;
const BYTES: usize = OwnerKey::LENGTH + 16 + 16 + TAG;
/// How the 56 bytes are split into big-endian numbers. Each pair is the number of bytes and the
/// number of base62 digits. 16 bytes always have 22 digits, and 8 bytes always have 11 digits.
const DIGITS: [(usize, usize); 4] = [(16, 22), (16, 22), (16, 22), (8, 11)];
const BODY: usize = 77;
const CHECKSUM: usize = 6;

/// The text of a token, and the parts that were parsed from the text. The text is well-formed and
/// its checksum is correct. This does not mean that Tokenry issued the token.
///
/// `Debug` prints `***`. The memory is cleared when the value is dropped.
pub struct PlainToken {
    text: Zeroizing<String>,
    holder: Holder,
    expiry_type: ExpiryType,
    bytes: Zeroizing<[u8; BYTES]>,
}

impl PlainToken {
    /// The length of a new token in bytes. All characters are ASCII.
    pub const LENGTH: usize = PREFIX.len() + LETTERS + BODY + CHECKSUM;

    /// Generates a token. Without a tag key, the token has 4 more random bytes instead of a tag.
    pub(super) fn generate(
        holder: Holder,
        expiry_type: ExpiryType,
        owner: OwnerKey,
        id: TokenId,
        tag_key: Option<&TagKey>,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let holder_letter = match holder {
            Holder::Account => 'a',
            Holder::Server => 's',
            Holder::User => 'u',
        };
        let expiry_letter = match expiry_type {
            ExpiryType::Infinite => 'i',
            ExpiryType::FixedTtl => 'f',
            ExpiryType::SlidingTtl => 's',
        };
        // Allocate the final size. A string that grows leaves copies of the text in memory, which
        // are not cleared.
        let mut text = Zeroizing::new(String::with_capacity(Self::LENGTH));
        write!(text, "{PREFIX}_{holder_letter}{expiry_letter}_").expect("String writes never fail");

        let mut bytes = Zeroizing::new([0; BYTES]);
        let (key, rest) = bytes.split_at_mut(OwnerKey::LENGTH);
        let (token_id, secret) = rest.split_at_mut(16);
        key.copy_from_slice(owner.as_bytes());
        token_id.copy_from_slice(&id.to_bytes());
        rng.fill_bytes(secret);
        if let Some(key) = tag_key {
            let (tagged, tag) = bytes.split_at_mut(BYTES - TAG);
            tag.copy_from_slice(&key.tag([text.as_bytes(), tagged]));
        }
        let mut write = |part: fmt::Arguments<'_>| {
            text.write_fmt(part).expect("String writes never fail");
        };
        let mut rest = &bytes[..];
        for (size, digits) in DIGITS {
            let (chunk, after) = rest.split_at(size);
            rest = after;
            write(format_args!(
                "{:0>digits$}",
                base62::encode_fmt(number(chunk))
            ));
        }
        let sum = checksum(&text);
        text.push_str(&sum);
        Self {
            text,
            holder,
            expiry_type,
            bytes,
        }
    }

    /// Parses a token with any prefix of 2 to 10 lower-case letters and digits. Returns `None`
    /// unless the rest of the text has exactly the form that `generate` writes. Therefore each
    /// combination of prefix, holder, expiry type and bytes has exactly one text.
    pub fn parse(text: &str) -> Option<Self> {
        let prefix_length = text.len().checked_sub(LETTERS + BODY + CHECKSUM)?;
        if !PREFIX_LENGTH.contains(&prefix_length) || !text.is_ascii() {
            return None;
        }
        let (covered, sum) = text.split_at(text.len() - CHECKSUM);
        let (head, body) = covered.split_at(covered.len() - BODY);
        let (prefix, letters) = head.split_at(prefix_length);
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let [b'_', holder, expiry, b'_'] = letters.as_bytes() else {
            return None;
        };
        if !prefix.bytes().all(is_allowed) {
            return None;
        }
        let holder = match holder {
            b'a' => Holder::Account,
            b's' => Holder::Server,
            b'u' => Holder::User,
            _ => return None,
        };
        let expiry_type = match expiry {
            b'i' => ExpiryType::Infinite,
            b'f' => ExpiryType::FixedTtl,
            b's' => ExpiryType::SlidingTtl,
            _ => return None,
        };
        if checksum(covered) != sum {
            return None;
        }

        let mut bytes = Zeroizing::new([0; BYTES]);
        let (mut rest, mut free) = (body, &mut bytes[..]);
        for (size, digits) in DIGITS {
            let (chunk, after) = rest.split_at(digits);
            rest = after;
            let (place, after) = std::mem::take(&mut free).split_at_mut(size);
            free = after;
            let mut number = base62::decode(chunk).ok()?.to_be_bytes();
            let (beyond, fits) = number.split_at(16 - size);
            if beyond.iter().any(|&byte| byte != 0) {
                return None;
            }
            place.copy_from_slice(fits);
            number.zeroize();
        }
        Some(Self {
            text: Zeroizing::new(text.to_owned()),
            holder,
            expiry_type,
            bytes,
        })
    }

    /// Returns whether this key created the token's tag. Compares in constant time.
    pub fn has_tag_of(&self, key: &TagKey) -> bool {
        let (tagged, tag) = self.bytes.split_at(BYTES - TAG);
        let head = &self.text.as_bytes()[..self.text.len() - BODY - CHECKSUM];
        key.tag([head, tagged]).ct_eq(tag).into()
    }

    /// Returns the SHA-256 hash of the text. A token's record contains the hash, not the text. A
    /// fast hash is safe, because the text has 128 random bits.
    pub fn hashed(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.as_bytes()).into())
    }

    /// Returns the text of the token, which is secret.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Returns the kind of owner, according to the text.
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// Returns the expiry type, according to the text.
    pub const fn expiry_type(&self) -> ExpiryType {
        self.expiry_type
    }

    /// Returns the owner's partition key, according to the text.
    pub fn owner(&self) -> OwnerKey {
        OwnerKey::from_bytes(std::array::from_fn(|at| self.bytes[at]))
    }

    /// Returns the token id, according to the text.
    pub fn id(&self) -> TokenId {
        let start = OwnerKey::LENGTH;
        TokenId::from_bytes(std::array::from_fn(|at| self.bytes[start + at]))
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads up to 16 bytes as a big-endian number.
fn number(bytes: &[u8]) -> u128 {
    let mut whole = [0; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    u128::from_be_bytes(whole)
}

fn checksum(covered: &str) -> String {
    let sum = crc32fast::hash(covered.as_bytes());
    format!("{:0>CHECKSUM$}", base62::encode_fmt(sum))
}

/// The SHA-256 hash of the whole text of a token. The token's record contains this hash instead of
/// the text.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(#[serde(with = "serde_bytes")] [u8; 32]);

impl TokenHash {
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Compares in constant time.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

/// Prints `***`. A hash gives no access. But if a log contained hashes, a reader of the log could
/// see which requests used the same token.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::domain::{deployment::Deployment, time::UnixSeconds};

    fn token(seed: u64, holder: Holder, expiry_type: ExpiryType) -> PlainToken {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut key = [0; OwnerKey::LENGTH];
        let mut id = [0; 16];
        rand::Rng::fill_bytes(&mut rng, &mut key);
        rand::Rng::fill_bytes(&mut rng, &mut id);
        PlainToken::generate(
            holder,
            expiry_type,
            OwnerKey::from_bytes(key),
            TokenId::from_bytes(id),
            Some(&tag_key(0)),
            &mut rng,
        )
    }

    fn tag_key(seed: u64) -> TagKey {
        let mut rng = StdRng::seed_from_u64(seed);
        let deployment = Deployment::new(UnixSeconds(0), &mut rng);
        deployment.tag_keys.into_iter().next().unwrap()
    }

    /// Returns the text `covered`, followed by its checksum.
    fn with_checksum(covered: String) -> String {
        let sum = checksum(&covered);
        covered + &sum
    }

    proptest! {
        #[test]
        fn parsing_a_generated_token_gives_the_same_values(seed: u64) {
            for (holder, h) in [(Holder::Account, 'a'), (Holder::Server, 's'), (Holder::User, 'u')] {
                for (expiry, e) in [
                    (ExpiryType::Infinite, 'i'),
                    (ExpiryType::FixedTtl, 'f'),
                    (ExpiryType::SlidingTtl, 's'),
                ] {
                    let made = token(seed, holder, expiry);
                    let prefix = format!("tk_{h}{e}_");
                    prop_assert!(made.reveal().starts_with(&prefix));
                    prop_assert_eq!(made.reveal().len(), PlainToken::LENGTH);
                    let read = PlainToken::parse(made.reveal()).unwrap();
                    prop_assert_eq!(read.holder(), holder);
                    prop_assert_eq!(read.expiry_type(), expiry);
                    prop_assert_eq!(read.owner(), made.owner());
                    prop_assert_eq!(read.id(), made.id());
                    prop_assert_eq!(read.hashed(), made.hashed());
                }
            }
        }

        #[test]
        fn a_token_with_one_changed_character_is_malformed(
            seed: u64,
            at in 0..PlainToken::LENGTH,
            to in "[ -~]",
        ) {
            let made = token(seed, Holder::User, ExpiryType::FixedTtl);
            let mut text = made.reveal().to_owned();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert!(PlainToken::parse(&text).is_none());
        }

        #[test]
        fn parsing_any_text_never_panics(text in "(tk_[asu][ifs]_)?\\PC{0,100}") {
            prop_assert!(PlainToken::parse(&text).is_none());
        }

        #[test]
        fn only_the_key_that_created_a_tag_matches_it(seed: u64) {
            let made = token(seed, Holder::User, ExpiryType::FixedTtl);
            prop_assert!(made.has_tag_of(&tag_key(0)));
            prop_assert!(!made.has_tag_of(&tag_key(1)));
        }

        #[test]
        fn the_tag_covers_the_prefix_the_letters_and_every_byte(seed: u64, at in 0..52_usize) {
            let made = token(seed, Holder::User, ExpiryType::FixedTtl);
            let (covered, _) = made.reveal().split_at(PlainToken::LENGTH - CHECKSUM);
            let other = |text: String| PlainToken::parse(&with_checksum(text)).unwrap();
            for changed in [
                covered.replacen("tk_", "tl_", 1),
                covered.replacen("tk_", "acme1_", 1),
                covered.replacen("tk_u", "tk_a", 1),
                covered.replacen("tk_uf", "tk_ui", 1),
            ] {
                prop_assert!(!other(changed).has_tag_of(&tag_key(0)));
            }
            let mut bytes = made.bytes.clone();
            bytes[at] ^= 1;
            let changed = PlainToken { bytes, ..made };
            prop_assert!(!changed.has_tag_of(&tag_key(0)));
        }
    }

    #[test]
    fn a_prefix_has_2_to_10_lower_case_letters_and_digits() {
        let made = token(1, Holder::User, ExpiryType::FixedTtl);
        let (covered, _) = made.reveal().split_at(PlainToken::LENGTH - CHECKSUM);
        let parsed = |prefix: &str| {
            let text = covered.replacen("tk", prefix, 1);
            PlainToken::parse(&with_checksum(text))
        };
        for prefix in ["ab", "a1", "12", "abcdefghij"] {
            let token = parsed(prefix).expect(prefix);
            assert_eq!((token.owner(), token.id()), (made.owner(), made.id()));
        }
        for prefix in ["", "a", "abcdefghijk", "Ab", "a-", "a_b", "\u{e4}", "a b"] {
            assert!(parsed(prefix).is_none(), "{prefix}");
        }
    }

    #[test]
    fn base62_numbers_that_do_not_fit_into_their_bytes_are_rejected() {
        // The checksum is correct, but the first 22 digits need more than 16 bytes, or the last 11
        // digits need more than 8 bytes.
        for body in [
            "z".repeat(22) + &"0".repeat(55),
            "0".repeat(66) + &"z".repeat(11),
        ] {
            let covered = format!("tk_uf_{body}");
            assert!(PlainToken::parse(&with_checksum(covered)).is_none());
        }
        let covered = format!("tk_uf_{}", "0".repeat(77));
        assert!(PlainToken::parse(&with_checksum(covered)).is_some());
    }

    #[test]
    fn a_token_and_its_hash_do_not_show_in_debug_output() {
        let made = token(1, Holder::User, ExpiryType::FixedTtl);
        assert_eq!(format!("{made:?} {:?}", made.hashed()), "*** ***");
    }
}
