//! The sequence parameter set of H.264, as far as it says what a stream looks like:
//! ISO/IEC 14496-10, 7.3.2.1.1 and annex E.

use crate::{Error, bits::Bits};

const SPS: &str = "sequence parameter set";
/// Longest parameter set that is parsed: real ones have tens of bytes.
const MAX_SPS: usize = 4096;

/// What is needed of a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// 0 = monochrome, 1 = 4:2:0, 2 = 4:2:2, 3 = 4:4:4.
    pub chroma_format: u8,
    /// Bits per luma sample.
    pub bit_depth: u8,
    /// Picture width in pixels after cropping.
    pub width: u32,
    /// Picture height in pixels after cropping.
    pub height: u32,
    /// Fields may occur.
    pub interlaced: bool,
    /// Sample aspect ratio, when it is given.
    pub sample_aspect: Option<(u16, u16)>,
    /// Frames per second as numerator and denominator, when the timing is given.
    pub frame_rate: Option<(u32, u32)>,
    /// Frames that can be output after later-decoded ones, when it is given;
    /// 0 = decode order is display order.
    pub max_reorder: Option<u32>,
}

impl Sps {
    /// Parses a parameter set that starts with its NAL unit header.
    ///
    /// # Errors
    /// It is truncated or malformed, or its size is beyond any level.
    pub fn parse(nalu: &[u8]) -> Result<Self, Error> {
        const SPS_NALU: u8 = 7;
        if nalu.first().ok_or(Error::Truncated(SPS))? & 0x1f != SPS_NALU || nalu.len() > MAX_SPS {
            return Err(Error::Malformed(SPS));
        }
        let payload = without_emulation_prevention(&nalu[1..]);
        let mut bits = Bits::new(&payload, SPS);
        let [profile, constraints, level] = [bits.u(8)? as u8, bits.u(8)? as u8, bits.u(8)? as u8];
        bits.ue()?; // seq_parameter_set_id
        let (mut chroma_format, mut bit_depth, mut separate_planes) = (1, 8, false);
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format = bounded(&mut bits, 3)? as u8;
            if chroma_format == 3 {
                separate_planes = bits.bit()?;
            }
            bit_depth = 8 + bounded(&mut bits, 6)? as u8;
            bounded(&mut bits, 6)?; // bit_depth_chroma_minus8
            bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
            if bits.bit()? {
                for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.bit()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.ue()?; // log2_max_frame_num_minus4
        match bits.ue()? {
            0 => {
                bits.ue()?; // log2_max_pic_order_cnt_lsb_minus4
            }
            1 => {
                bits.skip(1)?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bounded(&mut bits, 255)? {
                    bits.se()?;
                }
            }
            2 => {}
            _ => return Err(bits.malformed()),
        }
        bits.ue()?; // max_num_ref_frames
        bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        // The longest side that level 6.2 allows is 1055 macroblocks.
        const MAX_MACROBLOCKS: u32 = 1054;
        let width_mbs = bounded(&mut bits, MAX_MACROBLOCKS)? + 1;
        let height_units = bounded(&mut bits, MAX_MACROBLOCKS)? + 1;
        let interlaced = !bits.bit()?;
        if interlaced {
            bits.skip(1)?; // mb_adaptive_frame_field_flag
        }
        bits.skip(1)?; // direct_8x8_inference_flag
        let (mut width, mut height) = (width_mbs * 16, height_units * if interlaced { 32 } else { 16 });
        if bits.bit()? {
            let subsampled = chroma_format == 1 || chroma_format == 2;
            let unit_x = if subsampled && !separate_planes { 2 } else { 1 };
            let unit_y = if chroma_format == 1 && !separate_planes { 2 } else { 1 } * if interlaced { 2 } else { 1 };
            let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?].map(u64::from);
            width = cropped(width, (left + right) * unit_x).ok_or_else(|| bits.malformed())?;
            height = cropped(height, (top + bottom) * unit_y).ok_or_else(|| bits.malformed())?;
        }
        let mut sps = Self {
            profile,
            constraints,
            level,
            chroma_format,
            bit_depth,
            width,
            height,
            interlaced,
            sample_aspect: None,
            frame_rate: None,
            max_reorder: None,
        };
        // Encoders write broken usability information more often than broken
        // sizes: what cannot be read of it is simply not known.
        if bits.bit()? {
            sps.read_vui(&mut bits).unwrap_or_default();
        }
        Ok(sps)
    }

