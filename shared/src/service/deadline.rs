//! The time limit of a request.

use std::time::Duration;

use crate::domain::error::{Error, Result};

/// A request that takes longer than this gets a 503. This limit is 200 milliseconds shorter than 3
/// seconds, so that the client gets the response within 3 seconds, even if the database does not
/// respond.
pub const BUDGET: Duration = Duration::from_millis(2800);

/// The time by which a request must be answered.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub(crate) tokio::time::Instant);

impl Deadline {
    /// Returns the deadline of a request that arrives now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time limit of a request does not use the clock that decides token expiry"
    )]
    pub(crate) fn of_now() -> Self {
        Self(tokio::time::Instant::now() + BUDGET)
    }

    /// Returns the deadline that is this long after the present time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time limit of an invocation does not use the clock that decides token expiry"
    )]
    pub fn after(time: Duration) -> Self {
        Self(tokio::time::Instant::now() + time)
    }

    /// Runs `work`. If `work` is not finished when only `margin` is left before the deadline,
    /// cancels it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if `work` did not finish in time.
    pub async fn before<T>(self, margin: Duration, work: impl Future<Output = T>) -> Result<T> {
        let done = tokio::time::timeout_at(self.0 - margin, Box::pin(work)).await;
        done.map_err(|_elapsed| Error::out_of_time())
    }
}
