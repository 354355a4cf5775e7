//! The storyboard: small pictures of the stream in rows on a sheet, which grows by a
//! picture each ten seconds until it is full. They come from the thumbnails' branch,
//! which has scaled them already; a sheet is encoded as a whole, for the pictures of a
//! JPEG cannot be exchanged one by one.

use std::sync::Mutex;

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSinkCallbacks, AppSrc};
use gstreamer_video::{VideoFormat, VideoFrameExt as _, VideoFrameRef, VideoInfo};

use super::{
    Encoded, Error, Outlet, element, lock,
    samples::{access_unit, running_time, sink},
    to_clock,
};
use crate::media::{Micros, SECOND};

/// Pictures side by side, and one below the other: a sheet of four minutes is about
/// 80 KB, which is stored again for each picture.
const SIDE: usize = 5;
/// Size of a picture; what is not as wide has borders. Even, and its half too in width.
pub(super) const TILE: (u32, u32) = (160, 90);
/// From one picture to the next.
const INTERVAL: Micros = 10 * SECOND;
/// Of the brightness of black, and of no colour.
const BLACK: [u8; 3] = [16, 128, 128];

/// Pictures of one epoch, as JPEG. They go from left to right, then down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Time of the first picture.
    pub start: Micros,
    /// Between two pictures.
    pub interval: Micros,
    /// Pictures in a row.
    pub columns: u32,
    /// Width and height of each in pixels.
    pub tile: (u32, u32),
    /// How many there are.
    pub tiles: u32,
    /// The JPEG file.
    pub jpeg: Bytes,
}

/// Planes and their strides.
type Planes<'a> = [(&'a [u8], usize); 3];

/// The sheet in the making, as I420.
#[derive(Debug, Default)]
struct Board {
    start: Micros,
    tiles: usize,
    planes: [Vec<u8>; 3],
}

/// Width and height of a plane of a picture.
fn plane(index: usize) -> (usize, usize) {
    let (width, height) = (TILE.0 as usize, TILE.1 as usize);
    if index == 0 {
        (width, height)
    } else {
        (width / 2, height / 2)
    }
}

impl Board {
    /// Puts a picture where its time belongs; answers whether one was wanted. A place
    /// that got none shows the next one.
    fn place(&mut self, time: Micros, picture: &Planes<'_>) -> bool {
        let place = usize::try_from((time - self.start).div_euclid(INTERVAL));
        let place = match place {
            Ok(place) if self.tiles > 0 && place < SIDE * SIDE => place,
            _ => {
                self.start = time;
                self.tiles = 0;
                for (index, bytes) in self.planes.iter_mut().enumerate() {
                    let (width, height) = plane(index);
                    bytes.clear();
                    bytes.resize(width * height * SIDE * SIDE, BLACK[index]);
                }
                0
            }
        };
        if place < self.tiles {
            return false;
        }
        for at in self.tiles..=place {
            for (index, &(source, stride)) in picture.iter().enumerate() {
                let (width, height) = plane(index);
                let rows = source.chunks(stride.max(1)).take(height);
                let first = at / SIDE * height * SIDE * width + at % SIDE * width;
                let places = self.planes[index][first..].chunks_mut(SIDE * width);
                for (to, from) in places.zip(rows) {
                    let width = width.min(from.len()).min(to.len());
                    to[..width].copy_from_slice(&from[..width]);
                }
            }
        }
        self.tiles = place + 1;
        true
    }
}

fn sheet_info() -> Result<VideoInfo, Error> {
    let side = u32::try_from(SIDE).unwrap_or_default();
    VideoInfo::builder(VideoFormat::I420, TILE.0 * side, TILE.1 * side)
        .fps(gst::Fraction::new(0, 1))
        .par(gst::Fraction::new(1, 1))
        .build()
        .map_err(|error| Error::Build(error.to_string()))
}

/// Makes sheets of the pictures that arrive at the `appsink` named `tiles`.
pub(super) fn collect(pipeline: &gst::Pipeline, out: &Outlet) -> Result<(), Error> {
    let source = element(pipeline, "board")?
        .downcast::<AppSrc>()
        .map_err(|_| Error::Build("board is no appsrc".to_owned()))?;
    let caps = sheet_info()?.to_caps();
    source.set_caps(Some(&caps.map_err(|error| Error::Build(error.to_string()))?));
    let board = Mutex::new(Board::default());
    let end = source.clone();
    sink(pipeline, "tiles")?.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let board = &mut *lock(&board);
                let placed = place(board, &sample).ok_or(gst::FlowError::Error)?;
                if placed {
                    source.push_buffer(drawn(board))?;
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                if let Err(error) = end.end_of_stream() {
                    tracing::debug!(%error, "end of the pictures not taken");
                }
            })
            .build(),
    );
    let (out, end) = (out.encoded.clone(), out.encoded.clone());
    sink(pipeline, "sheets")?.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let sheet = encoded(&sample).ok_or(gst::FlowError::Error)?;
                out.blocking_send(Encoded::Sheet(sheet))
                    .map_err(|_| gst::FlowError::Eos)?;
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                if end.blocking_send(Encoded::PicturesEnd).is_err() {
                    tracing::debug!("end of the sheets after the end of the chain");
                }
            })
            .build(),
    );
    Ok(())
}

