//! What comes behind the handshake: a publish with every oddity, requests and their
//! answers, and what hostile peers send.

use bytes::Bytes;
use castlog_flv::{Tag, TagKind};
use castlog_rtmp_core::{Error, Event, Limits, Phase, Refusal, Session, amf0, amf0::Value, chunk, type_id};
use proptest::prelude::*;

use crate::common::{amf, command, connect, handshake, message, publish_prelude, raw_chunk, run, run_received};

fn audio(timestamp: u32, data: &[u8]) -> Event {
    Event::Media(Tag {
        kind: TagKind::Audio,
        timestamp,
        data: Bytes::copy_from_slice(data),
    })
}

fn video(timestamp: u32, data: &[u8]) -> Event {
    Event::Media(Tag {
        kind: TagKind::Video,
        timestamp,
        data: Bytes::copy_from_slice(data),
    })
}

/// A publish with every legal oddity, and its media events.
pub(crate) fn quirky_stream() -> (Vec<u8>, Vec<Event>) {
    let mut bytes = publish_prelude();
    let mut events = Vec::new();

    let metadata = amf(&[
        "onMetaData".into(),
        Value::EcmaArray(vec![("width".into(), 1280.0.into())]),
    ]);
    let mut wrapped = amf(&["@setDataFrame".into()]).to_vec();
    wrapped.extend_from_slice(&metadata);
    bytes.extend(message(4, type_id::DATA_AMF0, 1, 0, wrapped));
    events.push(Event::Media(Tag {
        kind: TagKind::Script,
        timestamp: 0,
        data: metadata,
    }));

    // Equal-sized audio: type 3 after type 0 adds nothing, after type 1 the delta.
    bytes.extend(raw_chunk(0, 5, (1000, 2, type_id::AUDIO, 1), &[0xaf, 1]));
    bytes.extend(raw_chunk(3, 5, (0, 0, 0, 0), &[0xaf, 2]));
    bytes.extend(raw_chunk(1, 5, (21, 2, type_id::AUDIO, 0), &[0xaf, 3]));
    bytes.extend(raw_chunk(3, 5, (0, 0, 0, 0), &[0xaf, 4]));
    bytes.extend(raw_chunk(2, 5, (23, 0, 0, 0), &[0xaf, 5]));
    events.extend([
        audio(1000, &[0xaf, 1]),
        audio(1000, &[0xaf, 2]),
        audio(1021, &[0xaf, 3]),
        audio(1042, &[0xaf, 4]),
        audio(1065, &[0xaf, 5]),
    ]);

    // Video cut by the default chunk size, with audio between its chunks.
    let frame: Vec<u8> = (0..300_u32).map(|i| i as u8).collect();
    bytes.extend(raw_chunk(0, 6, (1010, 300, type_id::VIDEO, 1), &frame[..128]));
    bytes.extend(raw_chunk(3, 5, (0, 0, 0, 0), &[0xaf, 6]));
    bytes.extend(raw_chunk(3, 6, (0, 0, 0, 0), &frame[128..256]));
    bytes.extend(raw_chunk(3, 6, (0, 0, 0, 0), &frame[256..]));
    events.extend([audio(1088, &[0xaf, 6]), video(1010, &frame)]);

    // A larger chunk size, and a chunk stream id of three bytes.
    bytes.extend(message(
        2,
        type_id::SET_CHUNK_SIZE,
        0,
        0,
        200_u32.to_be_bytes().to_vec(),
    ));
    let mut long_id = raw_chunk(0, 1, (1050, 300, type_id::VIDEO, 1), &[]);
    long_id.splice(1..1, [10, 1]);
    bytes.extend(long_id);
    bytes.extend(&frame[..200]);
    bytes.extend([0xc1, 10, 1]);
    bytes.extend(&frame[200..]);
    events.push(video(1050, &frame));

    // Extended time, repeated on type 3 (as the specification says) and not.
    let time = 0x0102_0304_u32;
    for repeated in [true, false] {
        bytes.extend(raw_chunk(
            0,
            6,
            (0xff_ffff, 300, type_id::VIDEO, 1),
            &time.to_be_bytes(),
        ));
        bytes.extend(&frame[..200]);
        bytes.extend(raw_chunk(
            3,
            6,
            (0, 0, 0, 0),
            if repeated { &[1, 2, 3, 4] } else { &[] },
        ));
        bytes.extend(&frame[200..]);
        events.push(video(time, &frame));
    }
    // The clock wraps.
    bytes.extend(raw_chunk(
        0,
        5,
        (0xff_ffff, 1, type_id::AUDIO, 1),
        &[0xff, 0xff, 0xff, 0xf0, 0xa1],
    ));
    bytes.extend(raw_chunk(1, 5, (0x20, 1, type_id::AUDIO, 0), &[0xa2]));
    events.extend([audio(0xffff_fff0, &[0xa1]), audio(0x10, &[0xa2])]);

    // An aborted message, an empty one, an unknown one, an acknowledgement window of
    // zero, and a ping.
    bytes.extend(raw_chunk(0, 6, (0, 250, type_id::VIDEO, 1), &frame[..200]));
    bytes.extend(message(2, type_id::ABORT, 0, 0, 6_u32.to_be_bytes().to_vec()));
    bytes.extend(message(6, type_id::VIDEO, 1, 70, Bytes::new()));
    bytes.extend(message(6, 99, 1, 70, vec![1]));
    bytes.extend(message(2, type_id::WINDOW_ACK_SIZE, 0, 0, vec![0; 4]));
    bytes.extend(message(2, type_id::USER_CONTROL, 0, 0, vec![0, 6, 9, 9, 9, 9]));
    bytes.extend(message(6, type_id::VIDEO, 1, 80, vec![0x27, 1]));
    events.push(video(80, &[0x27, 1]));

    bytes.extend(command(
        0,
        &["FCUnpublish".into(), 6.0.into(), Value::Null, "ck_key".into()],
    ));
    bytes.extend(command(
        0,
        &["deleteStream".into(), 7.0.into(), Value::Null, 1.0.into()],
    ));
    events.push(Event::Unpublished);
    (bytes, events)
}

