//! Too many connections: those that are there are served, newcomers wait, and
//! silent ones lose their places.

mod support;

use std::time::Duration;

use anyhow::Context as _;
use castlog_live_api::Config;
use support::{PATIENCE, Stage};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A connection that is kept from request to request.
struct Caller(TcpStream);

impl Caller {
    async fn connect(stage: &Stage) -> anyhow::Result<Self> {
        let address = stage.base.strip_prefix("http://").context("no HTTP")?;
        Ok(Self(TcpStream::connect(address).await?))
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        self.0.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        Ok(())
    }

    /// Whether the answer comes within the time.
    async fn is_answered(&mut self, within: Duration) -> bool {
        let mut answer = Vec::new();
        let read = async {
            while !answer.ends_with(b"\r\n\r\nok") {
                if !matches!(self.0.read_buf(&mut answer).await, Ok(1..)) {
                    return false;
                }
            }
            answer.starts_with(b"HTTP/1.1 200 ")
        };
        tokio::time::timeout(within, read).await.unwrap_or(false)
    }
}

/// Long against an answer, which takes less than a millisecond.
const SOON: Duration = Duration::from_millis(500);

#[tokio::test]
async fn newcomers_wait_while_the_others_are_served() -> anyhow::Result<()> {
    let limited = |max_connections| Config {
        max_connections,
        ..Config::default()
    };
    let stage = Stage::build_with(limited(2)).await?;
    let (mut first, silent) = (Caller::connect(&stage).await?, Caller::connect(&stage).await?);
    first.ask().await?;
    assert!(first.is_answered(PATIENCE).await);
    let mut newcomer = Caller::connect(&stage).await?;
    newcomer.ask().await?;
    assert!(!newcomer.is_answered(SOON).await);
    first.ask().await?;
    assert!(first.is_answered(PATIENCE).await);
    drop(silent);
    assert!(newcomer.is_answered(PATIENCE).await);
    drop((first, newcomer));
    stage.finish().await?;

    // With one place more nobody waits.
    let stage = Stage::build_with(limited(3)).await?;
    let (mut first, _silent) = (Caller::connect(&stage).await?, Caller::connect(&stage).await?);
    first.ask().await?;
    assert!(first.is_answered(PATIENCE).await);
    let mut newcomer = Caller::connect(&stage).await?;
    newcomer.ask().await?;
    assert!(newcomer.is_answered(SOON).await);
    drop((first, newcomer));
    stage.finish().await
}

#[tokio::test]
async fn silent_connections_lose_their_places() -> anyhow::Result<()> {
    let stage = Stage::build_with(Config {
        max_connections: 2,
        request_timeout_s: 1,
        idle_timeout_s: 2,
        ..Config::default()
    })
    .await?;
    let mut silent = [Caller::connect(&stage).await?, Caller::connect(&stage).await?];
    // One has said the half of a request.
    silent[1].0.write_all(b"GET /healthz HT").await?;
    let mut newcomer = Caller::connect(&stage).await?;
    newcomer.ask().await?;
    assert!(!newcomer.is_answered(SOON).await);
    assert!(newcomer.is_answered(PATIENCE).await);
    let mut rest = Vec::new();
    for Caller(stream) in &mut silent {
        // The server has closed it; an error says so, too.
        stream.read_to_end(&mut rest).await.ok();
    }
    drop(newcomer);
    stage.finish().await
}
