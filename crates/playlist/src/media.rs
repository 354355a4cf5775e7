//! Media playlists (§4.4.3, §4.4.4): the segments of one rendition.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::write::{self, Attributes};

/// A media playlist as it is at one moment.
///
/// Segments are contiguous: the media sequence number of `segments[i]` is
/// `media_sequence + i`. What a rendition lacks stands there as a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    /// Target duration in seconds. It must stay the same for the life of the
    /// playlist, and be equal over all renditions (§6.2.1, §6.2.4).
    pub target_duration: u32,
    /// Media sequence number of the first segment.
    pub media_sequence: u64,
    /// What may still change; `None` for a live playlist with a sliding window.
    pub kind: Option<Kind>,
    /// Whether every segment can be decoded by itself.
    pub independent_segments: bool,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// Whether nothing is ever added.
    pub ended: bool,
}

/// EXT-X-PLAYLIST-TYPE (§4.4.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Segments are only added.
    Event,
    /// Nothing changes.
    Vod,
}

/// One media segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where the segment is.
    pub uri: String,
    /// Where its media initialization section is; `None` for a container
    /// without one. A section stays in force until another one is named.
    pub map: Option<Arc<str>>,
    /// How long it lasts.
    pub duration: Duration,
    /// Its discontinuity sequence number (§6.2.1). Tags are written where the
    /// number grows.
    pub discontinuity_sequence: u64,
    /// When its first sample was captured.
    pub program_date_time: Option<DateTime<Utc>>,
    /// Whether the media is absent.
    pub gap: bool,
}

impl Playlist {
    /// The text of the playlist.
    #[must_use]
    pub fn render(&self) -> String {
        // A segment takes about 200 bytes; its URIs make most of it.
        let mut out = String::with_capacity(256 + self.segments.len() * 256);
        out.push_str("#EXTM3U\n");
        // §8: a media initialization section needs 6, decimals in EXTINF need 3.
        let version = if self.segments.iter().any(|s| s.map.is_some()) {
            6
        } else {
            3
        };
        out.push_str(&format!("#EXT-X-VERSION:{version}\n"));
        if self.independent_segments {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        out.push_str(&format!("#EXT-X-TARGETDURATION:{}\n", self.target_duration));
        let mut discontinuity = self.segments.first().map_or(0, |s| s.discontinuity_sequence);
        out.push_str(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n", self.media_sequence));
        out.push_str(&format!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}\n"));
        match self.kind {
            Some(Kind::Event) => out.push_str("#EXT-X-PLAYLIST-TYPE:EVENT\n"),
            Some(Kind::Vod) => out.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n"),
            None => {}
        }
        let mut map = None;
        for segment in &self.segments {
            // One tag per step, so that the numbers which clients count agree
            // with the log's even when a whole time line left no segment.
            for _ in discontinuity..segment.discontinuity_sequence {
                out.push_str("#EXT-X-DISCONTINUITY\n");
            }
            discontinuity = discontinuity.max(segment.discontinuity_sequence);
            if segment.map.is_some() && segment.map != map {
                map.clone_from(&segment.map);
                if let Some(uri) = &map {
                    Attributes::of(&mut out, "#EXT-X-MAP").quoted("URI", uri).end();
                }
            }
            segment.render(&mut out);
        }
        if self.ended {
            out.push_str("#EXT-X-ENDLIST\n");
        }
        out
    }

    /// How long the playlist lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.segments.iter().map(|s| s.duration).sum()
    }
}

impl Segment {
    fn render(&self, out: &mut String) {
        if let Some(time) = self.program_date_time {
            out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
            out.push_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true));
            out.push('\n');
        }
        if self.gap {
            out.push_str("#EXT-X-GAP\n");
        }
        out.push_str(&format!("#EXTINF:{},\n", write::seconds(self.duration)));
        write::uri(out, &self.uri);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn segment(n: u64, discontinuity_sequence: u64) -> Segment {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Segment {
            uri: format!("/media/b/s/720p/{n}.m4s"),
            map: Some(format!("/media/b/s/720p/init-{discontinuity_sequence}.mp4").into()),
            duration: Duration::from_micros(2_000_000 + n),
            discontinuity_sequence,
            program_date_time: Some(start + Duration::from_millis(2000 * n)),
            gap: false,
        }
    }

    fn playlist(segments: Vec<Segment>) -> Playlist {
        Playlist {
            target_duration: 2,
            media_sequence: 7,
            kind: None,
            independent_segments: true,
            segments,
            ended: false,
        }
    }

    #[test]
    fn a_live_playlist() {
        let mut lost = segment(9, 1);
        lost.gap = true;
        let text = playlist(vec![segment(7, 1), segment(8, 1), lost, segment(10, 3), segment(11, 3)]).render();
        assert_eq!(check::media(&text), []);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_finished_recording_in_a_container_without_initialization() {
        let mut recording = playlist(vec![segment(7, 0), segment(8, 0)]);
        for segment in &mut recording.segments {
            segment.map = None;
            segment.program_date_time = None;
        }
        recording.kind = Some(Kind::Vod);
        recording.ended = true;
        assert_eq!(check::media(&recording.render()), []);
        insta::assert_snapshot!(recording.render());
    }

    #[test]
    fn a_uri_cannot_start_a_new_line() {
        let mut evil = segment(7, 0);
        evil.uri = "/a\n#EXT-X-ENDLIST".to_owned();
        evil.map = Some("/i\",X=\"\r\n#EXT-X-ENDLIST".into());
        let text = playlist(vec![evil]).render();
        assert!(!text.lines().any(|line| line == "#EXT-X-ENDLIST"), "{text}");
    }
}