fn place(board: &mut Board, sample: &gst::Sample) -> Option<bool> {
    let buffer = sample.buffer()?;
    let info = VideoInfo::from_caps(sample.caps()?).ok()?;
    let time = running_time(sample, buffer.pts())?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info).ok()?;
    let [y, u, v, _] = frame.planes_data();
    let stride = |index: usize| usize::try_from(*frame.plane_stride().get(index)?).ok();
    Some(board.place(time, &[(y, stride(0)?), (u, stride(1)?), (v, stride(2)?)]))
}

/// The sheet as it is. How many pictures it has, its duration says, which survives the encoder.
fn drawn(board: &Board) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(board.planes.concat());
    // A buffer just made has one owner.
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(to_clock(board.start));
        let tiles = Micros::try_from(board.tiles).unwrap_or_default();
        buffer.set_duration(to_clock(tiles * INTERVAL));
    }
    buffer
}

fn encoded(sample: &gst::Sample) -> Option<Sheet> {
    let unit = access_unit(sample)?;
    let lasts = sample.buffer()?.duration()?;
    Some(Sheet {
        start: unit.pts,
        interval: INTERVAL,
        columns: u32::try_from(SIDE).ok()?,
        tile: TILE,
        tiles: u32::try_from(lasts.useconds() / INTERVAL.unsigned_abs()).ok()?,
        jpeg: unit.data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one brightness and colour, in rows that are longer than it is.
    fn picture(value: u8) -> [(Vec<u8>, usize); 3] {
        [0, 1, 2].map(|index| {
            let (width, height) = plane(index);
            let row = [vec![value; width], vec![99; 32]].concat();
            (row.repeat(height), width + 32)
        })
    }

    fn place(board: &mut Board, time: Micros, value: u8) -> bool {
        let [y, u, v] = picture(value);
        board.place(time, &[(&y.0, y.1), (&u.0, u.1), (&v.0, v.1)])
    }

    /// What is at the corners of each place of the sheet, in every plane; one number where all agree.
    fn shown(board: &Board) -> Vec<u8> {
        let at = |index: usize, place: usize| {
            let (width, height) = plane(index);
            let (x, y) = (place % SIDE * width, place / SIDE * height);
            let corners = [(x, y), (x + width - 1, y + height - 1)];
            corners.map(|(x, y)| board.planes[index][y * SIDE * width + x])
        };
        (0..SIDE * SIDE)
            .map(|place| {
                let all = [at(0, place), at(1, place), at(2, place)].concat();
                if all == [BLACK[0], BLACK[0], BLACK[1], BLACK[1], BLACK[2], BLACK[2]] {
                    return 0;
                }
                assert!(all.iter().all(|value| *value == all[0]), "{place}: {all:?}");
                all[0]
            })
            .collect()
    }

    #[test]
    fn pictures_stand_in_their_places_and_a_full_sheet_is_followed_by_another() {
        let mut board = Board::default();
        let begin = 3 * SECOND;
        assert!(place(&mut board, begin, 1));
        assert!(!place(&mut board, begin + 5 * SECOND, 2), "its place is taken");
        assert!(place(&mut board, begin + 10 * SECOND, 3));
        // Two places got no picture.
        assert!(place(&mut board, begin + 41 * SECOND, 4));
        let mut wanted = vec![1, 3, 4, 4, 4];
        wanted.resize(25, 0);
        assert_eq!((board.tiles, shown(&board)), (5, wanted.clone()));
        for n in 5..25 {
            let value = u8::try_from(n + 30).unwrap();
            assert!(place(&mut board, begin + n * INTERVAL + SECOND, value));
            wanted[usize::try_from(n).unwrap()] = value;
        }
        assert_eq!((board.start, board.tiles, shown(&board)), (begin, 25, wanted));
        let next = begin + 25 * INTERVAL + SECOND;
        assert!(place(&mut board, next, 7));
        assert_eq!((board.start, board.tiles), (next, 1));
        assert_eq!(shown(&board)[..2], [7, 0]);
    }
}
