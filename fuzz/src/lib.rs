//! What the parsers of the network must hold to, whatever comes in: none panics,
//! keeps more than its limits, or reads back something else than was written.
//!
//! Each function takes any bytes and panics when something does not hold.
//! `just fuzz` feeds them with libFuzzer, which looks for new ways through the
//! code; the tests of this crate feed them with random bytes.

use bytes::{Bytes, BytesMut};
use castlog_flv::{Audio, AudioPacket, Reader, Video, VideoPacket, avc::DecoderConfig};
use castlog_rtmp_core::{Error, Event, Limits, Phase, Refusal, Session, amf0, chunk};

/// AMF0: what was read is read again from what it is written as.
///
/// # Panics
/// It is not.
pub fn amf(bytes: &[u8]) {
    let Ok(values) = amf0::read_all(bytes) else { return };
    let write = |values: &[amf0::Value]| {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| value.write(&mut out));
        out
    };
    let written = write(&values);
    // Numbers may be no numbers, which equal nothing: the bytes are compared.
    let again = amf0::read_all(&written).map(|values| write(&values));
    assert_eq!(again, Ok(written), "what was written reads otherwise");
}

/// RTMP chunks: a message that was read is read again from what it is written as.
///
/// # Panics
/// It is not.
pub fn chunk(bytes: &[u8]) {
    let Ok(messages) = chunk::read_all(bytes) else { return };
    for message in messages {
        let mut out = BytesMut::new();
        let is_control = message.type_id == castlog_rtmp_core::type_id::SET_CHUNK_SIZE;
        chunk::Writer::default().write(3, &message, &mut out);
        // A chunk size that was refused the first time did not come this far.
        assert!(
            is_control || chunk::read_all(&out) == Ok(vec![message]),
            "what was written reads otherwise"
        );
    }
}

/// FLV and the headers inside: whatever the cuts, the same tags come out.
///
/// # Panics
/// They do not.
pub fn flv(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = Reader::new();
        let mut items = Vec::new();
        for piece in bytes.chunks(size.max(1)) {
            reader.push(piece);
            loop {
                match reader.next() {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(error) => return (items, Some(error)),
                }
            }
        }
        (items, None)
    };
    assert_eq!(read(bytes.len()), read(7), "the cuts change what is read");
    let data = Bytes::copy_from_slice(bytes);
    if let Ok(Video {
        packet: VideoPacket::SequenceHeader(header),
        ..
    }) = Video::parse(&data)
        && let Ok(config) = DecoderConfig::parse(&header)
    {
        config.parse_sps().ok();
        assert!(config.codec_string().starts_with("avc1."));
    }
    if let Ok(Audio {
        packet: AudioPacket::SequenceHeader(header),
        ..
    }) = Audio::parse(&data)
        && let Ok(config) = castlog_flv::AudioSpecificConfig::parse(&header)
    {
        assert!(config.codec_string().starts_with("mp4a."));
    }
}

/// A whole session: the first byte says whether its requests are granted, and in what
/// pieces the rest comes. Past its end it says nothing more, and both ways in are one.
///
/// # Panics
/// It holds more than its limits allow, says something past its end, or says something
/// else of bytes that it is handed another way.
pub fn session(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else {
        return;
    };
    let limits = Limits::default();
    let (mut pushed, mut received) = (Session::new(limits, 1), Session::new(limits, 1));
    for piece in rest.chunks(usize::from(how >> 1) * 64 + 1) {
        let grant = how & 1 == 1;
        let mut input = piece;
        let events = said(&mut received, grant, |session| session.receive(&mut input));
        if pushed.push(piece).is_err() {
            assert_eq!(pushed.poll().ok().flatten(), None, "it goes on after an error");
            return;
        }
        let same = said(&mut pushed, grant, Session::poll);
        assert_eq!(events, same, "what comes in another way says something else");
        if same.1.is_err() {
            assert_eq!((pushed.phase(), received.phase()), (Phase::Finished, Phase::Finished));
            return;
        }
        for session in [&mut pushed, &mut received] {
            assert!(
                session.take_output().len() <= limits.max_output,
                "it holds too much for the peer"
            );
        }
    }
}

/// The events until there are no more, with requests answered, and how they end.
fn said(
    session: &mut Session,
    grant: bool,
    mut next: impl FnMut(&mut Session) -> Result<Option<Event>, Error>,
) -> (Vec<Event>, Result<(), Error>) {
    let mut events = Vec::new();
    loop {
        match next(session) {
            Ok(None) => return (events, Ok(())),
            Err(error) => return (events, Err(error)),
            Ok(Some(event)) => {
                match &event {
                    Event::ConnectRequested(_) | Event::PublishRequested(_) if grant => session.accept(),
                    Event::ConnectRequested(_) | Event::PublishRequested(_) => session.reject(&Refusal::new("no")),
                    Event::Media(_) => assert_eq!(session.phase(), Phase::Publishing, "media before its time"),
                    Event::Unpublished | Event::Unsupported { .. } => {}
                }
                events.push(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use castlog_rtmp_core::{Message, type_id};
    use proptest::prelude::*;

    /// Bytes that come far: a handshake, and messages of every type.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let message = (
            any::<u8>(),
            any::<u32>(),
            0..3_u32,
            prop::collection::vec(any::<u8>(), 0..300),
        );
        let known = prop::sample::select(vec![
            type_id::SET_CHUNK_SIZE,
            type_id::COMMAND_AMF0,
            type_id::DATA_AMF0,
            type_id::AUDIO,
            type_id::VIDEO,
        ]);
        let messages = prop::collection::vec((message, known, any::<bool>()), 0..12);
        (any::<u8>(), messages).prop_map(|(how, messages)| {
            let mut bytes = bytes::BytesMut::from(&[how, 3][..]);
            bytes.extend_from_slice(&[7; 1536 * 2]);
            for ((any_type, timestamp, stream_id, payload), known, use_known) in messages {
                let message = Message {
                    timestamp,
                    type_id: if use_known { known } else { any_type },
                    stream_id,
                    payload: payload.into(),
                };
                castlog_rtmp_core::chunk::Writer::default().write(3, &message, &mut bytes);
            }
            bytes.to_vec()
        })
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            super::amf(&bytes);
            super::chunk(&bytes);
            super::flv(&bytes);
            super::session(&bytes);
        }

        #[test]
        fn almost_a_conversation(bytes in conversation()) {
            super::session(&bytes);
            super::chunk(bytes.get(3074..).unwrap_or_default());
        }
    }
}
