//! The connection to NATS.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    Secret,
    commit::{Committers, Wire},
};

/// Where the log is and how to authenticate to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectConfig {
    /// NATS server URLs, comma-separated. Default `nats://127.0.0.1:4222`.
    pub url: String,
    /// User name; empty = none.
    pub user: String,
    /// Password of `user`.
    pub password: Secret<String>,
    /// Path of a credentials file (`.creds`), in place of user and password; empty = none.
    pub credentials: String,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: String::new(),
            password: Secret::default(),
            credentials: String::new(),
        }
    }
}

/// Why there is no connection to the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server is not there or refuses the connection.
    #[error("cannot connect to NATS at {url}")]
    Connect {
        /// The URL without credentials.
        url: String,
        /// What the client says.
        source: async_nats::ConnectError,
    },
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials file {path}")]
    Credentials {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// How long one request to JetStream may take before it is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait between two attempts to reconnect.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Unacknowledged publishes of one process: bounds memory while the server is slow.
const MAX_ACK_INFLIGHT: usize = 4096;

/// A connection to the log. Cheap to clone; reconnects by itself for ever.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) jetstream: jetstream::Context,
    /// Counts the connections made so far. A restarted server has forgotten the
    /// requests and ephemeral consumers of its readers, who would otherwise find
    /// out only by missing heartbeats.
    pub(crate) connections: watch::Receiver<u64>,
    /// Whether the connection stands; changes with each connection and each loss of one.
    link: watch::Receiver<bool>,
    pub(crate) committers: Arc<Committers>,
    name: Arc<str>,
}

impl Log {
    /// Connects as `name`, which the server shows in its connection list.
    ///
    /// # Errors
    /// The server cannot be reached or refuses the credentials.
    pub async fn connect(config: &ConnectConfig, name: &str) -> Result<Self, ConnectError> {
        let (connected, connections) = watch::channel(0_u64);
        let (up, mut link) = watch::channel(false);
        let mut options = async_nats::ConnectOptions::new()
            .name(name)
            .connection_timeout(REQUEST_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .max_reconnects(None)
            .reconnect_delay_callback(|attempt| {
                let exponent = u32::try_from(attempt.min(8)).unwrap_or(8);
                MAX_RECONNECT_DELAY.min(Duration::from_millis(10 * 2_u64.pow(exponent)))
            })
            .event_callback(move |event| {
                match event {
                    async_nats::Event::Connected => {
                        tracing::debug!("connected to NATS");
                        connected.send_modify(|count| *count += 1);
                        up.send_replace(true);
                    }
                    async_nats::Event::Closed | async_nats::Event::Draining => {}
                    event => {
                        if matches!(event, async_nats::Event::Disconnected) {
                            up.send_replace(false);
                        }
                        tracing::warn!(event = %event, "NATS connection changed");
                    }
                }
                std::future::ready(())
            });
        if !config.credentials.is_empty() {
            let text = std::fs::read_to_string(&config.credentials).map_err(|source| ConnectError::Credentials {
                path: config.credentials.clone(),
                source,
            })?;
            options = options.credentials(&text).map_err(|source| ConnectError::Credentials {
                path: config.credentials.clone(),
                source,
            })?;
        } else if !config.user.is_empty() {
            options = options.user_and_password(config.user.clone(), config.password.expose().clone());
        }
        let servers: Vec<&str> = config.url.split(',').map(str::trim).collect();
        let client = options
            .connect(&servers[..])
            .await
            .map_err(|source| ConnectError::Connect {
                url: without_credentials(&config.url),
                source,
            })?;
        // The event comes after the connection, and one that comes later would
        // look like another connection. It fails only when the client is gone.
        link.wait_for(|up| *up).await.ok();
        Ok(Self::new(client, connections, link, name))
    }

    fn new(
        client: async_nats::Client,
        connections: watch::Receiver<u64>,
        link: watch::Receiver<bool>,
        name: &str,
    ) -> Self {
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .max_ack_inflight(MAX_ACK_INFLIGHT)
            .backpressure_on_inflight(true)
            .build(client);
        Self {
            jetstream,
            connections,
            link,
            committers: Arc::default(),
            name: name.into(),
        }
    }

    /// The name that this connection was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// JetStream itself, for tools that look at streams and consumers.
    #[must_use]
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// What publishing needs of the connection.
    pub(crate) fn wire(&self) -> Wire {
        Wire {
            jetstream: self.jetstream.clone(),
            link: self.link.clone(),
        }
    }

    /// Waits until every entry that was published through this connection, also
    /// by callers that did not wait for it, is stored or given up.
    pub async fn flush(&self) {
        self.committers.flush().await;
    }

    /// Whether the connection stands at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.jetstream.client().connection_state() == async_nats::connection::State::Connected
    }
}

/// The URLs with user names, passwords and tokens cut out.
fn without_credentials(urls: &str) -> String {
    let clean = |url: &str| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    };
    urls.split(',')
        .map(|url| clean(url.trim()))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn printed_urls_hold_no_secret() {
        assert_eq!(
            without_credentials("nats://me:pw@host:1,nats://b:2"),
            "nats://host:1,nats://b:2"
        );
    }
}
