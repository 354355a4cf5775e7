//! From FLV bytes to [`Packet`]s. Bodies that cannot be read are skipped and
//! counted: one damaged message must not end a broadcast. Damage to the
//! framing itself is an error, for nothing behind it can be trusted.

use castlog_flv::{Audio, AudioCodec, AudioPacket, Error, Item, Reader, Tag, TagKind, Video, VideoCodec, VideoPacket};

use crate::media::{Packet, Track};

/// Takes the bytes of an FLV stream and yields packets.
#[derive(Debug, Default)]
pub struct Packets {
    reader: Reader,
    skipped: u64,
}

impl Packets {
    /// Adds the next bytes. Take all packets with [`Self::next`] first.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// The next packet; `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Packet>, Error> {
        while let Some(item) = self.reader.next()? {
            let Item::Tag(tag) = item else { continue };
            match packet(&tag) {
                Ok(Some(packet)) => return Ok(Some(packet)),
                Ok(None) => {}
                Err(_) => self.skipped += 1,
            }
        }
        Ok(None)
    }

    /// Tags skipped because their body could not be read.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// What a tag means to the pipeline, if anything.
fn packet(tag: &Tag) -> Result<Option<Packet>, Error> {
    let timestamp = tag.timestamp;
    Ok(match tag.kind {
        TagKind::Script => None,
        TagKind::Video => {
            let video = Video::parse(&tag.data)?;
            match video.packet {
                VideoPacket::Metadata(_) | VideoPacket::Other(_) | VideoPacket::EndOfSequence => None,
                _ if video.codec != VideoCodec::Avc => Some(unsupported(Track::Video, video.codec)),
                VideoPacket::Multitrack(_) => Some(unsupported(Track::Video, "multitrack H.264")),
                VideoPacket::SequenceHeader(config) => Some(Packet::VideoConfig(config)),
                VideoPacket::Frame { data, .. } if data.is_empty() => None,
                VideoPacket::Frame {
                    composition_time_ms,
                    data,
                } => Some(Packet::Video {
                    timestamp,
                    composition: composition_time_ms,
                    data,
                }),
            }
        }
        TagKind::Audio => {
            let audio = Audio::parse(&tag.data)?;
            match audio.packet {
                AudioPacket::Other(_) | AudioPacket::EndOfSequence => None,
                _ if audio.codec != AudioCodec::Aac => Some(unsupported(Track::Audio, audio.codec)),
                AudioPacket::Multitrack(_) => Some(unsupported(Track::Audio, "multitrack AAC")),
                AudioPacket::SequenceHeader(config) => Some(Packet::AudioConfig(config)),
                AudioPacket::Frame(data) if data.is_empty() => None,
                AudioPacket::Frame(data) => Some(Packet::Audio { timestamp, data }),
            }
        }
    })
}

fn unsupported(track: Track, codec: impl ToString) -> Packet {
    Packet::Unsupported {
        track,
        codec: codec.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use castlog_flv::Header;

    fn packets(tags: &[(TagKind, &[u8])]) -> (Vec<Packet>, u64) {
        let mut bytes = BytesMut::new();
        Header {
            audio: true,
            video: true,
        }
        .write(&mut bytes);
        for (kind, data) in tags {
            Tag {
                kind: *kind,
                timestamp: 40,
                data: Bytes::copy_from_slice(data),
            }
            .write(&mut bytes);
        }
        let mut reader = Packets::default();
        reader.push(&bytes);
        let packets = std::iter::from_fn(|| reader.next().unwrap()).collect();
        (packets, reader.skipped())
    }

    #[test]
    fn reads_both_tracks_and_skips_damage() {
        let (packets, skipped) = packets(&[
            (TagKind::Script, b"\x02\x00\x0aonMetaData"),
            (TagKind::Video, &[0x17, 0, 0, 0, 0, 1, 2]),
            (TagKind::Video, &[0x27, 1, 0, 0, 80, 9]),
            (TagKind::Video, &[0x27]),
            (TagKind::Audio, &[0xaf, 0, 0x12, 0x10]),
            (TagKind::Audio, &[0xaf, 1, 7]),
            (TagKind::Audio, &[0xaf, 1]),
        ]);
        assert_eq!(
            packets,
            [
                Packet::VideoConfig(Bytes::from_static(&[1, 2])),
                Packet::Video {
                    timestamp: 40,
                    composition: 80,
                    data: Bytes::from_static(&[9])
                },
                Packet::AudioConfig(Bytes::from_static(&[0x12, 0x10])),
                Packet::Audio {
                    timestamp: 40,
                    data: Bytes::from_static(&[7])
                },
            ]
        );
        assert_eq!(skipped, 1);
    }

    #[test]
    fn both_kinds_of_headers_give_the_same_packets() {
        let (legacy, _) = packets(&[
            (TagKind::Video, b"\x17\0\0\0\0\x01\x02"),
            (TagKind::Video, b"\x17\x01\0\0\x28x"),
            (TagKind::Video, b"\x27\x01\0\0\0x"),
            (TagKind::Audio, b"\xaf\0\x12\x10"),
            (TagKind::Audio, b"\xaf\x01\x01"),
        ]);
        let (enhanced, skipped) = packets(&[
            (TagKind::Video, b"\x90avc1\x01\x02"),
            (TagKind::Video, b"\x91avc1\0\0\x28x"),
            (TagKind::Video, b"\xa3avc1x"),
            (TagKind::Audio, b"\x90mp4a\x12\x10"),
            (TagKind::Audio, b"\x91mp4a\x01"),
        ]);
        assert_eq!(enhanced, legacy);
        assert_eq!((enhanced.len(), skipped), (5, 0));
        assert!(matches!(enhanced[1], Packet::Video { composition: 40, .. }));
    }

    #[test]
    fn names_codecs_it_does_not_take() {
        let (packets, _) = packets(&[(TagKind::Video, &[0x22, 0, 0, 0]), (TagKind::Audio, &[0x2f, 1, 2])]);
        assert!(matches!(&packets[0], Packet::Unsupported { track: Track::Video, codec } if codec.contains('2')));
        assert!(matches!(&packets[1], Packet::Unsupported { track: Track::Audio, codec } if codec == "MP3"));
    }
}
