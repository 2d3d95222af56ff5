//! A clock that a test turns, and what comes back to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value;
use shared::service::app::Clock;

/// A clock that stands still until it is turned. It starts at 2100-01-01T00:00:00.500Z: whatever the
/// machine's date, a database that deletes what has expired finds nothing.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// The second that a clock starts in.
    pub const START: u64 = 4_102_444_800;

    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(Self::START * 1000 + 500)))
    }

    /// Turns it on by so many seconds.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Turns it back by so many seconds.
    pub fn go_back(&self, seconds: u64) {
        self.0.fetch_sub(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let millis = self.0.clone();
        Clock::new(move || UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst)))
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as what its content type says: JSON, or text.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn content(&self) -> Value {
        match self.header("content-type") {
            Some("application/json") => self.json(),
            _ => self.body.clone().into(),
        }
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The token of a response that has one.
    ///
    /// # Panics
    /// If it has none.
    pub fn token(&self) -> String {
        self.json()["token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {self:?}"))
            .to_owned()
    }
}
