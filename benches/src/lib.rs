//! castlog-bench.