#[test]
fn a_publish_with_every_oddity() {
    let (bytes, expected) = quirky_stream();
    let (events, mut session, result) = run([&bytes[..]]);
    assert_eq!(result, Ok(()));
    let [
        Event::ConnectRequested(connect),
        Event::PublishRequested(publish),
        media @ ..,
    ] = &events[..]
    else {
        panic!("not the expected requests: {events:?}");
    };
    assert_eq!(
        (connect.app.as_str(), connect.encoder.as_str()),
        ("live", "FMLE/3.0 (test)")
    );
    assert_eq!(
        (publish.name.expose(), publish.encoder.as_str()),
        ("ck_key", "FMLE/3.0 (test)")
    );
    assert_eq!(media, expected);
    assert_eq!(session.phase(), Phase::Finished);

    // Behind the handshake: the answers, in order, readable by our own reader.
    let output = session.take_output();
    let messages = chunk::read_all(&output[1 + 2 * 1536..]).unwrap();
    let commands: Vec<_> = messages
        .iter()
        .filter(|m| m.type_id == type_id::COMMAND_AMF0)
        .map(|m| amf0::read_all(&m.payload).unwrap())
        .collect();
    let codes: Vec<_> = commands
        .iter()
        .filter_map(|values| values.get(3).and_then(|info| info.get("code")).and_then(Value::as_str))
        .collect();
    assert_eq!(
        codes,
        [
            "NetConnection.Connect.Success",
            "NetStream.Publish.Start",
            "NetStream.Unpublish.Success"
        ]
    );
    assert!(
        commands.contains(&vec!["_result".into(), 4.0.into(), Value::Null, 1.0.into()]),
        "createStream"
    );
    let pongs = messages.iter().filter(|m| m.payload[..] == [0, 7, 9, 9, 9, 9]).count();
    assert_eq!(pongs, 1);
}

#[test]
fn every_split_gives_the_same_events() {
    let (bytes, _) = quirky_stream();
    let (expected, _, _) = run([&bytes[..]]);
    for at in 1..bytes.len() {
        let (a, b) = bytes.split_at(at);
        let (events, _, result) = run([a, b]);
        assert!(result.is_ok() && events == expected, "split at {at}");
        let (events, _, result) = run_received([a, b]);
        assert!(result.is_ok() && events == expected, "received, split at {at}");
    }
    for size in [1, 2, 3, 7, bytes.len()] {
        let (events, _, result) = run(bytes.chunks(size));
        assert!(result.is_ok() && events == expected, "by {size}");
        let (events, _, result) = run_received(bytes.chunks(size));
        assert!(result.is_ok() && events == expected, "received by {size}");
    }
}

