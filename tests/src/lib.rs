//! What black-box tests and benches have in common: a whole service on an embedded database, a
//! clock that the test turns, and a view of every call that reaches the database.

mod answer;
mod database;
mod event;
pub mod openapi;
mod past;
mod rights;
mod service;

pub use answer::{Answer, TestClock};
pub use database::{Call, Database, Fault};
pub use event::{Event, invoke};
pub use service::Service;
