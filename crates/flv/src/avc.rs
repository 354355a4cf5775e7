//! H.264: the decoder configuration record, the sequence parameter set, and the
//! NAL units of an access unit.

use bytes::Bytes;

use crate::Error;
pub use crate::sps::Sps;

const CONFIG: &str = "AVC decoder configuration";

/// `AVCDecoderConfigurationRecord`, ISO/IEC 14496-15.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderConfig {
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags beside the profile.
    pub compatibility: u8,
    /// `level_idc`: 31 is level 3.1.
    pub level: u8,
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub length_size: u8,
    /// Sequence parameter sets with their NAL unit header.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets with their NAL unit header.
    pub pps: Vec<Bytes>,
}

impl DecoderConfig {
    /// Parses the record as an AVC sequence header holds it.
    ///
    /// # Errors
    /// It is truncated, of another version, or has no parameter set.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let &[version, profile, compatibility, level, length, ..] = &record[..] else {
            return Err(Error::Truncated(CONFIG));
        };
        let length_size = (length & 0b11) + 1;
        if version != 1 || length_size == 3 {
            return Err(Error::Malformed(CONFIG));
        }
        let mut at = 5;
        let sps = parameter_sets(record, &mut at, 0b0001_1111)?;
        let pps = parameter_sets(record, &mut at, 0b1111_1111)?;
        if sps.is_empty() || pps.is_empty() {
            return Err(Error::Malformed(CONFIG));
        }
        Ok(Self {
            profile,
            compatibility,
            level,
            length_size,
            sps,
            pps,
        })
    }

    /// RFC 6381 codec string: `avc1.PPCCLL`.
    #[must_use]
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.compatibility, self.level)
    }

    /// The first sequence parameter set, parsed.
    ///
    /// # Errors
    /// It is truncated or malformed.
    pub fn parse_sps(&self) -> Result<Sps, Error> {
        Sps::parse(self.sps.first().ok_or(Error::Malformed(CONFIG))?)
    }
}

fn parameter_sets(record: &Bytes, at: &mut usize, count_mask: u8) -> Result<Vec<Bytes>, Error> {
    let count = record.get(*at).ok_or(Error::Truncated(CONFIG))? & count_mask;
    *at += 1;
    let mut sets = Vec::new();
    for _ in 0..count {
        let size = record.get(*at..*at + 2).ok_or(Error::Truncated(CONFIG))?;
        let size = usize::from(u16::from_be_bytes([size[0], size[1]]));
        *at += 2;
        if size == 0 {
            return Err(Error::Malformed(CONFIG));
        }
        if record.len() < *at + size {
            return Err(Error::Truncated(CONFIG));
        }
        sets.push(record.slice(*at..*at + size));
        *at += size;
    }
    Ok(sets)
}

/// NAL unit types that matter outside a decoder.
pub mod nalu {
    /// A slice of a picture at which a decoder can start.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const DELIMITER: u8 = 9;
}

/// The NAL units of an access unit, each with a length of `length_size` bytes before it.
///
/// Yields an error once, and then ends, when a length reaches past the end.
#[derive(Debug, Clone)]
pub struct Nalus<'a> {
    rest: &'a [u8],
    length_size: usize,
}

impl<'a> Nalus<'a> {
    /// `length_size` as the [`DecoderConfig`] says: 1 to 4.
    #[must_use]
    pub fn new(access_unit: &'a [u8], length_size: u8) -> Self {
        Self {
            rest: access_unit,
            length_size: usize::from(length_size.clamp(1, 4)),
        }
    }
}

impl<'a> Iterator for Nalus<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((length, rest)) = rest.split_at_checked(self.length_size) else {
            return Some(Err(Error::Truncated("NAL unit")));
        };
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let Some((nalu, rest)) = rest.split_at_checked(length) else {
            return Some(Err(Error::Truncated("NAL unit")));
        };
        self.rest = rest;
        Some(Ok(nalu))
    }
}

