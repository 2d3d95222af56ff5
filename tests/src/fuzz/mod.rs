//! What a fuzzer feeds with bytes: everything that reads what a stranger sent. Each target panics where
//! a property does not hold. `tests/fuzz` runs them under libFuzzer; a test replays their corpus.

#![expect(
    clippy::missing_panics_doc,
    reason = "a target panics where a property does not hold"
)]

mod event;
mod text;

pub use event::{event, fields};
pub use text::{cursor, ids, token};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their folders in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("cursor", cursor),
    ("event", event),
    ("fields", fields),
    ("ids", ids),
    ("token", token),
];
