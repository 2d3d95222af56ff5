//! The caller of the current request, for the log line of the request.
//!
//! The log line is written after the handler has ended, even if the handler failed, panicked or ran
//! out of time. So the caller is stored outside the handler, in a value of the request's task.

use std::cell::OnceCell;

use crate::service::verify::Verified;

tokio::task_local! {
    static CALLER: OnceCell<Verified>;
}

/// Runs a request with a place for its caller.
pub fn with_caller<F: Future>(request: F) -> impl Future<Output = F::Output> {
    CALLER.scope(OnceCell::new(), request)
}

/// Stores the caller of the current request. Keeps the first caller if there is one already. Does
/// nothing outside [`with_caller`].
pub(super) fn set(caller: &Verified) {
    let _ = CALLER.try_with(|place| {
        place.get_or_init(|| caller.clone());
    });
}

/// Returns the caller of the current request, or `None` if no caller is known.
pub fn caller() -> Option<Verified> {
    let caller = CALLER.try_with(|place| place.get().cloned());
    caller.ok().flatten()
}