/// Whether an access unit holds a picture at which a decoder can start: what the
/// tag's keyframe flag claims.
#[must_use]
pub fn has_idr(access_unit: &[u8], length_size: u8) -> bool {
    Nalus::new(access_unit, length_size)
        .any(|nalu| nalu.is_ok_and(|nalu| nalu.first().is_some_and(|head| head & 0x1f == nalu::IDR)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unhex(text: &str) -> Bytes {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect::<Vec<_>>().into()
    }

    /// Records as x264 writes them.
    const BASELINE_720P30: &str = "0142c01fffe100196742c01fd9005005bb0110000003001000000303c0f183248001000568cb83cb20";
    const HIGH_854X480: &str =
        "0164001fffe100196764001facd940d83de6f01100000303e90000ea600f18319601000668ebe3cb22c0fdf8f800";
    const HIGH_1080P60: &str =
        "0164002affe1001b6764002aacd940780227e5c044000003000400000301e03c60c65801000668ebe3cb22c0fdf8f800";
    const MAIN_640X272: &str = "014d4015ffe10017674d4015eca05011d808800000030080000019078b16cb01000568ebe3cb20";

    #[test]
    fn size_rate_and_codec_string() {
        for (record, codec, size, rate) in [
            (BASELINE_720P30, "avc1.42c01f", (1280, 720), 30_000),
            (HIGH_854X480, "avc1.64001f", (854, 480), 29_970),
            (HIGH_1080P60, "avc1.64002a", (1920, 1080), 60_000),
            (MAIN_640X272, "avc1.4d4015", (640, 272), 25_000),
        ] {
            let config = DecoderConfig::parse(&unhex(record)).unwrap();
            let sps = config.parse_sps().unwrap();
            assert_eq!(config.codec_string(), codec);
            assert_eq!(config.length_size, 4);
            assert_eq!((sps.width, sps.height), size, "{codec}");
            assert_eq!(sps.frame_rate_milli(), Some(rate), "{codec}");
            assert_eq!(sps.sample_aspect, Some((1, 1)));
        }
        let baseline = DecoderConfig::parse(&unhex(BASELINE_720P30))
            .unwrap()
            .parse_sps()
            .unwrap();
        assert_eq!(baseline.max_reorder, Some(0));
        let high = DecoderConfig::parse(&unhex(HIGH_1080P60)).unwrap().parse_sps().unwrap();
        assert_eq!(high.max_reorder, Some(2));
    }

    #[test]
    fn every_truncation_is_told() {
        let record = unhex(BASELINE_720P30);
        for end in 0..record.len() {
            assert_eq!(
                DecoderConfig::parse(&record.slice(..end)),
                Err(Error::Truncated(CONFIG)),
                "at {end}"
            );
        }
    }

    #[test]
    fn nal_units_are_split_and_idr_found() {
        let unit = [0, 0, 0, 2, 0x09, 0xf0, 0, 0, 0, 3, 0x65, 1, 2];
        let nalus: Vec<_> = Nalus::new(&unit, 4).collect();
        assert_eq!(nalus, [Ok(&[0x09, 0xf0][..]), Ok(&[0x65, 1, 2][..])]);
        assert!(has_idr(&unit, 4));
        let nalus: Vec<_> = Nalus::new(&unit[..12], 4).collect();
        assert_eq!(nalus, [Ok(&[0x09, 0xf0][..]), Err(Error::Truncated("NAL unit"))]);
        assert!(!has_idr(&unit[..6], 4));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0_usize..41, value in any::<u8>()) {
            let mut record = unhex(BASELINE_720P30).to_vec();
            record[at] = value;
            for input in [Bytes::from(bytes.clone()), record.into()] {
                if let Ok(config) = DecoderConfig::parse(&input) {
                    config.parse_sps().ok();
                }
                Sps::parse(&input).ok();
                prop_assert!(Nalus::new(&input, 4).count() <= input.len());
            }
            let mut sps = vec![0x67];
            sps.extend(bytes);
            Sps::parse(&sps).ok();
        }
    }
}
