//! The RTMP server against a real log, with real encoders.

mod clients;
mod common;
mod damage;
mod health;
mod hostile;
mod lines;
mod lost;
mod obs;
mod peer;
mod publish;
mod servers;
mod unlogged;
mod viewer;
mod withdrawn;
