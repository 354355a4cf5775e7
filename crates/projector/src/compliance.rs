//! The compliance kit: what a view must withstand so that duplicates,
//! redeliveries and crashes never show in it.
//!
//! [`check`] goes through fixed trials over given entries; [`explore`] makes up
//! histories and ways of delivering them, and shrinks what fails; [`explore_over`]
//! does so with histories that the view's test makes up; [`explore_with`] delivers a
//! given history in made-up ways.

mod history;
mod schedule;

use async_trait::async_trait;
use castlog_log::{Entry, Kind};
use serde_json::Value;

use crate::ApplyError;
pub use schedule::{explore, explore_over, explore_with};

/// A view under test.
#[async_trait]
pub trait Harness: Send {
    /// Applies entries as the runner does. An [`ApplyError`] inside of the error
    /// means what it means to the runner.
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()>;
    /// Forgets what is in memory, as a crash does; the store keeps what it has. A view
    /// without a store comes back as its service starts: from the log so far.
    async fn crash(&mut self) -> anyhow::Result<()>;
    /// Empties the store.
    async fn wipe(&mut self) -> anyhow::Result<()>;
    /// The whole view.
    async fn snapshot(&mut self) -> anyhow::Result<Value>;
    /// Brings the view back from the log, whose entries are these, as operators do.
    /// Without a way of its own, a view replays.
    async fn rebuild(&mut self, log: &[Entry]) -> anyhow::Result<()> {
        self.wipe().await?;
        drive(self, log).await
    }
    /// Puts a history in the log, for views that read it by themselves; returns the
    /// entries as they stand there.
    async fn publish(&mut self, history: Vec<Entry>) -> anyhow::Result<Vec<Entry>> {
        Ok(history)
    }
    /// The kinds that histories are made of.
    fn kinds(&self) -> &'static [Kind] {
        &Kind::STATE
    }
}

/// Applies entries as the runner does: without those that can never be applied.
async fn drive<H: Harness + ?Sized>(harness: &mut H, entries: &[Entry]) -> anyhow::Result<()> {
    let mut entries = entries.to_vec();
    while !entries.is_empty() {
        let Err(error) = harness.apply(&entries).await else {
            return Ok(());
        };
        match error.downcast_ref::<ApplyError>() {
            Some(ApplyError::Poison { position, .. }) => {
                let before = entries.len();
                entries.retain(|entry| entry.position != *position);
                anyhow::ensure!(entries.len() < before, "an entry was refused that was not given");
            }
            _ => return Err(error),
        }
    }
    Ok(())
}

/// Runs the fixed trials over `entries`, which are in stream order per stream.
///
/// # Errors
/// The view differs from a plain replay, with the name of the trial.
pub async fn check(harness: &mut dyn Harness, entries: &[Entry]) -> anyhow::Result<()> {
    harness.wipe().await?;
    drive(harness, entries).await?;
    let wanted = harness.snapshot().await?;
    anyhow::ensure!(wanted != Value::Null, "the view of {} entries is empty", entries.len());

    drive(harness, entries).await?;
    same("duplicates", harness, &wanted).await?;

    for entry in entries {
        drive(harness, std::slice::from_ref(entry)).await?;
    }
    same("redelivery of older entries", harness, &wanted).await?;

    harness.wipe().await?;
    for entry in entries {
        drive(harness, std::slice::from_ref(entry)).await?;
        harness.crash().await?;
        drive(harness, std::slice::from_ref(entry)).await?;
    }
    same("a crash after every entry, before its ack", harness, &wanted).await?;

    harness.rebuild(entries).await?;
    same("a rebuild", harness, &wanted).await?;

    harness.wipe().await?;
    let reversed: Vec<Entry> = entries.iter().rev().cloned().collect();
    drive(harness, &reversed).await?;
    same("the reverse order", harness, &wanted).await
}

async fn same<H: Harness + ?Sized>(trial: &str, harness: &mut H, wanted: &Value) -> anyhow::Result<()> {
    let found = harness.snapshot().await?;
    anyhow::ensure!(found == *wanted, "{trial}: the view is\n{found:#}\nand not\n{wanted:#}");
    Ok(())
}
