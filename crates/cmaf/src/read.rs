//! Reading our own files back: what another container is made of, and what tests, benches and
//! repair tools need. It
//! takes exactly what [`crate::init_section`] and [`crate::chunk`] write and
//! refuses the rest; it is no general demuxer.

use bytes::Bytes;
use mp4_atom::{Atom, Codec, Decode, Header, Mdat, Moof, Moov, Styp, Trak};

use crate::{Audio, Error, Result, Sample, Track, Video};

/// One chunk as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The `mfhd` sequence number.
    pub sequence: u32,
    /// Decoding time of the first sample in ticks.
    pub decode_time: u64,
    /// The samples in decoding order.
    pub samples: Vec<Sample>,
    /// Bytes of the chunk, headers included.
    pub size: usize,
}

impl Chunk {
    /// Duration in ticks: the sum over the samples.
    pub fn duration(&self) -> u64 {
        self.samples.iter().map(|s| u64::from(s.duration)).sum()
    }

    /// Presentation time in ticks of the first sample in decoding order.
    pub fn first_presentation_time(&self) -> Option<i64> {
        let first = self.samples.first()?;
        i64::try_from(self.decode_time)
            .ok()?
            .checked_add(first.composition_offset.into())
    }
}

/// The track timescale named by an init section.
pub fn timescale(init: &[u8]) -> Result<u32> {
    Ok(trak(init)?.mdia.mdhd.timescale)
}

/// The track that an init section is of.
pub fn track(init: &[u8]) -> Result<Track> {
    let trak = trak(init)?;
    let bad = |what: &str| Error::Malformed(what.to_owned());
    match trak.mdia.minf.stbl.stsd.codecs.first() {
        Some(Codec::Avc1(entry)) => {
            let mut avcc = Vec::new();
            entry.avcc.encode_body(&mut avcc)?;
            let pasp = entry.pasp.as_ref().map(|pasp| (pasp.h_spacing, pasp.v_spacing));
            Ok(Track::Video(Video {
                avcc: avcc.into(),
                width: entry.visual.width,
                height: entry.visual.height,
                pixel_aspect: pasp.unwrap_or((1, 1)),
            }))
        }
        Some(Codec::Mp4a(entry)) => {
            let config = entry.esds.es_desc.dec_config.dec_specific.as_ref();
            Ok(Track::Audio(Audio {
                config: config
                    .ok_or_else(|| bad("mp4a without a configuration"))?
                    .raw
                    .clone()
                    .into(),
                sample_rate: trak.mdia.mdhd.timescale,
                channels: entry.audio.channel_count,
            }))
        }
        _ => Err(bad("a track of neither H.264 nor AAC")),
    }
}

fn trak(init: &[u8]) -> Result<Trak> {
    let mut rest = init;
    while !rest.is_empty() {
        let header = Header::decode(&mut rest)?;
        let body = take_body(&mut rest, &header)?;
        if header.kind == Moov::KIND {
            let moov = Moov::decode_body(&mut &body[..])?;
            let first = moov.trak.into_iter().next();
            return first.ok_or_else(|| Error::Malformed("moov without a track".to_owned()));
        }
    }
    Err(Error::Malformed("no moov".to_owned()))
}

/// The chunks of a segment (or of a single part).
pub fn segment(bytes: &[u8]) -> Result<Vec<Chunk>> {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    let mut pending: Option<(Moof, usize)> = None;
    while !rest.is_empty() {
        let before = rest.len();
        let header = Header::decode(&mut rest)?;
        let body = take_body(&mut rest, &header)?;
        let size = before - rest.len();
        if header.kind == Moof::KIND {
            pending = Some((Moof::decode_body(&mut &body[..])?, size));
        } else if header.kind == Mdat::KIND {
            let (moof, moof_size) = pending
                .take()
                .ok_or_else(|| Error::Malformed("mdat without a moof".to_owned()))?;
            chunks.push(join(&moof, moof_size, body, size)?);
        } else if header.kind != Styp::KIND {
            return Err(Error::Malformed(format!("unexpected box {}", header.kind)));
        }
    }
    match pending {
        Some(_) => Err(Error::Malformed("moof without an mdat".to_owned())),
        None => Ok(chunks),
    }
}

