//! The castlog binary.
fn main() {}
