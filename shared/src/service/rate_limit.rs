//! Limits on attempts that fail: guesses of short codes, and whatever else a stranger may try.
//!
//! An attempt is charged before it is made and refunded when it was right, so that attempts sent
//! in parallel gain nothing and right ones cost nothing. A counter is an item of the ephemeral
//! table for one subject and one window of time: `n`, what is charged, and `failed`, what of it
//! has failed for sure.

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

/// How long a refund may take. A token that its holder never hears of is worse than an attempt
/// that stays charged.
const REFUND_TIME: Duration = Duration::from_millis(300);
/// What an attempt must leave of its request's time, so that it can still be refunded.
pub const REFUND: Duration = Duration::from_millis(400);

/// How many attempts one subject may fail in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Who: kept as a hash.
    subject: String,
    /// The window's length in seconds.
    window: u64,
    /// How many.
    limit: u32,
}

impl Budget {
    /// A budget for a subject; its texts are told apart by what they are about.
    pub fn new(about: &str, subject: &str, window: u64, limit: u32) -> Self {
        Self {
            subject: format!("{about}#{subject}"),
            window,
            limit,
        }
    }

    /// Where its counter is at this time, and when that ends.
    fn counter(&self, now: UnixSeconds) -> Counter {
        let number = now.0 / self.window;
        let hash = Sha256::digest(format!("{}#{}", self.window, self.subject));
        Counter {
            key: format!("attempts#{}#{number}", hex::encode(&hash[..16])),
            ends_at: UnixSeconds((number + 1) * self.window),
        }
    }
}

/// An attempt that was charged: it is refunded or it has failed, once.
#[derive(Debug)]
#[must_use]
pub struct Charged(Vec<Counter>);

impl Charged {
    /// One attempt that was charged twice over.
    pub fn and(mut self, also: Self) -> Self {
        self.0.extend(also.0);
        self
    }
}

/// Charges an attempt to all these budgets, side by side.
///
/// # Errors
/// [`Error::TooManyRequests`] if one of them is used up, which charges none; the database is
/// unavailable.
pub async fn charge(attempts: &Ephemeral, budgets: &[Budget], now: UnixSeconds) -> Result<Charged> {
    let calls = budgets.iter().map(async |budget| {
        let counter = budget.counter(now);
        let charge = attempts.charge(&counter, budget.limit).await?;
        Ok((counter, charge, budget.limit))
    });
    let mut counters = Vec::new();
    let mut refused = None;
    let mut fault = None;
    for result in join_all(calls).await {
        match result {
            Ok((counter, Charge::Counted, _)) => counters.push(counter),
            Ok((counter, Charge::Full { failed }, limit)) => {
                // While attempts under way fill it, it may have room in a moment.
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
            refund(attempts, charged).await;
            Err(error)
        }
    }
}

/// Gives an attempt back that was not wrong. Never tried again, since twice would forgive a
/// failure, and not waited for long, since an answer waits for it.
pub async fn refund(attempts: &Ephemeral, charged: Charged) {
    let refunds = charged.0.iter().map(async |counter| {
        if let Err(error) = attempts.refund(counter).await {
            tracing::warn!(cause = ?error, "an attempt is not refunded");
        }
    });
    if tokio::time::timeout(REFUND_TIME, join_all(refunds))
        .await
        .is_err()
    {
        tracing::warn!("an attempt is not refunded in time");
    }
}

/// Notes that an attempt failed, so that whoever is refused next is told for how long.
pub async fn failed(attempts: &Ephemeral, charged: Charged) {
    let notes = charged.0.iter().map(async |counter| {
        if let Err(error) = attempts.count_failure(counter).await {
            // It stays charged, which is what counts.
            tracing::warn!(cause = ?error, "a failed attempt is not noted");
        }
    });
    join_all(notes).await;
}

/// The source of a request as a subject: an IPv6 source counts as its /64, which is what one
/// customer has at least; all requests without a known address count as one source.
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
    fn an_ipv6_source_is_its_64_and_a_mapped_one_its_ipv4() {
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
    fn a_counter_is_of_one_subject_and_one_window() {
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
