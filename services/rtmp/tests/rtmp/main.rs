//! The RTMP server against a real log, with ffmpeg as its encoder.

mod clients;
mod common;
mod hostile;
mod publish;
