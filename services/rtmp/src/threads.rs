//! The threads that take in what encoders send, each with its connections and a
//! runtime of its own: what pipelines beside them compute is not in their way.
//!
//! A stream comes in 60 to 100 small messages a second, and to wake a thread for one
//! costs more than to take it in. So a thread that has nothing left to do rests before
//! it waits for more: what comes meanwhile, from any of its encoders, wakes it once.

use std::{
    cell::Cell,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// From one waking of a thread to the next at least, which is the longest that bytes
/// wait: half a frame at 60 frames a second. A thread that is busy for so long does not
/// rest.
const PACE: Duration = Duration::from_millis(8);

thread_local! {
    static WOKEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Threads for connections; they end with it.
#[derive(Debug)]
pub(crate) struct Threads {
    runtimes: Vec<Handle>,
    next: AtomicUsize,
    _end: DropGuard,
}

impl Threads {
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let runtimes = (0..count).map(|_| start(end.clone())).collect::<io::Result<_>>()?;
        Ok(Self {
            runtimes,
            next: AtomicUsize::new(0),
            _end: end.drop_guard(),
        })
    }

    /// The runtime of the thread whose turn it is to get a connection.
    pub(crate) fn next(&self) -> &Handle {
        &self.runtimes[self.next.fetch_add(1, Ordering::Relaxed) % self.runtimes.len()]
    }
}

fn start(end: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(rest)
        .on_thread_unpark(|| WOKEN.set(Some(Instant::now())))
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("rtmp".to_owned())
        .spawn(move || runtime.block_on(end.cancelled()))?;
    Ok(handle)
}

fn rest() {
    if let Some(left) = WOKEN.get().and_then(|woken| PACE.checked_sub(woken.elapsed())) {
        thread::sleep(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_take_turns_and_threads_end() {
        let threads = Threads::start(2).unwrap();
        let here = || async { thread::current().id() };
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(threads.next().spawn(here()).await.unwrap());
        }
        assert!(ids[0] != ids[1] && ids[..2] == ids[2..], "{ids:?}");
        let endless = threads.next().spawn(std::future::pending::<()>());
        drop(threads);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
