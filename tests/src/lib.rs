//! What black-box tests and benches have in common: a whole service on a database of its own, a
//! clock that the test turns, and a view of every call that reaches the database.
//!
//! The database is embedded, or `TOKENRY_TEST_ENDPOINT` names another (`.ci/second_database.py`).

mod answer;
pub mod api;
mod database;
mod endpoint;
mod event;
pub mod fuzz;
pub mod openapi;
mod past;
mod pause;
mod rights;
mod service;

pub use answer::{Answer, TestClock};
pub use database::{Call, Database, Fault};
pub use event::{Event, invoke};
pub use pause::{Pause, pause};
pub use service::{Service, Tables};

/// How many rounds a heavy test goes: `all`, or so many times fewer as `TOKENRY_TEST_FEWER` says, for
/// a database that is slow; one at least.
///
/// # Panics
/// If the variable is not a number above 0.
pub fn rounds(all: u32) -> u32 {
    let fewer = std::env::var("TOKENRY_TEST_FEWER").map_or(1, |fewer| {
        fewer.parse().expect("TOKENRY_TEST_FEWER is a number")
    });
    (all / fewer).max(1)
}
