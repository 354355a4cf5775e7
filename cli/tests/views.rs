//! LiveInfo and the index say the same of a broadcast, also behind what a newer
//! producer has said.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use castlog_live_info::{Reader, RedisConfig};
use castlog_log::{BroadcastId, Draft, Event, Kind, SessionId, pb};
use castlog_testkit::{
    Meilisearch, NatsOptions, RedisServer, Service, TestLog,
    events::{created, started, tags, title},
    until,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

struct Views {
    reader: Reader,
    meili: Meilisearch,
}

impl Views {
    /// What LiveInfo says of a broadcast, in the words of the index.
    async fn live_info(&self, id: BroadcastId) -> Option<Value> {
        let newest = self.reader.get(id).await.ok()??;
        let event = |kind| newest.get(&kind).map(|(event, _)| event.clone());
        let Some(Event::Title(pb::Title {
            event: Some(pb::title::Event::Changed(title)),
        })) = event(Kind::Title)
        else {
            return None;
        };
        let Some(Event::Tags(pb::Tags {
            event: Some(pb::tags::Event::Changed(tags)),
        })) = event(Kind::Tags)
        else {
            return None;
        };
        let Some(Event::Options(pb::Options {
            event: Some(pb::options::Event::Changed(options)),
        })) = event(Kind::Options)
        else {
            return None;
        };
        let Some(Event::Registration(pb::Registration {
            event: Some(pb::registration::Event::Created(registration)),
        })) = event(Kind::Registration)
        else {
            return None;
        };
        let Some(Event::Metadata(pb::Metadata {
            event: Some(pb::metadata::Event::Produced(metadata)),
        })) = event(Kind::Metadata)
        else {
            return None;
        };
        let live = self.reader.live(10).await.ok()?.iter().any(|(live, _)| *live == id);
        let heights: Vec<u32> = metadata.renditions.iter().map(|rendition| rendition.height).collect();
        live.then(|| {
            json!({
                "title": title.title, "tags": tags.tags, "category": options.category,
                "owner": registration.owner, "resolutions": heights,
            })
        })
    }

    async fn index(&self, id: BroadcastId) -> Option<Value> {
        let documents = self.meili.documents("broadcasts").await.ok()?;
        let document = documents.into_iter().find(|document| document["id"] == json!(id))?;
        let names = ["title", "tags", "category", "owner", "resolutions"];
        Some(
            names
                .map(|name| (name.to_owned(), document[name].clone()))
                .into_iter()
                .collect(),
        )
    }

    /// What both say, once they do.
    async fn both(&self, id: BroadcastId, title: &str) -> Value {
        until("LiveInfo and the index say the same", PATIENCE, || async {
            let (one, other) = (self.live_info(id).await?, self.index(id).await?);
            (one == other && one["title"] == title).then_some(one)
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn both_keep_the_newest_that_they_can_read() {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await.unwrap();
    let redis = RedisServer::start().await.unwrap();
    let meili = Meilisearch::start().await.unwrap();
    let live_info = castlog_live_info::Config {
        redis: RedisConfig::new(redis.url()),
        ..Default::default()
    };
    let indexer = castlog_indexer::Config {
        meilisearch: castlog_meili::Config::new(&meili.url(), meili.master_key()),
        sweep_s: 3600,
        ..Default::default()
    };
    let views = Views {
        reader: Reader::new(&live_info.redis).unwrap(),
        meili,
    };
    let own = async |name| test.nats.log_of(name).await.unwrap();
    let services = [
        Service::start(&own("live-info").await, |context| {
            castlog_live_info::run(live_info, context)
        })
        .unwrap(),
        Service::start(&own("indexer").await, |context| castlog_indexer::run(indexer, context)).unwrap(),
    ];

    let (id, session) = (BroadcastId::generate(), SessionId::generate().to_string());
    let options = pb::options::Changed {
        category: "game".into(),
        visibility: pb::Visibility::Public.into(),
        ..Default::default()
    };
    let produced = pb::metadata::Produced {
        session_id: session.clone(),
        renditions: vec![pb::Rendition {
            kind: pb::RenditionKind::Video.into(),
            height: 720,
            ..Default::default()
        }],
        ..Default::default()
    };
    let events: [Event; 6] = [
        created("ann"),
        title("one"),
        tags(&["a"]),
        pb::Options {
            event: Some(pb::options::Event::Changed(options)),
        }
        .into(),
        started(&session),
        pb::Metadata {
            event: Some(pb::metadata::Event::Produced(produced)),
        }
        .into(),
    ];
    for event in events {
        test.publisher.publish(Draft::new(id, event)).await.unwrap();
    }
    let before = views.both(id, "one").await;

    // Member 90 of the oneof of each kind, which this schema does not have, and what
    // is no entry at all.
    for kind in Kind::STATE {
        test.publish_payload(kind.of(id), &[0xd2, 0x05, 2, 0x08, 1])
            .await
            .unwrap();
    }
    test.publish_garbage(Kind::Tags.of(id)).await.unwrap();
    // Both have passed these when they show what comes behind them.
    let marker = BroadcastId::generate();
    for event in [title("marker"), started("marker")] {
        test.publisher.publish(Draft::new(marker, event)).await.unwrap();
    }
    until("both have read on", PATIENCE, || async {
        views.index(marker).await?;
        let live = views.reader.live(10).await.ok()?;
        live.iter().any(|(id, _)| *id == marker).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(views.live_info(id).await, Some(before.clone()));
    assert_eq!(views.index(id).await, Some(before.clone()));

    // Both still take what they can read.
    test.publisher.publish(Draft::new(id, title("two"))).await.unwrap();
    assert_ne!(views.both(id, "two").await, before);
    for service in services {
        service.finish().await.unwrap();
    }
}
