//! An entry that a view can never take becomes a dead letter with a code, and those
//! behind it are applied.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use castlog_log::{BroadcastId, Draft, Entry, dead_letter};
use castlog_projector::{ApplyError, Options, Projection};
use castlog_testkit::{NatsOptions, Service, TestLog, events::title, until};

/// Takes every entry but one.
struct Picky {
    refuses: u64,
    taken: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl Projection for Picky {
    fn name(&self) -> &'static str {
        "indexer"
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        if let Some(entry) = entries.iter().find(|entry| entry.sequence() == self.refuses) {
            return Err(ApplyError::Poison {
                position: entry.position.clone(),
                reason: "it is too odd".to_owned(),
            });
        }
        let mut taken = self.taken.lock().expect("nobody panics");
        taken.extend(entries.iter().map(Entry::sequence));
        Ok(())
    }
}

#[tokio::test]
async fn what_a_view_refuses_becomes_a_dead_letter_with_its_code() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    for n in 1..=4 {
        let draft = Draft::new(BroadcastId::generate(), title(&format!("title {n}")));
        test.publisher.publish(draft).await?;
    }
    let taken = Arc::new(Mutex::new(Vec::new()));
    let view = Picky {
        refuses: 2,
        taken: taken.clone(),
    };
    let service = Service::start(&test.log, |context| async move {
        let (shutdown, health) = (context.shutdown.clone(), context.health.clone());
        castlog_projector::run(
            &context.log,
            &["BROAD_INFO"],
            view,
            Options::default(),
            &shutdown,
            &health,
        )
        .await
    })?;
    until("the others are applied", Duration::from_secs(30), || async {
        (taken.lock().ok()?.len() == 3).then_some(())
    })
    .await?;
    service.finish().await?;
    assert_eq!(*taken.lock().expect("nobody panics"), [1, 3, 4]);
    let (letters, _) = dead_letter::list(&test.log, &dead_letter::Filter::default(), 10).await?;
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.position.sequence, letter.reason.as_str()))
        .collect();
    assert_eq!(told, [(2, "L08: it is too odd")]);
    Ok(())
}
