//! What the servers of this process log, to see what became of one peer.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn lines() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

impl io::Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lines().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Recorder {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Records from now on what is logged.
pub(crate) fn record() {
    // The first test that asks has done it for all of them.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(Recorder)
        .try_init()
        .ok();
}

/// Why the server closed the connection of a peer, as the last line about it says.
pub(crate) fn refusal(peer: SocketAddr) -> Option<String> {
    let lines = lines();
    let peer = format!(" peer={peer} refused=");
    let text = String::from_utf8_lossy(&lines);
    let (_, refusal) = text.lines().rev().find_map(|line| line.split_once(&peer))?;
    Some(refusal.to_owned())
}
