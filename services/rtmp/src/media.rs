//! What a tag is to the server: a header to keep, a frame to pass on, or a codec
//! that is not taken.

use castlog_flv::{Audio, AudioCodec, AudioPacket, FrameType, Tag, TagKind, Video, VideoCodec, VideoPacket};

use crate::{Code, Refused};

/// The role of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Describes the stream; the newest one counts.
    Metadata,
    /// Video decoder configuration; the newest one counts.
    VideoHeader,
    /// Audio decoder configuration; the newest one counts.
    AudioHeader,
    /// A video frame at which a decoder can start.
    Keyframe,
    /// Another video frame.
    Video,
    /// An audio frame.
    Audio,
    /// Nothing that a reader needs.
    Nothing,
}

/// The role of a tag, or why its stream is not taken.
///
/// A tag that cannot be parsed is nothing: one broken message does not end a stream.
pub(crate) fn role(tag: &Tag) -> Result<Role, Refused> {
    match tag.kind {
        TagKind::Script => Ok(Role::Metadata),
        TagKind::Video => Video::parse(&tag.data).map_or(Ok(Role::Nothing), |video| video_role(&video)),
        TagKind::Audio => Audio::parse(&tag.data).map_or(Ok(Role::Nothing), |audio| audio_role(&audio)),
    }
}

fn video_role(video: &Video) -> Result<Role, Refused> {
    if video.frame_type == FrameType::Command {
        return Ok(Role::Nothing);
    }
    if video.codec != VideoCodec::Avc {
        let reason = format!("video codec {} is not taken, send H.264", video.codec);
        return Err(Refused::new(Code::UnsupportedCodec, reason));
    }
    match video.packet {
        VideoPacket::SequenceHeader(_) => Ok(Role::VideoHeader),
        VideoPacket::Frame { .. } if video.frame_type == FrameType::Key => Ok(Role::Keyframe),
        VideoPacket::Frame { .. } => Ok(Role::Video),
        VideoPacket::Multitrack(_) => Err(Refused::new(
            Code::UnsupportedCodec,
            "several video tracks are not taken, send one",
        )),
        VideoPacket::EndOfSequence | VideoPacket::Metadata(_) | VideoPacket::Other(_) => Ok(Role::Nothing),
    }
}

fn audio_role(audio: &Audio) -> Result<Role, Refused> {
    if audio.codec != AudioCodec::Aac {
        let reason = format!("audio codec {} is not taken, send AAC", audio.codec);
        return Err(Refused::new(Code::UnsupportedCodec, reason));
    }
    match audio.packet {
        AudioPacket::SequenceHeader(_) => Ok(Role::AudioHeader),
        AudioPacket::Frame(_) => Ok(Role::Audio),
        AudioPacket::Multitrack(_) => Err(Refused::new(
            Code::UnsupportedCodec,
            "several audio tracks are not taken, send one",
        )),
        AudioPacket::EndOfSequence | AudioPacket::Other(_) => Ok(Role::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(kind: TagKind, data: &'static [u8]) -> Result<Role, String> {
        role(&Tag {
            kind,
            timestamp: 0,
            data: data.into(),
        })
        .map_err(|refused| refused.to_string())
    }

    #[test]
    fn roles() {
        assert_eq!(role_of(TagKind::Video, &[0x17, 0, 0, 0, 0, 1]), Ok(Role::VideoHeader));
        assert_eq!(role_of(TagKind::Video, &[0x17, 1, 0, 0, 0, 1]), Ok(Role::Keyframe));
        assert_eq!(role_of(TagKind::Video, &[0x27, 1, 0, 0, 0, 1]), Ok(Role::Video));
        assert_eq!(role_of(TagKind::Video, &[0x17, 2, 0, 0, 0]), Ok(Role::Nothing));
        assert_eq!(role_of(TagKind::Video, &[0x17]), Ok(Role::Nothing));
        assert_eq!(role_of(TagKind::Audio, &[0xaf, 0, 0x12, 0x10]), Ok(Role::AudioHeader));
        assert_eq!(role_of(TagKind::Audio, &[0xaf, 1, 1]), Ok(Role::Audio));
    }

    #[test]
    fn other_codecs_are_named_in_the_refusal() {
        let hevc = role_of(TagKind::Video, b"\x90hvc1x").unwrap_err();
        assert_eq!(hevc, "R05: video codec H.265 is not taken, send H.264");
        let mp3 = role_of(TagKind::Audio, &[0x2f, 1]).unwrap_err();
        assert_eq!(mp3, "R05: audio codec MP3 is not taken, send AAC");
    }
}
