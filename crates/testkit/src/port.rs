//! Ports for servers that cannot say which one the system gave them, or that
//! must come back on the same one.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

/// Below the system's range for outgoing connections (32768 and up on Linux),
/// so that while a server is down nobody's outgoing connection, not even that
/// of a client reconnecting to it, can be given its port. Between those of whole
/// platforms, which tests of the command line and tests across services start.
const FIRST: u16 = 20_000;
const COUNT: u32 = 10_000;

/// A port that was free a moment ago. Another process can still win the race:
/// the caller starts again with another one when its server does not come up.
pub(crate) fn free() -> anyhow::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test binaries run side by side: each starts at a place of its own.
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.subsec_nanos());
    let base = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(nanos);
    for _ in 0..COUNT {
        let offset = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {FIRST} and {}", u32::from(FIRST) + COUNT)
}
