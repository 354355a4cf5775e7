use castlog_log::SessionId;

use super::*;

fn session(id: &str) -> Option<pb::status::Session> {
    Some(pb::status::Session {
        session_id: id.to_owned(),
        started_at: Some(pb::Timestamp {
            seconds: 1_700_000_000,
            nanos: 250_000_000,
        }),
        ..Default::default()
    })
}

fn status(event: pb::status::Event) -> Event {
    pb::Status { event: Some(event) }.into()
}

fn started(id: &str) -> Event {
    status(pb::status::Event::Started(pb::status::Started { session: session(id) }))
}

fn options(visibility: i32) -> Event {
    let changed = pb::options::Changed {
        category: "game".into(),
        language: "ko".into(),
        visibility,
        ..Default::default()
    };
    pb::Options {
        event: Some(pb::options::Event::Changed(changed)),
    }
    .into()
}

fn metadata(session: &str) -> Event {
    let rendition = |name: &str, kind: pb::RenditionKind, height: u32| pb::Rendition {
        name: name.into(),
        kind: kind.into(),
        height,
        ..Default::default()
    };
    let produced = pb::metadata::Produced {
        session_id: session.into(),
        video: Some(pb::metadata::SourceVideo {
            frame_rate_milli: 29_970,
            ..Default::default()
        }),
        renditions: vec![
            rendition("480p", pb::RenditionKind::Video, 480),
            rendition("audio", pb::RenditionKind::Audio, 0),
            rendition("source", pb::RenditionKind::Video, 1080),
            rendition("copy", pb::RenditionKind::Video, 480),
        ],
        ..Default::default()
    };
    pb::Metadata {
        event: Some(pb::metadata::Event::Produced(produced)),
    }
    .into()
}

/// A live, public broadcast with everything set.
fn live() -> Facts {
    let created = pb::registration::Created {
        owner: "ann".into(),
        created_at: None,
    };
    let mut facts = Facts::default();
    let events = [
        pb::Registration {
            event: Some(pb::registration::Event::Created(created)),
        }
        .into(),
        pb::Title {
            event: Some(pb::title::Event::Changed(pb::title::Changed {
                title: "롤 랭크".into(),
            })),
        }
        .into(),
        pb::Tags {
            event: Some(pb::tags::Event::Changed(pb::tags::Changed {
                tags: vec!["lol".into()],
            })),
        }
        .into(),
        options(pb::Visibility::Public.into()),
        started("s1"),
        metadata("s1"),
    ];
    for event in events {
        facts.learn(event.kind(), 10, Some(event));
    }
    facts
}

fn with(change: Option<Event>, kind: Kind) -> Option<Document> {
    let mut facts = live();
    facts.learn(kind, 11, change);
    facts.document(BroadcastId::generate(), 0)
}

#[test]
fn a_live_public_broadcast_is_shown() {
    let id: BroadcastId = "01arz3ndektsv4rrffq69g5fav".parse().unwrap();
    insta::assert_json_snapshot!(live().document(id, 3), @r#"
    {
      "id": "01arz3ndektsv4rrffq69g5fav",
      "title": "롤 랭크",
      "tags": [
        "lol"
      ],
      "owner": "ann",
      "category": "game",
      "language": "ko",
      "resolutions": [
        1080,
        480
      ],
      "frame_rate": 30,
      "viewers": 3,
      "started_at": 1700000000250,
      "started_at_text": "2023-11-14T22:13:20.250Z"
    }
    "#);
}

#[test]
fn only_what_is_live_public_and_there_is_shown() {
    use pb::status::{Ended, Event as E, Interrupted, Resumed};
    assert_eq!(Facts::default().document(BroadcastId::generate(), 0), None);
    let interrupted = E::Interrupted(Interrupted {
        session: session("s1"),
        ..Default::default()
    });
    assert!(with(Some(status(interrupted)), Kind::Status).is_some());
    assert!(
        with(
            Some(status(E::Resumed(Resumed { session: session("s1") }))),
            Kind::Status
        )
        .is_some()
    );
    let ended = E::Ended(Ended {
        session: session("s1"),
        ..Default::default()
    });
    assert_eq!(with(Some(status(ended)), Kind::Status), None);
    assert_eq!(with(Some(options(pb::Visibility::Private.into())), Kind::Options), None);
    assert!(with(Some(options(pb::Visibility::Unspecified.into())), Kind::Options).is_some());
    let deleted = pb::registration::Event::Deleted(pb::registration::Deleted::default());
    assert_eq!(
        with(
            Some(pb::Registration { event: Some(deleted) }.into()),
            Kind::Registration
        ),
        None
    );
}

#[test]
fn what_cannot_be_read_leaves_what_was_said_before() {
    let id = BroadcastId::generate();
    let private = |facts: &mut Facts| facts.learn(Kind::Options, 11, Some(options(pb::Visibility::Private.into())));
    let unknown: [(Kind, Event); 6] = [
        (Kind::Registration, pb::Registration::default().into()),
        (Kind::Title, pb::Title::default().into()),
        (Kind::Tags, pb::Tags::default().into()),
        (Kind::Options, pb::Options::default().into()),
        (Kind::Status, pb::Status::default().into()),
        (Kind::Metadata, pb::Metadata::default().into()),
    ];
    for (kind, event) in unknown {
        for unreadable in [None, Some(event)] {
            let mut facts = live();
            facts.learn(kind, 12, unreadable.clone());
            assert_eq!(facts, live(), "{kind}");
            private(&mut facts);
            assert_eq!(facts.document(id, 0), None, "{kind}");
            // Learned the other way round it comes to the same.
            let mut facts = Facts::default();
            facts.learn(kind, 12, unreadable);
            for (kind, fact) in live().0 {
                facts.learn(kind, fact.sequence, fact.event);
            }
            assert_eq!(facts, live(), "{kind}");
        }
    }
    assert_eq!(with(Some(options(99)), Kind::Options), None);
}

#[test]
fn where_nothing_can_be_read_nothing_is_brought_to_light() {
    for kind in [Kind::Status, Kind::Options, Kind::Registration] {
        let mut facts = live();
        facts.0.remove(&kind);
        facts.learn(kind, 1, None);
        assert_eq!(facts.document(BroadcastId::generate(), 0), None, "{kind}");
    }
}

#[test]
fn metadata_of_another_session_says_nothing() {
    let other = SessionId::generate().to_string();
    let document = with(Some(metadata(&other)), Kind::Metadata).unwrap();
    assert_eq!((document.resolutions, document.frame_rate), (vec![], 0));
}

#[test]
fn the_later_entry_counts() {
    let mut facts = live();
    facts.learn(Kind::Status, 9, None);
    assert_eq!(facts, live());
}
