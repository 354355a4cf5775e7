//! The key table in the compliance kit.

use std::collections::BTreeMap;

use async_trait::async_trait;
use castlog_log::{Entry, Kind, Subject};
use castlog_projector::compliance::{Harness, explore};
use serde_json::{Value, json};

use super::KeyTable;

#[derive(Default)]
struct View {
    table: KeyTable,
    /// The log so far.
    log: BTreeMap<Subject, BTreeMap<u64, Entry>>,
}

#[async_trait]
impl Harness for View {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            self.table.apply(entry);
            let of = self.log.entry(entry.subject).or_default();
            of.insert(entry.sequence(), entry.clone());
        }
        Ok(())
    }

    /// A server that starts reads the last entry of each subject, and what was before
    /// one that says nothing.
    async fn crash(&mut self) -> anyhow::Result<()> {
        self.table = KeyTable::default();
        for entries in self.log.values() {
            let Some((_, last)) = entries.last_key_value() else {
                continue;
            };
            if last.event.name().is_some() {
                self.table.apply(last);
            } else {
                for entry in entries.values() {
                    self.table.apply(entry);
                }
            }
        }
        Ok(())
    }

    async fn wipe(&mut self) -> anyhow::Result<()> {
        *self = Self::default();
        Ok(())
    }

    async fn rebuild(&mut self, log: &[Entry]) -> anyhow::Result<()> {
        self.wipe().await?;
        self.apply(log).await?;
        self.crash().await
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        let keys: BTreeMap<String, String> = self
            .table
            .by_key
            .iter()
            .map(|(key, broadcast)| (key.to_string(), broadcast.to_string()))
            .collect();
        let channels: BTreeMap<String, Value> = self
            .table
            .channels
            .iter()
            .map(|(id, channel)| {
                let window = channel.reconnect_window.map(|window| window.as_secs());
                (
                    id.to_string(),
                    json!([channel.deleted, channel.take_over, window, self.table.has_key(*id)]),
                )
            })
            .collect();
        Ok(json!({ "keys": keys, "channels": channels }))
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::PublishKey, Kind::Options, Kind::Registration]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_withstands_any_history_and_any_delivery() -> anyhow::Result<()> {
    explore(&mut View::default(), 300).await
}
