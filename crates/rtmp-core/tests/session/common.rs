//! An encoder's half of a connection, as bytes.

use bytes::{BufMut, Bytes, BytesMut};
use castlog_rtmp_core::{Error, Event, Limits, Message, Session, amf0::Value, chunk::Writer, type_id};

/// Values as a message body.
pub(crate) fn amf(values: &[Value]) -> Bytes {
    let mut out = BytesMut::new();
    for value in values {
        value.write(&mut out);
    }
    out.freeze()
}

/// A message as an encoder with the default chunk size sends it.
pub(crate) fn message(
    chunk_stream: u8,
    type_id: u8,
    stream_id: u32,
    timestamp: u32,
    payload: impl Into<Bytes>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Message {
        timestamp,
        type_id,
        stream_id,
        payload: payload.into(),
    };
    Writer::default().write(chunk_stream, &message, &mut out);
    out
}

pub(crate) fn command(stream_id: u32, values: &[Value]) -> Vec<u8> {
    message(3, type_id::COMMAND_AMF0, stream_id, 0, amf(values))
}

/// A chunk with a header of 24-bit times; `fields` are time, length, type, stream id.
pub(crate) fn raw_chunk(format: u8, chunk_stream: u8, fields: (u32, u32, u8, u32), payload: &[u8]) -> Vec<u8> {
    let mut out = vec![format << 6 | chunk_stream];
    let (time, length, type_id, stream_id) = fields;
    if format < 3 {
        out.put_uint(u64::from(time), 3);
    }
    if format < 2 {
        out.put_uint(u64::from(length), 3);
        out.put_u8(type_id);
    }
    if format < 1 {
        out.put_u32_le(stream_id);
    }
    out.extend_from_slice(payload);
    out
}

pub(crate) fn handshake() -> Vec<u8> {
    let mut out = vec![3];
    out.extend((0..3072_u32).map(|i| (i * 7) as u8));
    out
}

pub(crate) fn connect() -> Vec<u8> {
    let members = [
        ("app", "live"),
        ("flashVer", "FMLE/3.0 (test)"),
        ("tcUrl", "rtmp://h/live"),
    ];
    let members = members.map(|(name, text)| (name.to_owned(), text.into())).to_vec();
    command(0, &["connect".into(), 1.0.into(), Value::Object(members)])
}

/// Everything up to and including `publish`.
pub(crate) fn publish_prelude() -> Vec<u8> {
    let mut out = handshake();
    out.extend(connect());
    out.extend(command(
        0,
        &["releaseStream".into(), 2.0.into(), Value::Null, "ck_key".into()],
    ));
    out.extend(command(
        0,
        &["FCPublish".into(), 3.0.into(), Value::Null, "ck_key".into()],
    ));
    out.extend(command(0, &["createStream".into(), 4.0.into(), Value::Null]));
    out.extend(command(
        1,
        &[
            "publish".into(),
            5.0.into(),
            Value::Null,
            "ck_key".into(),
            "live".into(),
        ],
    ));
    out
}

/// Feeds `chunks` and says yes to every request.
pub(crate) fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Session, Result<(), Error>) {
    let mut session = Session::new(Limits::default(), 7);
    let mut events = Vec::new();
    let result = chunks.into_iter().try_for_each(|chunk| {
        session.push(chunk)?;
        while let Some(event) = session.poll()? {
            if matches!(event, Event::ConnectRequested(_) | Event::PublishRequested(_)) {
                session.accept();
            }
            events.push(event);
        }
        Ok(())
    });
    (events, session, result)
}

/// What [`run`] does, by [`Session::receive`].
pub(crate) fn run_received<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Session, Result<(), Error>) {
    let mut session = Session::new(Limits::default(), 7);
    let mut events = Vec::new();
    let result = chunks.into_iter().try_for_each(|mut chunk| {
        while let Some(event) = session.receive(&mut chunk)? {
            if matches!(event, Event::ConnectRequested(_) | Event::PublishRequested(_)) {
                assert!(chunk.is_empty(), "{} bytes wait outside for an answer", chunk.len());
                session.accept();
            }
            events.push(event);
        }
        assert!(chunk.is_empty(), "{} bytes are left", chunk.len());
        Ok(())
    });
    (events, session, result)
}