    /// Frames per 1000 seconds, when the timing is given: 29970 = 29.97 fps.
    #[must_use]
    pub fn frame_rate_milli(&self) -> Option<u32> {
        let (numerator, denominator) = self.frame_rate?;
        u32::try_from((u64::from(numerator) * 1000 + u64::from(denominator) / 2) / u64::from(denominator)).ok()
    }

    fn read_vui(&mut self, bits: &mut Bits<'_>) -> Result<(), Error> {
        if bits.bit()? {
            self.sample_aspect = sample_aspect(bits)?;
        }
        if bits.bit()? {
            bits.skip(1)?; // overscan_appropriate_flag
        }
        if bits.bit()? {
            bits.skip(3 + 1)?; // video_format, video_full_range_flag
            if bits.bit()? {
                bits.skip(24)?; // colour description
            }
        }
        if bits.bit()? {
            bits.ue()?;
            bits.ue()?; // chroma sample locations
        }
        if bits.bit()? {
            let units_in_tick = bits.u(32)?;
            let time_scale = bits.u(32)?;
            bits.skip(1)?; // fixed_frame_rate_flag
            // A tick is a field's time.
            let denominator = u64::from(units_in_tick) * 2;
            if time_scale > 0 && denominator > 0 {
                let divisor = gcd(u64::from(time_scale), denominator);
                // The quotients of 32-bit values fit, but for one bit of the doubled one.
                self.frame_rate = Some(u64::from(time_scale) / divisor)
                    .zip(Some(denominator / divisor))
                    .and_then(|(n, d)| Some((u32::try_from(n).ok()?, u32::try_from(d).ok()?)));
            }
        }
        let mut hrd = false;
        for _ in 0..2 {
            if bits.bit()? {
                hrd = true;
                skip_hrd(bits)?;
            }
        }
        if hrd {
            bits.skip(1)?; // low_delay_hrd_flag
        }
        bits.skip(1)?; // pic_struct_present_flag
        if bits.bit()? {
            bits.skip(1)?; // motion_vectors_over_pic_boundaries_flag
            for _ in 0..4 {
                bits.ue()?;
            }
            self.max_reorder = Some(bounded(bits, 16)?);
        }
        Ok(())
    }
}

fn bounded(bits: &mut Bits<'_>, max: u32) -> Result<u32, Error> {
    let value = bits.ue()?;
    if value > max { Err(bits.malformed()) } else { Ok(value) }
}

fn cropped(size: u32, crop: u64) -> Option<u32> {
    u64::from(size)
        .checked_sub(crop)
        .filter(|left| *left > 0)
        .and_then(|left| u32::try_from(left).ok())
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Result<(), Error> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()? + 256).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

fn sample_aspect(bits: &mut Bits<'_>) -> Result<Option<(u16, u16)>, Error> {
    const EXTENDED: usize = 255;
    const TABLE: [(u16, u16); 16] = [
        (1, 1),
        (12, 11),
        (10, 11),
        (16, 11),
        (40, 33),
        (24, 11),
        (20, 11),
        (32, 11),
        (80, 33),
        (18, 11),
        (15, 11),
        (64, 33),
        (160, 99),
        (4, 3),
        (3, 2),
        (2, 1),
    ];
    Ok(match bits.u(8)? as usize {
        EXTENDED => {
            let (width, height) = (bits.u(16)? as u16, bits.u(16)? as u16);
            (width > 0 && height > 0).then_some((width, height))
        }
        index => index.checked_sub(1).and_then(|i| TABLE.get(i).copied()),
    })
}

fn skip_hrd(bits: &mut Bits<'_>) -> Result<(), Error> {
    let specifications = bounded(bits, 31)? + 1;
    bits.skip(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..specifications {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Drops the third byte of each `00 00 03`.
fn without_emulation_prevention(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}
