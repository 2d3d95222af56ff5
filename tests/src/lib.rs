//! What black-box tests and benches have in common: a whole service on an embedded database, a
//! clock that the test turns, and a view of every call that reaches the database.

mod database;
mod event;
mod service;

pub use database::{Call, Database, Fault};
pub use event::{Event, invoke};
pub use service::{Answer, Service, TestClock};
