//! The RTMP server against a real log, with ffmpeg as its encoder.

mod common;
mod hostile;
mod publish;
