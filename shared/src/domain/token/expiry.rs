//! The rules for when a token expires, in whole seconds. A token is expired if
//! `now >= expires_at`.

use serde::{Deserialize, Serialize};

use super::{ExpiryType, NewToken};
use crate::domain::{
    number::{self, NotInRange},
    time::UnixSeconds,
};

/// How long a token is valid, in whole seconds: 1 to [`Ttl::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ttl(u32);

impl Ttl {
    /// Ten years of 365 days.
    pub const MAX: u32 = 315_360_000;

    /// Returns this many days. The caller must pass a number from 1 to 3650.
    pub(crate) const fn days(days: u32) -> Self {
        Self(days * 24 * 60 * 60)
    }

    /// Returns the number of seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// Returns the time from `now` to `then`, but at least 1 second and at most [`Ttl::MAX`].
    pub(crate) fn until(now: UnixSeconds, then: UnixSeconds) -> Self {
        let left = then.0.saturating_sub(now.0).clamp(1, Self::MAX.into());
        Self(u32::try_from(left).unwrap_or(Self::MAX))
    }

    /// Parses a number of seconds.
    ///
    /// # Errors
    /// The text is not a whole number from 1 to [`Ttl::MAX`].
    pub fn parse(text: &str) -> Result<Self, NotInRange> {
        number::positive(text, Self::MAX).map(Self)
    }
}

impl Default for Ttl {
    /// One hour.
    fn default() -> Self {
        Self(3600)
    }
}

/// How and when one token expires, in the form that the token's item stores.
///
/// `expires_at` is the table's TTL attribute. If a token never expires, its item does not have this
/// attribute. If an item has the attribute `valid_until`, the token expires at that time, and
/// `expires_at` says only when DynamoDB deletes the item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "expiry_type")]
pub enum Expiry {
    /// Never expires.
    Infinite,
    /// Expires at a fixed time.
    FixedTtl {
        /// How long the token is valid. Old items do not have this attribute.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<Ttl>,
        /// The first second at which the token is expired.
        expires_at: UnixSeconds,
        /// The end that `maxTtl` sets. `expires_at` is never later than this. The value is stored
        /// for a later release, in which another token can replace this token.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_expires_at: Option<UnixSeconds>,
    },
    /// The expiry of an e-mail token. The token expires at a date, or it never expires. Clients can
    /// change the expiry. The date is not stored in the table's TTL attribute, so DynamoDB does not
    /// delete the item of an expired token. Therefore a missing item means that the token was
    /// revoked.
    Email {
        /// The first second at which the token is expired.
        #[serde(skip_serializing_if = "Option::is_none")]
        ends_at: Option<UnixSeconds>,
    },
    /// Expires if it is not used for some time.
    SlidingTtl {
        /// How long the token is valid after a use.
        ttl: Ttl,
        /// The token expires at this second, unless the token is used earlier.
        expires_at: UnixSeconds,
        /// The token expires at this second at the latest, even if the token is used.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_expires_at: Option<UnixSeconds>,
    },
}

impl Expiry {
    /// When a request finds that a sliding token is expired, the request sets the token's
    /// `max_expires_at` to this value, the start of 1970. The condition of every later renewal is
    /// then false, even if the renewal uses a clock that is slow.
    pub const ENDED: UnixSeconds = UnixSeconds(0);

    /// Returns the expiry of a token that is created now.
    ///
    /// `max_ttl` limits how long the token is valid in total. If `ttl` is longer than `max_ttl`,
    /// `max_ttl` is used instead of `ttl`. For an infinite token, `ttl` and `max_ttl` have no
    /// effect.
    pub fn new(wanted: &NewToken, now: UnixSeconds) -> Self {
        let ttl = wanted.max_ttl.map_or(wanted.ttl, |max| max.min(wanted.ttl));
        let expires_at = now.plus(ttl.0);
        let max_expires_at = wanted.max_ttl.map(|max| now.plus(max.0));
        match wanted.expiry_type {
            ExpiryType::Infinite => Self::Infinite,
            ExpiryType::FixedTtl => Self::FixedTtl {
                ttl: Some(ttl),
                expires_at,
                max_expires_at,
            },
            ExpiryType::SlidingTtl => Self::SlidingTtl {
                ttl,
                expires_at,
                max_expires_at,
            },
        }
    }

    /// Returns the expiry type that clients see.
    pub const fn expiry_type(&self) -> ExpiryType {
        match self {
            Self::Infinite | Self::Email { ends_at: None } => ExpiryType::Infinite,
            Self::FixedTtl { .. } | Self::Email { .. } => ExpiryType::FixedTtl,
            Self::SlidingTtl { .. } => ExpiryType::SlidingTtl,
        }
    }

    /// Returns the first second at which the token is expired, provided that the token is not used
    /// again. Returns `None` if the token never expires.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        match *self {
            Self::Infinite => None,
            Self::Email { ends_at } => ends_at,
            Self::FixedTtl { expires_at, .. }
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

    /// Returns the time to show as the time of expiry. It differs from [`Expiry::expires_at`] if a
    /// request has set `max_expires_at` to [`Expiry::ENDED`].
    pub fn shown_expires_at(&self) -> Option<UnixSeconds> {
        match *self {
            Self::SlidingTtl {
                expires_at,
                max_expires_at: Some(Self::ENDED),
                ..
            } => Some(expires_at),
            _ => self.expires_at(),
        }
    }

    /// Returns whether the token is not expired: either `now` is before `expires_at`, or the token
    /// never expires.
    pub fn is_valid_at(&self, now: UnixSeconds) -> bool {
        self.expires_at().is_none_or(|end| now < end)
    }

    /// Returns the expiry after a use of the token. For a sliding token, `until` is the new
    /// `expires_at`, which `Identity::renew` in `store/identity/tokens.rs` returned. The expiry of
    /// other tokens stays the same.
    #[must_use]
    pub fn renewed_until(self, until: UnixSeconds) -> Self {
        match self {
            Self::SlidingTtl {
                ttl,
                max_expires_at,
                ..
            } => Self::SlidingTtl {
                ttl,
                expires_at: until,
                max_expires_at,
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
            ..NewToken::default()
        };
        Expiry::new(&wanted, NOW)
    }

    #[test]
    fn a_token_is_valid_before_expires_at_and_expired_at_expires_at() {
        for expiry_type in [ExpiryType::FixedTtl, ExpiryType::SlidingTtl] {
            let expiry = starting(expiry_type, 10, None);
            assert!(expiry.is_valid_at(UnixSeconds(NOW.0 + 9)));
            assert!(!expiry.is_valid_at(UnixSeconds(NOW.0 + 10)));
        }
    }

    #[test]
    fn an_infinite_token_with_a_ttl_and_a_max_ttl_never_expires() {
        let expiry = starting(ExpiryType::Infinite, 1, Some(1));
        assert!(expiry.is_valid_at(UnixSeconds(u64::MAX)));
        assert_eq!(expiry.expires_at(), None);
    }

    #[test]
    fn max_ttl_limits_how_long_a_sliding_or_fixed_ttl_token_is_valid() {
        let sliding = starting(ExpiryType::SlidingTtl, 10, Some(15)).renewed_until(NOW.plus(19));
        assert_eq!(sliding.expires_at(), Some(NOW.plus(15)));
        let fixed = starting(ExpiryType::FixedTtl, 10, Some(5));
        assert_eq!(fixed.expires_at(), Some(NOW.plus(5)));
        let longer = starting(ExpiryType::FixedTtl, 10, Some(50));
        assert_eq!(longer.expires_at(), Some(NOW.plus(10)));
    }
}