fn take_body<'a>(rest: &mut &'a [u8], header: &Header) -> Result<&'a [u8]> {
    let size = header
        .size
        .ok_or_else(|| Error::Malformed(format!("box {} of open size", header.kind)))?;
    let (body, after) = rest
        .split_at_checked(size)
        .ok_or_else(|| Error::Malformed(format!("box {} cut short", header.kind)))?;
    *rest = after;
    Ok(body)
}

fn join(moof: &Moof, moof_size: usize, media: &[u8], mdat_size: usize) -> Result<Chunk> {
    let bad = |what: &str| Error::Malformed(what.to_owned());
    let [traf] = &moof.traf[..] else {
        return Err(bad("not one track fragment in a moof"));
    };
    let [trun] = &traf.trun[..] else {
        return Err(bad("not one run in a track fragment"));
    };
    let tfdt = traf.tfdt.as_ref().ok_or_else(|| bad("no tfdt"))?;
    let offset = trun.data_offset.and_then(|o| usize::try_from(o).ok());
    if offset != Some(moof_size + (mdat_size - media.len())) {
        return Err(bad("data offset does not point at the media"));
    }
    let mut media = media;
    let mut samples = Vec::new();
    for entry in trun.samples.iter() {
        let (Some(duration), Some(size), Some(flags)) = (entry.duration, entry.size, entry.flags) else {
            return Err(bad("a sample without duration, size or flags"));
        };
        let (data, after) = media
            .split_at_checked(size as usize)
            .ok_or_else(|| bad("sample data cut short"))?;
        media = after;
        samples.push(Sample {
            duration,
            composition_offset: i32::try_from(entry.cts.unwrap_or(0))
                .map_err(|_| bad("composition offset out of range"))?,
            sync: flags & 0x0001_0000 == 0,
            data: Bytes::copy_from_slice(data),
        });
    }
    if !media.is_empty() {
        return Err(bad("media bytes after the last sample"));
    }
    Ok(Chunk {
        sequence: moof.mfhd.sequence_number,
        decode_time: tfdt.base_media_decode_time,
        samples,
        size: moof_size + mdat_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chunk, init_section};

    fn sample(data: &'static [u8]) -> Sample {
        Sample {
            duration: 1024,
            composition_offset: 0,
            sync: true,
            data: Bytes::from_static(data),
        }
    }

    #[test]
    fn init_and_segment_read_back() {
        let track = Track::Audio(Audio {
            config: Bytes::from_static(&[0x11, 0x90]),
            sample_rate: 48_000,
            channels: 2,
        });
        assert_eq!(timescale(&init_section(&track).unwrap()).unwrap(), 48_000);
        assert_eq!(self::track(&init_section(&track).unwrap()).unwrap(), track);
        let video = Track::Video(Video {
            avcc: Bytes::from_static(&[
                1, 0x42, 0xc0, 0x15, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x15, 1, 0, 2, 0x68, 0xce,
            ]),
            width: 640,
            height: 272,
            pixel_aspect: (4, 3),
        });
        assert_eq!(self::track(&init_section(&video).unwrap()).unwrap(), video);
        let mut bytes = chunk(1, 96_000, &[sample(b"abc"), sample(b"d")]).unwrap().to_vec();
        bytes.extend_from_slice(&chunk(2, 98_048, &[sample(b"efg")]).unwrap());
        let chunks = segment(&bytes).unwrap();
        assert_eq!(chunks[0].decode_time + chunks[0].duration(), chunks[1].decode_time);
        assert_eq!(chunks[1].samples[0].data, &b"efg"[..]);
        assert_eq!(chunks.iter().map(|chunk| chunk.size).sum::<usize>(), bytes.len());
        assert_eq!(chunks[0].first_presentation_time(), Some(96_000));
    }

    #[test]
    fn refuses_cut_and_foreign_bytes() {
        let whole = chunk(1, 0, &[sample(b"abcdef")]).unwrap();
        for end in 1..whole.len() {
            assert!(segment(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(segment(b"\0\0\0\x08free").is_err());
        assert!(timescale(&whole).is_err());
    }
}
