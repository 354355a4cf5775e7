//! Broadcasts of hours: what is told stays legal, and what is held stays the same.

use std::collections::VecDeque;

use castlog_log::{Entry, Kind};
use castlog_playlist::check::{self, Media, MediaSegment};

use super::{
    RENDITIONS, Scene, State, at, empty,
    parts::{Item, opening, worked},
    scene::PARTS,
};
use crate::follow;

/// Segments of three hours.
const LENGTH: u64 = 5400;
/// Segments after which the encoder has been away.
const LINE: u64 = 600;
/// Segments whose parts are still in the stream of parts.
const PARTS_KEPT: usize = 8;

/// What the log holds of what an edge that starts may read.
#[derive(Default)]
struct Kept {
    /// The newest of each kind that is read from its last entry.
    last: Vec<Entry>,
    entries: Vec<Entry>,
    parts: VecDeque<Vec<Item>>,
}

impl Kept {
    fn take(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Entry(entry) = item {
                if !matches!(entry.subject.kind, Kind::Segment | Kind::Title) {
                    self.last.retain(|other| other.subject != entry.subject);
                    self.last.push(entry.clone());
                }
                self.entries.push(entry.clone());
            }
        }
        let parts = items.iter().filter(|item| item.is_part()).cloned();
        self.parts.push_back(parts.collect());
        if self.parts.len() > PARTS_KEPT {
            self.parts.pop_front();
        }
    }

    /// An edge that starts, and how many entries it has read of the windows.
    fn started(&self, now: i64) -> (State, usize) {
        let mut state = empty();
        for entry in &self.last {
            state.apply(entry, at(now));
        }
        for item in self.parts.iter().flatten() {
            item.apply(&mut state, at(now));
        }
        let (since, marks_since) = (follow::since(&state, at(now)), follow::marks_since(&state, at(now)));
        let of_windows = |entry: &&Entry| {
            let since = match entry.subject.kind {
                Kind::Segment => since,
                Kind::Title | Kind::Status => marks_since,
                _ => return false,
            };
            since.is_none_or(|since| entry.time >= since)
        };
        let read: Vec<_> = self.entries.iter().filter(of_windows).collect();
        for entry in &read {
            state.apply(entry, at(now));
        }
        (state, read.len())
    }
}

/// What happens while segment `n` is made.
fn happens(scene: &mut Scene, n: u64) -> Vec<Item> {
    let second = 2 * i64::try_from(n).unwrap();
    let mut items = Vec::new();
    if n > 0 && n.is_multiple_of(LINE) {
        items.extend([scene.interrupted(second), scene.resumed(second)].map(Item::Entry));
    }
    if n % LINE == LINE / 2 {
        items.push(Item::Entry(scene.title(second, &format!("title {n}"))));
    }
    items.extend(worked(scene, n..n + 1, n / LINE));
    items
}

/// A version of a playlist, which has to be a legal one behind `before`.
fn legal(before: &str, text: &str) -> Media {
    let (media, found) = check::read_media(text);
    assert_eq!(found, [], "{text}");
    assert_eq!(check::reload(before, text), [], "{before}\n{text}");
    media
}

#[test]
fn three_hours_are_as_the_first_minute() {
    let mut scene = Scene::new();
    let (mut state, mut kept) = (empty(), Kept::default());
    let mut shown = RENDITIONS.map(|_| String::new());
    let (mut held, mut lines_skipped) = (Vec::new(), 0);
    let first = opening(&mut scene);
    first.iter().for_each(|item| {
        item.apply(&mut state, at(0));
    });
    kept.take(&first);
    for n in 0..LENGTH {
        let now = 2 * i64::try_from(n).unwrap() + 2;
        let items = happens(&mut scene, n);
        for item in &items {
            item.apply(&mut state, at(now));
        }
        kept.take(&items);
        state.expire(at(now));
        if n < 3 {
            shown = RENDITIONS.map(|rendition| scene.media(&state, rendition, at(now)));
            continue;
        }
        // All renditions while there is something new in the window, else one at a time.
        let all = n % LINE < 40;
        for (index, rendition) in (0..).zip(RENDITIONS) {
            if !all && n % 6 != 2 * index {
                continue;
            }
            let version = state.media(scene.broadcast, None, rendition, at(now)).unwrap();
            let text = version.render();
            let before = std::mem::replace(&mut shown[index as usize], text.clone());
            let media = legal(&before, &text);
            let window = (n + 1).min(30);
            assert_eq!(
                (media.media_sequence, media.segments.len() as u64),
                (Some(n + 1 - window), window)
            );
            assert_eq!(media.segments.last().unwrap().discontinuity_sequence, n / LINE);
            let reports = media.reports.iter().map(|report| (report.last_msn, report.last_part));
            assert_eq!(reports.collect::<Vec<_>>(), [(n, Some(7)); 2]);
            let Some(delta) = version.render_delta().filter(|_| all) else {
                continue;
            };
            legal(&text, &delta);
            let skipped = legal(&before, &delta).skipped.unwrap_or_default();
            assert_eq!(skipped, window - 6, "six target durations are told");
            let (of_skipped, _) = media.segments.split_at(skipped as usize);
            let line = |segment: &MediaSegment| segment.discontinuity_sequence;
            lines_skipped += u32::from(of_skipped.first().map(line) < of_skipped.last().map(line));
        }
        // At the same moment of each line, when the window and what reaches back further are full.
        if n % LINE == LINE / 2 - 1 {
            held.push(state.held());
        }
        if (n + 1) % 1800 == 0 {
            let (late, read) = kept.started(now);
            for rendition in RENDITIONS {
                let text = scene.media(&late, rendition, at(now));
                assert_eq!(text, scene.media(&state, rendition, at(now)), "{rendition}");
            }
            // Nine minutes of three renditions, and what happened in them.
            assert!((810..830).contains(&read), "{read} entries of {}", kept.entries.len());
        }
    }
    println!("every 20 minutes: segments, parts, bytes of parts, moments {held:?}");
    // Windows of a minute, and the parts of what is near the end.
    let parts = 3 * 3 * PARTS as usize;
    assert_eq!(held.len(), 9);
    for held in &held {
        assert_eq!(held[..3], [3 * 30, parts, parts * 12_500]);
    }
    // Moments are held for an hour and a half.
    assert!(held[5..].iter().all(|other| other == &held[5]), "{held:?}");
    assert!(
        lines_skipped > 100,
        "{lines_skipped} delta updates skip a discontinuity"
    );
}
