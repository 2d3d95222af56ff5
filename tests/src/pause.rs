//! Pauses tokio's clock during tests, and during calls to a database that may be slow.

use std::cell::Cell;

use tokio::runtime::Handle;

thread_local! {
    /// The number of [`Pause`]s in this thread.
    static HOLDERS: Cell<usize> = const { Cell::new(0) };
}

/// Pauses tokio's clock. While the clock is paused, it jumps to the next timer when no task can
/// run. This works only in a runtime with one thread.
pub fn pause() -> Pause {
    let holders = HOLDERS.get();
    if holders == 0 {
        tokio::time::pause();
    }
    HOLDERS.set(holders + 1);
    Pause(())
}

/// Keeps tokio's clock paused until all `Pause`s of the thread are dropped.
#[derive(Debug)]
#[must_use = "the clock resumes when this is dropped"]
pub struct Pause(());

impl Drop for Pause {
    fn drop(&mut self) {
        let holders = HOLDERS.get() - 1;
        HOLDERS.set(holders);
        // If the runtime has already ended, there is no clock to resume.
        if holders == 0 && Handle::try_current().is_ok() {
            tokio::time::resume();
        }
    }
}
