//! Media playlists (§4.4.3, §4.4.4): the segments of one rendition.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    date_range::DateRange,
    low_latency::{LowLatency, Part, SKIP_UNTIL},
    write::{self, Attributes},
};

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
    /// What happens while it plays, in the order of their starts. There must be none
    /// where no segment has a date.
    pub date_ranges: Vec<DateRange>,
    /// Whether nothing is ever added.
    pub ended: bool,
    /// What it tells of media in the making; `None` for one of whole segments.
    pub low_latency: Option<LowLatency>,
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
    /// Its parts, of which the playlist tells near its end only.
    pub parts: Vec<Part>,
}

/// The state of the tags that apply to all that follows.
struct Writer {
    out: String,
    discontinuity: u64,
    map: Option<Arc<str>>,
}

impl Writer {
    /// What has to stand before a segment or its first part.
    fn begin(&mut self, discontinuity: u64, map: Option<&Arc<str>>, time: Option<DateTime<Utc>>) {
        // One tag per step, so that the numbers which clients count agree
        // with the log's even when a whole time line left no segment.
        for _ in self.discontinuity..discontinuity {
            self.out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        self.discontinuity = self.discontinuity.max(discontinuity);
        if let Some(uri) = map
            && self.map.as_ref() != Some(uri)
        {
            self.map = Some(Arc::clone(uri));
            Attributes::of(&mut self.out, "#EXT-X-MAP").quoted("URI", uri).end();
        }
        if let Some(time) = time {
            self.out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
            self.out.push_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true));
            self.out.push('\n');
        }
    }
}

