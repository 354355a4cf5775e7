//! castlog-live-info.
