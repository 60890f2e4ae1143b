//! One log format for all services: one line per record on standard error, in UTC.

use std::io::LineWriter;

use log::LevelFilter;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

/// Starts logging for the process. Standard error is line-buffered, so that a record is one system call and lines
/// of several threads never mix. A second call changes nothing.
pub(crate) fn start(level: LevelFilter) {
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_target_level(LevelFilter::Error)
        .set_location_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_level_padding(LevelPadding::Right)
        // Libraries log too much detail; what matters reaches us as errors.
        .add_filter_ignore_str("amqprs")
        .add_filter_ignore_str("postgres")
        .add_filter_ignore_str("tiny_http")
        .add_filter_ignore_str("tokio_postgres")
        .add_filter_ignore_str("ureq")
        .build();
    // The only failure is that a logger is already set, which is what the caller wants.
    let _ = WriteLogger::init(level, config, LineWriter::new(std::io::stderr()));
}
