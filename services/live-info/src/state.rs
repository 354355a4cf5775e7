//! What an entry changes, as data: pure, so that a replay can be compared with
//! what is stored.

use std::collections::BTreeMap;

use castlog_log::{BroadcastId, Entry, Event, Kind, pb};

use crate::keys;

/// One guarded write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) broadcast: BroadcastId,
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) json: String,
    pub(crate) time: String,
    pub(crate) live: Live,
    /// The entry's payload as it was published, for the change feed.
    pub(crate) payload: Vec<u8>,
    /// The entry's trace context, for the change feed.
    pub(crate) traceparent: Option<String>,
}

/// What a write says about being live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// Nothing.
    Unsaid,
    /// Live since this time in milliseconds since 1970.
    Since(i64),
    /// Not live.
    No,
}

/// The write that an entry asks for; `None` for kinds that LiveInfo does not
/// keep, and for events of a newer schema, which say nothing that is known.
pub(crate) fn write(entry: &Entry) -> Option<Write> {
    let kind = entry.event.kind();
    let broadcast = entry.subject.broadcast?;
    if !Kind::STATE.contains(&kind) || entry.event.name().is_none() {
        return None;
    }
    Some(Write {
        broadcast,
        kind,
        sequence: entry.sequence(),
        json: entry.event.to_json().to_string(),
        time: keys::time(entry.time),
        live: live(entry),
        payload: entry.payload.to_vec(),
        traceparent: entry.traceparent.clone(),
    })
}

fn live(entry: &Entry) -> Live {
    use pb::status::Event as Status;
    let Event::Status(pb::Status { event: Some(event) }) = &entry.event else {
        return Live::Unsaid;
    };
    let session = match event {
        Status::Started(e) => e.session.as_ref(),
        Status::Interrupted(e) => e.session.as_ref(),
        Status::Resumed(e) => e.session.as_ref(),
        Status::Ended(_) => return Live::No,
    };
    let started = session.and_then(|s| s.started_at.as_ref());
    let millis = started.map_or_else(
        || entry.time.timestamp_millis(),
        |t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000,
    );
    Live::Since(millis)
}

/// The whole view in memory, for comparing.
#[derive(Debug, Default)]
pub(crate) struct View {
    broadcasts: BTreeMap<BroadcastId, BTreeMap<Kind, Write>>,
}

impl View {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        if let Some(write) = write(entry) {
            self.put(write);
        }
    }

    pub(crate) fn put(&mut self, write: Write) {
        let kinds = self.broadcasts.entry(write.broadcast).or_default();
        if kinds.get(&write.kind).is_none_or(|old| old.sequence < write.sequence) {
            kinds.insert(write.kind, write);
        }
    }

    pub(crate) fn broadcasts(&self) -> impl Iterator<Item = (BroadcastId, &BTreeMap<Kind, Write>)> {
        self.broadcasts.iter().map(|(id, kinds)| (*id, kinds))
    }

    /// The fields of a broadcast's hash; `None` when nothing is known of it.
    pub(crate) fn fields(&self, id: BroadcastId) -> Option<BTreeMap<String, String>> {
        let mut fields = BTreeMap::new();
        for (kind, write) in self.broadcasts.get(&id)? {
            fields.insert(kind.to_string(), write.json.clone());
            fields.insert(keys::sequence_field(*kind), write.sequence.to_string());
            fields.insert(keys::time_field(*kind), write.time.clone());
        }
        Some(fields)
    }

    /// Since when a broadcast is live, in milliseconds since 1970; `None`: it is not.
    pub(crate) fn live(&self, id: BroadcastId) -> Option<i64> {
        match self.broadcasts.get(&id)?.get(&Kind::Status)?.live {
            Live::Since(millis) => Some(millis),
            Live::Unsaid | Live::No => None,
        }
    }
}
