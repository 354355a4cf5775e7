//! Storyboards: the pictures that the pipeline has put on sheets, along the time line of
//! what viewers see. A sheet's name says all of it, so a look at the store is enough; its
//! pictures have dates, and the playlist says where on the time line a date is.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use castlog_log::{BroadcastId, SessionId};
use castlog_playlist::{
    media,
    storyboard::{self, Picture},
};
use castlog_service::MediaStore;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use futures::TryStreamExt as _;
use moka::future::Cache;
use object_store::ObjectStore as _;
use serde::Deserialize;

use crate::{
    error::Problem,
    http::Edge,
    key::{File, MediaKey, THUMB},
    playlists::{answer, recorded},
    rooms::Shown,
    token::Ticket,
};

const TYPE: HeaderValue = HeaderValue::from_static("text/vtt; charset=utf-8");
/// Seconds that one of a live broadcast may be kept, here and by others: the pipeline
/// leaves a sheet that has grown where it is for twenty.
const LIVE_S: u64 = 5;
/// Storyboards in memory: one of an hour is about 70 KB.
const MAX_BOARDS: u64 = 500;
/// Sheets of a session: of twelve days.
const MAX_SHEETS: usize = 4096;
/// How long the store may take to tell of them.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far the dates of segments may be off their durations within one run.
const SLACK: TimeDelta = TimeDelta::milliseconds(500);
/// Where media is for who asks with a token, from the live one and from a recording's.
const BESIDE: [&str; 2] = ["../../media", "../../../media"];

/// What a sheet's name says: `<maker>-<start>-<interval>-<columns>x<width>x<height>-<tiles>.jpg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sheet {
    /// Discontinuity sequence number of the worker that made it.
    pub maker: u64,
    /// Date of the first picture in milliseconds since 1970.
    pub start: u64,
    /// Milliseconds between two pictures.
    pub interval: u32,
    /// Pictures in a row.
    pub columns: u32,
    /// Width of each in pixels.
    pub width: u32,
    /// Height of each in pixels.
    pub height: u32,
    /// How many there are.
    pub tiles: u32,
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            maker,
            start,
            interval,
            columns,
            width,
            height,
            tiles,
        } = self;
        write!(f, "{maker}-{start}-{interval}-{columns}x{width}x{height}-{tiles}.jpg")
    }
}

impl FromStr for Sheet {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut fields = name.strip_suffix(".jpg").ok_or(())?.split(['-', 'x']);
        let mut next = |most: u64| {
            let number: u64 = fields.next().and_then(|field| field.parse().ok()).ok_or(())?;
            if number <= most { Ok(number) } else { Err(()) }
        };
        let [maker, start] = [next(u64::MAX)?, next(1 << 50)?];
        let [interval, columns] = [next(3_600_000)?, next(100)?];
        let [width, height, tiles] = [next(4096)?, next(4096)?, next(10_000)?];
        let short = |number: u64| u32::try_from(number).ok().filter(|&number| number > 0).ok_or(());
        Ok(Self {
            maker,
            start,
            interval: short(interval)?,
            columns: short(columns)?,
            width: short(width)?,
            height: short(height)?,
            tiles: short(tiles)?,
        })
    }
}

impl Sheet {
    fn begins(&self) -> DateTime<Utc> {
        // Names hold no date beyond what a clock can show.
        let start = i64::try_from(self.start).ok();
        start.and_then(DateTime::from_timestamp_millis).unwrap_or_default()
    }
}

/// A stretch of a playlist in which time goes on as it does on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    date: DateTime<Utc>,
    from: Duration,
    length: Duration,
}

/// The stretches of a playlist.
pub(crate) fn runs(playlist: &media::Playlist) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut from = Duration::ZERO;
    for segment in &playlist.segments {
        // Whole milliseconds, as sheets are named by: else one begins a moment too early.
        if let Some(date) = segment.program_date_time.map(|date| date.trunc_subsecs(3)) {
            match runs.last_mut() {
                Some(run) if run.from + run.length == from && (run.date + run.length - date).abs() <= SLACK => {
                    run.length += segment.duration;
                }
                _ => runs.push(Run {
                    date,
                    from,
                    length: segment.duration,
                }),
            }
        }
        from += segment.duration;
    }
    runs
}

