//! The common code of the black-box tests and the benches: a whole service with its own tables, a
//! clock that the test controls, and a record of every call that reaches the database.
//!
//! The database is embedded, unless `TOKENRY_TEST_ENDPOINT` is the URL of another database. See
//! `.ci/second_database.py`.

mod answer;
pub mod api;
mod database;
mod endpoint;
mod event;
mod fixture;
pub mod fuzz;
pub mod openapi;
pub mod partitions;
mod past;
mod pause;
mod rights;
mod service;

pub use answer::{Answer, TestClock};
pub use database::{Call, Database, Fault};
pub use event::{Event, invoke};
pub use fixture::Fixture;
pub use pause::{Pause, pause};
pub use service::{LOG_INS, Service, Tables};

/// Returns the number of rounds that a heavy test runs. By default, this is `all`. With a slow
/// database, set `TOKENRY_TEST_FEWER` to a number: the result is then `all` divided by this number,
/// but at least 1.
///
/// # Panics
/// If the variable is not a number above 0.
pub fn rounds(all: u32) -> u32 {
    let fewer = std::env::var("TOKENRY_TEST_FEWER").map_or(1, |fewer| {
        fewer.parse().expect("TOKENRY_TEST_FEWER is a number")
    });
    (all / fewer).max(1)
}
