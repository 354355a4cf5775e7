//! Real servers and tools for tests: nats-server with JetStream, Redis and
//! Meilisearch as child processes on loopback, each with its own temporary
//! folder, gone when the value is dropped.
//!
//! A value stands for one server over its restarts: [`NatsServer::kill9`] and
//! [`NatsServer::restart`] keep the port and the data, so a test can pull a
//! server out from under a service and put it back. Nothing here is a stand-in:
//! where a binary is missing the test fails and names the command that brings it.
//!
//! Keep a server in a local variable of the test: values in a `static` are not
//! dropped, and their processes outlive the test run.

mod cluster;
pub mod durability;
pub mod events;
mod log;
mod meili;
mod nats;
mod nginx;
mod port;
pub mod process;
mod redis;
mod s3;
mod server;
pub mod tools;
mod wait;

pub use cluster::NatsCluster;
pub use log::{Service, TestLog, change_consumer, changes};
pub use meili::Meilisearch;
pub use nats::{NatsOptions, NatsServer};
pub use nginx::Nginx;
pub use process::Process;
pub use redis::{RedisServer, redis_connection};
pub use s3::S3Server;
pub use wait::{cut_off, until};
