//! The RTMP server against a real log, with real encoders.

mod clients;
mod common;
mod health;
mod hostile;
mod lines;
mod lost;
mod obs;
mod peer;
mod publish;
mod viewer;
mod withdrawn;
