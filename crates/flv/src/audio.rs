//! The body of an audio tag, and the audio configuration of AAC.

use bytes::{Buf, Bytes};

use crate::{Error, FourCc, bits::Bits, video::skip_modifiers};

const WHAT: &str = "audio tag";
const CONFIG: &str = "AudioSpecificConfig";

/// The codec of an audio tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// AAC, under its legacy id or as `mp4a`.
    Aac,
    /// MP3, under its legacy ids or as `.mp3`.
    Mp3,
    /// Opus, as `Opus`.
    Opus,
    /// Another fourcc, such as `fLaC` or `ac-3`.
    Other(FourCc),
    /// Another legacy sound format.
    Legacy(u8),
    /// Tracks of several codecs in one tag: each names its own.
    Many,
}

impl AudioCodec {
    const fn from_fourcc(fourcc: [u8; 4]) -> Self {
        match &fourcc {
            b"mp4a" => Self::Aac,
            b".mp3" => Self::Mp3,
            b"Opus" => Self::Opus,
            _ => Self::Other(FourCc(fourcc)),
        }
    }
}

impl std::fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Aac => f.write_str("AAC"),
            Self::Mp3 => f.write_str("MP3"),
            Self::Opus => f.write_str("Opus"),
            Self::Other(fourcc) => write!(f, "{fourcc}"),
            Self::Legacy(id) => write!(f, "FLV sound format {id}"),
            Self::Many => f.write_str("several codecs"),
        }
    }
}

/// What an audio tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioPacket {
    /// The decoder configuration; for AAC an [`AudioSpecificConfig`].
    SequenceHeader(Bytes),
    /// One coded frame; for AAC without ADTS.
    Frame(Bytes),
    /// No frame follows under the current configuration.
    EndOfSequence,
    /// Several tracks in one tag (Enhanced RTMP), not taken apart.
    Multitrack(Bytes),
    /// A packet type without meaning here, such as a channel layout.
    Other(Bytes),
}

/// An audio tag's body, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// The codec.
    pub codec: AudioCodec,
    /// Enhanced RTMP's header was used.
    pub extended: bool,
    /// The content.
    pub packet: AudioPacket,
}

impl Audio {
    /// Parses the body of an audio tag. The packet's bytes share `data`'s memory.
    ///
    /// # Errors
    /// The body is truncated or malformed.
    pub fn parse(data: &Bytes) -> Result<Self, Error> {
        /// The sound format that marks the extended header.
        const EXTENDED: u8 = 9;
        let mut rest = data.clone();
        let first = take_u8(&mut rest)?;
        if first >> 4 == EXTENDED {
            return extended(first & 0x0f, rest);
        }
        let codec = match first >> 4 {
            10 => AudioCodec::Aac,
            2 | 14 => AudioCodec::Mp3,
            other => AudioCodec::Legacy(other),
        };
        let packet = if codec == AudioCodec::Aac {
            match take_u8(&mut rest)? {
                0 => AudioPacket::SequenceHeader(rest),
                1 => AudioPacket::Frame(rest),
                _ => return Err(Error::Malformed(WHAT)),
            }
        } else {
            AudioPacket::Frame(rest)
        };
        Ok(Self {
            codec,
            extended: false,
            packet,
        })
    }

    /// A decoder configuration.
    #[must_use]
    pub const fn is_sequence_header(&self) -> bool {
        matches!(self.packet, AudioPacket::SequenceHeader(_))
    }
}

fn take_u8(rest: &mut Bytes) -> Result<u8, Error> {
    if rest.is_empty() {
        return Err(Error::Truncated(WHAT));
    }
    Ok(rest.get_u8())
}

fn take_fourcc(rest: &mut Bytes) -> Result<[u8; 4], Error> {
    let fourcc = *rest.first_chunk::<4>().ok_or(Error::Truncated(WHAT))?;
    rest.advance(4);
    Ok(fourcc)
}

fn extended(mut packet_type: u8, mut rest: Bytes) -> Result<Audio, Error> {
    if packet_type == 7 {
        packet_type = skip_modifiers(&mut rest, WHAT)?;
    }
    if packet_type == 5 {
        let multitrack_type = take_u8(&mut rest)? >> 4;
        let codec = if multitrack_type == 2 {
            AudioCodec::Many
        } else {
            AudioCodec::from_fourcc(take_fourcc(&mut rest)?)
        };
        return Ok(Audio {
            codec,
            extended: true,
            packet: AudioPacket::Multitrack(rest),
        });
    }
    let codec = AudioCodec::from_fourcc(take_fourcc(&mut rest)?);
    let packet = match packet_type {
        0 => AudioPacket::SequenceHeader(rest),
        1 => AudioPacket::Frame(rest),
        2 => AudioPacket::EndOfSequence,
        _ => AudioPacket::Other(rest),
    };
    Ok(Audio {
        codec,
        extended: true,
        packet,
    })
}

/// The configuration of an AAC decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// MPEG-4 audio object type of the core: 2 is AAC-LC.
    pub object_type: u8,
    /// Samples per second of the core.
    pub sample_rate: u32,
    /// Output channels of the core.
    pub channels: u8,
    /// MPEG-4 channel configuration; 0 = described by a program config element.
    pub channel_configuration: u8,
    /// Samples per second with spectral band replication, when it is signalled.
    pub sbr_sample_rate: Option<u32>,
    /// Parametric stereo is signalled.
    pub parametric_stereo: bool,
    /// Samples per channel in one frame: 1024 or 960.
    pub frame_length: u16,
}

const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];
/// Object types of spectral band replication and parametric stereo.
const SBR: u8 = 5;
const PS: u8 = 29;