fn refused(prelude: &[u8], accept_connect: bool) -> String {
    let mut session = Session::new(Limits::default(), 1);
    session.push(prelude).expect("a prelude fits");
    while let Some(event) = session.poll().expect("a prelude is valid") {
        if accept_connect && matches!(event, Event::ConnectRequested(_)) {
            session.accept();
        } else {
            session.reject(&Refusal::new("R01 unknown publish key"));
        }
    }
    assert_eq!(session.phase(), Phase::Finished);
    String::from_utf8_lossy(&session.take_output()).into_owned()
}

#[test]
fn refusals_carry_code_and_description() {
    let publish = refused(&publish_prelude(), true);
    assert!(publish.contains("NetStream.Publish.Denied") && publish.contains("R01 unknown publish key"));
    assert!(!publish.contains("NetStream.Publish.Start"));
    let connect = refused(&publish_prelude(), false);
    assert!(connect.contains("NetConnection.Connect.Rejected") && connect.contains("R01 unknown publish key"));
    assert!(!connect.contains("NetConnection.Connect.Success"));
}

#[test]
fn a_player_is_told_no() {
    let mut bytes = handshake();
    bytes.extend(connect());
    bytes.extend(command(0, &["createStream".into(), 2.0.into(), Value::Null]));
    bytes.extend(command(1, &["play".into(), 0.0.into(), Value::Null, "x".into()]));
    let (events, mut session, result) = run([&bytes[..]]);
    assert_eq!(result, Ok(()));
    assert_eq!(events.last(), Some(&Event::Unsupported { command: "play" }));
    assert!(String::from_utf8_lossy(&session.take_output()).contains("NetStream.Play.Failed"));
}

#[test]
fn nothing_is_read_past_an_unanswered_request() {
    let mut session = Session::new(Limits::default(), 1);
    let mut bytes = publish_prelude();
    bytes.extend(message(6, type_id::VIDEO, 1, 80, vec![0x27, 1]));
    session.push(&bytes).unwrap();
    assert!(matches!(session.poll(), Ok(Some(Event::ConnectRequested(_)))));
    assert_eq!(session.poll(), Ok(None));
    session.accept();
    assert!(matches!(session.poll(), Ok(Some(Event::PublishRequested(_)))));
    assert_eq!(session.poll(), Ok(None));
    session.accept();
    assert!(matches!(session.poll(), Ok(Some(Event::Media(_)))));
}

#[test]
fn acknowledgements_count_all_bytes() {
    let mut session = Session::new(Limits::default(), 1);
    let mut bytes = publish_prelude();
    bytes.extend(message(
        2,
        type_id::WINDOW_ACK_SIZE,
        0,
        0,
        100_000_u32.to_be_bytes().to_vec(),
    ));
    session.push(&bytes).unwrap();
    while session.poll().unwrap().is_some() {
        session.accept();
    }
    session.take_output();
    let frame = message(6, type_id::VIDEO, 1, 80, vec![0x27; 60_000]);
    let acknowledged = |session: &mut Session| {
        let sent = chunk::read_all(&session.take_output()).unwrap();
        assert_eq!((sent.len(), sent[0].type_id), (1, type_id::ACKNOWLEDGEMENT));
        u32::from_be_bytes(*sent[0].payload.first_chunk().unwrap()) as usize
    };
    session.push(&frame).unwrap();
    session.poll().unwrap();
    assert_eq!(acknowledged(&mut session), bytes.len() + frame.len());
    let mut received = &frame[..];
    while session.receive(&mut received).unwrap().is_some() {}
    assert_eq!(acknowledged(&mut session), bytes.len() + 2 * frame.len());
}

/// Pushes `attack` behind the handshake (and the publish) and returns the error.
fn attacked(prelude: Vec<u8>, attack: Vec<u8>) -> Error {
    let mut bytes = prelude;
    bytes.extend(attack);
    run(bytes.chunks(64 * 1024)).2.expect_err("the attack went through")
}

fn limit(error: Error, what: &str) {
    assert!(
        matches!(error, Error::Limit { what: w, .. } if w == what),
        "{what}: {error}"
    );
}

