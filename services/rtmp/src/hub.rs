//! One session's stream: from its encoder to any number of readers, as FLV.
//!
//! A reader gets the header, the newest metadata and decoder configurations, then
//! everything from the newest keyframe. What a reader has not taken waits in a
//! bounded ring; a reader that falls behind is dropped, never the encoder slowed.
//!
//! Tags are passed on as they came and shared, not copied; each reader makes FLV of
//! them when it takes them, so that a stream which nobody reads costs next to nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use castlog_flv::{Header, Tag};
use castlog_log::SessionId;
use tokio::sync::mpsc;

use crate::{gop::Gop, media::Role, session::ConnectionId};

/// Tags that wait for one reader: about 20 s.
const RING_TAGS: usize = 2048;
/// Bytes that wait for one reader.
const RING_BYTES: usize = 16 * 1024 * 1024;
/// Readers of one session: a pipeline, its successor and a person who looks.
const MAX_READERS: usize = 16;

/// One session's stream.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whose tags count.
    encoder: Option<ConnectionId>,
    metadata: Option<Tag>,
    video_header: Option<Tag>,
    audio_header: Option<Tag>,
    gop: Gop,
    readers: Vec<Reader>,
    /// Since they were last taken.
    dropped_readers: u64,
    closed: bool,
}

#[derive(Debug)]
struct Reader {
    tags: mpsc::Sender<Tag>,
    queued_bytes: Arc<AtomicUsize>,
    /// Video frames before the next keyframe are of no use to it.
    awaits_keyframe: bool,
}

/// A reader's end.
#[derive(Debug)]
pub(crate) struct Subscription {
    prelude: Option<Bytes>,
    gop: std::vec::IntoIter<Tag>,
    tags: mpsc::Receiver<Tag>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Subscription {
    /// The next piece of the FLV stream; `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(prelude) = self.prelude.take() {
            return Some(prelude);
        }
        if let Some(tag) = self.gop.next() {
            return Some(written(&tag));
        }
        let tag = self.tags.recv().await?;
        self.queued_bytes.fetch_sub(tag.data.len(), Ordering::Relaxed);
        Some(written(&tag))
    }
}

/// Why there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The session has ended.
    Ended,
    /// There are too many readers.
    Full,
}

impl Hub {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `connection` the encoder whose tags count. Its stream starts anew.
    pub(crate) fn attach(&self, connection: ConnectionId) {
        let mut inner = self.inner();
        inner.encoder = Some(connection);
        (inner.metadata, inner.video_header, inner.audio_header) = (None, None, None);
        inner.gop.clear();
        for reader in &mut inner.readers {
            reader.awaits_keyframe = true;
        }
    }

    /// Passes a tag on, if it comes from the encoder whose tags count.
    pub(crate) fn push(&self, connection: ConnectionId, tag: Tag, role: Role) {
        let mut inner = self.inner();
        if inner.encoder == Some(connection) && !inner.closed && role != Role::Nothing {
            inner.push(tag, role);
        }
    }

    /// Ends the stream of every reader, once it has what waits for it.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        inner.readers.clear();
        inner.gop.clear();
    }

    /// How many readers were dropped for being slow since this was last asked.
    pub(crate) fn take_dropped_readers(&self) -> u64 {
        std::mem::take(&mut self.inner().dropped_readers)
    }

    /// A new reader.
    pub(crate) fn subscribe(&self) -> Result<Subscription, Unreadable> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(Unreadable::Ended);
        }
        inner.readers.retain(|reader| !reader.tags.is_closed());
        if inner.readers.len() >= MAX_READERS {
            return Err(Unreadable::Full);
        }
        let (sender, receiver) = mpsc::channel(RING_TAGS);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let prelude = Some(inner.prelude());
        let gop = inner.gop.tags().to_vec();
        let awaits_keyframe = gop.is_empty();
        inner.readers.push(Reader {
            tags: sender,
            queued_bytes: queued_bytes.clone(),
            awaits_keyframe,
        });
        Ok(Subscription {
            prelude,
            gop: gop.into_iter(),
            tags: receiver,
            queued_bytes,
        })
    }
}

fn written(tag: &Tag) -> Bytes {
    let mut out = BytesMut::with_capacity(tag.written());
    tag.write(&mut out);
    out.freeze()
}

