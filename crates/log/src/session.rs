//! The sessions of a broadcast that are over, from its status entries. Pure, but for
//! [`Log::past_sessions`], which reads them.

use chrono::{DateTime, Utc};

use crate::{BroadcastId, Entry, Event, Kind, Log, ReadError, SessionId, pb::status};

/// A session that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastSession {
    /// Its id.
    pub id: SessionId,
    /// When its encoder came.
    pub started_at: DateTime<Utc>,
    /// When it ended, or was found to have ended when the next one began.
    pub ended_at: DateTime<Utc>,
}

/// The sessions that are over by the status entries of a broadcast, the oldest first.
#[must_use]
pub fn past(entries: &[Entry]) -> Vec<PastSession> {
    let mut past = Vec::new();
    let mut current: Option<(SessionId, DateTime<Utc>)> = None;
    for entry in entries {
        let Event::Status(status) = &entry.event else { continue };
        let (session, ended) = match &status.event {
            Some(status::Event::Started(status::Started { session })) => (session, None),
            Some(status::Event::Interrupted(status::Interrupted { session, .. })) => (session, None),
            Some(status::Event::Resumed(status::Resumed { session })) => (session, None),
            Some(status::Event::Ended(status::Ended { session, ended_at, .. })) => {
                (session, Some(time(*ended_at).unwrap_or(entry.time)))
            }
            None => continue,
        };
        let Some(session) = session else { continue };
        let Ok(id) = session.session_id.parse() else { continue };
        let started_at = time(session.started_at).unwrap_or(entry.time);
        if let Some((before, since)) = current.take_if(|(before, _)| *before != id) {
            past.push(PastSession {
                id: before,
                started_at: since,
                ended_at: started_at,
            });
        }
        match ended {
            None => current = Some((id, started_at)),
            Some(ended_at) => {
                current = None;
                past.push(PastSession {
                    id,
                    started_at,
                    ended_at,
                });
            }
        }
    }
    past
}

fn time(time: Option<crate::pb::Timestamp>) -> Option<DateTime<Utc>> {
    let time = time?;
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

impl Log {
    /// The sessions of a broadcast that are over, the oldest first, as far as the log
    /// keeps them.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn past_sessions(&self, broadcast: BroadcastId) -> Result<Vec<PastSession>, ReadError> {
        Ok(past(&self.history(Kind::Status.of(broadcast)).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Position,
        pb::{Status, Timestamp},
    };

    fn entry(second: i64, event: status::Event) -> Entry {
        Entry {
            id: "e".into(),
            source: "castlog/rtmp".into(),
            time: at(second),
            subject: Kind::Status.of(BroadcastId::generate()),
            event: Status { event: Some(event) }.into(),
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
        let over = |id, from, to| PastSession {
            id,
            started_at: at(from),
            ended_at: at(to),
        };
        assert_eq!(past(&log), [over(one, 0, 60), over(two, 100, 200)]);
        assert_eq!(past(&log[..2]), []);
    }
}
