//! The fold over the change feed, without a log.

use castlog_log::{Entry, Kind, Position, audience::COUNT_STANDS, pb};
use castlog_testkit::events::{counted, entry};
use chrono::Utc;
use pb::{broadcast_state::Version, status};
use proptest::prelude::*;

use super::*;

struct Scene {
    id: BroadcastId,
    state: pb::BroadcastState,
}

impl Scene {
    fn new(tags: &[&str]) -> Self {
        let changed = pb::tags::Changed {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        };
        let mut scene = Self {
            id: BroadcastId::generate(),
            state: pb::BroadcastState {
                registration: Some(pb::Registration {
                    event: Some(pb::registration::Event::Created(Default::default())),
                }),
                tags: Some(pb::Tags {
                    event: Some(pb::tags::Event::Changed(changed)),
                }),
                ..Default::default()
            },
        };
        for kind in [Kind::Registration, Kind::Tags, Kind::Status, Kind::Options] {
            let version = Version {
                sequence: 1,
                time: Some(Default::default()),
            };
            scene.state.versions.insert(kind.to_string(), version);
        }
        scene
    }

    fn status(&mut self, event: status::Event, sequence: u64) -> Change {
        self.state.status = Some(pb::Status { event: Some(event) });
        self.at(sequence)
    }

    fn at(&self, sequence: u64) -> Change {
        Change {
            id: format!("LIVE_STREAM-{sequence}"),
            broadcast: self.id,
            time: Utc::now(),
            message: pb::LiveInfoChanged {
                state: Some(self.state.clone()),
                ..Default::default()
            },
            position: Position {
                stream: "LIVE_INFO_CHANGED".into(),
                sequence,
            },
            traceparent: None,
        }
    }
}

#[test]
fn broadcasts_on_air_count_under_each_of_their_tags() {
    let started = || status::Event::Started(Default::default());
    let (mut one, mut two) = (Scene::new(&["lol", "korean"]), Scene::new(&["lol"]));
    let mut private = Scene::new(&["secret"]);
    private.state.options = Some(pb::Options {
        event: Some(pb::options::Event::Changed(pb::options::Changed {
            visibility: pb::Visibility::Private.into(),
            ..Default::default()
        })),
    });
    let changes = [
        one.status(started(), 1),
        two.status(started(), 2),
        private.status(started(), 3),
        two.status(status::Event::Interrupted(Default::default()), 4),
    ];
    let (mut counts, now) = (Counts::default(), Instant::now());
    // Twice, and older ones again.
    for change in changes.iter().chain(&changes) {
        counts.change(change);
    }
    let watching = [
        (one.id, "a", 3),
        (one.id, "b", 2),
        (one.id, "a", 4),
        (two.id, "a", 1),
        (private.id, "a", 9),
    ];
    for _ in 0..2 {
        for ((id, edge, count), sequence) in watching.into_iter().zip(1..) {
            counts.audience.count(&entry(id, counted(edge, count), sequence), now);
        }
    }
    let tag = |tag: &str, live, viewers| Tag {
        tag: tag.into(),
        live,
        viewers,
    };
    let wanted = Statistics {
        live: 2,
        interrupted: 1,
        viewers: 7,
        tags: vec![tag("lol", 2, 7), tag("korean", 1, 6)],
        version: 4,
    };
    assert_eq!(counts.statistics(now), wanted);
    // One that begins with the last change of each broadcast comes to the same.
    let mut fresh = Counts::default();
    for at in [0, 2, 3] {
        fresh.change(&changes[at]);
    }
    fresh.audience = counts.audience.clone();
    assert_eq!(fresh.statistics(now), wanted);

    counts.change(&one.status(status::Event::Ended(Default::default()), 5));
    let later = counts.statistics(now + COUNT_STANDS);
    assert_eq!((later.live, later.viewers, later.tags), (1, 0, vec![tag("lol", 1, 0)]));
}

/// What the feed and the edges say.
#[derive(Debug, Clone)]
enum Said {
    Change(Box<Change>),
    Watched(Box<Entry>),
}

/// What happens to whoever counts.
#[derive(Debug, Clone)]
enum Turn {
    Next,
    /// What was said before comes again.
    Again(prop::sample::Index),
    /// It begins anew: with the last change of each broadcast, and the counts of the
    /// last seconds.
    Restart,
}

fn told(choices: Vec<(usize, u8, u8)>) -> Vec<Said> {
    let mut scenes = [Scene::new(&["lol"]), Scene::new(&["lol", "korean"]), Scene::new(&[])];
    let (mut changes, mut counts) = (0, 0);
    let said = choices.into_iter().map(|(broadcast, choice, value)| {
        let scene = &mut scenes[broadcast];
        if choice == 0 {
            counts += 1;
            let edge = if value % 2 == 0 { "a" } else { "b" };
            return Said::Watched(Box::new(entry(scene.id, counted(edge, value.into()), counts)));
        }
        changes += 1;
        Said::Change(Box::new(match choice {
            1 => scene.status(status::Event::Started(Default::default()), changes),
            2 => scene.status(status::Event::Interrupted(Default::default()), changes),
            3 => scene.status(status::Event::Ended(Default::default()), changes),
            _ => {
                let visibility = if value < 2 {
                    pb::Visibility::Private
                } else {
                    pb::Visibility::Public
                };
                scene.state.options = Some(pb::Options {
                    event: Some(pb::options::Event::Changed(pb::options::Changed {
                        visibility: visibility.into(),
                        ..Default::default()
                    })),
                });
                scene.at(changes)
            }
        }))
    });
    said.collect()
}

fn take(counts: &mut Counts, said: &Said, now: Instant) {
    match said {
        Said::Change(change) => counts.change(change),
        Said::Watched(entry) => counts.audience.count(entry, now),
    }
}

fn begun_anew(said: &[Said], now: Instant) -> Counts {
    let mut last = BTreeMap::new();
    let mut counts = Counts::default();
    for said in said {
        match said {
            Said::Change(change) => drop(last.insert(change.broadcast, &**change)),
            Said::Watched(_) => take(&mut counts, said, now),
        }
    }
    let mut last: Vec<&Change> = last.into_values().collect();
    last.sort_by_key(|change| change.position.sequence);
    last.into_iter().for_each(|change| counts.change(change));
    counts
}

proptest! {
    #[test]
    fn what_comes_again_and_restarts_do_not_show(
        choices in prop::collection::vec((0..3_usize, 0..6_u8, 0..6_u8), 1..40),
        turns in prop::collection::vec(
            prop_oneof![
                4 => Just(Turn::Next),
                2 => any::<prop::sample::Index>().prop_map(Turn::Again),
                1 => Just(Turn::Restart),
            ],
            0..60,
        ),
    ) {
        let (said, now) = (told(choices), Instant::now());
        let mut plain = Counts::default();
        said.iter().for_each(|said| take(&mut plain, said, now));
        let (mut counts, mut next) = (Counts::default(), 0);
        for turn in turns {
            match turn {
                Turn::Next if next < said.len() => {
                    take(&mut counts, &said[next], now);
                    next += 1;
                }
                Turn::Again(which) if next > 0 => take(&mut counts, &said[which.index(next)], now),
                Turn::Restart => counts = begun_anew(&said[..next], now),
                Turn::Next | Turn::Again(_) => {}
            }
        }
        said[next..].iter().for_each(|said| take(&mut counts, said, now));
        prop_assert_eq!(counts.statistics(now), plain.statistics(now));
    }
}