impl Inner {
    fn push(&mut self, tag: Tag, role: Role) {
        let mut dropped = 0;
        self.readers.retain_mut(|reader| match reader.offer(&tag, role) {
            Offered::Taken => true,
            Offered::Gone => false,
            Offered::Behind => {
                dropped += 1;
                false
            }
        });
        if dropped > 0 {
            self.dropped_readers += dropped;
            tracing::warn!(dropped, "slow readers of a stream dropped");
        }
        match role {
            Role::Metadata => self.metadata = Some(tag),
            Role::AudioHeader => self.audio_header = Some(tag),
            Role::VideoHeader => {
                self.video_header = Some(tag);
                // Frames of the old configuration are of no use under the new one.
                self.gop.clear();
            }
            Role::Keyframe => self.gop.begin(tag),
            Role::Video | Role::Audio => self.gop.add(tag),
            Role::Nothing => {}
        }
    }

    /// What a new reader needs before the newest keyframe.
    fn prelude(&self) -> Bytes {
        let mut out = BytesMut::new();
        // Which tracks will come is not known; readers go by the tags.
        Header {
            audio: true,
            video: true,
        }
        .write(&mut out);
        // Headers of long ago would make the time line jump.
        let start = self.gop.tags().first().map(|keyframe| keyframe.timestamp);
        for tag in [&self.metadata, &self.video_header, &self.audio_header]
            .into_iter()
            .flatten()
        {
            Tag {
                timestamp: start.unwrap_or(tag.timestamp),
                ..tag.clone()
            }
            .write(&mut out);
        }
        out.freeze()
    }
}

enum Offered {
    Taken,
    Gone,
    Behind,
}

impl Reader {
    fn offer(&mut self, tag: &Tag, role: Role) -> Offered {
        match role {
            Role::Keyframe => self.awaits_keyframe = false,
            Role::Video if self.awaits_keyframe => return Offered::Taken,
            _ => {}
        }
        let size = tag.data.len();
        let queued = self.queued_bytes.fetch_add(size, Ordering::Relaxed);
        if queued + size > RING_BYTES {
            return Offered::Behind;
        }
        match self.tags.try_send(tag.clone()) {
            Ok(()) => Offered::Taken,
            Err(mpsc::error::TrySendError::Closed(_)) => Offered::Gone,
            Err(mpsc::error::TrySendError::Full(_)) => Offered::Behind,
        }
    }
}

/// Ended sessions that are remembered, to tell readers "gone" and not "never was".
const REMEMBERED_SESSIONS: usize = 1024;

/// The streams of all sessions of this server.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    open: HashMap<SessionId, Arc<Hub>>,
    ended: VecDeque<SessionId>,
}

impl Streams {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Nothing panics half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session's stream, made if it is not there.
    pub(crate) fn open(&self, session: SessionId) -> Arc<Hub> {
        self.sessions().open.entry(session).or_default().clone()
    }

    /// Ends a session's stream for good.
    pub(crate) fn close(&self, session: SessionId) {
        let mut sessions = self.sessions();
        if let Some(hub) = sessions.open.remove(&session) {
            hub.close();
        }
        if sessions.ended.len() >= REMEMBERED_SESSIONS {
            sessions.ended.pop_front();
        }
        sessions.ended.push_back(session);
    }

    /// Lets the readers of a session go that is not this server's any more. It is not
    /// over: it goes on elsewhere, and may come back.
    pub(crate) fn leave(&self, session: SessionId) {
        if let Some(hub) = self.sessions().open.remove(&session) {
            hub.close();
        }
    }

    /// Lets all readers go; the sessions may go on in another run of the server.
    pub(crate) fn close_all(&self) {
        for (_, hub) in self.sessions().open.drain() {
            hub.close();
        }
    }

