//! The text of a token, which only its holder keeps.
//!
//! `tk_`, the holder (`a`, `s`, `u`), the expiry (`i`, `f`, `s`), `_`, then 77 letters and digits
//! that are 56 bytes in base62 (owner key 20, token id 16, secret 20), then 6 that are the CRC-32
//! of all before them. Always 89 characters, so that a secret scanner finds a leaked one by
//! `tk_[asu][ifs]_[0-9A-Za-z]{83}`, and rubbish is refused without a read.

use std::fmt::{self, Write};

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{ExpiryType, Holder, TokenId};
use crate::domain::owner::OwnerKey;

const PREFIX: &str = "tk_";
/// `tk_`, two letters, `_`.
const HEAD: usize = 6;
const SECRET: usize = 20;
const BYTES: usize = OwnerKey::LENGTH + 16 + SECRET;
/// The 56 bytes as big-endian numbers that base62 writes with a fixed number of digits:
/// 22 for 16 bytes, 11 for 8.
const DIGITS: [(usize, usize); 4] = [(16, 22), (16, 22), (16, 22), (8, 11)];
const BODY: usize = 77;
const CHECKSUM: usize = 6;

/// A token's whole text, parsed: well formed and of a right checksum, which says nothing about
/// whether it was ever minted.
///
/// It prints as `***`, and its memory is cleared when it is dropped.
pub struct PlainToken {
    text: Zeroizing<String>,
    holder: Holder,
    expiry_type: ExpiryType,
    owner: OwnerKey,
    id: TokenId,
}

impl PlainToken {
    /// In bytes, all of them ASCII.
    pub const LENGTH: usize = HEAD + BODY + CHECKSUM;

    pub(super) fn generate(
        holder: Holder,
        expiry_type: ExpiryType,
        owner: OwnerKey,
        id: TokenId,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let mut bytes = Zeroizing::new([0; BYTES]);
        let (key, rest) = bytes.split_at_mut(OwnerKey::LENGTH);
        let (token_id, secret) = rest.split_at_mut(16);
        key.copy_from_slice(owner.as_bytes());
        token_id.copy_from_slice(&id.to_bytes());
        rng.fill_bytes(secret);

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
        // Of the final size from the start: growing would leave copies behind uncleared.
        let mut text = Zeroizing::new(String::with_capacity(Self::LENGTH));
        let mut write = |part: fmt::Arguments<'_>| {
            text.write_fmt(part).expect("a String takes all text");
        };
        write(format_args!("{PREFIX}{holder_letter}{expiry_letter}_"));
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
            owner,
            id,
        }
    }

    /// Reads a token. Nothing that is not a token's exact text comes through, and two texts never
    /// mean one token.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::LENGTH || !text.is_ascii() {
            return None;
        }
        let (covered, sum) = text.split_at(HEAD + BODY);
        let (head, body) = covered.split_at(HEAD);
        let [b't', b'k', b'_', holder, expiry, b'_'] = head.as_bytes() else {
            return None;
        };
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
        let (owner, rest) = bytes.split_first_chunk()?;
        let (id, _secret) = rest.split_first_chunk()?;
        Some(Self {
            text: Zeroizing::new(text.to_owned()),
            holder,
            expiry_type,
            owner: OwnerKey::from_bytes(*owner),
            id: TokenId::from_bytes(*id),
        })
    }

    /// What is kept of the token: its SHA-256. 160 random bits need no slow hash.
    pub fn hashed(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.as_bytes()).into())
    }

    /// The secret text, for the one response that shows it.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What kind of owner it says it is of.
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// How it says it ends.
    pub const fn expiry_type(&self) -> ExpiryType {
        self.expiry_type
    }

    /// The partition it says it is in.
    pub const fn owner(&self) -> OwnerKey {
        self.owner
    }

    /// The id it says it has.
    pub const fn id(&self) -> TokenId {
        self.id
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Up to 16 bytes as a big-endian number.
fn number(bytes: &[u8]) -> u128 {
    let mut whole = [0; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    u128::from_be_bytes(whole)
}

fn checksum(covered: &str) -> String {
    let sum = crc32fast::hash(covered.as_bytes());
    format!("{:0>CHECKSUM$}", base62::encode_fmt(sum))
}

/// SHA-256 of a whole token: all that is kept of it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(#[serde(with = "serde_bytes")] [u8; 32]);

impl TokenHash {
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// In constant time.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

/// A hash opens nothing, but it would let a reader of logs tell tokens apart.
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
            &mut rng,
        )
    }

    proptest! {
        #[test]
        fn a_token_is_the_same_read_as_written(seed: u64) {
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
        fn a_token_with_one_character_changed_is_none(
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
        fn reading_any_text_never_panics(text in "(tk_[asu][ifs]_)?\\PC{0,100}") {
            prop_assert!(PlainToken::parse(&text).is_none());
        }
    }

    #[test]
    fn digits_beyond_the_bytes_they_stand_for_are_refused() {
        // The right checksum over a number that needs more than 16, or more than 8, bytes.
        for body in [
            "z".repeat(22) + &"0".repeat(55),
            "0".repeat(66) + &"z".repeat(11),
        ] {
            let covered = format!("tk_uf_{body}");
            assert!(PlainToken::parse(&(covered.clone() + &checksum(&covered))).is_none());
        }
        let covered = format!("tk_uf_{}", "0".repeat(77));
        assert!(PlainToken::parse(&(covered.clone() + &checksum(&covered))).is_some());
    }

    #[test]
    fn neither_a_token_nor_its_hash_shows_in_debug_output() {
        let made = token(1, Holder::User, ExpiryType::FixedTtl);
        assert_eq!(format!("{made:?} {:?}", made.hashed()), "*** ***");
    }
}
