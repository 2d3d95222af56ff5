//! Limits on failed attempts: guesses of short codes, log-ins, and whatever else a caller without
//! a credential may try.
//!
//! An attempt is charged before it is made, and refunded unless it fails. So attempts sent in
//! parallel gain nothing, and successful attempts cost nothing. A counter is an item of the
//! ephemeral table for one subject and one time window. Its attribute `n` is the number of charged
//! attempts, and `failed` is the number of those that are known to have failed.

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
        counters::{Charge, Counter},
    },
};

/// How long a refund may take. The response waits for it, and a token that its holder never
/// receives is worse than an attempt that stays charged.
const REFUND_TIME: Duration = Duration::from_millis(300);
/// The time that an attempt must leave before the deadline of its request, so that it can still be
/// refunded.
pub const REFUND: Duration = Duration::from_millis(400);

/// The number of attempts that one subject may fail in a time window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose attempts are counted. Only a hash of it is stored.
    subject: String,
    /// The window's length in seconds.
    window: u64,
    /// The number of attempts that may fail.
    limit: u32,
}

impl Budget {
    /// Creates a budget for a subject. `about` separates budgets of different kinds that have the
    /// same subject text.
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

/// An attempt that was charged. It must be refunded or recorded as failed, exactly once.
#[derive(Debug)]
#[must_use]
pub struct Charged(Vec<Counter>);

impl Charged {
    /// Combines two charges of the same attempt.
    pub fn and(mut self, also: Self) -> Self {
        self.0.extend(also.0);
        self
    }
}

/// Charges an attempt to all these budgets, in parallel.
///
/// # Errors
/// [`Error::TooManyRequests`] if one of the budgets is used up; the database is unavailable. Then
/// the charges to the other budgets are refunded.
pub async fn charge(table: &Ephemeral, budgets: &[Budget], now: UnixSeconds) -> Result<Charged> {
    let calls = budgets.iter().map(async |budget| {
        let counter = budget.counter(now);
        let charge = table.charge(&counter, budget.limit).await?;
        Ok((counter, charge, budget.limit))
    });
    let mut counters = Vec::new();
    let mut refused = None;
    let mut fault = None;
    for result in join_all(calls).await {
        match result {
            Ok((counter, Charge::Counted, _)) => counters.push(counter),
            Ok((counter, Charge::Full { failed }, limit)) => {
                // Some of the charged attempts are still running and may be refunded in a moment.
                // Only a counter full of failed attempts stays full until its window ends.
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
    let charged = Charged(counters);
    let error = fault.or(refused.map(|retry_after| Error::TooManyRequests { retry_after }));
    match error {
        None => Ok(charged),
        Some(error) => {
            refund(table, charged).await;
            Err(error)
        }
    }
}

/// Refunds an attempt that did not fail. A refund is never retried, because a second refund would
/// forgive a failed attempt. Its time is limited, because the response waits for it.
pub async fn refund(table: &Ephemeral, charged: Charged) {
    let refunds = charged.0.iter().map(async |counter| {
        if let Err(error) = table.refund(counter).await {
            tracing::warn!(cause = ?error, "cannot refund an attempt");
        }
    });
    if tokio::time::timeout(REFUND_TIME, join_all(refunds))
        .await
        .is_err()
    {
        tracing::warn!("cannot refund an attempt in time");
    }
}

/// Records that an attempt failed, so that the next rejected caller is told how long to wait.
pub async fn failed(table: &Ephemeral, charged: Charged) {
    let notes = charged.0.iter().map(async |counter| {
        if let Err(error) = table.count_failure(counter).await {
            // The attempt stays charged, so the limit still holds.
            tracing::warn!(cause = ?error, "cannot record a failed attempt");
        }
    });
    join_all(notes).await;
}

/// Returns the subject for the source address of a request. All IPv6 addresses of a /64 network
/// are one subject, because one customer has at least a /64. All requests without a known address
/// are one subject.
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
    fn an_ipv6_source_is_its_64_network_and_a_mapped_one_is_its_ipv4_address() {
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
