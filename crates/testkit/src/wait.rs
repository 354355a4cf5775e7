//! Waiting for something to become true, and not waiting for something to end.

use std::{
    future::Future,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

/// Between two probes. Short against what tests wait for, long enough that a
/// dozen waiting tests leave two cores to the servers.
const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `probe` until it returns a value, at most for `within` (real time,
/// also when the runtime's clock is paused).
///
/// # Errors
/// The time is over; the error names `what`.
pub async fn until<T, F, Fut>(what: &str, within: Duration, mut probe: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        anyhow::ensure!(start.elapsed() < within, "{what} did not happen within {within:?}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What a future comes to, unless it is dropped after so many polls, wherever it is then.
pub async fn cut_off<F: Future>(future: F, mut polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    })
    .await
}
