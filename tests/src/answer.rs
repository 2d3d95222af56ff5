//! The clock that a test controls, and the responses that the test gets.

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

/// A clock that moves only when a test moves it. The clock of a [`Service`](crate::Service) starts
/// at 2100-01-01T00:00:00.500Z. Some databases delete the items that expired before the machine's
/// date. Because this clock starts in the future, they delete no item of a test.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// The Unix time at which the clock of a service starts, in whole seconds.
    pub const START: u64 = 4_102_444_800;

    pub(crate) fn new() -> Self {
        Self::at(Self::START)
    }

    /// Returns a clock that starts half a second after this Unix time in seconds.
    pub(crate) fn at(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds * 1000 + 500)))
    }

    /// Moves the clock forward by this many seconds.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Moves the clock back by this many seconds.
    pub fn go_back(&self, seconds: u64) {
        self.0.fetch_sub(seconds * 1000, Ordering::SeqCst);
    }

    /// Returns the time in whole seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.0.load(Ordering::SeqCst) / 1000
    }

    pub(crate) fn clock(&self) -> Clock {
        let millis = self.0.clone();
        Clock::new(move || UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst)))
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The value of each header. The key is the header's name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the body as JSON if the content type is JSON, and otherwise as text.
    ///
    /// # Panics
    /// If the content type is JSON but the body is not valid JSON.
    pub fn content(&self) -> Value {
        match self.header("content-type") {
            Some("application/json") => self.json(),
            _ => self.body.clone().into(),
        }
    }

    /// Returns the value of a header. `name` must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the token in the body.
    ///
    /// # Panics
    /// If the body has no token.
    pub fn token(&self) -> String {
        self.json()["token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {self:?}"))
            .to_owned()
    }
}
