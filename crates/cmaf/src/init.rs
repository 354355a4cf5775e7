//! Init sections: `ftyp` + `moov` of one fragmented track (ISO/IEC 14496-12
//! §8.2, ISO/IEC 23000-19 §7.3).

use bytes::Bytes;
use mp4_atom::{
    Atom, Audio as AudioEntry, Avc1, Avcc, Codec, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf,
    Moov, Mp4a, Mvex, Mvhd, Pasp, Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd, esds,
};

use crate::{Error, Result};

/// Ticks per second of video tracks: whole for 24, 25, 30, 50, 60 and for
/// 1001-based rates, and for the milliseconds of FLV.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// The id of the only track of a file.
pub const TRACK_ID: u32 = 1;

/// An H.264 track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// The `avcC` body.
    pub avcc: Bytes,
    /// Coded width in pixels.
    pub width: u16,
    /// Coded height in pixels.
    pub height: u16,
    /// Pixel aspect ratio, horizontal and vertical spacing; (1, 1) = square.
    pub pixel_aspect: (u32, u32),
}

/// An AAC track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// The AudioSpecificConfig.
    pub config: Bytes,
    /// Samples per second, which is also the track's timescale.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u16,
}

/// One track, which is all that a file of ours holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Track {
    /// H.264 video.
    Video(Video),
    /// AAC audio.
    Audio(Audio),
}

impl Track {
    /// Ticks per second of the track's times.
    pub fn timescale(&self) -> u32 {
        match self {
            Self::Video(_) => VIDEO_TIMESCALE,
            Self::Audio(audio) => audio.sample_rate,
        }
    }
}

/// The bytes of the init section of `track`.
pub fn init_section(track: &Track) -> Result<Bytes> {
    let mut out = Vec::with_capacity(1024);
    Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"cmfc", b"mp41"].map(FourCC::new).to_vec(),
    }
    .encode(&mut out)?;
    Moov {
        mvhd: Mvhd {
            timescale: track.timescale(),
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Default::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex {
                track_id: TRACK_ID,
                default_sample_description_index: 1,
                ..Default::default()
            }],
        }),
        trak: vec![trak(track)?],
        ..Default::default()
    }
    .encode(&mut out)?;
    Ok(out.into())
}

fn trak(track: &Track) -> Result<Trak> {
    let (handler, name, entry) = match track {
        Track::Video(video) => (b"vide", "video", video_entry(video)?),
        Track::Audio(audio) => (b"soun", "audio", audio_entry(audio)?),
    };
    let mut tkhd = Tkhd {
        track_id: TRACK_ID,
        enabled: true,
        in_movie: true,
        ..Default::default()
    };
    let mut minf = Minf {
        dinf: Dinf {
            dref: Dref {
                // An empty location: the media is in this very file.
                entries: vec![DrefEntry::Url(Url::default())],
            },
        },
        stbl: Stbl {
            stsd: Stsd { codecs: vec![entry] },
            stco: Some(Stco::default()),
            ..Default::default()
        },
        ..Default::default()
    };
    match track {
        Track::Video(video) => {
            let (horizontal, vertical) = video.pixel_aspect;
            // The track header gives the size on screen, in square pixels.
            let width = u64::from(video.width) * u64::from(horizontal.max(1)) / u64::from(vertical.max(1));
            tkhd.width = u16::try_from(width).unwrap_or(u16::MAX).into();
            tkhd.height = video.height.into();
            minf.vmhd = Some(Vmhd::default());
        }
        Track::Audio(_) => {
            tkhd.volume = 1.into();
            minf.smhd = Some(Smhd::default());
        }
    }
    Ok(Trak {
        tkhd,
        mdia: Mdia {
            mdhd: Mdhd {
                timescale: track.timescale(),
                language: "und".to_owned(),
                ..Default::default()
            },
            hdlr: Hdlr {
                handler: FourCC::new(handler),
                name: name.to_owned(),
            },
            minf,
        },
        ..Default::default()
    })
}

