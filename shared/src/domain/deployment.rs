//! The record of a deployment: the version of its stored data, the keys of its token tags, and its
//! first account.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::domain::{id::AccountId, time::UnixSeconds, token::PlainToken};

/// The length of a tag in bytes.
pub(crate) const TAG: usize = 4;
/// A new key creates tags only after this many seconds. If an execution environment finds a tag
/// that none of its keys matches, it reads the keys again, unless it read them in the last 10
/// seconds. Because of the delay, a tag of the new key cannot be rejected: an environment that read
/// the keys in the last 10 seconds knows the new key. A deployment's only key creates tags at once.
const MINTING_DELAY: u32 = 60;

/// The version of the stored data. This release reads all three versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum Schema {
    /// Version 1. Tokens without a tag may be valid. Addresses are unique in the deployment.
    #[default]
    One,
    /// Version 2. Every valid token has a tag. Addresses are unique in an account.
    Two,
    /// Version 3. The lists of ecosystems, environments and users are complete.
    Three,
}

impl Schema {
    /// The version that the stored data has after `tokenry migrate` of this release, and in a new
    /// deployment.
    pub const CURRENT: Self = Self::Three;
}

impl TryFrom<u32> for Schema {
    type Error = UnknownSchema;

    fn try_from(version: u32) -> Result<Self, UnknownSchema> {
        match version {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            other => Err(UnknownSchema(other)),
        }
    }
}

impl From<Schema> for u32 {
    fn from(schema: Schema) -> Self {
        match schema {
            Schema::One => 1,
            Schema::Two => 2,
            Schema::Three => 3,
        }
    }
}

/// A version of the stored data that this release cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSchema(pub u32);

impl fmt::Display for UnknownSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the stored data has the schema version {}, and this release reads the versions 1 to \
             3: deploy the release that ran `tokenry migrate` last, or a later one",
            self.0
        )
    }
}

/// The record of a deployment: the item `deployment` of the identity table.
///
/// A deployment that an earlier release created has no such item. A command of this release creates
/// the item, for example `tokenry migrate`. Until then, the record is `Deployment::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The version of the stored data.
    pub schema: Schema,
    /// The keys of the token tags, oldest first. A tag is accepted if any of these keys created it.
    pub tag_keys: Vec<TagKey>,
    /// The account of a log-in whose request contains no ecosystem id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_account: Option<AccountId>,
    /// Increases by 1 with each change of the record.
    pub revision: u64,
}

impl Deployment {
    /// Returns the record of a new deployment, which has one tag key and no account yet.
    pub fn new(now: UnixSeconds, rng: &mut dyn CryptoRng) -> Self {
        Self {
            schema: Schema::CURRENT,
            tag_keys: vec![TagKey::generate(1, now, rng)],
            first_account: None,
            revision: 1,
        }
    }

    /// Returns the record with one more tag key.
    #[must_use]
    pub fn with_new_tag_key(&self, now: UnixSeconds, rng: &mut dyn CryptoRng) -> Self {
        let id = self.tag_keys.iter().map(|key| key.id).max().unwrap_or(0) + 1;
        let mut next = self.clone();
        next.tag_keys.push(TagKey::generate(id, now, rng));
        next
    }

    /// Returns whether one of the deployment's keys created the tag of this token.
    pub fn created_tag_of(&self, token: &PlainToken) -> bool {
        self.tag_keys.iter().any(|key| token.has_tag_of(key))
    }

    /// Returns the key that creates the tags of new tokens: the newest key that is old enough, or
    /// the oldest key if no key is old enough. Returns `None` if there is no key.
    pub fn minting_key(&self, now: UnixSeconds) -> Option<&TagKey> {
        let old_enough = |key: &&TagKey| key.added_at.plus(MINTING_DELAY) <= now;
        let newest = self.tag_keys.iter().rfind(old_enough);
        newest.or_else(|| self.tag_keys.first())
    }
}

/// A key of the deployment that creates and checks the tags of tokens.
///
/// A person who has the key can create texts with a valid tag. Each of these texts costs a database
/// read, but is not a valid token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagKey {
    /// The key's number. A token's record contains the number of the key that created its tag.
    pub id: u32,
    /// When the key was added.
    pub added_at: UnixSeconds,
    #[serde(with = "serde_bytes")]
    key: [u8; 32],
}

impl TagKey {
    fn generate(id: u32, added_at: UnixSeconds, rng: &mut dyn CryptoRng) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self { id, added_at, key }
    }

    /// Returns the tag of the text that consists of these parts. The tag is the first 4 bytes of
    /// the HMAC-SHA256 of the text.
    pub(crate) fn tag(&self, parts: [&[u8]; 2]) -> [u8; TAG] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        let [a, b, c, d, ..] = <[u8; 32]>::from(mac.finalize().into_bytes());
        [a, b, c, d]
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TagKey")
            .field("id", &self.id)
            .field("added_at", &self.added_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_new_key_creates_tags_after_a_minute_and_the_only_key_at_once() {
        let mut rng = StdRng::seed_from_u64(0);
        let first = Deployment::new(UnixSeconds(100), &mut rng);
        let minting = |deployment: &Deployment, now| {
            let key = deployment.minting_key(UnixSeconds(now));
            key.map(|key| key.id)
        };
        assert_eq!(minting(&Deployment::default(), 100), None);
        assert_eq!(minting(&first, 0), Some(1));
        assert_eq!(minting(&first, 100), Some(1));
        let second = first.with_new_tag_key(UnixSeconds(200), &mut rng);
        assert_eq!(minting(&second, 259), Some(1));
        assert_eq!(minting(&second, 260), Some(2));
        let third = second.with_new_tag_key(UnixSeconds(210), &mut rng);
        assert_eq!(minting(&third, 269), Some(2));
        assert_eq!(minting(&third, 270), Some(3));
    }

    #[test]
    fn an_unknown_schema_version_is_an_error_that_names_the_remedy() {
        for version in [1, 2, 3] {
            assert_eq!(Schema::try_from(version).map(u32::from), Ok(version));
        }
        let error = Schema::try_from(4).unwrap_err().to_string();
        assert!(error.contains("version 4") && error.contains("deploy the release"));
        assert!(Schema::try_from(0).is_err());
    }

    #[test]
    fn a_tag_key_does_not_show_in_debug_output() {
        let deployment = Deployment::new(UnixSeconds(7), &mut StdRng::seed_from_u64(0));
        let key = format!("{:?}", deployment.tag_keys[0].key);
        let shown = format!("{deployment:?}");
        assert!(
            !shown.contains(&key) && shown.contains("UnixSeconds(7)"),
            "{shown}"
        );
    }
}