impl Playlist {
    /// The text of the playlist.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_after(0)
    }

    /// The text of a delta update (§6.2.5.1), for a client that holds a recent
    /// version: without the segments that are older than the skip boundary.
    /// `None` when there are none, or nothing will be added any more.
    #[must_use]
    pub fn render_delta(&self) -> Option<String> {
        self.low_latency.as_ref().filter(|_| !self.ended)?;
        let boundary = Duration::from_secs(u64::from(SKIP_UNTIL) * u64::from(self.target_duration));
        let mut told = Duration::ZERO;
        let kept = self.segments.iter().rev().take_while(|segment| {
            told += segment.duration;
            // The one that the boundary lies in is told.
            told - segment.duration < boundary
        });
        let skipped = self.segments.len() - kept.count();
        (skipped > 0).then(|| self.render_after(skipped))
    }

    /// The text, with a tag in the place of the first segments.
    fn render_after(&self, skipped: usize) -> String {
        // A segment takes about 200 bytes; its URIs make most of it.
        let mut out = String::with_capacity(512 + (self.segments.len() - skipped) * 256);
        out.push_str("#EXTM3U\n");
        // §8: skipped segments need 9, a media initialization section needs 6,
        // decimals in EXTINF need 3.
        let version = match self.segments.iter().any(|s| s.map.is_some()) {
            _ if skipped > 0 => 9,
            true => 6,
            false => 3,
        };
        out.push_str(&format!("#EXT-X-VERSION:{version}\n"));
        if self.independent_segments {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        out.push_str(&format!("#EXT-X-TARGETDURATION:{}\n", self.target_duration));
        if let Some(low_latency) = &self.low_latency {
            low_latency.render_head(self.target_duration, &mut out);
        }
        let first = self.segments.first().map(|s| s.discontinuity_sequence);
        let open = self.low_latency.as_ref().and_then(|l| l.open.as_ref());
        let open = open.filter(|_| !self.ended);
        let discontinuity = first.or(open.map(|o| o.discontinuity_sequence)).unwrap_or(0);
        out.push_str(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n", self.media_sequence));
        out.push_str(&format!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}\n"));
        match self.kind {
            Some(Kind::Event) => out.push_str("#EXT-X-PLAYLIST-TYPE:EVENT\n"),
            Some(Kind::Vod) => out.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n"),
            None => {}
        }
        // A delta update tells all of them, so that none has to be said to be gone.
        self.date_ranges.iter().for_each(|range| range.render(&mut out));
        let (left_out, told) = self.segments.split_at(skipped);
        let mut writer = Writer {
            out,
            discontinuity: left_out.last().map_or(discontinuity, |s| s.discontinuity_sequence),
            map: None,
        };
        if skipped > 0 {
            Attributes::of(&mut writer.out, "#EXT-X-SKIP")
                .plain("SKIPPED-SEGMENTS", skipped)
                .end();
        }
        for segment in told {
            segment.render(&mut writer);
        }
        if let Some(open) = open {
            writer.begin(open.discontinuity_sequence, open.map.as_ref(), open.program_date_time);
            open.parts.iter().for_each(|part| part.render(&mut writer.out));
        }
        let mut out = writer.out;
        if self.ended {
            out.push_str("#EXT-X-ENDLIST\n");
        } else if let Some(low_latency) = &self.low_latency {
            low_latency.render_tail(&mut out);
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
    fn render(&self, writer: &mut Writer) {
        writer.begin(self.discontinuity_sequence, self.map.as_ref(), self.program_date_time);
        let out = &mut writer.out;
        self.parts.iter().for_each(|part| part.render(out));
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
    use crate::{
        check,
        date_range::End,
        low_latency::{Open, Report},
    };

    fn segment(n: u64, discontinuity_sequence: u64) -> Segment {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Segment {
            uri: format!("/media/b/s/720p/{n}.m4s"),
            map: Some(format!("/media/b/s/720p/init-{discontinuity_sequence}.mp4").into()),
            duration: Duration::from_micros(2_000_000 + n),
            discontinuity_sequence,
            program_date_time: Some(start + Duration::from_millis(2000 * n)),
            gap: false,
            parts: Vec::new(),
        }
    }

    fn playlist(segments: Vec<Segment>) -> Playlist {
        Playlist {
            target_duration: 2,
            media_sequence: 7,
            kind: None,
            independent_segments: true,
            segments,
            date_ranges: Vec::new(),
            ended: false,
            low_latency: None,
        }
    }

    fn part(n: u64, index: u64, micros: u64) -> Part {
        Part {
            uri: format!("/media/b/s/720p/{n}-1-{index}.m4s"),
            duration: Duration::from_micros(micros),
            independent: index == 0,
            gap: false,
        }
    }

    /// Segments 7 to 16 of two seconds, and two parts of the next.
    fn live() -> Playlist {
        let mut live = playlist((7..17).map(|n| segment(n, 1)).collect());
        for segment in &mut live.segments {
            segment.duration = Duration::from_secs(2);
        }
        for (n, segment) in (7..).zip(&mut live.segments).skip(7) {
            segment.parts = (0..4).map(|i| part(n, i, 500_000)).collect();
        }
        let second = |n: i64| DateTime::from_timestamp(1_800_000_000 + n, 0).unwrap();
        live.date_ranges = vec![
            DateRange {
                id: "title-5".to_owned(),
                class: "io.github.castlog.title".to_owned(),
                start: second(16),
                end: End::OnNext,
                more: Some(("X-IO-GITHUB-CASTLOG-TITLE", "One, two\"\n".to_owned())),
            },
            DateRange {
                id: "interruption-9".to_owned(),
                class: "io.github.castlog.interruption".to_owned(),
                start: second(20),
                end: End::At(second(23)),
                more: None,
            },
        ];
        live.low_latency = Some(LowLatency {
            part_target: Duration::from_millis(500),
            part_hold_back: Duration::from_millis(1500),
            open: Some(Open {
                map: Some("/media/b/s/720p/init-2.mp4".into()),
                discontinuity_sequence: 2,
                program_date_time: DateTime::from_timestamp(1_800_000_034, 0),
                parts: (0..2).map(|i| part(17, i, 500_000)).collect(),
            }),
            hint: Some("/media/b/s/720p/17-2-2.m4s".to_owned()),
            reports: vec![Report {
                uri: "../audio/index.m3u8".to_owned(),
                last_msn: 17,
                last_part: Some(1),
            }],
        });
        live
    }

    #[test]
    fn a_playlist_of_low_latency_and_its_delta() {
        let live = live();
        assert_eq!(check::media(&live.render()), []);
        insta::assert_snapshot!(live.render());
        let delta = live.render_delta().unwrap();
        assert_eq!(check::media(&delta), []);
        assert_eq!(check::reload(&live.render(), &delta), []);
        insta::assert_snapshot!("a_delta_update", delta);
    }

    #[test]
    fn what_is_short_or_over_has_no_delta() {
        let mut over = live();
        over.ended = true;
        assert_eq!(over.render_delta(), None);
        assert_eq!(check::media(&over.render()), []);
        let mut short = live();
        short.segments.drain(..4);
        short.media_sequence += 4;
        assert_eq!(short.render_delta(), None);
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
