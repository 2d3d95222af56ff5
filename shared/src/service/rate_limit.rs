//! Limits on failed attempts to exchange a short code or to log in.
//!
//! [`count_attempt`] counts an attempt before the attempt starts. If the attempt does not fail,
//! [`take_back`] removes the attempt from the count. So attempts that are sent in parallel cannot
//! exceed the limit, and successful attempts do not use up the limit.
//!
//! A counter is an item of the ephemeral table for one subject and one time window. Its attribute
//! `n` is the number of attempts that were counted and not taken back. Its attribute `failed` is
//! the number of attempts that are known to have failed.

use std::{net::IpAddr, time::Duration};

use futures_util::future::join_all;
use sha2::{Digest, Sha256};

use crate::{
    domain::{
        error::{Error, Result},
        time::UnixSeconds,
    },
    store::ephemeral::{
        Ephemeral,
        counters::{CountResult, Counter},
    },
};

/// The time limit for taking back an attempt. The response waits until the attempt is taken back.
/// If the response came too late, the client would not get its new token. This is worse than an
/// attempt that stays counted.
const TAKE_BACK_TIME: Duration = Duration::from_millis(300);
/// An attempt is stopped this long before the deadline of its request. In the remaining time, the
/// attempt can be taken back.
pub const TAKE_BACK_MARGIN: Duration = Duration::from_millis(400);

/// The limit on the failed attempts of one subject in a time window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The subject, whose attempts are counted. Only a hash of the subject is stored.
    subject: String,
    /// The window's length in seconds.
    window: u64,
    /// The number of attempts that may fail.
    limit: u32,
}

impl Budget {
    /// Creates a budget for a subject. `about` distinguishes budgets that have the same subject,
    /// for example the budgets for log-ins and for short codes.
    pub fn new(about: &str, subject: &str, window: u64, limit: u32) -> Self {
        Self {
            subject: format!("{about}#{subject}"),
            window,
            limit,
        }
    }

    /// Returns the counter for the window that contains this time.
    fn counter(&self, now: UnixSeconds) -> Counter {
        let number = now.0 / self.window;
        let hash = Sha256::digest(format!("{}#{}", self.window, self.subject));
        Counter {
            key: format!("attempts#{}#{number}", hex::encode(&hash[..16])),
            ends_at: UnixSeconds((number + 1) * self.window),
        }
    }
}

/// An attempt that was counted. Pass it exactly once, either to [`take_back`] or to [`failed`].
#[derive(Debug)]
#[must_use]
pub struct CountedAttempt(Vec<Counter>);

impl CountedAttempt {
    /// Combines the counters in which one attempt was counted.
    pub fn and(mut self, also: Self) -> Self {
        self.0.extend(also.0);
        self
    }
}

/// Counts an attempt in all these budgets, in parallel.
///
/// # Errors
/// [`Error::TooManyRequests`] if one of the budgets is used up; [`Error::Unavailable`] if the
/// database is unavailable. In both cases, the attempt is taken back from the other budgets.
pub async fn count_attempt(
    table: &Ephemeral,
    budgets: &[Budget],
    now: UnixSeconds,
) -> Result<CountedAttempt> {
    let operations = budgets.iter().map(async |budget| {
        let counter = budget.counter(now);
        let result = table.count_attempt(&counter, budget.limit).await?;
        Ok((counter, result, budget.limit))
    });
    let mut counters = Vec::new();
    let mut refused = None;
    let mut fault = None;
    for result in join_all(operations).await {
        match result {
            Ok((counter, CountResult::Counted, _)) => counters.push(counter),
            Ok((counter, CountResult::Full { failed }, limit)) => {
                // If all counted attempts have failed, the limit is used up until the window ends.
                // Otherwise, some attempts may still be running, and may be taken back in a moment.
                let is_used_up = failed >= limit;
                let seconds = if is_used_up {
                    counter.ends_at.0 - now.0
                } else {
                    1
                };
                refused = refused.max(Some(seconds));
            }
            Err(error) => fault = Some(error),
        }
    }
    let counted = CountedAttempt(counters);
    let error = fault.or(refused.map(|retry_after| Error::TooManyRequests { retry_after }));
    match error {
        None => Ok(counted),
        Some(error) => {
            take_back(table, counted).await;
            Err(error)
        }
    }
}

/// Takes back an attempt that did not fail. The database operation is never retried, because taking
/// back one attempt twice would hide a failed attempt. The operation has a time limit, because the
/// response waits until the operation ends.
pub async fn take_back(table: &Ephemeral, counted: CountedAttempt) {
    let operations = counted.0.iter().map(async |counter| {
        if let Err(error) = table.take_back(counter).await {
            tracing::warn!(cause = ?error, "cannot take back an attempt");
        }
    });
    if tokio::time::timeout(TAKE_BACK_TIME, join_all(operations))
        .await
        .is_err()
    {
        tracing::warn!("cannot take back an attempt in time");
    }
}

/// Records that an attempt failed, so that the next rejected caller is told how long to wait.
pub async fn failed(table: &Ephemeral, counted: CountedAttempt) {
    let notes = counted.0.iter().map(async |counter| {
        if let Err(error) = table.count_failure(counter).await {
            // The attempt stays counted, so the limit still applies.
            tracing::warn!(cause = ?error, "cannot record a failed attempt");
        }
    });
    join_all(notes).await;
}

/// Returns the subject for the source address of a request. All IPv6 addresses of a /64 network are
/// one subject, because internet providers give each customer at least a /64 network. All requests
/// without a known address are one subject.
pub fn source(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            let network = format!("{a:x}:{b:x}:{c:x}:{d:x}::/64");
            v6.to_ipv4_mapped().map_or(network, |v4| v4.to_string())
        }
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_source_becomes_its_64_network_and_an_ipv4_mapped_source_becomes_its_ipv4_address() {
        let source = |address: &str| super::source(address.parse().ok());
        assert_eq!(source("192.0.2.1"), "192.0.2.1");
        assert_eq!(source("::ffff:192.0.2.1"), "192.0.2.1");
        let one = source("2001:db8:1:2:3:4:5:6");
        assert_eq!(one, source("2001:db8:1:2::"));
        assert_ne!(one, source("2001:db8:1:3::"));
        assert_eq!(source("192.0.2.1, 10.0.0.1"), "unknown");
        assert_eq!(source(""), "unknown");
    }

    #[test]
    fn each_subject_and_each_window_has_its_own_counter() {
        let counter = |about, subject, window, now| {
            Budget::new(about, subject, window, 5).counter(UnixSeconds(now))
        };
        let one = counter("guess", "192.0.2.1", 900, 900);
        assert_eq!(one.ends_at, UnixSeconds(1800));
        assert_eq!(one, counter("guess", "192.0.2.1", 900, 1799));
        for other in [
            counter("guess", "192.0.2.1", 900, 1800),
            counter("guess", "192.0.2.2", 900, 900),
            counter("log-in", "192.0.2.1", 900, 900),
            counter("guess", "192.0.2.1", 450, 450),
        ] {
            assert_ne!(one.key, other.key);
        }
    }
}
