//! The sessions of a broadcast that are over, from its status entries. Pure, but for
//! [`Log::past_sessions`], which reads them.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    BroadcastId, Entry, Event, Kind, Log, ReadError, SessionId,
    pb::{Options, Status, options, status},
};

/// How long the log keeps the entries that a recording consists of (`LIVE_SEGMENT`).
pub const RECORDINGS_KEPT: TimeDelta = TimeDelta::days(30);

/// A session that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastSession {
    /// Its id.
    pub id: SessionId,
    /// When its encoder came.
    pub started_at: DateTime<Utc>,
    /// When it ended, or was found to have ended when the next one began.
    pub ended_at: DateTime<Utc>,
    /// Whether a recording of it is kept: the broadcast had `record` on when it ended,
    /// and has it now. One that was not kept does not come back.
    pub recorded: bool,
}

/// The session that a status names, and whether it is over with it.
#[must_use]
pub fn named(status: &Status) -> Option<(&status::Session, bool)> {
    match status.event.as_ref()? {
        status::Event::Started(status::Started { session })
        | status::Event::Interrupted(status::Interrupted { session, .. })
        | status::Event::Resumed(status::Resumed { session }) => Some((session.as_ref()?, false)),
        status::Event::Ended(status::Ended { session, .. }) => Some((session.as_ref()?, true)),
    }
}

/// When a session began, if it says so.
#[must_use]
pub fn started_at(session: &status::Session) -> Option<DateTime<Utc>> {
    time(session.started_at)
}

/// The sessions that are over by the status entries of a broadcast, the oldest first;
/// its options entries say which of them are kept.
#[must_use]
pub fn past(entries: &[Entry], options: &[Entry]) -> Vec<PastSession> {
    let changes: Vec<(DateTime<Utc>, bool)> = options.iter().filter_map(record).collect();
    let now = changes.last().is_some_and(|(_, record)| *record);
    let at = |time: DateTime<Utc>| changes.iter().rev().find(|(since, _)| *since <= time);
    let over = |id, started_at, ended_at| PastSession {
        id,
        started_at,
        ended_at,
        recorded: now && at(ended_at).is_some_and(|(_, record)| *record),
    };
    let mut past = Vec::new();
    let mut current: Option<(SessionId, DateTime<Utc>)> = None;
    for entry in entries {
        let Event::Status(status) = &entry.event else { continue };
        let Some((session, _)) = named(status) else { continue };
        let ended = match &status.event {
            Some(status::Event::Ended(ended)) => Some(time(ended.ended_at).unwrap_or(entry.time)),
            _ => None,
        };
        let Ok(id) = session.session_id.parse() else { continue };
        let started_at = started_at(session).unwrap_or(entry.time);
        if let Some((before, since)) = current.take_if(|(before, _)| *before != id) {
            past.push(over(before, since, started_at));
        }
        match ended {
            None => current = Some((id, started_at)),
            Some(ended_at) => {
                current = None;
                past.push(over(id, started_at, ended_at));
            }
        }
    }
    past
}

fn record(entry: &Entry) -> Option<(DateTime<Utc>, bool)> {
    match &entry.event {
        Event::Options(Options {
            event: Some(options::Event::Changed(changed)),
        }) => Some((entry.time, changed.record)),
        _ => None,
    }
}

fn time(time: Option<crate::pb::Timestamp>) -> Option<DateTime<Utc>> {
    DateTime::try_from(time?).ok()
}

impl Log {
    /// The sessions of a broadcast that are over, the oldest first, as far as the log
    /// keeps them.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn past_sessions(&self, broadcast: BroadcastId) -> Result<Vec<PastSession>, ReadError> {
        let statuses = self.history(Kind::Status.of(broadcast)).await?;
        if statuses.is_empty() {
            return Ok(Vec::new());
        }
        let options = self.history(Kind::Options.of(broadcast)).await?;
        Ok(past(&statuses, &options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, pb::Timestamp};

    fn entry(second: i64, event: status::Event) -> Entry {
        event_at(second, Status { event: Some(event) })
    }

    fn recording(second: i64, record: bool) -> Entry {
        let changed = options::Changed {
            record,
            ..Default::default()
        };
        event_at(
            second,
            Options {
                event: Some(options::Event::Changed(changed)),
            },
        )
    }

    fn event_at(second: i64, event: impl Into<Event>) -> Entry {
        let event = event.into();
        Entry {
            id: "e".into(),
            source: "castlog/rtmp".into(),
            time: at(second),
            subject: event.kind().of(BroadcastId::generate()),
            event,
            position: Position {
                stream: "LIVE_STREAM".into(),
                sequence: 1,
            },
            traceparent: None,
            payload: Default::default(),
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn session(id: SessionId, started: i64) -> Option<status::Session> {
        Some(status::Session {
            session_id: id.to_string(),
            started_at: Some(Timestamp::from(at(started))),
            ..Default::default()
        })
    }

    #[test]
    fn sessions_are_over_when_they_end_or_another_begins() {
        let [one, two, three] = [(); 3].map(|()| SessionId::generate());
        let started = |id, second| {
            entry(
                second,
                status::Event::Started(status::Started {
                    session: session(id, second),
                }),
            )
        };
        let resumed = status::Event::Resumed(status::Resumed {
            session: session(one, 0),
        });
        let ended = status::Event::Ended(status::Ended {
            session: session(one, 0),
            ended_at: Some(Timestamp::from(at(60))),
            ..Default::default()
        });
        let log = [
            started(one, 0),
            entry(30, resumed),
            entry(61, ended),
            // Its end is missing: its server never came back.
            started(two, 100),
            started(three, 200),
        ];
        let over = |id, from, to, recorded| PastSession {
            id,
            started_at: at(from),
            ended_at: at(to),
            recorded,
        };
        let none = [over(one, 0, 60, false), over(two, 100, 200, false)];
        assert_eq!(past(&log, &[]), none);
        assert_eq!(past(&log[..2], &[]), []);
        // It was turned on too late for the first.
        let later = [recording(0, false), recording(90, true)];
        assert_eq!(past(&log, &later), [none[0], over(two, 100, 200, true)]);
        let off = [recording(0, true), recording(300, false)];
        assert_eq!(past(&log, &off), none);
    }
}
