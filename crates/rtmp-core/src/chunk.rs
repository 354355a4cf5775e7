//! The chunk layer: messages cut into chunks that interleave on chunk streams.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};

use crate::{Error, Limits, Message, Stage};

/// Chunk size of both directions at the start.
pub const DEFAULT_CHUNK_SIZE: usize = 128;
/// No message is longer, so no chunk is.
const MAX_CHUNK_SIZE: usize = 0x00ff_ffff;
/// What the 24-bit time field says when the time stands in 32 bits behind the header.
const EXTENDED: u32 = 0x00ff_ffff;

/// The header last used on a chunk stream, and the message that is coming in on it.
#[derive(Debug, Default)]
struct ChunkStream {
    timestamp: u32,
    /// What a type 3 header adds to the time of the message before.
    delta: u32,
    length: usize,
    type_id: u8,
    stream_id: u32,
    /// The 32-bit time of the last header, if it had one.
    extended: Option<u32>,
    partial: Option<Vec<u8>>,
}

/// Puts messages together. It holds at most what [`Stage`] allows.
#[derive(Debug)]
pub struct Reader {
    chunk_size: usize,
    streams: BTreeMap<u32, ChunkStream>,
    /// The chunk stream whose chunk is being read, and the bytes it still lacks.
    current: Option<(u32, usize)>,
    partial: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: BTreeMap::new(),
            current: None,
            partial: 0,
        }
    }
}

struct Header {
    chunk_stream: u32,
    format: u8,
    /// Length of the header without an extended time.
    size: usize,
}

fn basic_header(input: &[u8]) -> Option<Header> {
    let &first = input.first()?;
    let (chunk_stream, basic) = match first & 0x3f {
        0 => (64 + u32::from(*input.get(1)?), 2),
        1 => (64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3),
        id => (u32::from(id), 1),
    };
    let format = first >> 6;
    let size = basic + [11, 7, 3, 0][usize::from(format)];
    (input.len() >= size).then_some(Header {
        chunk_stream,
        format,
        size,
    })
}

const fn u24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}

