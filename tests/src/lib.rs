//! castlog-tests.
