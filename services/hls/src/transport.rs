//! The same stream for players that know no container but MPEG transport streams: each
//! segment has picture and sound in one, made when it is asked for of what is stored.
//! Nothing is encoded or stored again, and there is no low latency.

use bytes::Bytes;
use castlog_cmaf::{Audio, Track, Video, read as cmaf};
use castlog_playlist::media;
use castlog_ts::{Media, segment};

use crate::{
    cache::Unread,
    error::Problem,
    http::{Edge, cached, read},
    key::{File, MediaKey},
    session::Session,
};

/// Which container an answer is about.
pub(crate) const CMAF: bool = false;
/// The other one.
pub(crate) const TRANSPORT: bool = true;

/// Largest object in bytes that is read for a segment although it is too large for the
/// memory: ten seconds of 50 Mbit/s.
const LARGEST: u64 = 64 << 20;

/// The rendition whose sound goes with every picture.
pub(crate) const SOUND: &str = "audio";

/// A media playlist as one of transport streams, with the sound of the session if there is any.
pub(crate) fn playlist(mut of: media::Playlist, rendition: &str, session: &Session) -> media::Playlist {
    let sound = (rendition != SOUND).then(|| session.track(SOUND)).flatten();
    of.low_latency = None;
    // What is shown does not change: a segment waits for its sound.
    if let Some(sound) = sound.filter(|_| !of.ended) {
        let there = sound.next().saturating_sub(of.media_sequence);
        of.segments.truncate(usize::try_from(there).unwrap_or(usize::MAX));
    }
    for (sequence, shown) in (of.media_sequence..).zip(&mut of.segments) {
        let line = shown.map.take();
        let line = line
            .as_deref()
            .and_then(|map| Some(map.rsplit_once("/init-")?.1.strip_suffix(".mp4")?.to_owned()));
        let stem = shown.uri.strip_suffix(".m4s");
        if let (Some(stem), Some(line)) = (stem, line) {
            let sound = if sound.is_some() { ".audio" } else { "" };
            shown.uri = format!("{stem}.{line}{sound}.ts");
        } else {
            shown.gap = true;
        }
        shown.gap |= sound.is_some_and(|sound| sound.get(sequence).is_none_or(|segment| segment.gap));
        shown.parts = Vec::new();
    }
    of
}

/// A segment of transport streams.
pub(crate) async fn bytes(
    edge: &Edge,
    key: &MediaKey,
    made_of: File,
    line: u64,
    sound: bool,
) -> Result<Bytes, Problem> {
    let stored = |rendition: &str, file: File| {
        let key = MediaKey {
            rendition: rendition.to_owned(),
            file,
            ..key.clone()
        };
        async move {
            match cached(edge, &key).await {
                Err(Unread::TooLarge { .. }) => read(edge, &key, LARGEST).await,
                outcome => outcome,
            }
        }
    };
    let load = || async {
        let own = (
            stored(&key.rendition, File::Init(line)).await?,
            stored(&key.rendition, made_of).await?,
        );
        let beside = match sound {
            true => Some((stored(SOUND, File::Init(line)).await?, stored(SOUND, made_of).await?)),
            false => None,
        };
        // Some milliseconds of work.
        let made = tokio::task::spawn_blocking(move || made(&own, beside.as_ref())).await;
        match made.map_err(|error| error.to_string()).flatten() {
            Ok(bytes) => Ok(bytes),
            Err(reason) => {
                tracing::warn!(key = %key, reason, "no transport stream can be made of a segment");
                Err(Unread::Problem(Problem::NoMedia))
            }
        }
    };
    Ok(edge.shared.cache().get(&key.to_string(), load).await?)
}

/// Of an initialization section and a segment of the rendition, and of its sound.
fn made(own: &(Bytes, Bytes), beside: Option<&(Bytes, Bytes)>) -> Result<Bytes, String> {
    let (mut video, mut audio): (Option<(Video, _)>, Option<(Audio, _)>) = (None, None);
    for (init, media) in [Some(own), beside].into_iter().flatten() {
        let chunks = cmaf::segment(media).map_err(|error| error.to_string())?;
        match cmaf::track(init).map_err(|error| error.to_string())? {
            Track::Video(track) => video = Some((track, chunks)),
            Track::Audio(track) => audio = Some((track, chunks)),
        }
    }
    let made = segment(
        video.as_ref().map(|(track, chunks)| Media { track, chunks }),
        audio.as_ref().map(|(track, chunks)| Media { track, chunks }),
    );
    made.map(Bytes::from).map_err(|error| error.to_string())
}
