//! The log: one line for each request, in JSON wherever a machine reads it.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people, in colour.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts the log, on standard error. The second call in a process changes nothing.
///
/// The level is for our own lines; those of libraries, which may print what they send, come
/// through from `warn` up at the most.
pub fn start(level: LevelFilter, format: Format) {
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(["shared", "functions", "tokenry"].map(|target| (target, level)));
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match format {
        Format::Pretty => lines.with_target(false).boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_target(false)
            .boxed(),
    };
    // Fails only where a test started it before.
    let _ = registry().with(lines.with_filter(filter)).try_init();
}
