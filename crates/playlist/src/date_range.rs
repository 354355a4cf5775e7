//! What happens over a span of time (§4.4.5.1).

use chrono::{DateTime, SecondsFormat, Utc};

use crate::write::Attributes;

/// An EXT-X-DATERANGE. What it says under an id must never change, other than that
/// an end comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateRange {
    /// Unique within the playlist.
    pub id: String,
    /// What kind it is of, in reverse DNS.
    pub class: String,
    /// When it begins.
    pub start: DateTime<Utc>,
    /// When it ends.
    pub end: End,
    /// Name, which begins with `X-`, and text of an attribute of its own.
    pub more: Option<(&'static str, String)>,
}

/// When a date range ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is not known yet.
    Open,
    /// When the next of its class begins.
    OnNext,
    /// At this time.
    At(DateTime<Utc>),
}

fn date(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl DateRange {
    pub(crate) fn render(&self, out: &mut String) {
        let mut attributes = Attributes::of(out, "#EXT-X-DATERANGE")
            .quoted("ID", &self.id)
            .quoted("CLASS", &self.class)
            .quoted("START-DATE", &date(self.start));
        attributes = match self.end {
            End::Open => attributes,
            End::OnNext => attributes.plain("END-ON-NEXT", "YES"),
            End::At(end) => attributes.quoted("END-DATE", &date(end)),
        };
        if let Some((name, text)) = &self.more {
            attributes = attributes.quoted(name, text);
        }
        attributes.end();
    }
}
