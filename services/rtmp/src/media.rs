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
    if let Some(frame) = plain_frame(tag) {
        return Ok(frame);
    }
    match tag.kind {
        TagKind::Script => Ok(Role::Metadata),
        TagKind::Video => Video::parse(&tag.data).map_or(Ok(Role::Nothing), |video| video_role(&video)),
        TagKind::Audio => Audio::parse(&tag.data).map_or(Ok(Role::Nothing), |audio| audio_role(&audio)),
    }
}

/// The role of an H.264 or AAC frame under its legacy header, which almost every tag
/// is; the parsers say the same with more effort.
fn plain_frame(tag: &Tag) -> Option<Role> {
    match (tag.kind, &tag.data[..]) {
        (TagKind::Video, [0x17, 1, _, _, _, ..]) => Some(Role::Keyframe),
        (TagKind::Video, [0x27, 1, _, _, _, ..]) => Some(Role::Video),
        (TagKind::Audio, [0xa0..=0xaf, 1, ..]) => Some(Role::Audio),
        _ => None,
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
    fn roles_under_the_headers_of_enhanced_rtmp() {
        assert_eq!(role_of(TagKind::Video, b"\x90avc1\x01\x02"), Ok(Role::VideoHeader));
        assert_eq!(role_of(TagKind::Video, b"\x91avc1\0\0\x28x"), Ok(Role::Keyframe));
        assert_eq!(role_of(TagKind::Video, b"\xa3avc1x"), Ok(Role::Video));
        assert_eq!(role_of(TagKind::Audio, b"\x90mp4a\x12\x10"), Ok(Role::AudioHeader));
        assert_eq!(role_of(TagKind::Audio, b"\x91mp4a\x01"), Ok(Role::Audio));
    }

    #[test]
    fn the_short_way_says_what_the_parsers_say() {
        for (first, second) in (0..=255).flat_map(|first| (0..4).map(move |second| (first, second))) {
            for size in 0..=7 {
                let data = [first, second, 0, 0, 0, 1, 2][..size].to_vec();
                for kind in [TagKind::Video, TagKind::Audio] {
                    let tag = Tag {
                        kind,
                        timestamp: 0,
                        data: data.clone().into(),
                    };
                    let parsed = match kind {
                        TagKind::Video => Video::parse(&tag.data).map(|video| video_role(&video)),
                        _ => Audio::parse(&tag.data).map(|audio| audio_role(&audio)),
                    };
                    if let Some(frame) = plain_frame(&tag) {
                        assert_eq!(parsed.unwrap().unwrap(), frame, "{kind:?} {data:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_codecs_are_named_in_the_refusal() {
        let hevc = role_of(TagKind::Video, b"\x90hvc1x").unwrap_err();
        assert_eq!(hevc, "R05: video codec H.265 is not taken, send H.264");
        let mp3 = role_of(TagKind::Audio, &[0x2f, 1]).unwrap_err();
        assert_eq!(mp3, "R05: audio codec MP3 is not taken, send AAC");
    }
}
