//! The connection to NATS.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

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
    /// Path of a file that holds the seed of an nkey, in place of the others; empty = none.
    pub nkey: String,
    /// First tokens of the subjects on which answers come; empty = that of the
    /// service in `castlog run`, else `_INBOX`.
    pub inbox_prefix: String,
    /// Path of a PEM file with the certificates that the server's must come from;
    /// empty = those of the system. Set, it makes TLS a must.
    pub tls_ca: String,
    /// Path of the PEM file of the client's certificate, if the server asks for one.
    pub tls_cert: String,
    /// Path of the PEM file of its private key.
    pub tls_key: String,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: String::new(),
            password: Secret::default(),
            credentials: String::new(),
            nkey: String::new(),
            inbox_prefix: String::new(),
            tls_ca: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
        }
    }
}

impl ConnectConfig {
    /// All that is wrong with the values, each with its key; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.url.is_empty() {
            problems.push("url is empty".to_owned());
        }
        if self.tls_cert.is_empty() != self.tls_key.is_empty() {
            problems.push("tls_cert and tls_key go together: one of them is empty".to_owned());
        }
        let ways = [&self.user, &self.credentials, &self.nkey];
        if ways.into_iter().filter(|way| !way.is_empty()).count() > 1 {
            problems.push("of user, credentials and nkey only one can be set".to_owned());
        }
        problems
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
    /// The file of the credentials or of the nkey cannot be read.
    #[error("cannot read {path}, which the NATS configuration names")]
    Credentials {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The server does not let this user publish there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("L01: NATS does not permit {user} to publish on {subject}")]
pub struct NotPermitted {
    /// The user, or the name of the connection where it has none.
    pub user: String,
    /// The subject.
    pub subject: String,
}

/// How long one request to JetStream may take before it is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait between two attempts to reconnect.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Unacknowledged publishes of one process: bounds memory while the server is slow.
const MAX_ACK_INFLIGHT: usize = 4096;
/// Refusals that wait for the publishes that they answer; one that is not heard
/// in time costs its publish no more than the time-out.
const MAX_REFUSALS: usize = 256;

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
    refusals: Refusals,
    name: Arc<str>,
}

/// What the server did not let this connection publish. It says so to the
/// connection, and a request itself would only never be answered.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    subjects: broadcast::Sender<Arc<str>>,
    user: Arc<str>,
}

impl Refusals {
    /// Waits for `request`, which publishes on `subjects`, but no longer than until
    /// the server refuses one of them.
    pub(crate) async fn unless<T>(
        &self,
        subjects: &[impl AsRef<str>],
        request: impl Future<Output = T>,
    ) -> Result<T, NotPermitted> {
        let mut refusals = self.subjects.subscribe();
        let refused = async {
            loop {
                match refusals.recv().await {
                    Ok(refused) if subjects.iter().any(|subject| subject.as_ref() == &*refused) => {
                        return refused.to_string();
                    }
                    // What was missed may be the one that is waited for; then the
                    // request times out.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    // It does not close: this connection holds it too.
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            // What came first is told first, also where the request waits for the
            // refusal of another subject.
            biased;
            subject = refused => Err(NotPermitted {
                user: self.user.to_string(),
                subject,
            }),
            outcome = request => Ok(outcome),
        }
    }
}

impl Log {
    /// Connects as `name`, which the server shows in its connection list.
    ///
    /// # Errors
    /// The server cannot be reached or refuses the credentials.
    pub async fn connect(config: &ConnectConfig, name: &str) -> Result<Self, ConnectError> {
        let (connected, connections) = watch::channel(0_u64);
        let (up, mut link) = watch::channel(false);
        let user = if config.user.is_empty() { name } else { &config.user };
        let refusals = Refusals {
            subjects: broadcast::Sender::new(MAX_REFUSALS),
            user: user.into(),
        };
        let refused = refusals.subjects.clone();
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
                    async_nats::Event::ServerError(async_nats::ServerError::Other(text)) => {
                        match refused_subject(&text) {
                            Some(subject) => {
                                tracing::error!(code = "L01", subject, "NATS does not permit this user to publish");
                                // Nobody may be waiting for it.
                                refused.send(subject.into()).ok();
                            }
                            None => tracing::error!(error = text, "NATS refuses a request"),
                        }
                    }
                    event => {
                        if matches!(event, async_nats::Event::Disconnected) {
                            up.send_replace(false);
                        }
                        tracing::warn!(event = %event, "NATS connection changed");
                    }
                }
                std::future::ready(())
            });
        options = identified(options, config)?;
        options = secured(options, config);
        if !config.inbox_prefix.is_empty() {
            options = options.custom_inbox_prefix(&config.inbox_prefix);
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
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .max_ack_inflight(MAX_ACK_INFLIGHT)
            .backpressure_on_inflight(true)
            .build(client);
        Ok(Self {
            jetstream,
            connections,
            link,
            committers: Arc::default(),
            refusals,
            name: name.into(),
        })
    }

