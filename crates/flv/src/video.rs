//! The body of a video tag: the legacy header with a codec id, and the extended
//! header of Enhanced RTMP with a fourcc.

use bytes::{Buf, Bytes};

use crate::{Error, FourCc};

const WHAT: &str = "video tag";

/// Whether a decoder can start at a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameType {
    /// A decoder can start here.
    Key,
    /// Needs frames before it.
    Inter,
    /// Needs frames before it and can be dropped.
    DisposableInter,
    /// A keyframe that a server made, which encoders do not send.
    GeneratedKey,
    /// A command to the player, without a frame.
    Command,
    /// A value outside the specification.
    Other(u8),
}

/// The codec of a video tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// H.264, under its legacy id or as `avc1`.
    Avc,
    /// H.265, as `hvc1` or under the id 12 that some encoders use.
    Hevc,
    /// AV1, as `av01`.
    Av1,
    /// VP9, as `vp09`.
    Vp9,
    /// VP8, as `vp08`.
    Vp8,
    /// H.266, as `vvc1`.
    Vvc,
    /// Another fourcc.
    Other(FourCc),
    /// Another legacy codec id, such as Sorenson H.263 (2) or VP6 (4).
    Legacy(u8),
    /// Tracks of several codecs in one tag: each names its own.
    Many,
}

impl VideoCodec {
    const fn from_fourcc(fourcc: [u8; 4]) -> Self {
        match &fourcc {
            b"avc1" => Self::Avc,
            b"hvc1" => Self::Hevc,
            b"av01" => Self::Av1,
            b"vp09" => Self::Vp9,
            b"vp08" => Self::Vp8,
            b"vvc1" => Self::Vvc,
            _ => Self::Other(FourCc(fourcc)),
        }
    }
}

impl std::fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Avc => f.write_str("H.264"),
            Self::Hevc => f.write_str("H.265"),
            Self::Av1 => f.write_str("AV1"),
            Self::Vp9 => f.write_str("VP9"),
            Self::Vp8 => f.write_str("VP8"),
            Self::Vvc => f.write_str("H.266"),
            Self::Other(fourcc) => write!(f, "{fourcc}"),
            Self::Legacy(id) => write!(f, "FLV video codec {id}"),
            Self::Many => f.write_str("several codecs"),
        }
    }
}

/// What a video tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoPacket {
    /// The decoder configuration; for AVC an [`avc::DecoderConfig`](crate::avc::DecoderConfig).
    SequenceHeader(Bytes),
    /// One access unit; for AVC, NAL units with a length before each.
    Frame {
        /// Presentation time minus decode time in milliseconds.
        composition_time_ms: i32,
        /// The access unit.
        data: Bytes,
    },
    /// No frame follows under the current configuration.
    EndOfSequence,
    /// Colour information and the like, in AMF0.
    Metadata(Bytes),
    /// Several tracks in one tag (Enhanced RTMP), not taken apart.
    Multitrack(Bytes),
    /// A command or a packet type without meaning here.
    Other(Bytes),
}

/// A video tag's body, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// Whether a decoder can start here.
    pub frame_type: FrameType,
    /// The codec.
    pub codec: VideoCodec,
    /// Enhanced RTMP's header was used.
    pub extended: bool,
    /// The content.
    pub packet: VideoPacket,
}

impl Video {
    /// Parses the body of a video tag. The packet's bytes share `data`'s memory.
    ///
    /// # Errors
    /// The body is truncated or malformed.
    pub fn parse(data: &Bytes) -> Result<Self, Error> {
        let mut rest = data.clone();
        let first = take_u8(&mut rest)?;
        let frame_type = match first >> 4 & 0b111 {
            1 => FrameType::Key,
            2 => FrameType::Inter,
            3 => FrameType::DisposableInter,
            4 => FrameType::GeneratedKey,
            5 => FrameType::Command,
            other => FrameType::Other(other),
        };
        if first & 0x80 != 0 {
            extended(frame_type, first & 0x0f, rest)
        } else {
            legacy(frame_type, first & 0x0f, rest)
        }
    }

