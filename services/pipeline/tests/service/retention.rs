//! What is deleted of the media, and what is not.

use std::collections::BTreeSet;

use castlog_log::{
    BroadcastId, Draft, Event, Publisher, SessionId,
    pb::{Options, Registration, options, registration},
};
use castlog_pipeline::retention::sweep;
use castlog_service::{MediaStoreConfig, open_media_store};
use chrono::{TimeDelta, Utc};
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path};

use crate::world::{Cast, World};

fn record(record: bool) -> Event {
    let changed = options::Changed {
        record,
        ..options::Changed::default()
    };
    Options {
        event: Some(options::Event::Changed(changed)),
    }
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn media_is_kept_as_long_as_somebody_may_watch_it() {
    let world = World::new().await;
    let log = world.nats.log_of("pipeline").await.unwrap();
    let store = open_media_store(&MediaStoreConfig::folder(world.folder.path())).unwrap();
    let publisher = Publisher::new(&world.log, "test");
    let say = async |cast: &Cast, event: Event| {
        publisher.publish(Draft::new(cast.broadcast, event)).await.unwrap();
    };
    let [live, over, recorded, deleted, silent] = std::array::from_fn(|_| world.another());
    say(&recorded, record(true)).await;
    for cast in [&live, &over, &recorded, &deleted] {
        cast.started("").await;
    }
    for cast in [&over, &recorded, &deleted] {
        cast.ended().await;
    }
    let gone = registration::Deleted::default();
    let gone = Registration {
        event: Some(registration::Event::Deleted(gone)),
    };
    say(&deleted, gone.into()).await;

    let key = |broadcast: BroadcastId, session: SessionId| format!("{broadcast}/{session}/source/0-0.m4s");
    let of = |cast: &Cast| key(cast.broadcast, cast.session);
    let foreign = [
        "archive/date=2026-01-01/kind=title/x.parquet".to_owned(),
        "readme".to_owned(),
    ];
    // Of a session that its broadcast's log does not know, and of another log's broadcast.
    let unknown = [key(live.broadcast, SessionId::generate()), of(&silent)];
    let all = [of(&live), of(&over), of(&recorded), of(&deleted)];
    for key in all.iter().chain(&foreign).chain(&unknown) {
        store.put(&Path::from(key.as_str()), "media".into()).await.unwrap();
    }
    let left = async || -> BTreeSet<String> {
        let found = store.list(None).map_ok(|object| object.location.to_string());
        found.try_collect().await.unwrap()
    };
    let keep = TimeDelta::hours(24);
    let swept = async |hours: i64| {
        sweep(&log, &store, keep, Utc::now() + TimeDelta::hours(hours))
            .await
            .unwrap()
    };
    let stays = |cast: &[&Cast]| -> BTreeSet<String> {
        let of_casts = cast.iter().map(|cast| of(cast));
        of_casts.chain(foreign.clone()).chain(unknown.clone()).collect()
    };

    assert_eq!(swept(23).await, 1, "what is deleted is deleted at once");
    assert_eq!(left().await, stays(&[&live, &over, &recorded]));
    assert_eq!(swept(25).await, 1);
    assert_eq!(left().await, stays(&[&live, &recorded]));
    assert_eq!(swept(25).await, 0, "there is nothing more to do");
    assert!(
        !world.folder.path().join(over.broadcast.to_string()).exists(),
        "no folder is left"
    );
    assert_eq!(swept(29 * 24).await, 0);
    assert_eq!(swept(31 * 24).await, 1);
    assert_eq!(left().await, stays(&[&live]));
    // Who turns it off lets go of it.
    say(&live, record(false)).await;
    live.ended().await;
    assert_eq!(swept(25).await, 1);
    assert_eq!(left().await, stays(&[]));
}
