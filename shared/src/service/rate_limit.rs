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

use futures_util::future::{join, join_all};
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
    fn and(mut self, also: Self) -> Self {
        self.0.extend(also.0);
        self
    }
}

/// Counts an attempt in `own`, the budgets of its source alone. Then counts it in `shared`, the
/// budgets that several sources share. So a source that has reached its own limit does not use up a
/// shared limit, not even for a moment. The second step runs at the same time as `read`, so it
/// takes no additional time. Returns the result of `read` only if the attempt is below all limits.
///
/// # Errors
/// The errors of [`count_attempt`].
pub async fn count_and_read<T>(
    table: &Ephemeral,
    own: &[Budget],
    shared: &[Budget],
    now: UnixSeconds,
    read: impl Future<Output = T>,
) -> Result<(CountedAttempt, T)> {
    let counted = count_attempt(table, own, now).await?;
    let (also, read) = join(count_attempt(table, shared, now), read).await;
    match also {
        Ok(also) => Ok((counted.and(also), read)),
        Err(error) => {
            take_back(table, counted).await;
            Err(error)
        }
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

/// The limits of a source, in the order of the result of [`sources`]: the limit of an IPv4 address
/// or a /64 network, the limit of a /56 network, and the limit of a /48 network.
pub type Limits = [u32; 3];

/// Returns the subjects for the source address of a request. An IPv4 address is one subject. An
/// IPv6 address has three subjects: its /64, its /56 and its /48 network. Internet providers give a
/// customer one of these, so an attacker can use all addresses of a /48 network. All requests
/// without a known address are one subject.
pub fn sources(address: Option<IpAddr>) -> Vec<String> {
    match address {
        Some(IpAddr::V4(v4)) => vec![v4.to_string()],
        Some(IpAddr::V6(v6)) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return vec![v4.to_string()];
            }
            let [a, b, c, d, ..] = v6.segments();
            vec![
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"),
                format!("{a:x}:{b:x}:{c:x}:{:x}::/56", d & 0xff00),
                format!("{a:x}:{b:x}:{c:x}::/48"),
            ]
        }
        None => vec!["unknown".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_source_counts_as_three_networks_and_an_ipv4_mapped_source_as_its_ipv4_address() {
        let sources = |address: &str| super::sources(address.parse().ok());
        assert_eq!(sources("192.0.2.1"), ["192.0.2.1"]);
        assert_eq!(sources("::ffff:192.0.2.1"), ["192.0.2.1"]);
        assert_eq!(
            sources("2001:db8:1:f2ab:3:4:5:6"),
            [
                "2001:db8:1:f2ab::/64",
                "2001:db8:1:f200::/56",
                "2001:db8:1::/48"
            ]
        );
        let common = |one, other| {
            let others = sources(other);
            sources(one).iter().filter(|s| others.contains(s)).count()
        };
        assert_eq!(common("2001:db8:1:200::", "2001:db8:1:200:f::"), 3);
        assert_eq!(common("2001:db8:1:200::", "2001:db8:1:2ff::"), 2);
        assert_eq!(common("2001:db8:1:200::", "2001:db8:1:300::"), 1);
        assert_eq!(common("2001:db8:1::", "2001:db8:2::"), 0);
        assert_eq!(sources("192.0.2.1, 10.0.0.1"), ["unknown"]);
        assert_eq!(sources(""), ["unknown"]);
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
