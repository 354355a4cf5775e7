use castlog_log::{Draft, Event, Followed, From, Publisher, lease::Role, pb};
use castlog_projector::compliance::{self, Harness};
use castlog_testkit::{Meilisearch, NatsOptions, TestLog, events::title};
use serde_json::Value;

use super::*;

struct View {
    server: Meilisearch,
    indexer: Indexer,
    publisher: Publisher,
    /// Broadcasts of the history that was published last; empty = all.
    shown: BTreeSet<String>,
}

#[async_trait]
impl Harness for View {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        Ok(Projection::apply(&mut self.indexer, entries).await?)
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        self.indexer.reconciler.written = Written::default();
        Ok(())
    }

    async fn wipe(&mut self) -> anyhow::Result<()> {
        let Reconciler { meili, index, .. } = &self.indexer.reconciler;
        meili.delete_index(index).await?;
        self.indexer.reconciler.prepare().await?;
        self.crash().await
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        let index = &self.indexer.reconciler.index;
        let mut documents = self.server.documents(index).await?;
        let shown = |id: &Value| self.shown.is_empty() || id.as_str().is_some_and(|id| self.shown.contains(id));
        documents.retain(|document| shown(&document["id"]));
        Ok(documents.into())
    }

    async fn rebuild(&mut self, _log: &[Entry]) -> anyhow::Result<()> {
        build(&self.indexer.reconciler, &Progress::none()).await?;
        Ok(())
    }

    async fn publish(&mut self, history: Vec<Entry>) -> anyhow::Result<Vec<Entry>> {
        self.shown = history
            .iter()
            .filter_map(|entry| Some(entry.subject.broadcast?.to_string()))
            .collect();
        let mut published = Vec::with_capacity(history.len());
        for mut entry in history {
            if let Some(broadcast) = entry.subject.broadcast {
                let draft = Draft::new(broadcast, entry.event.clone()).time(entry.time);
                entry.position.sequence = self.publisher.publish(draft).await?.sequence;
                published.push(entry);
            }
        }
        Ok(published)
    }
}

fn status(event: pb::status::Event) -> Event {
    pb::Status { event: Some(event) }.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_withstands_what_every_view_must() -> anyhow::Result<()> {
    let TestLog {
        nats: _nats,
        log,
        publisher,
    } = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let server = Meilisearch::start().await?;
    let session = || {
        Some(pb::status::Session {
            session_id: "s".into(),
            ..Default::default()
        })
    };
    let [stays, ends] = [BroadcastId::generate(), BroadcastId::generate()];
    let events = [
        (stays, title("one")),
        (ends, title("two")),
        (
            stays,
            status(pb::status::Event::Started(pb::status::Started { session: session() })),
        ),
        (
            ends,
            status(pb::status::Event::Started(pb::status::Started { session: session() })),
        ),
        (stays, title("three")),
        (
            ends,
            status(pb::status::Event::Ended(pb::status::Ended {
                session: session(),
                ..Default::default()
            })),
        ),
    ];
    for (id, event) in events {
        publisher.publish(Draft::new(id, event)).await?;
    }
    let mut entries = Vec::new();
    for stream in STREAMS {
        let mut follow = log.follow(stream, &[], From::Beginning);
        while let Followed::Entry(entry) = follow.next().await? {
            entries.push(*entry);
        }
    }
    assert_eq!(entries.len(), 6);
    let config = Config {
        meilisearch: castlog_meili::Config::new(&server.url(), server.master_key()),
        ..Config::default()
    };
    let mut view = View {
        server,
        indexer: Indexer {
            reconciler: Reconciler::new(&config, &log)?,
            shutdown: Shutdown::new(),
        },
        publisher,
        shown: BTreeSet::new(),
    };
    compliance::check(&mut view, &entries).await?;
    let documents = view.snapshot().await?;
    assert_eq!(
        (documents.as_array().map(Vec::len), documents[0]["title"].as_str()),
        (Some(1), Some("three"))
    );
    compliance::explore(&mut view, 4).await
}

#[tokio::test]
async fn nothing_is_written_after_the_term() -> anyhow::Result<()> {
    let TestLog {
        nats: _nats,
        log,
        publisher,
    } = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let server = Meilisearch::start().await?;
    let config = Config {
        meilisearch: castlog_meili::Config::new(&server.url(), server.master_key()),
        ..Config::default()
    };
    let mut lease = log.lease(NAME);
    let term = loop {
        if let Role::Holder(term) = lease.role() {
            break term;
        }
        lease.changed().await?;
    };
    let reconciler = within(term, &Reconciler::new(&config, &log)?);
    reconciler.prepare().await?;
    let id = BroadcastId::generate();
    let session = Some(pb::status::Session::default());
    let started = status(pb::status::Event::Started(pb::status::Started { session }));
    for event in [started, title("within")] {
        publisher.publish(Draft::new(id, event)).await?;
    }
    reconciler.reconcile(&BTreeSet::from([id]), &[]).await?;
    let within = server.documents(&config.index).await?;
    assert_eq!(within[0]["title"], "within");

    lease.release().await;
    publisher.publish(Draft::new(id, title("after"))).await?;
    let refused = reconciler.reconcile(&BTreeSet::from([id]), &[]).await;
    assert!(matches!(refused, Err(Fault::Meili(_))), "{refused:?}");
    assert!(reconciler.mend().await.is_err());
    assert!(build(&reconciler, &Progress::none()).await.is_err());
    assert_eq!(server.documents(&config.index).await?, within);
    Ok(())
}
