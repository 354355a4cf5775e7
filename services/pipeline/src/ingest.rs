//! Reads a session's HTTP-FLV from the RTMP server, and connects again while
//! the session lives: the server, or the way to it, may be gone for a while.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{flv::Packets, media::Packet, transcode::skipped};

/// How long the RTMP server may take to answer; it is near.
const CONNECT: Duration = Duration::from_secs(5);

/// Waits between attempts: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// How long the rest of a stream is read after its session has ended.
const TAIL: Duration = Duration::from_secs(5);

/// How long the end of the session may lag behind the end of its stream.
const SETTLE: Duration = Duration::from_secs(1);

/// What the log says of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// It lives, and its stream is at this URL.
    Live {
        /// HTTP-FLV.
        url: String,
    },
    /// It has ended, or another one has taken its place.
    Over,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The stream was complete.
    Complete,
    /// The server says that the session is over.
    Gone,
    /// Something broke.
    Broken(String),
    /// Nobody takes the packets any more.
    Unwanted,
    /// The session ended and its tail is read.
    Over,
}

/// Reads until the session is over or nobody takes the packets. Returns once
/// nothing more comes; the packets' channel closes with it.
pub async fn read(client: &reqwest::Client, mut session: watch::Receiver<Session>, packets: mpsc::Sender<Packet>) {
    let mut delay = RETRY.0;
    let mut attempts = 0u64;
    loop {
        let Session::Live { url } = session.borrow_and_update().clone() else {
            return;
        };
        let begun = Instant::now();
        let end = connection(client, &url, &mut session, &packets, attempts > 0).await;
        attempts += 1;
        match end {
            End::Unwanted | End::Over => return,
            End::Gone => {
                tracing::info!(url, "ingest says that the session is over");
                return;
            }
            End::Complete => {
                // The stream ends with its session, whose entry may be on its way.
                let over = session.wait_for(|session| *session == Session::Over);
                if timeout(SETTLE, over).await.is_ok() {
                    return;
                }
                tracing::warn!(url, "stream ended while the session lives");
            }
            End::Broken(reason) => tracing::warn!(url, reason, "ingest connection broke"),
        }
        if begun.elapsed() > RETRY.1 {
            delay = RETRY.0;
        }
        tokio::select! {
            () = sleep(delay) => {}
            // It may be over, or at another address.
            changed = session.changed() => if changed.is_err() { return },
            () = packets.closed() => return,
        }
        delay = (delay * 2).min(RETRY.1);
    }
}

async fn connection(
    client: &reqwest::Client,
    url: &str,
    session: &mut watch::Receiver<Session>,
    packets: &mpsc::Sender<Packet>,
    again: bool,
) -> End {
    let response = match timeout(CONNECT, client.get(url).send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return End::Broken(error.to_string()),
        Err(_) => return End::Broken(format!("no answer within {} s", CONNECT.as_secs())),
    };
    let mut response = match response.status() {
        reqwest::StatusCode::GONE => return End::Gone,
        status if status.is_success() => response,
        status => return End::Broken(format!("answer {status}")),
    };
    if again && packets.send(Packet::Break).await.is_err() {
        return End::Unwanted;
    }
    let mut reader = Packets::default();
    let mut tail: Option<Instant> = None;
    let end = loop {
        // An encoder that is away leaves the stream open and silent: no time-out.
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk,
            changed = session.changed(), if tail.is_none() => {
                let moved = match &*session.borrow_and_update() {
                    Session::Over => false,
                    Session::Live { url: now } => now != url,
                };
                if moved {
                    break End::Broken("the stream is at another address".to_owned());
                }
                if changed.is_err() || *session.borrow() == Session::Over {
                    tail = Some(Instant::now() + TAIL);
                }
                continue;
            }
            () = wait(tail), if tail.is_some() => break End::Over,
            () = packets.closed() => break End::Unwanted,
        };
        match chunk {
            Ok(Some(bytes)) => reader.push(&bytes),
            Ok(None) if tail.is_some() => break End::Over,
            Ok(None) => break End::Complete,
            Err(error) => break End::Broken(error.to_string()),
        }
        let skipped_before = reader.skipped();
        let unwanted = loop {
            match reader.next() {
                Ok(Some(packet)) => {
                    if packets.send(packet).await.is_err() {
                        break Some(End::Unwanted);
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(End::Broken(error.to_string())),
            }
        };
        skipped("unreadable", reader.skipped() - skipped_before);
        if let Some(end) = unwanted {
            break end;
        }
    };
    if reader.skipped() > 0 {
        tracing::warn!(url, skipped = reader.skipped(), "tags could not be read");
    }
    end
}

async fn wait(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        sleep_until(deadline).await;
    }
}
