//! Whole connections: what well-behaved encoders do, with their quirks, gives the
//! same events however the network cuts it; what hostile peers do stays in bounds.

mod common;
mod handshake;
mod streams;