fn video_entry(video: &Video) -> Result<Codec> {
    let avcc = Avcc::decode_body(&mut &video.avcc[..]).map_err(|error| Error::Config {
        kind: "avcC",
        reason: error.to_string(),
    })?;
    let (h_spacing, v_spacing) = video.pixel_aspect;
    let pasp = (h_spacing > 0 && v_spacing > 0 && h_spacing != v_spacing).then_some(Pasp { h_spacing, v_spacing });
    Ok(Avc1 {
        visual: Visual {
            data_reference_index: 1,
            width: video.width,
            height: video.height,
            ..Default::default()
        },
        avcc,
        pasp,
        ..Default::default()
    }
    .into())
}

fn audio_entry(audio: &Audio) -> Result<Codec> {
    if audio.config.len() < 2 {
        return Err(Error::Config {
            kind: "AudioSpecificConfig",
            reason: format!("{} bytes, at least 2 needed", audio.config.len()),
        });
    }
    Ok(Mp4a {
        audio: AudioEntry {
            data_reference_index: 1,
            channel_count: audio.channels,
            sample_size: 16,
            // The 16.16 field cannot hold rates above 65535 Hz; the
            // AudioSpecificConfig is what decoders go by.
            sample_rate: u16::try_from(audio.sample_rate).unwrap_or(0).into(),
        },
        esds: esds::Esds {
            es_desc: esds::EsDescriptor {
                es_id: 0,
                dec_config: esds::DecoderConfig {
                    // MPEG-4 audio, an audio stream.
                    object_type_indication: 0x40,
                    stream_type: 5,
                    dec_specific: Some(esds::DecoderSpecific {
                        raw: audio.config.to_vec(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Any, Decode};

    fn video() -> Track {
        Track::Video(Video {
            avcc: Bytes::from_static(&[
                1, 0x42, 0xc0, 0x15, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x15, 1, 0, 2, 0x68, 0xce,
            ]),
            width: 640,
            height: 272,
            pixel_aspect: (4, 3),
        })
    }

    fn audio() -> Track {
        Track::Audio(Audio {
            config: Bytes::from_static(&[0x11, 0x90]),
            sample_rate: 48_000,
            channels: 2,
        })
    }

    fn read(track: &Track) -> (Ftyp, Moov) {
        let bytes = init_section(track).unwrap();
        let mut rest = &bytes[..];
        let Any::Ftyp(ftyp) = Any::decode(&mut rest).unwrap() else {
            panic!("no ftyp")
        };
        let Any::Moov(moov) = Any::decode(&mut rest).unwrap() else {
            panic!("no moov")
        };
        assert!(rest.is_empty());
        (ftyp, moov)
    }

    #[test]
    fn video_init_reads_back() {
        let (ftyp, moov) = read(&video());
        assert!(ftyp.compatible_brands.contains(&FourCC::new(b"cmfc")));
        let trak = &moov.trak[0];
        assert_eq!(trak.mdia.mdhd.timescale, VIDEO_TIMESCALE);
        assert_eq!(trak.tkhd.width.integer(), 853);
        let Codec::Avc1(entry) = &trak.mdia.minf.stbl.stsd.codecs[0] else {
            panic!("no avc1")
        };
        assert_eq!((entry.visual.width, entry.visual.height), (640, 272));
        assert_eq!(entry.avcc.sequence_parameter_sets.len(), 1);
        assert_eq!(entry.pasp.as_ref().map(|pasp| pasp.h_spacing), Some(4));
        assert_eq!(moov.mvex.unwrap().trex[0].track_id, TRACK_ID);
    }

    #[test]
    fn audio_init_reads_back() {
        let (_, moov) = read(&audio());
        let trak = &moov.trak[0];
        assert_eq!(trak.mdia.mdhd.timescale, 48_000);
        let Codec::Mp4a(entry) = &trak.mdia.minf.stbl.stsd.codecs[0] else {
            panic!("no mp4a")
        };
        let config = entry.esds.es_desc.dec_config.dec_specific.as_ref().unwrap();
        assert_eq!(config.raw, [0x11, 0x90]);
        assert_eq!(entry.audio.channel_count, 2);
    }

    #[test]
    fn refuses_broken_configurations() {
        let mut track = video();
        if let Track::Video(video) = &mut track {
            video.avcc = Bytes::from_static(&[1, 2, 3]);
        }
        assert!(matches!(init_section(&track), Err(Error::Config { .. })));
    }
}
