//! The RTMP server against a real log, with real encoders.

mod clients;
mod common;
mod hostile;
mod obs;
mod publish;
