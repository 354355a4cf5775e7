//! Storyboards: what is to be seen along a time line, as WebVTT (W3C, 4.1). The text of
//! a cue is the rectangle of an image that shows its time (Media Fragments URI 1.0,
//! 4.2.2), which is how players take pictures for their seek bars. A cue's identifier is
//! the date of its start, for players whose time line begins elsewhere.

use std::{fmt::Write as _, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

/// The picture of a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Where it begins on the time line.
    pub start: Duration,
    /// Where it ends.
    pub end: Duration,
    /// When that was.
    pub date: DateTime<Utc>,
    /// The image that it is in.
    pub uri: String,
    /// Left edge, top edge, width and height in pixels of the image.
    pub place: [u32; 4],
}

/// The text of a storyboard.
#[must_use]
pub fn render(pictures: &[Picture]) -> String {
    let mut out = String::with_capacity(16 + pictures.len() * 192);
    out.push_str("WEBVTT\n");
    for picture in pictures {
        let [x, y, width, height] = picture.place;
        // A URI of ours holds no line break; what follows one would be read as a cue.
        let uri = picture.uri.replace(['\r', '\n'], "");
        // Writing to a string does not fail.
        let _ok = write!(
            out,
            "\n{}\n{} --> {}\n{uri}#xywh={x},{y},{width},{height}\n",
            picture.date.to_rfc3339_opts(SecondsFormat::Millis, true),
            time(picture.start),
            time(picture.end),
        );
    }
    out
}

fn time(at: Duration) -> String {
    let millis = (at.as_micros() + 500) / 1000;
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_along_a_time_line() {
        let picture = |n: u64, place| Picture {
            start: Duration::from_millis(n * 10_000),
            end: Duration::from_millis(n * 10_000 + 10_000),
            date: DateTime::from_timestamp(1_800_000_000, 0).unwrap() + Duration::from_secs(n * 10),
            uri: "/media/b/s/thumb/0-1800000000000-10000-5x160x90-2.jpg".to_owned(),
            place,
        };
        let mut evil = picture(400, [160, 90, 160, 90]);
        evil.uri.push_str("\n\n0:0 --> 0:1\nevil");
        let board = [picture(0, [0, 0, 160, 90]), picture(1, [160, 0, 160, 90]), evil];
        insta::assert_snapshot!(render(&board));
    }
}
