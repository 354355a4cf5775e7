//! Entries that LiveInfo gave up: nothing stalls behind them, and they can be
//! applied after all.

mod support;

use castlog_live_info::{Reader, run, verify};
use castlog_log::{
    BroadcastId, Event, Kind,
    dead_letter::{self, Attempt, Deed, Filter, LetterError, Outcome, RedriveError},
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
    let refused = dead_letter::redrive(&world.log, &letter, "test").await;
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
    let nobody = dead_letter::redrive(&world.log, &first, "test").await;
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
        dead_letter::redrive(&world.log, &letter, "test").await?;
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
    let unwritable = dead_letter::redrive(&world.log, &letter, "test").await;
    assert!(
        matches!(unwritable, Err(RedriveError::Unwritable { .. })),
        "{unwritable:?}"
    );
    world.redis.restart().await?;
    dead_letter::redrive(&world.log, &letter, "test").await?;
    let reader = Reader::new(&world.config().redis)?;
    assert_eq!(title(&reader, id).await.as_deref(), Some("later"));
    // It is gone; removing it is no error, and looking at it is.
    dead_letter::discard(&world.log, &letter, "somebody else").await?;
    assert!(dead_letter::get(&world.log, letter.id).await.is_err());
    // All of it is on record, the newest first.
    let attempts = dead_letter::attempts(&world.log, 10).await?;
    let said = |attempt: &Attempt| {
        (
            attempt.deed,
            attempt.by.clone(),
            attempt.letter,
            attempt.outcome.clone(),
        )
    };
    let test = || "test".to_owned();
    let kept = Outcome::Kept {
        reason: unwritable.unwrap_err().to_string(),
    };
    assert_eq!(
        attempts.iter().map(said).collect::<Vec<_>>(),
        [
            (
                Deed::Discard,
                "somebody else".to_owned(),
                letter.id,
                Some(Outcome::Discarded)
            ),
            (Deed::Redrive, test(), letter.id, Some(Outcome::Applied)),
            (Deed::Redrive, test(), letter.id, Some(kept)),
        ]
    );
    // A record is no letter.
    let first_record = letter.id + 1;
    let record = dead_letter::get(&world.log, first_record).await;
    assert!(
        matches!(record, Err(LetterError::Missing(id)) if id == first_record),
        "{record:?}"
    );
    assert_eq!(dead_letter::attempts(&world.log, 1).await?, attempts[..1]);
    service.finish().await
}
