//! One log format for all services: one line per record, in UTC. Standard error gets everything but the access log,
//! which is on standard output.

use std::io::LineWriter;

use log::LevelFilter;
use simplelog::{CombinedLogger, ConfigBuilder, LevelPadding, WriteLogger};

/// The target of the records of an access log.
pub const ACCESS: &str = "access_log";

/// Starts logging for the process. Both outputs are line-buffered, so that a record is one system call and lines of
/// several threads never mix. A second call changes nothing.
pub(crate) fn start(level: LevelFilter) {
    let mut config = ConfigBuilder::new();
    config
        .set_time_format_rfc3339()
        .set_target_level(LevelFilter::Error)
        .set_location_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_level_padding(LevelPadding::Right);
    let access = config.clone().set_target_level(LevelFilter::Off).add_filter_allow_str(ACCESS).build();
    // Libraries log too much detail; what matters reaches us as errors.
    for ignored in [ACCESS, "amqprs", "postgres", "tiny_http", "tokio_postgres", "ureq"] {
        config.add_filter_ignore_str(ignored);
    }
    // The only failure is that a logger is already set, which is what the caller wants.
    let _ = CombinedLogger::init(vec![
        WriteLogger::new(level, config.build(), LineWriter::new(std::io::stderr())),
        WriteLogger::new(level, access, LineWriter::new(std::io::stdout())),
    ]);
}