    /// A reader for a session's stream; `None` when the session was never here.
    pub(crate) fn subscribe(&self, session: SessionId) -> Option<Result<Subscription, Unreadable>> {
        let sessions = self.sessions();
        match sessions.open.get(&session) {
            Some(hub) => Some(hub.subscribe()),
            None if sessions.ended.contains(&session) => Some(Err(Unreadable::Ended)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use castlog_flv::{Item, Reader as FlvReader, TagKind};

    use super::*;

    const A: ConnectionId = ConnectionId(1);

    fn tag(kind: TagKind, timestamp: u32, data: &[u8]) -> Tag {
        Tag {
            kind,
            timestamp,
            data: Bytes::copy_from_slice(data),
        }
    }

    fn push(hub: &Hub, timestamp: u32, role: Role) {
        let (kind, data): (_, &[u8]) = match role {
            Role::Metadata => (TagKind::Script, &[2, 0, 1, b'm']),
            Role::VideoHeader => (TagKind::Video, &[0x17, 0, 0, 0, 0]),
            Role::AudioHeader => (TagKind::Audio, &[0xaf, 0]),
            Role::Keyframe => (TagKind::Video, &[0x17, 1, 0, 0, 0]),
            Role::Video => (TagKind::Video, &[0x27, 1, 0, 0, 0]),
            Role::Audio | Role::Nothing => (TagKind::Audio, &[0xaf, 1]),
        };
        hub.push(A, tag(kind, timestamp, data), role);
    }

    /// What waits for the reader, as role letter and time.
    async fn taken(subscription: &mut Subscription) -> Vec<(char, u32)> {
        let mut flv = FlvReader::new();
        let mut tags = Vec::new();
        let mut headed = false;
        while subscription.prelude.is_some() || !subscription.gop.as_slice().is_empty() || !subscription.tags.is_empty()
        {
            let bytes = subscription.next().await.unwrap();
            if !headed && !bytes.starts_with(b"FLV") {
                let mut header = BytesMut::new();
                Header {
                    audio: true,
                    video: true,
                }
                .write(&mut header);
                flv.push(&header);
            }
            headed = true;
            flv.push(&bytes);
            while let Some(item) = flv.next().unwrap() {
                let Item::Tag(tag) = item else { continue };
                let letter = match (tag.kind, &tag.data[..2]) {
                    (TagKind::Script, _) => 'm',
                    (TagKind::Video, [0x17, 0]) => 'V',
                    (TagKind::Video, [0x17, 1]) => 'k',
                    (TagKind::Video, _) => 'v',
                    (TagKind::Audio, [_, 0]) => 'A',
                    (TagKind::Audio, _) => 'a',
                };
                tags.push((letter, tag.timestamp));
            }
        }
        tags
    }

    fn headed() -> Hub {
        let hub = Hub::default();
        hub.attach(A);
        push(&hub, 0, Role::Metadata);
        push(&hub, 0, Role::VideoHeader);
        push(&hub, 0, Role::AudioHeader);
        hub
    }

    #[tokio::test]
    async fn a_reader_starts_at_the_newest_keyframe() {
        let hub = headed();
        for (timestamp, role) in [
            (10, Role::Keyframe),
            (20, Role::Video),
            (100, Role::Keyframe),
            (101, Role::Audio),
        ] {
            push(&hub, timestamp, role);
        }
        let mut reader = hub.subscribe().unwrap();
        push(&hub, 120, Role::Video);
        let expected = [('m', 100), ('V', 100), ('A', 100), ('k', 100), ('a', 101), ('v', 120)];
        assert_eq!(taken(&mut reader).await, expected);
    }

    #[tokio::test]
    async fn an_early_reader_waits_for_a_keyframe() {
        let hub = Hub::default();
        let mut reader = hub.subscribe().unwrap();
        hub.attach(A);
        push(&hub, 0, Role::VideoHeader);
        push(&hub, 5, Role::Video);
        push(&hub, 6, Role::Audio);
        push(&hub, 7, Role::Keyframe);
        push(&hub, 8, Role::Video);
        assert_eq!(taken(&mut reader).await, [('V', 0), ('a', 6), ('k', 7), ('v', 8)]);
    }

    #[tokio::test]
    async fn a_new_encoder_starts_anew_and_the_old_one_is_ignored() {
        let hub = headed();
        push(&hub, 10, Role::Keyframe);
        let mut reader = hub.subscribe().unwrap();
        hub.attach(ConnectionId(2));
        push(&hub, 11, Role::Keyframe);
        let expected = [('m', 10), ('V', 10), ('A', 10), ('k', 10)];
        assert_eq!(taken(&mut reader).await, expected);
        let second = tag(TagKind::Video, 0, &[0x17, 0, 0, 0, 0]);
        hub.push(ConnectionId(2), second, Role::VideoHeader);
        assert_eq!(taken(&mut reader).await, [('V', 0)]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_dropped_and_the_others_are_not() {
        let hub = headed();
        let mut slow = hub.subscribe().unwrap();
        let mut quick = hub.subscribe().unwrap();
        taken(&mut quick).await;
        for timestamp in 0..RING_TAGS as u32 + 1 {
            push(&hub, timestamp, Role::Audio);
            quick.next().await.unwrap();
        }
        assert_eq!(hub.take_dropped_readers(), 1);
        push(&hub, 9000, Role::Audio);
        assert_eq!(hub.take_dropped_readers(), 0, "it is told once");
        let mut waiting = 0;
        while slow.next().await.is_some() {
            waiting += 1;
        }
        assert_eq!(waiting, RING_TAGS + 1, "it gets what waited, then the end");
    }

    #[tokio::test]
    async fn the_end_is_told() {
        let hub = headed();
        let mut reader = hub.subscribe().unwrap();
        hub.close();
        assert!(reader.next().await.is_some());
        assert_eq!(reader.next().await, None);
        assert_eq!(hub.subscribe().err(), Some(Unreadable::Ended));
    }
}
