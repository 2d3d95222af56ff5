//! Erases what the deletions of users, ecosystems and environments leave in the tables, and ends
//! the tokens that a revocation had no time to end. This function runs at intervals.

use shared::{
    App,
    domain::error::Result,
    service::{
        deadline::Deadline,
        erase::{self, Erased},
    },
};
use tracing::Instrument;

/// The function's name.
pub const NAME: &str = "erase";

/// Erases until there is nothing to do, or until the deadline. The next run goes on.
///
/// # Errors
/// Something could not be erased, or the database is unavailable.
pub async fn handle(app: &App, until: Deadline) -> Result<Erased> {
    let span = tracing::info_span!("run", endpoint = NAME);
    let result = erase::run(app, until).instrument(span).await;
    match &result {
        Ok(erased) if erased.queued == 0 => {}
        Ok(erased) => {
            let (queued, finished, late) = (erased.queued, erased.finished, erased.late);
            tracing::info!(endpoint = NAME, queued, finished, late);
        }
        Err(error) => tracing::error!(endpoint = NAME, cause = ?error),
    }
    result
}
