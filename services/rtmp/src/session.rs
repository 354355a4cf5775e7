//! The life of a broadcast's sessions: what an encoder's coming and going means.
//! Pure: events and the time come in, effects go out, to be carried out in order.

use std::time::Duration;

use castlog_log::{
    SessionId,
    pb::{self, status},
};
use chrono::{DateTime, Utc};

use crate::{Code, Refused};

/// Names a connection within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One live session, as status entries show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// The RTMP server that holds it.
    pub server: String,
    /// Where the pipeline reads it.
    pub ingest_url: String,
}

impl Session {
    fn snapshot(&self) -> Option<status::Session> {
        Some(status::Session {
            session_id: self.id.to_string(),
            started_at: Some(self.started_at.into()),
            server: self.server.clone(),
            ingest_url: self.ingest_url.clone(),
        })
    }

    /// Reads a session from a status entry; `None` when it is not one of this schema.
    #[must_use]
    pub fn read(session: &status::Session) -> Option<Self> {
        Some(Self {
            id: session.session_id.parse().ok()?,
            started_at: session.started_at?.try_into().ok()?,
            server: session.server.clone(),
            ingest_url: session.ingest_url.clone(),
        })
    }

    /// The status entry that ends the session.
    #[must_use]
    pub fn ended(&self, now: DateTime<Utc>, reason: impl Into<String>) -> pb::Status {
        let ended = status::Ended {
            session: self.snapshot(),
            ended_at: Some(now.into()),
            reason: reason.into(),
        };
        pb::Status {
            event: Some(status::Event::Ended(ended)),
        }
    }

    fn started(&self) -> pb::Status {
        pb::Status {
            event: Some(status::Event::Started(status::Started {
                session: self.snapshot(),
            })),
        }
    }

    fn resumed(&self) -> pb::Status {
        pb::Status {
            event: Some(status::Event::Resumed(status::Resumed {
                session: self.snapshot(),
            })),
        }
    }

    fn interrupted(&self, deadline: DateTime<Utc>, reason: String) -> pb::Status {
        let interrupted = status::Interrupted {
            session: self.snapshot(),
            reason,
            deadline: Some(deadline.into()),
        };
        pb::Status {
            event: Some(status::Event::Interrupted(interrupted)),
        }
    }
}

/// A session that the log shows as not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The session.
    pub session: Session,
    /// Until when it waits for its encoder, if it is interrupted.
    pub deadline: Option<DateTime<Utc>>,
}

impl Open {
    /// What the newest status entry of a broadcast says; `None` when no session is open.
    #[must_use]
    pub fn read(status: &pb::Status) -> Option<Self> {
        let (session, deadline) = match status.event.as_ref()? {
            status::Event::Started(e) => (e.session.as_ref(), None),
            status::Event::Resumed(e) => (e.session.as_ref(), None),
            status::Event::Interrupted(e) => {
                // An interruption without a readable deadline is over.
                let deadline = e.deadline.and_then(|t| t.try_into().ok());
                (e.session.as_ref(), Some(deadline.unwrap_or(DateTime::UNIX_EPOCH)))
            }
            status::Event::Ended(_) => return None,
        };
        Some(Self {
            session: Session::read(session?)?,
            deadline,
        })
    }
}

/// Where a broadcast stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// No session.
    #[default]
    Idle,
    /// An encoder publishes.
    Live {
        /// The session.
        session: Session,
        /// The encoder's connection.
        connection: ConnectionId,
    },
    /// The encoder is gone and may come back.
    Waiting {
        /// The session.
        session: Session,
        /// Until when.
        deadline: DateTime<Utc>,
    },
}

/// What happens to a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An encoder with a valid key asks to publish.
    Publish {
        /// Its connection.
        connection: ConnectionId,
        /// The session to start, should one start.
        fresh: Session,
        /// It may replace the current encoder.
        take_over: bool,
    },
    /// The encoder stopped in order.
    Stopped {
        /// Its connection.
        connection: ConnectionId,
    },
    /// The encoder's connection is gone without a word.
    Lost {
        /// Its connection.
        connection: ConnectionId,
        /// How.
        reason: String,
    },
    /// The right to publish is gone.
    Cut {
        /// Whose; none = that of whoever publishes, as the key or the broadcast is withdrawn.
        connection: Option<ConnectionId>,
        /// Why.
        refused: Refused,
    },
    /// A time that an effect asked for has come.
    Woken,
    /// The log shows an open session that is this server's to go on with: an earlier run
    /// of it held it, or another server at which it waits for its encoder.
    Recovered(Open),
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish a status entry and wait for its acknowledgement.
    Log(pb::Status),
    /// Offer the session's stream to pipelines.
    OpenStream(SessionId),
    /// End the session's stream.
    CloseStream(SessionId),
    /// Tell the encoder that it may publish.
    Grant {
        /// Its connection.
        connection: ConnectionId,
        /// The session that it feeds.
        session: SessionId,
    },
    /// Tell the encoder that it may not.
    Refuse {
        /// Its connection.
        connection: ConnectionId,
        /// Why.
        refused: Refused,
    },
    /// Cut an encoder that publishes.
    Disconnect {
        /// Its connection.
        connection: ConnectionId,
        /// Why.
        refused: Refused,
    },
    /// Send [`Event::Woken`] at this time.
    Wake(DateTime<Utc>),
}