/// The pictures on `sheets`, as `(key, sheet)`, where `runs` say that they are.
fn pictures(sheets: &[(String, Sheet)], runs: &[Run], media_base: &str) -> Vec<Picture> {
    // A sheet that grows is there more than once for a while.
    let mut newest: BTreeMap<(u64, u64), &(String, Sheet)> = BTreeMap::new();
    for found in sheets {
        let held = newest.entry((found.1.start, found.1.maker)).or_insert(found);
        if held.1.tiles < found.1.tiles {
            *held = found;
        }
    }
    let mut sheets = newest.into_values().peekable();
    let mut pictures = Vec::new();
    while let Some((key, sheet)) = sheets.next() {
        // Where another worker took over, its pictures are those that play.
        let next = sheets
            .peek()
            .map_or(DateTime::<Utc>::MAX_UTC, |(_, sheet)| sheet.begins());
        let interval = TimeDelta::milliseconds(sheet.interval.into());
        for tile in 0..sheet.tiles {
            let begins = sheet.begins() + interval * i32::try_from(tile).unwrap_or(i32::MAX);
            let ends = (begins + interval).min(next);
            for run in runs {
                let date = begins.max(run.date);
                let end = ends.min(run.date + run.length);
                let (Ok(start), Ok(length)) = ((date - run.date).to_std(), (end - date).to_std()) else {
                    continue;
                };
                if length.is_zero() {
                    continue;
                }
                pictures.push(Picture {
                    start: run.from + start,
                    end: run.from + start + length,
                    date,
                    uri: format!("{media_base}/{key}"),
                    place: [
                        tile % sheet.columns * sheet.width,
                        tile / sheet.columns * sheet.height,
                        sheet.width,
                        sheet.height,
                    ],
                });
            }
        }
    }
    pictures.sort_by_key(|picture| picture.start);
    pictures
}

/// Of which session, whether it is its recording, and whether it is asked for with a token.
type Wanted = (BroadcastId, SessionId, bool, bool);

/// The storyboards that are asked for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Storyboards {
    store: MediaStore,
    media_base: Arc<str>,
    held: Cache<Wanted, Arc<Shown>>,
}

impl Storyboards {
    pub(crate) fn new(store: MediaStore, media_base: &str) -> Self {
        Self {
            store,
            media_base: media_base.into(),
            held: Cache::builder()
                .max_capacity(MAX_BOARDS)
                .time_to_live(Duration::from_secs(LIVE_S))
                .build(),
        }
    }

    /// One of a session that may be watched, along `runs`.
    async fn get(&self, wanted: Wanted, runs: impl FnOnce() -> Vec<Run>) -> Result<Arc<Shown>, Problem> {
        let (broadcast, session, recorded, with_token) = wanted;
        let load = async {
            let sheets = match tokio::time::timeout(PATIENCE, self.sheets(broadcast, session)).await {
                Ok(Ok(sheets)) => sheets,
                Ok(Err(error)) => {
                    tracing::warn!(broadcast_id = %broadcast, session_id = %session, error = %error, "cannot list a storyboard");
                    return Err(Problem::Store);
                }
                Err(_) => return Err(Problem::Store),
            };
            let media_base = match with_token {
                true => BESIDE[usize::from(recorded)],
                false => &self.media_base,
            };
            let text = storyboard::render(&pictures(&sheets, &runs(), media_base));
            Ok(Arc::new(Shown::new(text, LIVE_S, 0)))
        };
        self.held
            .try_get_with(wanted, load)
            .await
            .map_err(|problem: Arc<Problem>| *problem)
    }

    async fn sheets(&self, broadcast: BroadcastId, session: SessionId) -> object_store::Result<Vec<(String, Sheet)>> {
        let folder = format!("{broadcast}/{session}/{THUMB}").into();
        let mut found = self.store.list(Some(&folder));
        let mut sheets = Vec::new();
        while let Some(object) = found.try_next().await? {
            let key = object.location.to_string();
            if let Ok(MediaKey {
                file: File::Sheet(sheet),
                ..
            }) = key.parse()
            {
                sheets.push((key, sheet));
            }
            if sheets.len() == MAX_SHEETS {
                tracing::warn!(broadcast_id = %broadcast, session_id = %session, sheets = MAX_SHEETS, "storyboard is cut off");
                break;
            }
        }
        Ok(sheets)
    }
}

