//! Three nats-servers on loopback that are one cluster, so that each stream has
//! three replicas and any one server can be killed.

use std::time::Duration;

use anyhow::Context as _;
use castlog_log::{
    ConnectConfig, Log,
    provision::{self, Plan},
};

use crate::{NatsOptions, NatsServer, port, until};

/// How long the servers may take to find each other, elect, and catch up, on a busy machine.
const AGREEMENT: Duration = Duration::from_secs(120);
/// Servers of a cluster: one can be missing.
const SIZE: usize = 3;

/// A running cluster.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts the servers and waits until they have the streams of castlog, each
    /// with a replica on every server.
    ///
    /// # Errors
    /// There is no nats-server, or the servers do not become a cluster.
    pub async fn start(options: NatsOptions) -> anyhow::Result<Self> {
        let ports: Vec<u16> = (0..SIZE).map(|_| port::free()).collect::<Result<_, _>>()?;
        let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let mut nodes = Vec::with_capacity(SIZE);
        for port in ports {
            let cluster = format!(
                "{}\ncluster {{ name: castlog, listen: \"127.0.0.1:{port}\", routes: [{}] }}",
                options.extra,
                routes.join(", ")
            );
            nodes.push(NatsServer::start_with(options.clone().extra(&cluster)).await?);
        }
        let cluster = Self { nodes };
        let log = cluster.log().await?;
        let plan = Plan {
            replicas: 3,
            ..Plan::default()
        };
        // Refused until the servers have elected, and each knows of the others.
        let provisioned = until("a cluster with its streams", AGREEMENT, async || {
            provision::apply(&log, plan).await.ok()
        });
        provisioned
            .await
            .with_context(|| cluster.nodes[0].process().last_output())?;
        cluster.settled().await?;
        Ok(cluster)
    }

    /// Where all of them are, for a client that goes on with another when one is gone.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(NatsServer::url).collect();
        urls.join(",")
    }

    /// A connection that may do everything.
    ///
    /// # Errors
    /// No server takes it.
    pub async fn log(&self) -> anyhow::Result<Log> {
        let config = ConnectConfig {
            url: self.url(),
            ..ConnectConfig::default()
        };
        Ok(Log::connect(&config, "test").await?)
    }

    /// One of the servers.
    ///
    /// # Panics
    /// There are three.
    #[must_use]
    pub fn node(&mut self, index: usize) -> &mut NatsServer {
        &mut self.nodes[index]
    }

    /// How many servers there are.
    #[must_use]
    pub const fn size(&self) -> usize {
        SIZE
    }

    /// Waits until every replica of every stream is up to date: then any one
    /// server can be killed, and the other two have all that was acknowledged.
    ///
    /// # Errors
    /// They do not agree.
    pub async fn settled(&self) -> anyhow::Result<()> {
        let log = self.log().await?;
        until("replicas that are up to date", AGREEMENT, async || {
            use futures::TryStreamExt as _;
            let streams: Vec<_> = log.jetstream().streams().try_collect().await.ok()?;
            let current = streams.iter().all(|stream| {
                stream.cluster.as_ref().is_some_and(|cluster| {
                    cluster.leader.is_some()
                        && cluster.replicas.len() == SIZE - 1
                        && cluster.replicas.iter().all(|peer| peer.current && !peer.offline)
                })
            });
            (current && !streams.is_empty()).then_some(())
        })
        .await
    }
}
