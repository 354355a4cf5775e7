//! An orderly stop gives back what was handed out and not applied: another instance has
//! it long before the ack wait is over.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use castlog_log::{BroadcastId, Draft, Entry};
use castlog_projector::{ApplyError, Options, Projection};
use castlog_testkit::{NatsOptions, Service, TestLog, events::title, until};

const STREAM: &str = "BROAD_INFO";
const CONSUMER: &str = "indexer";
const OPTIONS: Options = Options {
    batch: 50,
    linger: Duration::ZERO,
};
/// More than what one instance applies, what waits behind it and what is on its way.
const ENTRIES: usize = 300;
/// Half of the ack wait of 30 s.
const WITHIN: Duration = Duration::from_secs(15);

struct View {
    is_away: bool,
    taken: Arc<Mutex<BTreeSet<u64>>>,
}

#[async_trait]
impl Projection for View {
    fn name(&self) -> &'static str {
        CONSUMER
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        if self.is_away {
            return Err(anyhow::anyhow!("it is away").into());
        }
        let mut taken = self.taken.lock().expect("nobody panics");
        taken.extend(entries.iter().map(Entry::sequence));
        Ok(())
    }
}

fn start(test: &TestLog, view: View) -> anyhow::Result<Service> {
    Service::start(&test.log, |context| async move {
        let (shutdown, health) = (context.shutdown.clone(), context.health.clone());
        castlog_projector::run(&context.log, &[STREAM], view, OPTIONS, &shutdown, &health).await
    })
}

#[tokio::test]
async fn what_was_not_applied_comes_to_another_instance_at_once() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    for n in 0..ENTRIES {
        let draft = Draft::new(BroadcastId::generate(), title(&format!("title {n}")));
        test.publisher.publish(draft).await?;
    }
    let taken = Arc::new(Mutex::new(BTreeSet::new()));
    let view = |is_away| View {
        is_away,
        taken: Arc::clone(&taken),
    };
    let first = start(&test, view(true))?;
    until("a batch is handed out", WITHIN, || async {
        let backlog = test.log.backlog(STREAM, CONSUMER).await.ok()?;
        (backlog.unacked >= 50).then_some(())
    })
    .await?;
    first.finish().await?;
    assert_eq!(taken.lock().expect("nobody panics").len(), 0);
    let second = start(&test, view(false))?;
    until("every entry is applied", WITHIN, || async {
        (taken.lock().ok()?.len() == ENTRIES).then_some(())
    })
    .await?;
    second.finish().await
}