#[test]
fn hostile_input_ends_in_an_error() {
    let connected = || [handshake(), connect()].concat();
    // A TLS hello on the plain port.
    assert_eq!(attacked(vec![], vec![0x16, 3, 1, 2, 0]), Error::Version(0x16));
    // Sizes and counts before authentication.
    let huge = raw_chunk(0, 3, (0, 0xff_ffff, type_id::COMMAND_AMF0, 0), &[]);
    limit(attacked(handshake(), huge), "message length");
    let many: Vec<u8> = (3..40)
        .flat_map(|id| raw_chunk(0, id, (0, 60_000, type_id::COMMAND_AMF0, 0), &[0; 128]))
        .collect();
    limit(attacked(handshake(), many), "number of chunk streams");
    let sets_size = message(2, type_id::SET_CHUNK_SIZE, 0, 0, 50_000_u32.to_be_bytes().to_vec());
    let partial: Vec<u8> = (3..8)
        .flat_map(|id| raw_chunk(0, id, (0, 60_000, type_id::COMMAND_AMF0, 0), &[0; 50_000]))
        .collect();
    limit(
        attacked(handshake(), [sets_size, partial].concat()),
        "incomplete messages in bytes",
    );
    // AMF.
    let deep = [10, 0, 0, 0, 1].repeat(12_000);
    limit(
        attacked(handshake(), message(3, type_id::COMMAND_AMF0, 0, 0, deep)),
        "AMF0 nesting",
    );
    // Order.
    let frame = message(6, type_id::VIDEO, 1, 0, vec![0x17, 0]);
    assert_eq!(
        attacked(handshake(), frame.clone()),
        Error::OutOfOrder("media before publish")
    );
    assert_eq!(attacked(connected(), frame), Error::OutOfOrder("media before publish"));
    let publish = command(1, &["publish".into(), 5.0.into(), Value::Null, "ck".into()]);
    assert_eq!(
        attacked(handshake(), publish.clone()),
        Error::OutOfOrder("command before connect")
    );
    assert_eq!(
        attacked(connected(), publish),
        Error::OutOfOrder("publish before createStream")
    );
    // Floods.
    let create = command(0, &["createStream".into(), 2.0.into(), Value::Null]).repeat(100);
    limit(attacked(connected(), create), "number of message streams");
    let unknown = command(0, &["x".into()]).repeat(100);
    limit(attacked(connected(), unknown), "number of commands");
    let pings = message(2, type_id::USER_CONTROL, 0, 0, vec![0, 6, 0, 0, 0, 0]).repeat(100_000);
    limit(attacked(connected(), pings), "unsent output in bytes");
    // Chunk sizes and truncated control messages.
    for size in [0, 0x8000_0000_u32, u32::MAX] {
        let set = message(2, type_id::SET_CHUNK_SIZE, 0, 0, size.to_be_bytes().to_vec());
        assert_eq!(attacked(connected(), set), Error::Malformed("chunk size"));
    }
    assert_eq!(
        attacked(connected(), message(2, 1, 0, 0, vec![0])),
        Error::Malformed("control message")
    );
    // Headers inside a message.
    let first = raw_chunk(0, 6, (0, 300, type_id::VIDEO, 1), &[0; 128]);
    let second = raw_chunk(1, 6, (0, 10, type_id::VIDEO, 1), &[0; 10]);
    let error = attacked(publish_prelude(), [first, second].concat());
    assert_eq!(error, Error::Malformed("chunk header inside a message"));
    assert_eq!(
        attacked(handshake(), vec![0xc5, 0]),
        Error::Malformed("first chunk of a chunk stream")
    );
}

#[test]
fn limits_hold_on_air() {
    const HALF: usize = 2 * 1024 * 1024;
    let stage = Limits::default().publishing;
    let claimed = stage.max_message + 1;
    let huge = raw_chunk(0, 6, (0, claimed as u32, type_id::VIDEO, 1), &[]);
    assert_eq!(
        attacked(publish_prelude(), huge),
        Error::Limit {
            what: "message length",
            actual: claimed,
            limit: stage.max_message
        }
    );
    // Half of a message on each chunk stream: one more of them than there is room for.
    let mut halves = message(2, type_id::SET_CHUNK_SIZE, 0, 0, (HALF as u32).to_be_bytes().to_vec());
    for id in (4..).take(stage.max_partial / HALF + 1) {
        halves.extend(raw_chunk(
            0,
            id,
            (0, 2 * HALF as u32, type_id::VIDEO, 1),
            &[0_u8].repeat(HALF),
        ));
    }
    limit(attacked(publish_prelude(), halves), "incomplete messages in bytes");
    // With that of the commands one too many; from 64 on, ids take a second byte.
    let mut many = Vec::new();
    for id in 0..stage.max_chunk_streams as u8 {
        let mut chunk = raw_chunk(0, 0, (0, 300, type_id::VIDEO, 1), &[0; 128]);
        chunk.insert(1, id);
        many.extend(chunk);
    }
    assert_eq!(
        attacked(publish_prelude(), many),
        Error::Limit {
            what: "number of chunk streams",
            actual: stage.max_chunk_streams + 1,
            limit: stage.max_chunk_streams
        }
    );
}

