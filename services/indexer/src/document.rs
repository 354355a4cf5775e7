//! From the newest entries of a broadcast to its document, or to its absence.
//!
//! Pure: what is in the log decides, and nothing else.

use std::collections::BTreeMap;

use castlog_log::{BroadcastId, Entry, Event, Kind, pb};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

/// Kinds that a document is derived from.
pub(crate) const KINDS: [Kind; 6] = [
    Kind::Registration,
    Kind::Title,
    Kind::Tags,
    Kind::Options,
    Kind::Status,
    Kind::Metadata,
];

/// A live, public broadcast as it is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The broadcast.
    pub id: BroadcastId,
    /// Title; empty = none yet.
    pub title: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Account that owns the broadcast.
    pub owner: String,
    /// Category; empty = none.
    pub category: String,
    /// BCP 47 language tag; empty = not said.
    pub language: String,
    /// Heights of the video renditions in pixels, highest first; empty until
    /// the pipeline has said what it makes.
    pub resolutions: Vec<u32>,
    /// Frames per second of the source, rounded; 0 = not known.
    pub frame_rate: u32,
    /// Concurrent viewers as last counted. Everything else is a function of the log.
    pub viewers: u64,
    /// When the session began, in milliseconds since 1970: what is sorted by.
    pub started_at: i64,
    /// The same as RFC 3339.
    pub started_at_text: String,
}

/// The newest entry per kind of one broadcast that can be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts(BTreeMap<Kind, Fact>);

#[derive(Debug, Clone, PartialEq)]
struct Fact {
    sequence: u64,
    /// `None`: something stands there, and nothing of it can be read.
    event: Option<Event>,
}

impl Facts {
    /// Learns of an entry. Of two of a kind the later one counts; one that cannot be
    /// read, or says what this version does not know, leaves what was said before.
    pub(crate) fn learn(&mut self, kind: Kind, sequence: u64, event: Option<Event>) {
        let event = event.filter(|event| event.name().is_some());
        let counts = match self.0.get(&kind) {
            None => true,
            Some(known) => event.is_some() && (known.event.is_none() || known.sequence < sequence),
        };
        if counts && KINDS.contains(&kind) {
            self.0.insert(kind, Fact { sequence, event });
        }
    }

    pub(crate) fn learn_entry(&mut self, entry: &Entry) {
        self.learn(entry.subject.kind, entry.sequence(), Some(entry.event.clone()));
    }

    /// The newest entry of a kind that counts, by its sequence in its stream; 0 = none.
    pub(crate) fn sequence(&self, kind: Kind) -> u64 {
        self.0.get(&kind).map_or(0, |fact| fact.sequence)
    }

    fn get(&self, kind: Kind) -> Option<&Event> {
        self.0.get(&kind)?.event.as_ref()
    }

    /// The session that is on the air.
    pub(crate) fn session(&self) -> Option<&pb::status::Session> {
        use pb::status::Event as E;
        let Some(Event::Status(pb::Status { event: Some(event) })) = self.get(Kind::Status) else {
            return None;
        };
        match event {
            E::Started(e) => e.session.as_ref(),
            E::Interrupted(e) => e.session.as_ref(),
            E::Resumed(e) => e.session.as_ref(),
            E::Ended(_) => None,
        }
    }

    /// The owner; `None` when the broadcast is deleted, or may be: where nothing can
    /// be read of what stands there, nothing is brought to light.
    fn owner(&self) -> Option<String> {
        use pb::registration::Event as E;
        match self.0.get(&Kind::Registration) {
            None => Some(String::new()),
            Some(Fact {
                event:
                    Some(Event::Registration(pb::Registration {
                        event: Some(E::Created(e)),
                    })),
                ..
            }) => Some(e.owner.clone()),
            Some(_) => None,
        }
    }

    /// Category and language; `None` when it is private, or may be.
    fn public(&self) -> Option<(String, String)> {
        use pb::{Visibility, options::Event as E};
        match self.0.get(&Kind::Options) {
            None => Some(Default::default()),
            Some(Fact {
                event:
                    Some(Event::Options(pb::Options {
                        event: Some(E::Changed(e)),
                    })),
                ..
            }) => {
                let public = matches!(
                    Visibility::try_from(e.visibility),
                    Ok(Visibility::Public | Visibility::Unspecified)
                );
                public.then(|| (e.category.clone(), e.language.clone()))
            }
            Some(_) => None,
        }
    }

    fn title(&self) -> String {
        match self.get(Kind::Title) {
            Some(Event::Title(pb::Title {
                event: Some(pb::title::Event::Changed(e)),
            })) => e.title.clone(),
            _ => String::new(),
        }
    }

    fn tags(&self) -> Vec<String> {
        match self.get(Kind::Tags) {
            Some(Event::Tags(pb::Tags {
                event: Some(pb::tags::Event::Changed(e)),
            })) => e.tags.clone(),
            _ => Vec::new(),
        }
    }

    /// Heights and frame rate of `session`; those of an earlier one say nothing.
    fn picture(&self, session: &str) -> (Vec<u32>, u32) {
        let Some(Event::Metadata(pb::Metadata {
            event: Some(pb::metadata::Event::Produced(e)),
        })) = self.get(Kind::Metadata)
        else {
            return Default::default();
        };
        if e.session_id != session {
            return Default::default();
        }
        let videos = e
            .renditions
            .iter()
            .filter(|r| r.kind == pb::RenditionKind::Video as i32);
        let mut heights: Vec<u32> = videos.map(|r| r.height).filter(|height| *height > 0).collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.dedup();
        let milli = e.video.as_ref().map_or(0, |video| video.frame_rate_milli);
        (heights, milli.saturating_add(500) / 1000)
    }

    /// The document of `id`, which so many watch; `None` when it must not be in the index.
    pub(crate) fn document(&self, id: BroadcastId, viewers: u64) -> Option<Document> {
        let session = self.session()?;
        let owner = self.owner()?;
        let (category, language) = self.public()?;
        let (resolutions, frame_rate) = self.picture(&session.session_id);
        let started = session
            .started_at
            .and_then(|time| DateTime::<Utc>::try_from(time).ok())
            .unwrap_or_default();
        Some(Document {
            id,
            title: self.title(),
            tags: self.tags(),
            owner,
            category,
            language,
            resolutions,
            frame_rate,
            viewers,
            started_at: started.timestamp_millis(),
            started_at_text: started.to_rfc3339_opts(SecondsFormat::Millis, true),
        })
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