const WINDOW_PASSED: &str = "the encoder did not come back in time";

impl State {
    /// The session, if there is one.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        match self {
            Self::Idle => None,
            Self::Live { session, .. } | Self::Waiting { session, .. } => Some(session),
        }
    }

    /// Takes an event in. `window` is how long the broadcast waits for its encoder.
    pub fn apply(&mut self, event: Event, now: DateTime<Utc>, window: Duration) -> Vec<Effect> {
        match event {
            Event::Publish {
                connection,
                fresh,
                take_over,
            } => self.publish(connection, fresh, take_over, now),
            Event::Stopped { connection } if self.is_held_by(connection) => self.end(now, "the encoder stopped"),
            Event::Lost { connection, reason } if self.is_held_by(connection) => match std::mem::take(self) {
                Self::Live { session, .. } => self.wait(session, now + window, reason),
                other => {
                    *self = other;
                    Vec::new()
                }
            },
            Event::Stopped { .. } | Event::Lost { .. } => Vec::new(),
            // Another encoder has taken over in the meantime.
            Event::Cut {
                connection: Some(connection),
                ..
            } if !self.is_held_by(connection) => Vec::new(),
            Event::Cut { refused, .. } => {
                let reason = refused.to_string();
                let mut effects = match self {
                    Self::Live { connection, .. } => vec![Effect::Disconnect {
                        connection: *connection,
                        refused,
                    }],
                    _ => Vec::new(),
                };
                effects.extend(self.end(now, &reason));
                effects
            }
            Event::Woken => match self {
                Self::Waiting { deadline, .. } if *deadline <= now => self.end(now, WINDOW_PASSED),
                // The clock was set back since, and this may have been the only wake-up.
                Self::Waiting { deadline, .. } => vec![Effect::Wake(*deadline)],
                _ => Vec::new(),
            },
            Event::Recovered(open) => self.recover(open, now, window),
        }
    }

    fn is_held_by(&self, by: ConnectionId) -> bool {
        matches!(self, Self::Live { connection, .. } if *connection == by)
    }

    fn publish(
        &mut self,
        connection: ConnectionId,
        fresh: Session,
        take_over: bool,
        now: DateTime<Utc>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let session = match std::mem::take(self) {
            Self::Live {
                session,
                connection: current,
            } if !take_over => {
                *self = Self::Live {
                    session,
                    connection: current,
                };
                let refused = Refused::new(Code::AlreadyLive, "the broadcast is live from another encoder");
                return vec![Effect::Refuse { connection, refused }];
            }
            Self::Live {
                session,
                connection: current,
            } => {
                let refused = Refused::new(Code::AlreadyLive, "another encoder took over");
                effects.push(Effect::Disconnect {
                    connection: current,
                    refused,
                });
                effects.push(Effect::Log(session.resumed()));
                session
            }
            Self::Waiting { session, deadline } if now <= deadline => {
                effects.push(Effect::Log(session.resumed()));
                session
            }
            waiting_too_long_or_idle => {
                *self = waiting_too_long_or_idle;
                effects.extend(self.end(now, WINDOW_PASSED));
                // The stream is there before the entry that names it.
                effects.push(Effect::OpenStream(fresh.id));
                effects.push(Effect::Log(fresh.started()));
                fresh
            }
        };
        effects.push(Effect::Grant {
            connection,
            session: session.id,
        });
        *self = Self::Live { session, connection };
        effects
    }

    fn recover(&mut self, open: Open, now: DateTime<Utc>, window: Duration) -> Vec<Effect> {
        if *self != Self::Idle {
            return Vec::new();
        }
        let Open { session, deadline } = open;
        let mut effects = vec![Effect::OpenStream(session.id)];
        match deadline {
            Some(deadline) if deadline <= now => {
                *self = Self::Waiting { session, deadline };
                effects.extend(self.end(now, WINDOW_PASSED));
            }
            Some(deadline) => {
                *self = Self::Waiting { session, deadline };
                effects.push(Effect::Wake(deadline));
            }
            None => effects.extend(self.wait(session, now + window, "the server was restarted".to_owned())),
        }
        effects
    }

    fn wait(&mut self, session: Session, deadline: DateTime<Utc>, reason: String) -> Vec<Effect> {
        let effects = vec![
            Effect::Log(session.interrupted(deadline, reason)),
            Effect::Wake(deadline),
        ];
        *self = Self::Waiting { session, deadline };
        effects
    }

    /// Ends the session, if there is one.
    fn end(&mut self, now: DateTime<Utc>, reason: &str) -> Vec<Effect> {
        match std::mem::take(self) {
            Self::Idle => Vec::new(),
            Self::Live { session, .. } | Self::Waiting { session, .. } => {
                vec![Effect::Log(session.ended(now, reason)), Effect::CloseStream(session.id)]
            }
        }
    }
}

#[cfg(test)]
mod tests;
