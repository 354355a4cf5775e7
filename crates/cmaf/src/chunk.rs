//! Media chunks: one `moof` + `mdat` (ISO/IEC 14496-12 §8.8, ISO/IEC
//! 23000-19 §7.3.2.3).

use bytes::Bytes;
use mp4_atom::{Encode, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use crate::{Error, Result, TRACK_ID};

/// Samples in one chunk: far above a part's worth (a second of 48 kHz AAC has
/// 47 frames, of video at most 240), low enough to bound what a reader takes in.
pub const MAX_CHUNK_SAMPLES: usize = 4096;

/// Bytes of the `mdat` header in front of the samples.
const MDAT_HEADER: u64 = 8;

/// `sample_depends_on = 2`: decodable alone.
const FLAGS_SYNC: u32 = 0x0200_0000;
/// `sample_depends_on = 1`, `sample_is_non_sync_sample = 1`.
const FLAGS_DELTA: u32 = 0x0101_0000;

/// One encoded access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Duration in ticks of the track's timescale.
    pub duration: u32,
    /// Presentation time minus decoding time, in ticks.
    pub composition_offset: i32,
    /// Whether decoding can start here.
    pub sync: bool,
    /// The access unit: length-prefixed NAL units, or a raw AAC frame.
    pub data: Bytes,
}

/// The bytes of one chunk. `sequence` is the `mfhd` sequence number, which
/// grows over the chunks of a track; `decode_time` is the decoding time of the
/// first sample in ticks.
pub fn chunk(sequence: u32, decode_time: u64, samples: &[Sample]) -> Result<Bytes> {
    if samples.is_empty() {
        return Err(Error::Empty);
    }
    if samples.len() > MAX_CHUNK_SAMPLES {
        return Err(Error::TooManySamples {
            actual: samples.len(),
            limit: MAX_CHUNK_SAMPLES,
        });
    }
    let payload: u64 = samples.iter().map(|sample| sample.data.len() as u64).sum();
    let limit = u64::from(u32::MAX) - MDAT_HEADER;
    if payload > limit {
        return Err(Error::TooLarge { actual: payload, limit });
    }

    let entries: Vec<TrunEntry> = samples
        .iter()
        .map(|sample| TrunEntry {
            duration: Some(sample.duration),
            // Bounded by the check of the sum above.
            size: Some(sample.data.len() as u32),
            flags: Some(if sample.sync { FLAGS_SYNC } else { FLAGS_DELTA }),
            cts: Some(sample.composition_offset.into()),
        })
        .collect();
    let mut moof = Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_base_is_moof: true,
                ..Default::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: decode_time,
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: entries.into(),
            }],
            ..Default::default()
        }],
    };
    // The offset of the media depends on the size of the box that holds it:
    // written once to learn the size, which does not depend on the value.
    let mut out = Vec::with_capacity(payload as usize + 256 + samples.len() * 16);
    moof.encode(&mut out)?;
    let offset = out.len() as u64 + MDAT_HEADER;
    moof.traf[0].trun[0].data_offset = Some(i32::try_from(offset).map_err(|_| Error::TooLarge {
        actual: offset,
        limit: i32::MAX as u64,
    })?);
    out.clear();
    moof.encode(&mut out)?;
    out.extend_from_slice(&((payload + MDAT_HEADER) as u32).to_be_bytes());
    out.extend_from_slice(b"mdat");
    for sample in samples {
        out.extend_from_slice(&sample.data);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;
    use proptest::prelude::*;

    #[test]
    fn refuses_no_samples_and_too_many() {
        assert!(matches!(chunk(1, 0, &[]), Err(Error::Empty)));
        let sample = Sample {
            duration: 1,
            composition_offset: 0,
            sync: false,
            data: Bytes::new(),
        };
        let many = vec![sample; MAX_CHUNK_SAMPLES + 1];
        assert!(matches!(chunk(1, 0, &many), Err(Error::TooManySamples { .. })));
    }

    prop_compose! {
        fn any_sample()(
            duration in any::<u32>(),
            composition_offset in any::<i32>(),
            sync in any::<bool>(),
            data in proptest::collection::vec(any::<u8>(), 0..64),
        ) -> Sample {
            Sample { duration, composition_offset, sync, data: data.into() }
        }
    }

    proptest! {
        #[test]
        fn chunks_read_back(
            sequence in any::<u32>(),
            decode_time in any::<u64>(),
            first in proptest::collection::vec(any_sample(), 1..20),
            second in proptest::collection::vec(any_sample(), 1..20),
        ) {
            let mut segment = chunk(sequence, decode_time, &first).unwrap().to_vec();
            segment.extend_from_slice(&chunk(sequence.wrapping_add(1), 7, &second).unwrap());
            let chunks = read::segment(&segment).unwrap();
            prop_assert_eq!(chunks.len(), 2);
            prop_assert_eq!(chunks[0].sequence, sequence);
            prop_assert_eq!(chunks[0].decode_time, decode_time);
            prop_assert_eq!(&chunks[0].samples, &first);
            prop_assert_eq!(&chunks[1].samples, &second);
        }
    }
}