#[test]
fn too_much_metadata_is_left_out_and_the_publish_goes_on() {
    let limit = Limits::default().max_metadata;
    let wrapper = amf(&["@setDataFrame".into()]);
    let metadata = |size: usize| {
        let mut payload = [&wrapper[..], &amf(&["onMetaData".into()])[..]].concat();
        // The rest is one string, with three bytes before its text.
        let text = "x".repeat(size - payload.len() - 3);
        payload.extend(amf(&[text.as_str().into()]));
        message(4, type_id::DATA_AMF0, 1, 0, payload)
    };
    let frame = message(6, type_id::VIDEO, 1, 80, vec![0x27, 1]);
    let bytes = [publish_prelude(), metadata(limit + 1), metadata(limit), frame].concat();
    let (events, _, result) = run(bytes.chunks(64 * 1024));
    assert_eq!(result, Ok(()));
    let [_, _, Event::Media(largest), frame] = &events[..] else {
        panic!("not the largest and a frame: {} events", events.len());
    };
    assert_eq!(
        (largest.kind, largest.data.len()),
        (TagKind::Script, limit - wrapper.len())
    );
    assert_eq!(*frame, video(80, &[0x27, 1]));
}

#[test]
fn strange_but_legal_input_goes_through() {
    let mut bytes = publish_prelude();
    for size in [1, i32::MAX as u32] {
        bytes.extend(message(2, type_id::SET_CHUNK_SIZE, 0, 0, size.to_be_bytes().to_vec()));
        // From here on each byte is a chunk, and then everything is one.
        let payload = [0x17, 1, 0, 0, 0];
        bytes.extend(raw_chunk(
            0,
            6,
            (40, 5, type_id::VIDEO, 1),
            &payload[..size.min(5) as usize],
        ));
        for byte in payload.iter().skip(size as usize) {
            bytes.extend(raw_chunk(3, 6, (0, 0, 0, 0), &[*byte]));
        }
        if size == 1 {
            // The next control message has to be cut into chunks of one byte, too.
            bytes.extend(raw_chunk(0, 2, (0, 4, type_id::SET_CHUNK_SIZE, 0), &[0]));
            for byte in [0, 0, 128] {
                bytes.extend(raw_chunk(3, 2, (0, 0, 0, 0), &[byte]));
            }
        }
    }
    let (events, _, result) = run([&bytes[..]]);
    assert_eq!(result, Ok(()));
    assert_eq!(
        events[2..],
        [video(40, &[0x17, 1, 0, 0, 0]), video(40, &[0x17, 1, 0, 0, 0])]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn mutated_streams_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..12),
        skip_handshake in any::<bool>(),
        split in 1_usize..3000,
    ) {
        let (mut bytes, _) = quirky_stream();
        let from = if skip_handshake { 3073 } else { 0 };
        for (at, value, how) in edits {
            let at = from + at.index(bytes.len() - from);
            match how {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                _ => { bytes.remove(at); }
            }
        }
        let (events, mut session, result) = run(bytes.chunks(split));
        let (received, mut other, same) = run_received(bytes.chunks(split));
        prop_assert_eq!((&events, result), (&received, same), "both ways in say the same");
        prop_assert_eq!(other.poll().err(), result.err());
        prop_assert!(session.take_output().len() <= Limits::default().max_output + 4096);
        if let Err(error) = result {
            prop_assert_eq!(session.poll(), Err(error), "an error stays");
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000), behind in 0_u8..3) {
        let mut stream = match behind { 0 => vec![], 1 => handshake(), _ => publish_prelude() };
        stream.extend(bytes);
        run(stream.chunks(1000)).2.ok();
    }
}
