//! castlog-projector.
