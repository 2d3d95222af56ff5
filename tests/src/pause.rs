//! tokio's clock, stopped while anybody wants it to be: tests, and calls to a database that may be slow.

use std::cell::Cell;

use tokio::runtime::Handle;

thread_local! {
    /// How many want this thread's runtime to be without time.
    static HOLDERS: Cell<usize> = const { Cell::new(0) };
}

/// Stops tokio's clock: from now on it runs ahead to the next timer, and only when nothing else is left
/// to do. For runtimes of one thread.
pub fn pause() -> Pause {
    let holders = HOLDERS.get();
    if holders == 0 {
        tokio::time::pause();
    }
    HOLDERS.set(holders + 1);
    Pause(())
}

/// The clock goes on when this, and whatever else holds it, is dropped.
#[derive(Debug)]
#[must_use = "the clock goes on when this is dropped"]
pub struct Pause(());

impl Drop for Pause {
    fn drop(&mut self) {
        let holders = HOLDERS.get() - 1;
        HOLDERS.set(holders);
        // What ends with its runtime has no clock any more.
        if holders == 0 && Handle::try_current().is_ok() {
            tokio::time::resume();
        }
    }
}
