//! Scaling of pictures by libyuv, which costs half of what GStreamer's own
//! scaler does. One C function behind checked slices: the only place of the
//! pipeline with unsafe code.
#![expect(unsafe_code, reason = "libyuv is a C library")]

use std::ffi::c_int;

/// Longest side that libyuv's fixed-point steps can hold.
const MAX_SIDE: usize = 32_767;

/// libyuv's `kFilterBox`: averages when much smaller, else bilinear.
const BOX: c_int = 3;

#[link(name = "yuv")]
unsafe extern "C" {
    fn I420Scale(
        src_y: *const u8,
        src_stride_y: c_int,
        src_u: *const u8,
        src_stride_u: c_int,
        src_v: *const u8,
        src_stride_v: c_int,
        src_width: c_int,
        src_height: c_int,
        dst_y: *mut u8,
        dst_stride_y: c_int,
        dst_u: *mut u8,
        dst_stride_u: c_int,
        dst_v: *mut u8,
        dst_stride_v: c_int,
        dst_width: c_int,
        dst_height: c_int,
        filtering: c_int,
    ) -> c_int;
}

/// What can be wrong with a picture.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A side is 0 or too long.
    #[error("a picture of {width}x{height}, allowed are sides of 1 to {MAX_SIDE}")]
    Size {
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
    },
    /// A plane holds less than its size and stride say.
    #[error("plane {plane} of a picture of {width}x{height} is too small")]
    Plane {
        /// Which of the three.
        plane: usize,
        /// Width of the picture.
        width: usize,
        /// Height of the picture.
        height: usize,
    },
    /// libyuv has refused.
    #[error("libyuv refuses to scale: {0}")]
    Refused(i32),
}

/// An 8-bit 4:2:0 picture: luma and two planes of chroma, each with the bytes
/// from one row to the next.
pub(crate) struct Picture<B> {
    /// Width of the luma plane.
    pub width: usize,
    /// Height of the luma plane.
    pub height: usize,
    /// The planes.
    pub planes: [(B, usize); 3],
}

impl<B: AsRef<[u8]>> Picture<B> {
    /// Its sides and strides as C takes them, if every row is there.
    fn check(&self) -> Result<(c_int, c_int, [c_int; 3]), Error> {
        let &Self { width, height, .. } = self;
        let size = Error::Size { width, height };
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(size);
        }
        let mut strides = [0; 3];
        for (plane, (bytes, stride)) in self.planes.iter().enumerate() {
            let (width_here, height_here) = match plane {
                0 => (width, height),
                _ => (width.div_ceil(2), height.div_ceil(2)),
            };
            let last_row = stride.checked_mul(height_here - 1);
            let enough = last_row.is_some_and(|at| at.saturating_add(width_here) <= bytes.as_ref().len());
            strides[plane] = match c_int::try_from(*stride) {
                Ok(as_int) if enough && *stride >= width_here => as_int,
                _ => return Err(Error::Plane { plane, width, height }),
            };
        }
        match (c_int::try_from(width), c_int::try_from(height)) {
            (Ok(width), Ok(height)) => Ok((width, height, strides)),
            _ => Err(size),
        }
    }
}

/// Scales one picture into another.
///
/// # Errors
/// A picture is not what it says.
pub(crate) fn scale<S: AsRef<[u8]>, D: AsRef<[u8]> + AsMut<[u8]>>(
    source: &Picture<S>,
    target: &mut Picture<D>,
) -> Result<(), Error> {
    let (width, height, stride) = source.check()?;
    let (to_width, to_height, to_stride) = target.check()?;
    let [y, u, v] = &source.planes;
    let [to_y, to_u, to_v] = &mut target.planes;
    // SAFETY: `check` has seen that each plane holds every row that libyuv
    // reads or writes for these sides and strides; the targets are borrowed
    // mutably, so nothing else overlaps them.
    let answer = unsafe {
        I420Scale(
            y.0.as_ref().as_ptr(),
            stride[0],
            u.0.as_ref().as_ptr(),
            stride[1],
            v.0.as_ref().as_ptr(),
            stride[2],
            width,
            height,
            to_y.0.as_mut().as_mut_ptr(),
            to_stride[0],
            to_u.0.as_mut().as_mut_ptr(),
            to_stride[1],
            to_v.0.as_mut().as_mut_ptr(),
            to_stride[2],
            to_width,
            to_height,
            BOX,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::Refused(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture of one brightness and colour, with rows a little apart.
    fn plain(width: usize, height: usize, values: [u8; 3]) -> Picture<Vec<u8>> {
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let plane = |width: usize, height: usize, value| (vec![value; (width + 3) * height], width + 3);
        Picture {
            width,
            height,
            planes: [
                plane(width, height, values[0]),
                plane(half_width, half_height, values[1]),
                plane(half_width, half_height, values[2]),
            ],
        }
    }

    #[test]
    fn keeps_what_is_where() {
        let mut source = plain(64, 32, [20, 100, 200]);
        for row in source.planes[0].0.chunks_mut(67) {
            row[32..].fill(220);
        }
        let mut target = plain(32, 16, [0; 3]);
        scale(&source, &mut target).unwrap();
        for row in target.planes[0].0.chunks(35) {
            assert!(row[..15].iter().all(|&value| value == 20), "{row:?}");
            assert!(row[17..32].iter().all(|&value| value == 220), "{row:?}");
        }
        assert!(target.planes[1].0.chunks(19).all(|row| row[..16] == [100; 16]));
        assert!(target.planes[2].0.chunks(19).all(|row| row[..16] == [200; 16]));
    }

    #[test]
    fn a_picture_that_is_not_there_is_refused() {
        let source = plain(64, 32, [1; 3]);
        let refused = |change: fn(&mut Picture<Vec<u8>>)| {
            let mut target = plain(32, 16, [0; 3]);
            change(&mut target);
            scale(&source, &mut target).unwrap_err()
        };
        let plane = |plane| Error::Plane {
            plane,
            width: 32,
            height: 16,
        };
        assert_eq!(refused(|target| target.planes[0].0.truncate(35 * 15 + 31)), plane(0));
        assert_eq!(refused(|target| target.planes[2].0.clear()), plane(2));
        assert_eq!(refused(|target| target.planes[1].1 = 15), plane(1));
        assert_eq!(refused(|target| target.planes[0].1 = usize::MAX), plane(0));
        assert!(matches!(refused(|target| target.width = 0), Error::Size { .. }));
        assert!(matches!(refused(|target| target.height = 40_000), Error::Size { .. }));
    }

    proptest! {
        /// A plain picture stays one at any size, and nothing is written
        /// between the rows or behind them.
        #[test]
        fn any_size_is_scaled_within_its_bounds(
            (width, height) in (1usize..200, 1usize..200),
            (to_width, to_height) in (1usize..200, 1usize..200),
        ) {
            let source = plain(width, height, [90, 30, 160]);
            let mut target = plain(to_width, to_height, [7; 3]);
            scale(&source, &mut target).unwrap();
            let sides = [to_width, to_width.div_ceil(2), to_width.div_ceil(2)];
            for (((plane, stride), side), value) in target.planes.iter().zip(sides).zip([90, 30, 160]) {
                for row in plane.chunks(*stride) {
                    // Its averages round down, by more the more pixels become one.
                    let usual = width <= 16 * to_width && height <= 16 * to_height;
                    prop_assert!(!usual || row[..side].iter().all(|&at| at.abs_diff(value) <= 2));
                    prop_assert!(row[side..].iter().all(|&at| at == 7));
                }
            }
        }
    }
}
