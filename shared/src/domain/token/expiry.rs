//! When a token ends: pure rules, in whole seconds (contract, section 2, "Time").

use serde::{Deserialize, Serialize};

use super::NewToken;
use crate::domain::{
    number::{self, NotInRange},
    time::UnixSeconds,
};

/// How long a token lives, in whole seconds: 1 to [`Ttl::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ttl(u32);

impl Ttl {
    /// Ten years of 365 days.
    pub const MAX: u32 = 315_360_000;

    /// The time from now until then, if it is one.
    pub(crate) fn until(now: UnixSeconds, then: UnixSeconds) -> Self {
        let left = then.0.saturating_sub(now.0).clamp(1, Self::MAX.into());
        Self(u32::try_from(left).unwrap_or(Self::MAX))
    }

    /// # Errors
    /// The text is not a whole number from 1 to [`Ttl::MAX`].
    pub fn parse(text: &str) -> Result<Self, NotInRange> {
        number::positive(text, Self::MAX).map(Self)
    }
}

impl Default for Ttl {
    /// An hour.
    fn default() -> Self {
        Self(3600)
    }
}

/// How a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ExpiryType {
    /// It never expires.
    Infinite,
    /// It expires a fixed time after it was made.
    #[default]
    FixedTtl,
    /// It expires a fixed time after it was last used.
    SlidingTtl,
}

impl ExpiryType {
    /// # Errors
    /// What a client is told of a text that is none of the three.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "Infinite" => Ok(Self::Infinite),
            "FixedTtl" => Ok(Self::FixedTtl),
            "SlidingTtl" => Ok(Self::SlidingTtl),
            _ => Err("field must be one of the following values: Infinite, FixedTtl, SlidingTtl"),
        }
    }
}

/// How and when one token ends, as its item keeps it.
///
/// `expires_at` is the table's TTL attribute: absent from a token that never expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "expiry_type")]
pub enum Expiry {
    /// Never.
    Infinite,
    /// At a fixed time.
    FixedTtl {
        /// The first second of its death.
        expires_at: UnixSeconds,
    },
    /// An e-mail token's: at a date that may be moved, or never. Not the table's TTL attribute: the
    /// item outlives its date, so that one that is gone is one that was revoked.
    Email {
        /// The first second of its death.
        #[serde(skip_serializing_if = "Option::is_none")]
        ends_at: Option<UnixSeconds>,
    },
    /// When it is not used for a while.
    SlidingTtl {
        /// How long it lives after a use.
        ttl: Ttl,
        /// The first second of its death, unless it is used before.
        expires_at: UnixSeconds,
        /// The first second of its death however it is used.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_expires_at: Option<UnixSeconds>,
        /// When it was last used; absent from a token never used.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_used_at: Option<UnixSeconds>,
    },
}

impl Expiry {
    /// The `max_expires_at` of a sliding token that was found dead: the beginning of time, so that
    /// no renewal's condition holds, whatever its clock says.
    pub const ENDED: UnixSeconds = UnixSeconds(0);

    /// The expiry of a token that is made now.
    ///
    /// No life, and no idleness, is longer than `max_ttl`; an infinite token ignores it as it
    /// ignores `ttl`.
    pub fn starting(wanted: &NewToken, now: UnixSeconds) -> Self {
        let ttl = wanted.max_ttl.map_or(wanted.ttl, |max| max.min(wanted.ttl));
        let expires_at = now.plus(ttl.0);
        match wanted.expiry_type {
            ExpiryType::Infinite => Self::Infinite,
            ExpiryType::FixedTtl => Self::FixedTtl { expires_at },
            ExpiryType::SlidingTtl => Self::SlidingTtl {
                ttl,
                expires_at,
                max_expires_at: wanted.max_ttl.map(|max| now.plus(max.0)),
                last_used_at: None,
            },
        }
    }

    /// The kind.
    pub const fn expiry_type(&self) -> ExpiryType {
        match self {
            Self::Infinite | Self::Email { ends_at: None } => ExpiryType::Infinite,
            Self::FixedTtl { .. } | Self::Email { .. } => ExpiryType::FixedTtl,
            Self::SlidingTtl { .. } => ExpiryType::SlidingTtl,
        }
    }

    /// The first second of its death as things stand; none for a token that never expires.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        match *self {
            Self::Infinite => None,
            Self::Email { ends_at } => ends_at,
            Self::FixedTtl { expires_at }
            | Self::SlidingTtl {
                expires_at,
                max_expires_at: None,
                ..
            } => Some(expires_at),
            Self::SlidingTtl {
                expires_at,
                max_expires_at: Some(max),
                ..
            } => Some(expires_at.min(max)),
        }
    }

    /// Whether the token still counts: its last second is the one before `expires_at`.
    pub fn is_alive_at(&self, now: UnixSeconds) -> bool {
        self.expires_at().is_none_or(|end| now < end)
    }

    /// The expiry after a use, with the end that the database gave a sliding token.
    #[must_use]
    pub fn renewed_until(self, until: UnixSeconds) -> Self {
        match self {
            Self::SlidingTtl {
                ttl,
                max_expires_at,
                last_used_at,
                ..
            } => Self::SlidingTtl {
                ttl,
                expires_at: until,
                max_expires_at,
                last_used_at,
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn starting(expiry_type: ExpiryType, ttl: u32, max_ttl: Option<u32>) -> Expiry {
        let wanted = NewToken {
            expiry_type,
            ttl: Ttl(ttl),
            max_ttl: max_ttl.map(Ttl),
            name: None,
        };
        Expiry::starting(&wanted, NOW)
    }

    #[test]
    fn the_second_of_expires_at_is_the_first_of_death() {
        for expiry_type in [ExpiryType::FixedTtl, ExpiryType::SlidingTtl] {
            let expiry = starting(expiry_type, 10, None);
            assert!(expiry.is_alive_at(UnixSeconds(NOW.0 + 9)));
            assert!(!expiry.is_alive_at(UnixSeconds(NOW.0 + 10)));
        }
    }

    #[test]
    fn an_infinite_token_never_ends_whatever_ttl_and_max_ttl_say() {
        let expiry = starting(ExpiryType::Infinite, 1, Some(1));
        assert!(expiry.is_alive_at(UnixSeconds(u64::MAX)));
        assert_eq!(expiry.expires_at(), None);
    }

    #[test]
    fn max_ttl_ends_a_used_token_and_cuts_a_fixed_one() {
        let sliding = starting(ExpiryType::SlidingTtl, 10, Some(15)).renewed_until(NOW.plus(19));
        assert_eq!(sliding.expires_at(), Some(NOW.plus(15)));
        let fixed = starting(ExpiryType::FixedTtl, 10, Some(5));
        assert_eq!(fixed.expires_at(), Some(NOW.plus(5)));
        let longer = starting(ExpiryType::FixedTtl, 10, Some(50));
        assert_eq!(longer.expires_at(), Some(NOW.plus(10)));
    }
}
