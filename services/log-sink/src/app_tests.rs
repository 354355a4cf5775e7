use castlog_log::BroadcastId;
use castlog_projector::compliance::{self, Harness};
use castlog_testkit::{
    Meilisearch,
    events::{entry, title},
};
use serde_json::Value;

use super::*;

#[test]
fn days_within_the_retention_are_kept() {
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    let today = day("2025-03-31");
    assert!(!expired(day("2025-03-01"), today, 30));
    assert!(expired(day("2025-02-28"), today, 30));
    assert!(!expired(day("2026-01-01"), today, 30));
    assert!(!expired(day("1970-01-01"), today, 0));
}

#[test]
fn requests_are_bounded() {
    let document = || Document::of(&entry(BroadcastId::generate(), title(&"x".repeat(64 * 1024)), 1));
    let documents: Vec<Document> = std::iter::repeat_with(document).take(300).collect();
    let chunks = chunks(&documents);
    assert!(chunks.len() > 1);
    assert_eq!(chunks.iter().map(|chunk| chunk.len()).sum::<usize>(), 300);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.iter().map(Document::size).sum::<usize>() <= MAX_REQUEST)
    );
}

struct View {
    server: Meilisearch,
    sink: Sink,
}

#[async_trait]
impl Harness for View {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        Ok(Projection::apply(&mut self.sink, entries).await?)
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        self.sink.settled.clear();
        Ok(())
    }

    async fn wipe(&mut self) -> anyhow::Result<()> {
        for index in self.server.indexes().await? {
            self.sink.meili.delete_index(&index).await?;
        }
        Ok(())
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        let mut documents = Vec::new();
        for name in self.server.indexes().await? {
            documents.extend(self.server.documents(&name).await?);
        }
        documents.sort_by_key(|document| document["seq"].as_u64());
        Ok(documents.into())
    }
}

fn sink(server: &Meilisearch) -> anyhow::Result<Sink> {
    let config = Config {
        meilisearch: castlog_meili::Config::new(&server.url(), server.master_key()),
        ..Config::default()
    };
    Sink::new(&config, Shutdown::new())
}

#[tokio::test]
async fn the_entry_of_a_document_that_is_refused_is_named() -> anyhow::Result<()> {
    let server = Meilisearch::start().await?;
    let mut sink = sink(&server)?;
    let mut entries: Vec<Entry> = (1..=5)
        .map(|sequence| entry(BroadcastId::generate(), title("title"), sequence))
        .collect();
    // Nothing that is in an entry makes Meilisearch refuse it; a stream of such a name would.
    entries[3].position.stream = "no id".into();
    match Projection::apply(&mut sink, &entries).await {
        Err(ApplyError::Poison { position, reason }) => {
            assert_eq!(position, entries[3].position);
            assert!(reason.contains("no id-4"), "{reason}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    entries.remove(3);
    Projection::apply(&mut sink, &entries).await?;
    let mut documents = Vec::new();
    for name in server.indexes().await? {
        documents.extend(server.documents(&name).await?);
    }
    assert_eq!(documents.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_withstands_what_every_view_must() -> anyhow::Result<()> {
    let server = Meilisearch::start().await?;
    let sink = sink(&server)?;
    let entries: Vec<Entry> = (1..=6)
        .map(|sequence| entry(BroadcastId::generate(), title(&format!("title {sequence}")), sequence))
        .collect();
    let mut view = View { server, sink };
    compliance::check(&mut view, &entries).await?;
    compliance::explore(&mut view, 2).await
}