    /// A frame at which a decoder can start.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.frame_type == FrameType::Key && matches!(self.packet, VideoPacket::Frame { .. })
    }

    /// A decoder configuration.
    #[must_use]
    pub const fn is_sequence_header(&self) -> bool {
        matches!(self.packet, VideoPacket::SequenceHeader(_))
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

/// A signed 24-bit number.
fn take_i24(rest: &mut Bytes) -> Result<i32, Error> {
    if rest.len() < 3 {
        return Err(Error::Truncated(WHAT));
    }
    // Three bytes sign-extended fit.
    Ok(rest.get_int(3) as i32)
}

fn legacy(frame_type: FrameType, codec: u8, mut rest: Bytes) -> Result<Video, Error> {
    let codec = match codec {
        7 => VideoCodec::Avc,
        12 => VideoCodec::Hevc,
        other => VideoCodec::Legacy(other),
    };
    let packet = if frame_type == FrameType::Command {
        VideoPacket::Other(rest)
    } else if let VideoCodec::Legacy(_) = codec {
        VideoPacket::Frame {
            composition_time_ms: 0,
            data: rest,
        }
    } else {
        let packet_type = take_u8(&mut rest)?;
        let composition_time_ms = take_i24(&mut rest)?;
        match packet_type {
            0 => VideoPacket::SequenceHeader(rest),
            1 => VideoPacket::Frame {
                composition_time_ms,
                data: rest,
            },
            2 => VideoPacket::EndOfSequence,
            _ => return Err(Error::Malformed(WHAT)),
        }
    };
    Ok(Video {
        frame_type,
        codec,
        extended: false,
        packet,
    })
}

/// Packet types of the extended header.
mod packet_type {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const METADATA: u8 = 4;
    pub(super) const MULTITRACK: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

/// Skips the modifiers before the real packet type, which it returns.
pub(crate) fn skip_modifiers(rest: &mut Bytes, what: &'static str) -> Result<u8, Error> {
    loop {
        if rest.is_empty() {
            return Err(Error::Truncated(what));
        }
        let mut size = usize::from(rest.get_u8()) + 1;
        if size == 256 {
            if rest.len() < 2 {
                return Err(Error::Truncated(what));
            }
            size = usize::from(rest.get_u16()) + 1;
        }
        // The modifier and the byte with its type and the next packet type.
        if rest.len() < size + 1 {
            return Err(Error::Truncated(what));
        }
        rest.advance(size);
        let next = rest.get_u8() & 0x0f;
        if next != packet_type::MOD_EX {
            return Ok(next);
        }
    }
}

fn extended(frame_type: FrameType, mut packet_type: u8, mut rest: Bytes) -> Result<Video, Error> {
    if packet_type == packet_type::MOD_EX {
        packet_type = skip_modifiers(&mut rest, WHAT)?;
    }
    if frame_type == FrameType::Command && packet_type != packet_type::METADATA {
        let codec = VideoCodec::Many;
        return Ok(Video {
            frame_type,
            codec,
            extended: true,
            packet: VideoPacket::Other(rest),
        });
    }
    if packet_type == packet_type::MULTITRACK {
        /// Each track names its own codec.
        const MANY_TRACKS_MANY_CODECS: u8 = 2;
        let multitrack_type = take_u8(&mut rest)? >> 4;
        let codec = if multitrack_type == MANY_TRACKS_MANY_CODECS {
            VideoCodec::Many
        } else {
            VideoCodec::from_fourcc(take_fourcc(&mut rest)?)
        };
        return Ok(Video {
            frame_type,
            codec,
            extended: true,
            packet: VideoPacket::Multitrack(rest),
        });
    }
    let codec = VideoCodec::from_fourcc(take_fourcc(&mut rest)?);
    let packet = match packet_type {
        packet_type::SEQUENCE_START => VideoPacket::SequenceHeader(rest),
        packet_type::CODED_FRAMES => {
            // Only codecs with reordered output carry the difference.
            let reorders = matches!(codec, VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Vvc);
            let composition_time_ms = if reorders { take_i24(&mut rest)? } else { 0 };
            VideoPacket::Frame {
                composition_time_ms,
                data: rest,
            }
        }
        packet_type::SEQUENCE_END => VideoPacket::EndOfSequence,
        packet_type::CODED_FRAMES_X => VideoPacket::Frame {
            composition_time_ms: 0,
            data: rest,
        },
        packet_type::METADATA => VideoPacket::Metadata(rest),
        _ => VideoPacket::Other(rest),
    };
    Ok(Video {
        frame_type,
        codec,
        extended: true,
        packet,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Video, Error> {
        Video::parse(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn avc() {
        let header = parse(&[0x17, 0, 0, 0, 0, 1, 2]).unwrap();
        assert!(header.is_sequence_header() && !header.is_keyframe());
        let frame = parse(&[0x27, 1, 0xff, 0xff, 0xd8, 9]).unwrap();
        assert_eq!(
            frame.packet,
            VideoPacket::Frame {
                composition_time_ms: -40,
                data: Bytes::from_static(&[9])
            }
        );
        assert_eq!((frame.frame_type, frame.codec), (FrameType::Inter, VideoCodec::Avc));
        assert!(parse(&[0x17, 1, 0, 0, 80, 9]).unwrap().is_keyframe());
        assert_eq!(parse(&[0x17, 2, 0, 0, 0]).unwrap().packet, VideoPacket::EndOfSequence);
    }

    #[test]
    fn enhanced_codecs_are_named() {
        let hevc = parse(b"\x91hvc1\x00\x00\x28x").unwrap();
        assert_eq!(
            (hevc.codec, hevc.is_keyframe(), hevc.extended),
            (VideoCodec::Hevc, true, true)
        );
        assert_eq!(
            hevc.packet,
            VideoPacket::Frame {
                composition_time_ms: 40,
                data: Bytes::from_static(b"x")
            }
        );
        assert_eq!(
            parse(b"\xa3hvc1x").unwrap().packet,
            VideoPacket::Frame {
                composition_time_ms: 0,
                data: "x".into()
            }
        );
        let av1 = parse(b"\x90av01cfg").unwrap();
        assert_eq!(
            (av1.codec, av1.packet),
            (VideoCodec::Av1, VideoPacket::SequenceHeader("cfg".into()))
        );
        assert_eq!(parse(b"\x90zzzz").unwrap().codec.to_string(), "zzzz");
        // A two-byte modifier, then coded frames.
        assert_eq!(
            parse(b"\x97\x01ab\x01avc1\x00\x00\x00x").unwrap().codec,
            VideoCodec::Avc
        );
        assert_eq!(
            parse(b"\x96\x00hvc1\x00").unwrap().packet,
            VideoPacket::Multitrack(Bytes::from_static(&[0]))
        );
    }

    #[test]
    fn truncated_bodies_are_told() {
        for bytes in [
            &b""[..],
            b"\x17",
            b"\x17\x01\x00",
            b"\x91hvc",
            b"\x91hvc1\x00",
            b"\x97\x05a",
            b"\x97\xff\xff",
            b"\x96",
        ] {
            assert_eq!(parse(bytes), Err(Error::Truncated(WHAT)), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            parse(&bytes).ok();
        }
    }
}
