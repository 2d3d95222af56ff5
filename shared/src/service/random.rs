//! The random source. Like the clock, it is passed in, so that tests can replace it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::CryptoRng;

/// A random source that all requests of an execution environment share.
pub struct Random(Mutex<Box<dyn CryptoRng + Send>>);

impl Random {
    /// Creates a source that takes its random numbers from this generator.
    pub fn new(rng: impl CryptoRng + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(rng)))
    }

    /// Returns the generator, locked until the returned guard is dropped.
    pub fn draw(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
