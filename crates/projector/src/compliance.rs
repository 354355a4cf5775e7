//! The compliance kit: what a view must withstand so that duplicates,
//! redeliveries and crashes never show in it.

use async_trait::async_trait;
use castlog_log::Entry;
use serde_json::Value;

/// A view under test.
#[async_trait]
pub trait Harness: Send {
    /// Applies entries as the runner does.
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()>;
    /// Forgets what is in memory, as a crash does; the store keeps what it has.
    async fn crash(&mut self) -> anyhow::Result<()>;
    /// Empties the store.
    async fn wipe(&mut self) -> anyhow::Result<()>;
    /// The whole view.
    async fn snapshot(&mut self) -> anyhow::Result<Value>;
}

/// Runs the whole kit over `entries`, which are in stream order per stream.
///
/// # Errors
/// The view differs from a plain replay, with the name of the trial.
pub async fn check(harness: &mut dyn Harness, entries: &[Entry]) -> anyhow::Result<()> {
    harness.wipe().await?;
    harness.apply(entries).await?;
    let wanted = harness.snapshot().await?;
    anyhow::ensure!(wanted != Value::Null, "the view of {} entries is empty", entries.len());

    harness.apply(entries).await?;
    same("duplicates", harness, &wanted).await?;

    for entry in entries {
        harness.apply(std::slice::from_ref(entry)).await?;
    }
    same("redelivery of older entries", harness, &wanted).await?;

    harness.wipe().await?;
    for entry in entries {
        harness.apply(std::slice::from_ref(entry)).await?;
        harness.crash().await?;
        harness.apply(std::slice::from_ref(entry)).await?;
    }
    same("a crash after every entry, before its ack", harness, &wanted).await?;

    harness.wipe().await?;
    let reversed: Vec<Entry> = entries.iter().rev().cloned().collect();
    harness.apply(&reversed).await?;
    same("the reverse order", harness, &wanted).await
}

async fn same(trial: &str, harness: &mut dyn Harness, wanted: &Value) -> anyhow::Result<()> {
    let found = harness.snapshot().await?;
    anyhow::ensure!(found == *wanted, "{trial}: the view is\n{found:#}\nand not\n{wanted:#}");
    Ok(())
}
