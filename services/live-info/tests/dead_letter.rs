//! Entries that LiveInfo gave up: nothing stalls behind them, and they can be
//! applied after all.

mod support;

use castlog_live_info::{Reader, run, verify};
use castlog_log::{
    BroadcastId, Event, Kind,
    dead_letter::{self, Filter, RedriveError},
    pb,
};
use castlog_projector::Progress;
use castlog_testkit::{Service, until};
use support::{WITHIN, World};

async fn title(reader: &Reader, id: BroadcastId) -> Option<String> {
    match reader.get(id).await.ok()??.get(&Kind::Title)?.0.clone() {
        Event::Title(pb::Title {
            event: Some(pb::title::Event::Changed(changed)),
        }) => Some(changed.title),
        _ => None,
    }
}

async fn shows(reader: &Reader, id: BroadcastId, wanted: &str) -> anyhow::Result<()> {
    until(wanted, WITHIN, || async {
        (title(reader, id).await.as_deref() == Some(wanted)).then_some(())
    })
    .await
}

#[tokio::test]
async fn nothing_stalls_behind_a_poisoned_entry() -> anyhow::Result<()> {
    let world = World::start().await?;
    let service = Service::start(&world.own, |context| run(world.config(), context))?;
    let reader = Reader::new(&world.config().redis)?;
    let id = BroadcastId::generate();
    let subject = Kind::Title.of(id).to_string();
    let jetstream = world.log.jetstream();
    jetstream.publish(subject.clone(), "garbage".into()).await?.await?;
    world.title(id, "behind it").await?;
    shows(&reader, id, "behind it").await?;

    let letters = || async {
        let (letters, more) = dead_letter::list(&world.log, &Filter::default(), 10).await.ok()?;
        (letters.len() == 1 && more == 0).then_some(letters)
    };
    let letters = until("the letter", WITHIN, letters).await?;
    let letter = dead_letter::get(&world.log, letters[0].id).await?;
    assert_eq!(
        (letter.subject, letter.position.sequence, letter.consumer.as_str()),
        (subject, 1, "live_info")
    );
    // It is garbage for good: who asks is told, and the letter stays.
    let letter = dead_letter::get(&world.log, letter.id).await?;
    let refused = dead_letter::redrive(&world.log, &letter).await;
    assert!(matches!(refused, Err(RedriveError::Refused { .. })), "{refused:?}");
    assert!(dead_letter::get(&world.log, letter.id).await.is_ok());
    service.finish().await
}

#[tokio::test]
async fn a_redriven_entry_is_applied_where_it_belongs_and_nowhere_else() -> anyhow::Result<()> {
    let world = World::start().await?;
    let [late, stale] = [BroadcastId::generate(), BroadcastId::generate()];
    world.title(late, "applied after all").await?;
    world.title(stale, "overtaken").await?;
    // As a version did that had a bug.
    let mut durable = world.log.durable(Kind::Title.stream(), "live_info", 10);
    for _ in [late, stale] {
        let delivery = durable.next().await?;
        dead_letter::bury(&world.log, "live_info", &delivery, "cannot be applied").await?;
    }
    drop(durable);
    let filter = Filter {
        consumer: Some("live_info".to_owned()),
        ..Filter::default()
    };
    let (letters, _) = dead_letter::list(&world.log, &filter, 10).await?;
    assert_eq!(letters.len(), 2);
    let first = dead_letter::get(&world.log, letters[0].id).await?;
    let nobody = dead_letter::redrive(&world.log, &first).await;
    assert!(matches!(nobody, Err(RedriveError::NobodyThere(_))), "{nobody:?}");

    // Two instances: one of them gets it.
    let start = || Service::start(&world.own, |context| run(world.config(), context));
    let services = [start()?, start()?];
    let reader = Reader::new(&world.config().redis)?;
    world.title(stale, "newer").await?;
    shows(&reader, stale, "newer").await?;
    assert_eq!(title(&reader, late).await, None);
    let before = world.log.last_sequence(Kind::Title.stream()).await?;
    for letter in &letters {
        let letter = dead_letter::get(&world.log, letter.id).await?;
        dead_letter::redrive(&world.log, &letter).await?;
    }
    assert_eq!(title(&reader, late).await.as_deref(), Some("applied after all"));
    assert_eq!(title(&reader, stale).await.as_deref(), Some("newer"));
    assert_eq!(world.log.last_sequence(Kind::Title.stream()).await?, before);
    assert!(dead_letter::list(&world.log, &filter, 10).await?.0.is_empty());
    assert!(verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());
    for service in services {
        service.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_view_that_cannot_be_written_keeps_the_letter() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    let id = BroadcastId::generate();
    world.title(id, "later").await?;
    let mut durable = world.log.durable(Kind::Title.stream(), "live_info", 10);
    let delivery = durable.next().await?;
    dead_letter::bury(&world.log, "live_info", &delivery, "cannot be applied").await?;
    drop(durable);
    let service = Service::start(&world.own, |context| run(world.config(), context))?;
    until("the service", WITHIN, || {
        std::future::ready(service.health.is_ready().then_some(()))
    })
    .await?;
    world.redis.kill9();
    let (letters, _) = dead_letter::list(&world.log, &Filter::default(), 10).await?;
    let letter = dead_letter::get(&world.log, letters[0].id).await?;
    let unwritable = dead_letter::redrive(&world.log, &letter).await;
    assert!(
        matches!(unwritable, Err(RedriveError::Unwritable { .. })),
        "{unwritable:?}"
    );
    world.redis.restart().await?;
    dead_letter::redrive(&world.log, &letter).await?;
    let reader = Reader::new(&world.config().redis)?;
    assert_eq!(title(&reader, id).await.as_deref(), Some("later"));
    // Removed for good; removing again is no error, and looking at it is.
    dead_letter::remove(&world.log, letter.id).await?;
    assert!(dead_letter::get(&world.log, letter.id).await.is_err());
    service.finish().await
}
