//! Moments of a broadcast that its playlists tell as date ranges (§4.4.5.1): new titles,
//! and when its encoder was gone. A pure fold over the `title` and `status` entries of
//! about the window, in whatever order they come. Ids are sequences of the log, so that
//! all edges tell the same.

use std::collections::BTreeMap;

use castlog_log::{Entry, Event, SessionId, pb};
use castlog_playlist::date_range::{DateRange, End};
use chrono::{DateTime, TimeDelta, Utc};

/// Most moments of a broadcast that are held: one every few seconds of an hour. Of
/// more, the oldest stay, so that nothing is taken back that has been told.
const MAX_MARKS: usize = 1024;
/// Most of them that a playlist tells, which is rendered for every part: of more, the
/// oldest, and the others when those have gone.
const MAX_TOLD: usize = 64;
/// Longest title that is told, in characters: the schema's limit.
const MAX_TITLE: usize = 140;

const TITLE_CLASS: &str = "io.github.castlog.title";
const TITLE: &str = "X-IO-GITHUB-CASTLOG-TITLE";
const INTERRUPTION_CLASS: &str = "io.github.castlog.interruption";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    Title(String),
    Interrupted(SessionId),
    /// The session goes on, or is over.
    Back(SessionId),
}

/// When it was, in which order of kinds, and its sequence.
type Key = (DateTime<Utc>, u8, u64);

/// The moments of a broadcast.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(BTreeMap<Key, Mark>);

impl Marks {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes in what an entry tells. `false`: nothing that is not known.
    pub(crate) fn insert(&mut self, entry: &Entry) -> bool {
        let Some((kind, mark)) = read(&entry.event) else {
            return false;
        };
        let key = (entry.time, kind, entry.sequence());
        let new = self.0.insert(key, mark).is_none();
        if self.0.len() > MAX_MARKS {
            self.0.pop_last();
        }
        new && self.0.contains_key(&key)
    }

    /// Lets go of what was before `time`; whether anything is left.
    pub(crate) fn forget_before(&mut self, time: DateTime<Utc>) -> bool {
        self.0 = self.0.split_off(&(time, 0, 0));
        !self.0.is_empty()
    }

    /// What playlists of a session tell that begin at `from` and, when nothing will
    /// be added, end at `until`.
    pub(crate) fn ranges(
        &self,
        session: SessionId,
        from: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
    ) -> Vec<DateRange> {
        let within = self.0.range((from, 0, 0)..);
        let within = within.take_while(|((at, ..), _)| until.is_none_or(|until| *at < until));
        let range = |(&(start, _, sequence), mark): (&Key, &Mark)| match mark {
            Mark::Title(title) => Some(DateRange {
                id: format!("title-{sequence}"),
                class: TITLE_CLASS.to_owned(),
                start,
                end: End::OnNext,
                more: Some((TITLE, title.clone())),
            }),
            Mark::Interrupted(of) if *of == session => Some(DateRange {
                id: format!("interruption-{sequence}"),
                class: INTERRUPTION_CLASS.to_owned(),
                start,
                end: self.back(session, start, sequence),
                more: None,
            }),
            Mark::Interrupted(_) | Mark::Back(_) => None,
        };
        within.filter_map(range).take(MAX_TOLD).collect()
    }

    /// When the last `length` of a session on the air began, as of `until`.
    pub(crate) fn began(&self, session: SessionId, length: TimeDelta, until: DateTime<Utc>) -> DateTime<Utc> {
        let (mut began, mut back, mut left) = (until, until, length);
        for ((at, ..), mark) in self.0.iter().rev() {
            match mark {
                Mark::Back(of) if *of == session => back = *at,
                Mark::Interrupted(of) if *of == session => {
                    let on_air = (began - back).max(TimeDelta::zero());
                    if on_air >= left {
                        break;
                    }
                    left -= on_air;
                    (began, back) = (*at, *at);
                }
                Mark::Title(_) | Mark::Interrupted(_) | Mark::Back(_) => {}
            }
        }
        began.checked_sub_signed(left).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// When a session that was interrupted went on.
    fn back(&self, session: SessionId, start: DateTime<Utc>, sequence: u64) -> End {
        let later = self.0.iter().filter(|((.., back), _)| *back > sequence);
        let back = later.filter(|(_, mark)| **mark == Mark::Back(session));
        back.min_by_key(|((.., back), _)| *back)
            .map_or(End::Open, |((at, ..), _)| End::At((*at).max(start)))
    }
}

fn read(event: &Event) -> Option<(u8, Mark)> {
    use pb::status::Event as Status;
    let session = |session: &Option<pb::status::Session>| session.as_ref()?.session_id.parse().ok();
    match event {
        Event::Title(pb::Title {
            event: Some(pb::title::Event::Changed(changed)),
        }) => {
            // What stands in quotes holds none.
            let title = changed.title.chars().map(|c| if c == '"' { '”' } else { c });
            Some((0, Mark::Title(title.take(MAX_TITLE).collect())))
        }
        Event::Status(pb::Status { event: Some(status) }) => match status {
            Status::Interrupted(s) => Some((1, Mark::Interrupted(session(&s.session)?))),
            Status::Resumed(s) => Some((1, Mark::Back(session(&s.session)?))),
            Status::Ended(s) => Some((1, Mark::Back(session(&s.session)?))),
            Status::Started(_) => None,
        },
        _ => None,
    }
}
