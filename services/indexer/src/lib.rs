//! castlog-indexer.
