//! The compliance kit passes a view that is right, and catches those that are not.

use std::collections::BTreeMap;

use async_trait::async_trait;
use castlog_log::{Entry, Subject};
use castlog_projector::compliance::{Harness, explore};
use serde_json::{Value, json};

/// What is wrong with a view.
#[derive(PartialEq)]
enum Fault {
    None,
    /// An older entry that comes again wins.
    Unguarded,
    /// It counts what it is given.
    Counts,
    /// It holds a write back until the next one.
    Late,
}

struct View {
    fault: Fault,
    newest: BTreeMap<Subject, (u64, String)>,
    held: Vec<Entry>,
    count: u64,
}

impl View {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            newest: BTreeMap::new(),
            held: Vec::new(),
            count: 0,
        }
    }
}

#[async_trait]
impl Harness for View {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let mut entries = entries.to_vec();
        if self.fault == Fault::Late {
            std::mem::swap(&mut self.held, &mut entries);
        }
        for entry in &entries {
            self.count += 1;
            let old = self.newest.get(&entry.subject);
            if self.fault == Fault::Unguarded || old.is_none_or(|(sequence, _)| *sequence < entry.sequence()) {
                let value = entry.event.to_json().to_string();
                self.newest.insert(entry.subject, (entry.sequence(), value));
            }
        }
        Ok(())
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        self.held.clear();
        Ok(())
    }

    async fn wipe(&mut self) -> anyhow::Result<()> {
        self.newest.clear();
        self.held.clear();
        self.count = 0;
        Ok(())
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        let newest: BTreeMap<String, _> = self
            .newest
            .iter()
            .map(|(subject, value)| (subject.to_string(), value))
            .collect();
        let count = (self.fault == Fault::Counts).then_some(self.count);
        Ok(json!({ "newest": newest, "count": count }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_right_passes() -> anyhow::Result<()> {
    explore(&mut View::new(Fault::None), 200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_are_wrong_are_caught() {
    for fault in [Fault::Unguarded, Fault::Counts, Fault::Late] {
        assert!(explore(&mut View::new(fault), 200).await.is_err());
    }
}
