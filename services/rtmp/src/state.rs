//! The key table: which broadcast a publish key belongs to, and how it wants its
//! encoders treated. A function of the `publish_key`, `options` and `registration`
//! entries, of which the last of each broadcast is enough.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use castlog_log::{
    BroadcastId, Entry, Event, KeyHash, PublishKey,
    pb::{self, SecondPublisher, publish_key, registration},
};

use crate::{Code, Refused};

/// What is known of one broadcast.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Channel {
    key: Option<KeyHash>,
    deleted: bool,
    take_over: bool,
    reconnect_window: Option<Duration>,
    /// Highest sequence applied per kind: an older entry that comes again changes nothing.
    applied: BTreeMap<castlog_log::Kind, u64>,
}

/// What an encoder with a valid key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The broadcast that the key belongs to.
    pub broadcast: BroadcastId,
    /// A second encoder replaces the first; otherwise it is refused.
    pub take_over: bool,
}

/// The encoder of a broadcast has lost its right to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// Why.
    pub refused: Refused,
}

/// The table. Broadcasts that are deleted or have no key hold no key in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyTable {
    channels: HashMap<BroadcastId, Channel>,
    by_key: HashMap<KeyHash, BroadcastId>,
}

impl KeyTable {
    /// Takes an entry in. Entries of other kinds change nothing.
    pub fn apply(&mut self, entry: &Entry) -> Option<Cut> {
        let broadcast = entry.subject.broadcast?;
        if !matches!(
            entry.event,
            Event::PublishKey(_) | Event::Options(_) | Event::Registration(_)
        ) {
            return None;
        }
        // An event of a newer schema says nothing that is known: what was said before stands.
        entry.event.name()?;
        let channel = self.channels.entry(broadcast).or_default();
        let applied = channel.applied.entry(entry.subject.kind).or_default();
        if entry.sequence() <= *applied {
            return None;
        }
        *applied = entry.sequence();
        let cut = |reason: &str| {
            Some(Cut {
                broadcast,
                refused: Refused::new(Code::KeyRevoked, reason),
            })
        };
        match &entry.event {
            Event::PublishKey(pb::PublishKey { event: Some(event) }) => {
                let (key, reason) = match event {
                    publish_key::Event::Issued(e) => (e.key_hash.parse().ok(), "the publish key was replaced"),
                    publish_key::Event::Rotated(e) => (e.key_hash.parse().ok(), "the publish key was rotated"),
                    publish_key::Event::Revoked(_) => (None, "the publish key was revoked"),
                };
                let old = std::mem::replace(&mut channel.key, key);
                if old == channel.key {
                    return None;
                }
                if let Some(old) = &old {
                    self.by_key.remove(old);
                }
                if let (Some(new), false) = (&channel.key, channel.deleted) {
                    self.by_key.insert(new.clone(), broadcast);
                }
                if old.is_some() { cut(reason) } else { None }
            }
            Event::Options(pb::Options {
                event: Some(pb::options::Event::Changed(options)),
            }) => {
                channel.take_over = options.second_publisher() == SecondPublisher::TakeOver;
                channel.reconnect_window = (options.reconnect_window_s > 0)
                    .then(|| Duration::from_secs(options.reconnect_window_s.min(MAX_RECONNECT_WINDOW_S).into()));
                None
            }
            Event::Registration(pb::Registration {
                event: Some(registration::Event::Deleted(_)),
            }) => {
                channel.deleted = true;
                if let Some(key) = &channel.key {
                    self.by_key.remove(key);
                }
                cut("the broadcast was deleted")
            }
            Event::Registration(pb::Registration {
                event: Some(registration::Event::Created(_)),
            }) => {
                channel.deleted = false;
                if let Some(key) = &channel.key {
                    self.by_key.insert(key.clone(), broadcast);
                }
                None
            }
            _ => None,
        }
    }

    /// Whether an encoder may publish under a stream name.
    ///
    /// # Errors
    /// The name is not a key, or a key of no broadcast.
    pub fn authorise(&self, stream_name: &str) -> Result<Grant, Refused> {
        let key: PublishKey = stream_name
            .parse()
            .map_err(|error| Refused::new(Code::Malformed, format!("{error}")))?;
        // The lookup is by hash, so its time says nothing about the keys.
        let broadcast = self
            .by_key
            .get(&key.hash())
            .ok_or_else(|| Refused::new(Code::UnknownKey, "unknown publish key"))?;
        let take_over = self.channels.get(broadcast).is_some_and(|channel| channel.take_over);
        Ok(Grant {
            broadcast: *broadcast,
            take_over,
        })
    }

    /// Whether any encoder may publish to the broadcast.
    #[must_use]
    pub fn has_key(&self, broadcast: BroadcastId) -> bool {
        self.channels
            .get(&broadcast)
            .is_some_and(|channel| channel.key.is_some() && !channel.deleted)
    }

