//! Waiting for something to become true.

use std::{
    future::Future,
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