/// Query of a live storyboard.
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    /// The session to show; the current one when it is not given.
    session: Option<String>,
}

pub(crate) async fn live(
    State(edge): State<Arc<Edge>>,
    Path(broadcast): Path<String>,
    Query(query): Query<Session>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    edge.ready()?;
    let broadcast: BroadcastId = broadcast.parse().map_err(|_| Problem::NotLive)?;
    let session = query.session.map(|session| session.parse()).transpose();
    let session: Option<SessionId> = session.map_err(|_| Problem::NotLive)?;
    let (asked, now) = (edge.asked(broadcast, &ticket), Utc::now());
    let (session, runs) = edge.shared.read().time_line(asked, session, now)?;
    let wanted = (broadcast, session, false, asked.with_token());
    let shown = edge.storyboards.get(wanted, || runs).await?;
    Ok(answer(&shown, TYPE, asked.lifetime_s(LIVE_S, now), &headers))
}

pub(crate) async fn of_recording(
    State(edge): State<Arc<Edge>>,
    Path((broadcast, session)): Path<(String, String)>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (recording, lifetime_s) = recorded(&edge, (&broadcast, &session), &ticket).await?;
    let (Ok(broadcast), Ok(session)) = (broadcast.parse(), session.parse()) else {
        return Err(Problem::NoRecording);
    };
    let wanted = (broadcast, session, true, edge.asked(broadcast, &ticket).with_token());
    let shown = edge.storyboards.get(wanted, || recording.runs().to_vec()).await?;
    Ok(answer(&shown, TYPE, lifetime_s, &headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn sheet(start: i64, maker: u64, tiles: u32) -> (String, Sheet) {
        let sheet = Sheet {
            maker,
            start: u64::try_from(at(start).timestamp_millis()).unwrap(),
            interval: 10_000,
            columns: 2,
            width: 160,
            height: 90,
            tiles,
        };
        (sheet.to_string(), sheet)
    }

    /// Segments of two seconds, each behind the one before but where time jumps.
    fn playlist(dates: impl IntoIterator<Item = i64>) -> media::Playlist {
        let segment = |date| media::Segment {
            uri: String::new(),
            map: None,
            duration: Duration::from_secs(2),
            discontinuity_sequence: 0,
            program_date_time: Some(at(date)),
            gap: false,
            parts: Vec::new(),
        };
        media::Playlist {
            target_duration: 2,
            media_sequence: 0,
            kind: None,
            independent_segments: true,
            segments: dates.into_iter().map(segment).collect(),
            date_ranges: Vec::new(),
            ended: true,
            low_latency: None,
        }
    }

    /// "from-to place" of each, in seconds.
    fn told(sheets: &[(String, Sheet)], runs: &[Run]) -> Vec<String> {
        let told = |p: Picture| format!("{:?}-{:?} {},{}", p.start, p.end, p.place[0], p.place[1]);
        pictures(sheets, runs, "/media").into_iter().map(told).collect()
    }

    #[test]
    fn pictures_lie_where_their_dates_are_shown() {
        // A window that begins within the second picture.
        let window = runs(&playlist((7..20).map(|n| n * 2)));
        assert_eq!(window.len(), 1);
        assert_eq!(
            told(&[sheet(0, 0, 3)], &window),
            ["0ns-6s 160,0", "6s-16s 0,90"],
            "the first is over"
        );
        // The encoder was away from second 12 to 40, which the time line does not show.
        let broken = runs(&playlist((0..6).map(|n| n * 2).chain((20..25).map(|n| n * 2))));
        assert_eq!(broken.len(), 2);
        assert_eq!(
            told(&[sheet(0, 0, 2), sheet(41, 1, 1)], &broken),
            ["0ns-10s 0,0", "10s-12s 160,0", "13s-22s 0,0"]
        );
    }

    #[test]
    fn the_newest_of_a_sheet_counts_and_another_worker_takes_over() {
        let line = runs(&playlist((0..20).map(|n| n * 2)));
        let sheets = [sheet(0, 0, 1), sheet(0, 0, 2), sheet(15, 1, 2)];
        assert_eq!(
            told(&sheets, &line),
            ["0ns-10s 0,0", "10s-15s 160,0", "15s-25s 0,0", "25s-35s 160,0"]
        );
    }
}
