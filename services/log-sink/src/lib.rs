//! castlog-log-sink.
