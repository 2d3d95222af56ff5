//! Fuzz targets for all code that parses untrusted input. A target panics if a property does not
//! hold. `tests/fuzz` runs the targets under libFuzzer, and a test replays the inputs in
//! `tests/fuzz/corpus`.

#![expect(
    clippy::missing_panics_doc,
    reason = "a target panics if a property does not hold"
)]

mod event;
mod text;

pub use event::{event, fields};
pub use text::{cursor, ids, token};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets, each with the name of its folder in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("cursor", cursor),
    ("event", event),
    ("fields", fields),
    ("ids", ids),
    ("token", token),
];