    /// Waits for `request`, which publishes on `subject`, but no longer than until
    /// the server says that this user may not.
    ///
    /// # Errors
    /// The server does not permit it.
    pub async fn unless_refused<T>(&self, subject: &str, request: impl Future<Output = T>) -> Result<T, NotPermitted> {
        self.refusals.unless(&[subject], request).await
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
            refusals: self.refusals.clone(),
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

/// The options with what the configuration says of who this is.
fn identified(
    options: async_nats::ConnectOptions,
    config: &ConnectConfig,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let unreadable = |path: &str| {
        let path = path.to_owned();
        move |source| ConnectError::Credentials { path, source }
    };
    let read = |path: &str| std::fs::read_to_string(path).map_err(unreadable(path));
    Ok(if !config.credentials.is_empty() {
        let text = read(&config.credentials)?;
        options.credentials(&text).map_err(unreadable(&config.credentials))?
    } else if !config.nkey.is_empty() {
        options.nkey(read(&config.nkey)?.trim().to_owned())
    } else if !config.user.is_empty() {
        options.user_and_password(config.user.clone(), config.password.expose().clone())
    } else {
        options
    })
}

/// The options with what the configuration says of TLS.
fn secured(mut options: async_nats::ConnectOptions, config: &ConnectConfig) -> async_nats::ConnectOptions {
    if !config.tls_ca.is_empty() {
        options = options.add_root_certificates((&config.tls_ca).into()).require_tls(true);
    }
    if !config.tls_cert.is_empty() {
        options = options.add_client_certificate((&config.tls_cert).into(), (&config.tls_key).into());
    }
    options
}

/// The subject in what the server says of a publish that it does not permit.
fn refused_subject(text: &str) -> Option<&str> {
    let (_, quoted) = text.split_once("Permissions Violation for Publish to \"")?;
    quoted.split('"').next()
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
    use super::*;

    #[test]
    fn a_refusal_names_its_subject() {
        let text = r#"Permissions Violation for Publish to "media.broad_info.title.x""#;
        assert_eq!(refused_subject(text), Some("media.broad_info.title.x"));
        assert_eq!(
            refused_subject(r#"Permissions Violation for Subscription to "x""#),
            None
        );
    }

    #[test]
    fn one_way_to_say_who_it_is() {
        let config = ConnectConfig {
            user: "a".to_owned(),
            nkey: "b".to_owned(),
            tls_key: "c".to_owned(),
            ..ConnectConfig::default()
        };
        assert_eq!(config.validate().len(), 2, "{:?}", config.validate());
        assert!(ConnectConfig::default().validate().is_empty());
    }

    #[test]
    fn printed_urls_hold_no_secret() {
        assert_eq!(
            without_credentials("nats://me:pw@host:1,nats://b:2"),
            "nats://host:1,nats://b:2"
        );
    }
}
