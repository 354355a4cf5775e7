//! Samples as transport streams carry them.

use crate::Error;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// An access unit delimiter for any kind of picture.
const DELIMITER: [u8; 2] = [0x09, 0xf0];
const NAL_SPS: u8 = 7;
const NAL_DELIMITER: u8 = 9;
/// Bytes of an ADTS header without a checksum.
const ADTS: usize = 7;

/// What an `avcC` says that each picture needs.
#[derive(Debug)]
pub(crate) struct Avc {
    length_size: usize,
    /// Parameter sets with their start codes.
    sets: Vec<u8>,
}

impl Avc {
    pub(crate) fn new(avcc: &[u8]) -> Result<Self, Error> {
        let bad = Error::Config {
            kind: "avcC",
            reason: "it is cut short",
        };
        let sets = || -> Option<Self> {
            let length_size = usize::from(avcc.get(4)? & 3) + 1;
            let mut rest = avcc.get(5..)?;
            let mut sets = Vec::new();
            // The upper bits of the first count are reserved.
            for mask in [0x1f, 0xff] {
                let (count, mut after) = rest.split_first()?;
                for _ in 0..count & mask {
                    let (size, more) = after.split_at_checked(2)?;
                    let size = usize::from(u16::from_be_bytes(size.try_into().ok()?));
                    let (set, more) = more.split_at_checked(size)?;
                    sets.extend(START_CODE);
                    sets.extend(set);
                    after = more;
                }
                rest = after;
            }
            Some(Self { length_size, sets })
        };
        sets().ok_or(bad)
    }

    /// A picture after annex B.
    pub(crate) fn picture(&self, sample: &[u8], sync: bool) -> Result<Vec<u8>, Error> {
        let mut units = Vec::new();
        let mut rest = sample;
        while !rest.is_empty() {
            let (size, after) = rest
                .split_at_checked(self.length_size)
                .ok_or(Error::Sample("a length is cut short"))?;
            let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            let (unit, after) = after
                .split_at_checked(size)
                .ok_or(Error::Sample("a unit is cut short"))?;
            units.push(unit);
            rest = after;
        }
        let kind = |unit: &[u8]| unit.first().map_or(0, |byte| byte & 0x1f);
        let mut out = Vec::with_capacity(sample.len() + self.sets.len() + 64);
        out.extend(START_CODE);
        out.extend(DELIMITER);
        if sync && !units.iter().any(|unit| kind(unit) == NAL_SPS) {
            out.extend(&self.sets);
        }
        for unit in units {
            if kind(unit) != NAL_DELIMITER && !unit.is_empty() {
                out.extend(START_CODE);
                out.extend(unit);
            }
        }
        Ok(out)
    }
}

/// What an AudioSpecificConfig says that each frame needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adts {
    profile: u8,
    frequency: u8,
    channels: u8,
}

impl Adts {
    pub(crate) fn new(config: &[u8]) -> Result<Self, Error> {
        let bad = |reason| Error::Config {
            kind: "AudioSpecificConfig",
            reason,
        };
        let [first, second, ..] = *config else {
            return Err(bad("it is cut short"));
        };
        let object = first >> 3;
        let found = Self {
            profile: object.wrapping_sub(1),
            frequency: (first & 7) << 1 | second >> 7,
            channels: second >> 3 & 0xf,
        };
        if !(1..=4).contains(&object) {
            return Err(bad("its object type is none of ADTS's"));
        }
        if found.frequency > 12 || !(1..=7).contains(&found.channels) {
            return Err(bad("its rate or channels have no number"));
        }
        Ok(found)
    }

    /// A frame behind its header.
    pub(crate) fn frame(self, sample: &[u8]) -> Result<Vec<u8>, Error> {
        let size = sample.len() + ADTS;
        let size = u16::try_from(size).ok().filter(|size| *size < 1 << 13);
        let size = size.ok_or(Error::Sample("an AAC frame of more than 8 KB"))?;
        let [high, low] = size.to_be_bytes();
        let mut out = vec![
            0xff,
            // MPEG-4, no checksum.
            0xf1,
            self.profile << 6 | self.frequency << 2 | self.channels >> 2,
            (self.channels & 3) << 6 | high >> 3,
            high << 5 | low >> 3,
            // A buffer of variable rate, one frame.
            low << 5 | 0x1f,
            0xfc,
        ];
        out.extend(sample);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: [u8; 17] = [
        1, 0x42, 0xc0, 0x15, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x15, 1, 0, 2, 0x68, 0xce,
    ];

    #[test]
    fn pictures_get_start_codes_and_keyframes_their_parameter_sets() {
        let avc = Avc::new(&AVCC).unwrap();
        let sample = [0, 0, 0, 2, 0x09, 0xf0, 0, 0, 0, 3, 0x65, 1, 2];
        let delimiter = [0, 0, 0, 1, 0x09, 0xf0];
        let sets = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x15, 0, 0, 0, 1, 0x68, 0xce];
        let slice = [0, 0, 0, 1, 0x65, 1, 2];
        assert_eq!(
            avc.picture(&sample, true).unwrap(),
            [&delimiter[..], &sets, &slice].concat()
        );
        assert_eq!(avc.picture(&sample, false).unwrap(), [&delimiter[..], &slice].concat());
        for cut in [1, 5, 12] {
            assert!(avc.picture(&sample[..cut], true).is_err(), "cut at {cut}");
        }
        for cut in 0..AVCC.len() {
            assert!(Avc::new(&AVCC[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn frames_get_headers_and_what_has_none_is_refused() {
        // AAC-LC, 48 kHz, stereo.
        let adts = Adts::new(&[0x11, 0x90]).unwrap();
        let frame = adts.frame(&[7; 300]).unwrap();
        assert_eq!(frame[..7], [0xff, 0xf1, 0x4c, 0x80, 0x26, 0x7f, 0xfc]);
        assert_eq!(frame[7..], [7; 300]);
        assert!(adts.frame(&[0; 8185]).is_err());
        for config in [&[0x11][..], &[0xf1, 0x90], &[0x17, 0x90], &[0x11, 0x80]] {
            assert!(Adts::new(config).is_err(), "{config:?}");
        }
    }
}
