//! Points in time: in milliseconds ([`Timestamp`]) and in whole seconds ([`UnixSeconds`]).

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A point in time in milliseconds since 1970, from the clock of [`App`](crate::App).
///
/// To decide whether a token is expired, we compare whole seconds ([`Timestamp::seconds`]). We
/// compare milliseconds to sort tokens by creation time, and to decide whether a token was created
/// before [`Settings::not_before`](crate::config::Settings::not_before).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp {
    millis: u64,
}

impl Timestamp {
    /// Returns the time that is this many milliseconds after the start of 1970.
    pub(crate) const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// Parses an RFC 3339 time, such as `2026-01-01T00:00:00Z`. Returns `None` if it is malformed
    /// or before 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let millis = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()?;
        Some(Self { millis })
    }

    /// Returns the milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.millis
    }

    /// Returns the time in seconds, rounded down.
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.millis / 1000)
    }
}

impl From<UnixSeconds> for Timestamp {
    fn from(time: UnixSeconds) -> Self {
        Self::from_millis(time.0 * 1000)
    }
}

impl From<SystemTime> for Timestamp {
    /// Converts a time of the system clock. A time before 1970 becomes the start of 1970.
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            millis: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Whole seconds since 1970. This is the unit of `iat` and `exp` (RFC 7662 §2.2), and of DynamoDB's
/// TTL attribute.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Returns the time that is this many seconds later, or the maximum time if the sum overflows.
    #[must_use]
    pub const fn plus(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds as u64))
    }

    /// Formats the time as in `2026-01-01T00:00:00Z`. Returns `None` for a time after the year
    /// 9999, because RFC 3339 cannot express it.
    pub fn to_rfc3339(self) -> Option<String> {
        let seconds = i64::try_from(self.0).ok()?;
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()?
            .format(&Rfc3339)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timestamp_is_rounded_down_to_whole_seconds() {
        let moment = Timestamp::from(UNIX_EPOCH + Duration::from_millis(1_767_225_600_999));
        assert_eq!(moment.millis(), 1_767_225_600_999);
        assert_eq!(moment.seconds(), UnixSeconds(1_767_225_600));
        assert_eq!(
            moment.seconds().to_rfc3339().as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
    }

    #[test]
    fn an_rfc_3339_time_is_parsed() {
        let millis = |text| Timestamp::parse(text).map(Timestamp::millis);
        assert_eq!(millis("2026-01-01T00:00:00Z"), Some(1_767_225_600_000));
        assert_eq!(
            millis("2026-01-01T02:00:00.5+02:00"),
            Some(1_767_225_600_500)
        );
        for text in ["", "1767225600", "2026-01-01", "1969-12-31T23:59:59Z"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn times_before_1970_and_after_9999_do_not_panic() {
        let moment = Timestamp::from(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(moment.seconds(), UnixSeconds(0));
        assert_eq!(UnixSeconds(u64::MAX).plus(1).to_rfc3339(), None);
        assert_eq!(UnixSeconds(253_402_300_800).to_rfc3339(), None);
    }
}