impl AudioSpecificConfig {
    /// Parses a configuration as an AAC sequence header holds it.
    ///
    /// # Errors
    /// It is truncated, or names a reserved sample rate.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut bits = Bits::new(bytes, CONFIG);
        let mut object_type = object_type(&mut bits)?;
        let sample_rate = sampling_frequency(&mut bits)?;
        let channel_configuration = bits.u(4)? as u8;
        let mut sbr_sample_rate = None;
        let parametric_stereo = object_type == PS;
        if object_type == SBR || object_type == PS {
            sbr_sample_rate = Some(sampling_frequency(&mut bits)?);
            object_type = self::object_type(&mut bits)?;
        }
        let mut frame_length = 1024;
        let mut channels = match channel_configuration {
            0 => 0,
            n @ 1..=6 => n,
            11 => 7,
            7 | 12 | 14 => 8,
            _ => return Err(Error::Malformed(CONFIG)),
        };
        // The general audio types carry the frame length and the channel layout.
        if matches!(object_type, 1..=4 | 6 | 7 | 17 | 19..=23) {
            if bits.bit()? {
                frame_length = 960;
            }
            if bits.bit()? {
                bits.skip(14)?;
            }
            bits.skip(1)?;
            if channel_configuration == 0 {
                channels = program_config_channels(&mut bits)?;
            }
        }
        Ok(Self {
            object_type,
            sample_rate,
            channels,
            channel_configuration,
            sbr_sample_rate,
            parametric_stereo,
            frame_length,
        })
    }

    /// RFC 6381 codec string: `mp4a.40.N`.
    #[must_use]
    pub fn codec_string(&self) -> String {
        let signalled = match (self.parametric_stereo, self.sbr_sample_rate) {
            (true, _) => PS,
            (false, Some(_)) => SBR,
            (false, None) => self.object_type,
        };
        format!("mp4a.40.{signalled}")
    }
}

fn object_type(bits: &mut Bits<'_>) -> Result<u8, Error> {
    const ESCAPE: u32 = 31;
    // Both forms are under 96.
    Ok(match bits.u(5)? {
        ESCAPE => 32 + bits.u(6)?,
        value => value,
    } as u8)
}

fn sampling_frequency(bits: &mut Bits<'_>) -> Result<u32, Error> {
    const EXPLICIT: usize = 15;
    let rate = match bits.u(4)? as usize {
        EXPLICIT => bits.u(24)?,
        index => SAMPLE_RATES.get(index).copied().unwrap_or(0),
    };
    if rate == 0 { Err(bits.malformed()) } else { Ok(rate) }
}

/// Channels of a program config element.
fn program_config_channels(bits: &mut Bits<'_>) -> Result<u8, Error> {
    bits.skip(4 + 2 + 4)?;
    let elements = [bits.u(4)?, bits.u(4)?, bits.u(4)?];
    let lfe = bits.u(2)?;
    let associated_data = bits.u(3)?;
    let coupling = bits.u(4)?;
    for mixdown_bits in [4, 4, 3] {
        if bits.bit()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = lfe;
    for _ in 0..elements.iter().sum() {
        // A pair or a single channel, and its tag.
        channels += 1 + u32::from(bits.bit()?);
        bits.skip(4)?;
    }
    bits.skip(4 * lfe as usize + 4 * associated_data as usize + 5 * coupling as usize)?;
    u8::try_from(channels).map_err(|_| bits.malformed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Audio, Error> {
        Audio::parse(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn aac() {
        let header = parse(&[0xaf, 0, 0x12, 0x10]).unwrap();
        let AudioPacket::SequenceHeader(config) = header.packet else {
            panic!("not a sequence header")
        };
        let config = AudioSpecificConfig::parse(&config).unwrap();
        assert_eq!(
            (config.object_type, config.sample_rate, config.channels),
            (2, 44_100, 2)
        );
        assert_eq!(
            (config.codec_string().as_str(), config.frame_length),
            ("mp4a.40.2", 1024)
        );
        assert_eq!(
            parse(&[0xaf, 1, 9]).unwrap().packet,
            AudioPacket::Frame(Bytes::from_static(&[9]))
        );
    }

    #[test]
    fn surround_and_high_efficiency() {
        // ffmpeg's 5.1 at 48 kHz.
        let surround = AudioSpecificConfig::parse(&[0x11, 0xb0, 0x56, 0xe5, 0x00]).unwrap();
        assert_eq!((surround.channels, surround.sample_rate), (6, 48_000));
        // Object type 5, core 22.05 kHz stereo, replicated to 44.1 kHz, core AAC-LC.
        let he = AudioSpecificConfig::parse(&[0x2b, 0x92, 0x08, 0x00]).unwrap();
        assert_eq!(
            (he.object_type, he.sample_rate, he.sbr_sample_rate),
            (2, 22_050, Some(44_100))
        );
        assert_eq!(he.codec_string(), "mp4a.40.5");
    }

    #[test]
    fn other_codecs_are_named() {
        assert_eq!(parse(&[0x2f, 1]).unwrap().codec, AudioCodec::Mp3);
        assert_eq!(parse(b"\x91Opusx").unwrap().packet, AudioPacket::Frame("x".into()));
        assert_eq!(parse(b"\x90fLaC").unwrap().codec.to_string(), "fLaC");
        assert_eq!(parse(b"").unwrap_err(), Error::Truncated(WHAT));
        assert_eq!(parse(&[0xaf]).unwrap_err(), Error::Truncated(WHAT));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            parse(&bytes).ok();
            AudioSpecificConfig::parse(&bytes).ok();
        }
    }
}