impl Reader {
    /// Sets the peer's chunk size.
    ///
    /// # Errors
    /// It is zero or does not fit 31 bits.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), Error> {
        if size == 0 || size > i32::MAX as u32 {
            return Err(Error::Malformed("chunk size"));
        }
        self.chunk_size = (size as usize).min(MAX_CHUNK_SIZE);
        Ok(())
    }

    /// Drops the message that is coming in on a chunk stream.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(partial) = self
            .streams
            .get_mut(&chunk_stream)
            .and_then(|stream| stream.partial.take())
        {
            self.partial -= partial.len();
        }
    }

    /// Consumes chunks of `input` until a message is complete; `None` when more
    /// bytes are needed. What is left then is less than a chunk header, and is to be
    /// given again with what comes behind it.
    ///
    /// # Errors
    /// The chunks are malformed or break a limit.
    pub fn read(&mut self, input: &mut &[u8], limits: &Stage) -> Result<Option<Message>, Error> {
        loop {
            if self.current.is_none() && !self.header(input, limits)? {
                return Ok(None);
            }
            let Some((chunk_stream, missing)) = self.current else {
                return Ok(None);
            };
            let Some(stream) = self.streams.get_mut(&chunk_stream) else {
                return Ok(None);
            };
            let Some(partial) = stream.partial.as_mut() else {
                return Ok(None);
            };
            let taken = missing.min(input.len());
            Error::check("incomplete messages in bytes", self.partial + taken, limits.max_partial)?;
            let (bytes, rest) = input.split_at(taken);
            append(partial, bytes, stream.length, limits.max_reserved);
            *input = rest;
            self.partial += taken;
            if taken < missing {
                self.current = Some((chunk_stream, missing - taken));
                return Ok(None);
            }
            self.current = None;
            if partial.len() == stream.length {
                self.partial -= partial.len();
                let payload = Bytes::from(stream.partial.take().unwrap_or_default());
                let ChunkStream {
                    timestamp,
                    type_id,
                    stream_id,
                    ..
                } = *stream;
                return Ok(Some(Message {
                    timestamp,
                    type_id,
                    stream_id,
                    payload,
                }));
            }
        }
    }

    /// Reads a chunk header and makes it the current chunk; `false` when more bytes
    /// are needed.
    fn header(&mut self, input: &mut &[u8], limits: &Stage) -> Result<bool, Error> {
        let Some(Header {
            chunk_stream,
            format,
            size,
        }) = basic_header(input)
        else {
            return Ok(false);
        };
        let known = self.streams.get(&chunk_stream);
        if known.is_none() {
            // A first header of type 1 lacks only the stream id, which some encoders
            // leave out for the connection's own messages.
            if format > 1 {
                return Err(Error::Malformed("first chunk of a chunk stream"));
            }
            Error::check(
                "number of chunk streams",
                self.streams.len() + 1,
                limits.max_chunk_streams,
            )?;
        }
        let continues = known.is_some_and(|stream| stream.partial.is_some());
        if continues && format != 3 {
            return Err(Error::Malformed("chunk header inside a message"));
        }
        let fields = &input[size - [11, 7, 3, 0][usize::from(format)]..size];
        let time = if format == 3 { None } else { Some(u24(fields)) };
        let extended = match time {
            Some(EXTENDED) => {
                let Some(bytes) = input[size..].first_chunk::<4>() else {
                    return Ok(false);
                };
                Some(u32::from_be_bytes(*bytes))
            }
            Some(_) => None,
            None => known.and_then(|stream| stream.extended),
        };
        let consumed = match (time, extended) {
            (Some(_), Some(_)) => size + 4,
            // Some encoders repeat the extended time on type 3 and some do not, so the
            // bytes themselves have to tell.
            (None, Some(value)) => match starts_with(&input[size..], value.to_be_bytes()) {
                Some(true) => size + 4,
                Some(false) => size,
                None => return Ok(false),
            },
            (_, None) => size,
        };
        // Everything that can ask for more bytes or fail on the header alone is behind.
        let length = if format <= 1 {
            Some(u24(&fields[3..]) as usize)
        } else {
            None
        };
        if let Some(length) = length {
            Error::check("message length", length, limits.max_message)?;
        }
        let value = extended.or(time).unwrap_or(0);
        let type_id = if format <= 1 { Some(fields[6]) } else { None };
        let stream_id = if format == 0 {
            Some(u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]]))
        } else {
            None
        };
        let stream = self.streams.entry(chunk_stream).or_default();
        stream.length = length.unwrap_or(stream.length);
        stream.type_id = type_id.unwrap_or(stream.type_id);
        stream.stream_id = stream_id.unwrap_or(stream.stream_id);
        stream.extended = extended;
        if !continues {
            match format {
                0 => (stream.timestamp, stream.delta) = (value, 0),
                1 | 2 => {
                    stream.delta = value;
                    stream.timestamp = stream.timestamp.wrapping_add(value);
                }
                _ => stream.timestamp = stream.timestamp.wrapping_add(stream.delta),
            }
            stream.partial = Some(Vec::new());
        }
        let missing = stream.length - stream.partial.as_ref().map_or(0, Vec::len);
        self.current = Some((chunk_stream, missing.min(self.chunk_size)));
        *input = &input[consumed..];
        Ok(true)
    }
}

/// Whether `input` opens with `value`; `None` when it is too short to tell.
fn starts_with(input: &[u8], value: [u8; 4]) -> Option<bool> {
    let known = input.len().min(value.len());
    if input[..known] != value[..known] {
        return Some(false);
    }
    (known == value.len()).then_some(true)
}

/// Appends to a message of `length` bytes. Up to `reserved` of them are allocated at
/// once, what is claimed beyond as it comes, and never more than the message needs in
/// the end.
fn append(partial: &mut Vec<u8>, bytes: &[u8], length: usize, reserved: usize) {
    let needed = partial.len() + bytes.len();
    if needed > partial.capacity() {
        let capacity = (partial.capacity() * 2).max(needed).max(reserved).min(length);
        partial.reserve_exact(capacity - partial.len());
    }
    partial.extend_from_slice(bytes);
}

