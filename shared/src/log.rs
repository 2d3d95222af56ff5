//! The log. By default, the log contains at least one line for each request.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// The format of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people, in colour.
    Pretty,
    /// For machines: one JSON object per line.
    Json,
}

/// Starts the log on standard error. A second call in the same process changes nothing.
///
/// The level applies to the lines of Tokenry's crates. For libraries, the log contains only
/// warnings and errors, even if `level` is more verbose. The reason: libraries may log the data
/// that they send.
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
    // This fails only if a test has already started the log.
    let _ = registry().with(lines.with_filter(filter)).try_init();
}