    /// How long the broadcast's sessions wait for their encoder, when its options say.
    #[must_use]
    pub fn reconnect_window(&self, broadcast: BroadcastId) -> Option<Duration> {
        self.channels
            .get(&broadcast)
            .and_then(|channel| channel.reconnect_window)
    }
}

/// Longest wait for an encoder: a session is not a way to reserve a broadcast.
const MAX_RECONNECT_WINDOW_S: u32 = 3600;

#[cfg(test)]
#[path = "state_kit.rs"]
mod kit;

#[cfg(test)]
mod tests {
    use castlog_log::Position;
    use chrono::Utc;

    use super::*;

    fn entry(broadcast: BroadcastId, sequence: u64, event: impl Into<Event>) -> Entry {
        let event = event.into();
        Entry {
            id: sequence.to_string(),
            source: "castlog/test".into(),
            time: Utc::now(),
            subject: event.kind().of(broadcast),
            event,
            position: Position {
                stream: "BROAD_INFO".into(),
                sequence,
            },
            traceparent: None,
            payload: Default::default(),
        }
    }

    fn issued(key: &PublishKey) -> pb::PublishKey {
        let event = publish_key::Issued {
            key_hash: key.hash().to_string(),
        };
        pb::PublishKey {
            event: Some(publish_key::Event::Issued(event)),
        }
    }

    fn rotated(key: &PublishKey) -> pb::PublishKey {
        let event = publish_key::Rotated {
            key_hash: key.hash().to_string(),
        };
        pb::PublishKey {
            event: Some(publish_key::Event::Rotated(event)),
        }
    }

    fn revoked() -> pb::PublishKey {
        pb::PublishKey {
            event: Some(publish_key::Event::Revoked(publish_key::Revoked {})),
        }
    }

    fn code(result: Result<Grant, Refused>) -> Option<Code> {
        result.err().map(|refused| refused.code)
    }

    #[test]
    fn a_key_lives_from_issue_to_rotation_to_revocation() {
        let (broadcast, first, second) = (BroadcastId::generate(), PublishKey::generate(), PublishKey::generate());
        let mut table = KeyTable::default();
        assert_eq!(code(table.authorise(first.expose())), Some(Code::UnknownKey));
        assert_eq!(code(table.authorise("hello")), Some(Code::Malformed));

        assert_eq!(table.apply(&entry(broadcast, 1, issued(&first))), None);
        assert_eq!(table.authorise(first.expose()).unwrap().broadcast, broadcast);

        let cut = table.apply(&entry(broadcast, 2, rotated(&second))).unwrap();
        assert_eq!((cut.broadcast, cut.refused.code), (broadcast, Code::KeyRevoked));
        assert_eq!(code(table.authorise(first.expose())), Some(Code::UnknownKey));
        assert!(table.authorise(second.expose()).is_ok() && table.has_key(broadcast));

        // An older entry that comes again changes nothing.
        assert_eq!(table.apply(&entry(broadcast, 1, issued(&first))), None);
        assert!(table.authorise(second.expose()).is_ok());

        assert!(table.apply(&entry(broadcast, 3, revoked())).is_some());
        assert_eq!(code(table.authorise(second.expose())), Some(Code::UnknownKey));
        assert!(!table.has_key(broadcast));
    }

    #[test]
    fn a_deleted_broadcast_takes_no_encoder() {
        let (broadcast, key) = (BroadcastId::generate(), PublishKey::generate());
        let deleted = || pb::Registration {
            event: Some(registration::Event::Deleted(registration::Deleted::default())),
        };
        for order in [[0, 1], [1, 0]] {
            let entries = [entry(broadcast, 1, issued(&key)), entry(broadcast, 2, deleted())];
            let mut table = KeyTable::default();
            for index in order {
                table.apply(&entries[index]);
            }
            assert_eq!(code(table.authorise(key.expose())), Some(Code::UnknownKey));
            assert!(!table.has_key(broadcast));
        }
    }

    #[test]
    fn options_decide_over_second_encoders_and_the_window() {
        let (broadcast, key) = (BroadcastId::generate(), PublishKey::generate());
        let mut table = KeyTable::default();
        table.apply(&entry(broadcast, 1, issued(&key)));
        assert!(!table.authorise(key.expose()).unwrap().take_over);
        assert_eq!(table.reconnect_window(broadcast), None);
        let options = pb::options::Changed {
            second_publisher: SecondPublisher::TakeOver.into(),
            reconnect_window_s: 7,
            ..Default::default()
        };
        table.apply(&entry(
            broadcast,
            2,
            pb::Options {
                event: Some(pb::options::Event::Changed(options)),
            },
        ));
        assert!(table.authorise(key.expose()).unwrap().take_over);
        assert_eq!(table.reconnect_window(broadcast), Some(Duration::from_secs(7)));
    }
}