/// Cuts messages into chunks, each message whole before the next.
#[derive(Debug)]
pub struct Writer {
    chunk_size: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
        }
    }
}

impl Writer {
    /// Sets the chunk size, which the peer has been told.
    pub const fn set_chunk_size(&mut self, size: usize) {
        self.chunk_size = size;
    }

    /// Appends a message on a chunk stream from 2 to 63, with a full header.
    pub fn write(&self, chunk_stream: u8, message: &Message, out: &mut impl BufMut) {
        debug_assert!((2..64).contains(&chunk_stream) && self.chunk_size > 0);
        let extended = message.timestamp >= EXTENDED;
        out.put_u8(chunk_stream);
        out.put_uint(u64::from(message.timestamp.min(EXTENDED)), 3);
        out.put_uint(message.payload.len() as u64, 3);
        out.put_u8(message.type_id);
        out.put_u32_le(message.stream_id);
        let mut rest = &message.payload[..];
        loop {
            if extended {
                out.put_u32(message.timestamp);
            }
            let (chunk, behind) = rest.split_at(rest.len().min(self.chunk_size));
            out.put_slice(chunk);
            rest = behind;
            if rest.is_empty() {
                return;
            }
            out.put_u8(0xc0 | chunk_stream);
        }
    }
}

/// Reads the messages of a whole buffer; for tools and tests.
///
/// # Errors
/// See [`Reader::read`].
pub fn read_all(mut bytes: &[u8]) -> Result<Vec<Message>, Error> {
    let mut reader = Reader::default();
    let limits = Limits::default().publishing;
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut bytes, &limits)? {
        if message.type_id == crate::message::type_id::SET_CHUNK_SIZE
            && let Some(size) = message.payload.first_chunk()
        {
            reader.set_chunk_size(u32::from_be_bytes(*size))?;
        }
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::type_id::VIDEO;

    /// A frame of `length` bytes on a chunk stream, cut after `sent` of them.
    fn begun(chunk_stream: u8, length: usize, sent: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let message = Message {
            timestamp: 0,
            type_id: VIDEO,
            stream_id: 1,
            payload: vec![0; length].into(),
        };
        Writer::default().write(chunk_stream, &message, &mut out);
        let headers = 12 + sent.saturating_sub(1) / DEFAULT_CHUNK_SIZE;
        out.truncate(headers + sent);
        out
    }

    fn reserved(reader: &Reader) -> usize {
        let partials = reader.streams.values().filter_map(|stream| stream.partial.as_ref());
        partials.map(Vec::capacity).sum()
    }

    #[test]
    fn a_claimed_size_reserves_little() {
        for stage in [Limits::default().before_publish, Limits::default().publishing] {
            let mut reader = Reader::default();
            // Most chunk streams that there may be, each with the largest message.
            for (count, chunk_stream) in (2..64).take(stage.max_chunk_streams).enumerate() {
                let begun = begun(chunk_stream, stage.max_message, DEFAULT_CHUNK_SIZE);
                assert_eq!(reader.read(&mut &begun[..], &stage), Ok(None));
                assert!(reserved(&reader) <= (count + 1) * stage.max_reserved);
            }
            assert!(reserved(&reader) <= 2 * 1024 * 1024, "{}", reserved(&reader));
        }
    }

    #[test]
    fn a_message_that_grows_holds_at_most_twice_what_has_come() {
        let stage = Limits::default().publishing;
        let length = 5 * stage.max_reserved + 1;
        let whole = begun(6, length, length);
        let mut reader = Reader::default();
        let mut message = None;
        for (count, piece) in whole.chunks(1000).enumerate() {
            message = reader.read(&mut &*piece, &stage).expect("a frame within the limits");
            let come = (count + 1) * 1000;
            let most = (2 * come).max(stage.max_reserved).min(length);
            assert!(reserved(&reader) <= most, "{} for {come}", reserved(&reader));
        }
        assert_eq!(message.map(|message| message.payload.len()), Some(length));
    }
}
