//! How long a request may take.

use std::time::Duration;

use crate::domain::error::{Error, Result};

/// How long a request may take before it is answered 503: whatever the database does, a client
/// hears within 3 seconds.
pub const BUDGET: Duration = Duration::from_millis(2800);

/// When a request must have been answered.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub(crate) tokio::time::Instant);

impl Deadline {
    /// That of a request that comes now.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a request may take is no matter of the clock that tokens live by"
    )]
    pub(crate) fn of_now() -> Self {
        Self(tokio::time::Instant::now() + BUDGET)
    }

    /// Runs something until so much before the deadline.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it did not get done.
    pub async fn before<T>(self, margin: Duration, work: impl Future<Output = T>) -> Result<T> {
        let done = tokio::time::timeout_at(self.0 - margin, Box::pin(work)).await;
        done.map_err(|_elapsed| Error::out_of_time())
    }
}
