//! The state machine of one publisher's connection.

use bytes::{Buf, Bytes, BytesMut};
use castlog_flv::{Tag, TagKind};

use crate::{
    Connect, Error, Limits, Message, PublishRequest, Refusal,
    amf0::{self, Value},
    chunk,
    command::{self, Command, StreamName},
    handshake::Handshake,
    message::{type_id, user_control},
};

/// The chunk size that the server sends with.
const CHUNK_SIZE: u32 = 4096;
/// Bytes after which the server wants an acknowledgement of what it sent, and the
/// interval of its own until the encoder names one.
const WINDOW: u32 = 2_500_000;
/// The interval of acknowledgements that an encoder can ask for. Zero would ask for
/// one per byte.
const WINDOW_RANGE: std::ops::RangeInclusive<u32> = 64 * 1024..=16 * 1024 * 1024;
/// Message streams that one connection can create; encoders use one.
const MAX_MESSAGE_STREAMS: u32 = 8;

/// Chunk streams that the server sends on.
mod chunk_stream {
    pub(super) const CONTROL: u8 = 2;
    pub(super) const COMMAND: u8 = 3;
    pub(super) const STATUS: u8 = 5;
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// To be answered by [`Session::accept`] or [`Session::reject`].
    ConnectRequested(Connect),
    /// To be answered by [`Session::accept`] or [`Session::reject`].
    PublishRequested(PublishRequest),
    /// Audio, video or metadata of the accepted publish, as an FLV tag.
    Media(Tag),
    /// The encoder stopped in order. It closes the connection itself.
    Unpublished,
    /// The peer wants something other than publishing, and has been told no.
    Unsupported {
        /// The command.
        command: &'static str,
    },
}

/// How far a session has come; deadlines go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The handshake is not complete.
    Handshake,
    /// No publish has been accepted yet.
    Connecting,
    /// Media may come.
    Publishing,
    /// The encoder has unpublished, or its request was refused.
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Handshake(Handshake),
    /// The handshake is done; `connect` is awaited.
    Shaken,
    ConnectPending {
        transaction: f64,
    },
    Connected,
    PublishPending {
        stream_id: u32,
    },
    Publishing {
        stream_id: u32,
    },
    Finished,
    Failed(Error),
}

/// The server's side of one connection.
///
/// The caller pushes what it received, polls until there is no event, and sends the
/// output; [`Session::receive`] does both with less copying. While a request is
/// unanswered, `poll` yields nothing, and the caller does not push.
#[derive(Debug)]
pub struct Session {
    state: State,
    limits: Limits,
    seed: u64,
    input: BytesMut,
    output: BytesMut,
    reader: chunk::Reader,
    writer: chunk::Writer,
    encoder: String,
    url_key: Option<StreamName>,
    commands: usize,
    message_streams: u32,
    received: u64,
    acknowledged: u64,
    window: u32,
}

impl Session {
    /// A session before its first byte. `seed` varies the handshake's filler.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            state: State::Handshake(Handshake::Hello),
            limits,
            seed,
            input: BytesMut::new(),
            output: BytesMut::new(),
            reader: chunk::Reader::default(),
            writer: chunk::Writer::default(),
            encoder: String::new(),
            url_key: None,
            commands: 0,
            message_streams: 0,
            received: 0,
            acknowledged: 0,
            window: WINDOW,
        }
    }

    /// How far the session has come.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Handshake(_) => Phase::Handshake,
            State::Shaken | State::ConnectPending { .. } | State::Connected | State::PublishPending { .. } => {
                Phase::Connecting
            }
            State::Publishing { .. } => Phase::Publishing,
            State::Finished | State::Failed(_) => Phase::Finished,
        }
    }

    /// Adds received bytes.
    ///
    /// # Errors
    /// More is pushed without polling than [`Limits::max_input`] allows.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if matches!(self.state, State::Finished | State::Failed(_)) {
            return Ok(());
        }
        Error::check(
            "unread input in bytes",
            self.input.len() + bytes.len(),
            self.limits.max_input,
        )?;
        self.input.extend_from_slice(bytes);
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// What [`Self::push`] and [`Self::poll`] do together: takes received bytes in and
    /// yields the next event, to be called until there is none. `bytes` is empty then,
    /// and from the first event that is to be answered on.
    ///
    /// The media of a publish goes from `bytes` to its event without a stay in between.
    ///
    /// # Errors
    /// See [`Self::push`] and [`Self::poll`].
    pub fn receive(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Error> {
        if self.input.is_empty() && matches!(self.state, State::Publishing { .. }) {
            let all = bytes.len();
            let outcome = self.publishing(bytes);
            self.received += (all - bytes.len()) as u64;
            match outcome {
                Ok(None) => self.acknowledge(),
                outcome => return self.settle(outcome),
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
        self.push(std::mem::take(bytes))?;
        self.poll()
    }

    /// The bytes to send.
    pub fn take_output(&mut self) -> Bytes {
        // Nothing is kept for the next output, which is seldom.
        std::mem::take(&mut self.output).freeze()
    }

    /// The next event, or `None` when more bytes or an answer are needed.
    ///
    /// # Errors
    /// The peer breaks the protocol or a limit. The error stays.
    pub fn poll(&mut self) -> Result<Option<Event>, Error> {
        let outcome = self.advance();
        self.settle(outcome)
    }

    fn settle(&mut self, outcome: Result<Option<Event>, Error>) -> Result<Option<Event>, Error> {
        if let Err(error) = outcome {
            self.state = State::Failed(error);
            self.input = BytesMut::new();
        }
        outcome
    }

    /// Answers the pending request with yes. Without one it does nothing.
    pub fn accept(&mut self) {
        match self.state {
            State::ConnectPending { transaction } => {
                self.control(type_id::WINDOW_ACK_SIZE, &WINDOW.to_be_bytes());
                let mut bandwidth = WINDOW.to_be_bytes().to_vec();
                bandwidth.push(2); // the limit is dynamic
                self.control(type_id::SET_PEER_BANDWIDTH, &bandwidth);
                self.control(type_id::SET_CHUNK_SIZE, &CHUNK_SIZE.to_be_bytes());
                self.writer.set_chunk_size(CHUNK_SIZE as usize);
                self.command(0, command::connect_accepted(transaction));
                self.state = State::Connected;
            }
            State::PublishPending { stream_id } => {
                let mut begin = user_control::STREAM_BEGIN.to_be_bytes().to_vec();
                begin.extend(stream_id.to_be_bytes());
                self.control(type_id::USER_CONTROL, &begin);
                self.status(stream_id, "status", "NetStream.Publish.Start", "publishing");
                self.state = State::Publishing { stream_id };
            }
            _ => {}
        }
    }

    /// Answers the pending request with no, or cuts an accepted publish. The caller
    /// sends the output and closes.
    pub fn reject(&mut self, refusal: &Refusal) {
        match self.state {
            State::ConnectPending { transaction } => {
                self.command(0, command::connect_rejected(transaction, refusal.description()));
            }
            State::PublishPending { stream_id } | State::Publishing { stream_id } => {
                self.status(stream_id, "error", "NetStream.Publish.Denied", refusal.description());
            }
            _ => return,
        }
        self.state = State::Finished;
        self.input = BytesMut::new();
    }

    fn advance(&mut self) -> Result<Option<Event>, Error> {
        self.acknowledge();
        loop {
            Error::check("unsent output in bytes", self.output.len(), self.limits.max_output)?;
            let limits = match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Finished => {
                    self.input.clear();
                    return Ok(None);
                }
                State::ConnectPending { .. } | State::PublishPending { .. } => return Ok(None),
                State::Handshake(handshake) => {
                    if !handshake.advance(&mut self.input, &mut self.output, self.seed)? {
                        return Ok(None);
                    }
                    self.state = State::Shaken;
                    continue;
                }
                State::Shaken | State::Connected => &self.limits.before_publish,
                State::Publishing { .. } => &self.limits.publishing,
            };
            let mut rest = &self.input[..];
            let message = self.reader.read(&mut rest, limits)?;
            let taken = self.input.len() - rest.len();
            self.input.advance(taken);
            if self.input.is_empty() {
                // A connection that waits for its next bytes holds no room for them.
                self.input = BytesMut::new();
            }
            let Some(message) = message else {
                return Ok(None);
            };
            if let Some(event) = self.take(message)? {
                return Ok(Some(event));
            }
        }
    }

    /// The next event of an accepted publish, straight from the bytes that came.
    fn publishing(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Error> {
        while let State::Publishing { .. } = self.state {
            Error::check("unsent output in bytes", self.output.len(), self.limits.max_output)?;
            let Some(message) = self.reader.read(bytes, &self.limits.publishing)? else {
                return Ok(None);
            };
            if let Some(event) = self.take(message)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn take(&mut self, message: Message) -> Result<Option<Event>, Error> {
        let payload = &message.payload;
        match message.type_id {
            type_id::SET_CHUNK_SIZE => self.reader.set_chunk_size(control_value(payload)?)?,
            type_id::ABORT => self.reader.abort(control_value(payload)?),
            type_id::WINDOW_ACK_SIZE => {
                self.window = control_value(payload)?.clamp(*WINDOW_RANGE.start(), *WINDOW_RANGE.end());
            }
            type_id::USER_CONTROL => self.user_control(payload),
            type_id::AUDIO => return self.media(TagKind::Audio, message),
            type_id::VIDEO => return self.media(TagKind::Video, message),
            type_id::DATA_AMF0 => return Ok(self.data(message.timestamp, message.payload)),
            type_id::DATA_AMF3 if !payload.is_empty() => {
                return Ok(self.data(message.timestamp, payload.slice(1..)));
            }
            type_id::COMMAND_AMF0 => return self.commanded(message.stream_id, payload),
            type_id::COMMAND_AMF3 if !payload.is_empty() => {
                return self.commanded(message.stream_id, &payload[1..]);
            }
            // Acknowledgements and bandwidth matter to senders of media; the rest is
            // nothing that an encoder needs an answer to.
            _ => {}
        }
        Ok(None)
    }

    fn user_control(&mut self, payload: &Bytes) {
        let Some(event) = payload.first_chunk::<2>() else {
            return;
        };
        if u16::from_be_bytes(*event) == user_control::PING_REQUEST && payload.len() >= 6 {
            let mut pong = user_control::PING_RESPONSE.to_be_bytes().to_vec();
            pong.extend_from_slice(&payload[2..6]);
            self.control(type_id::USER_CONTROL, &pong);
        }
    }

    fn media(&self, kind: TagKind, message: Message) -> Result<Option<Event>, Error> {
        if !matches!(self.state, State::Publishing { .. }) {
            return Err(Error::OutOfOrder("media before publish"));
        }
        // An empty message is how some encoders keep a track alive.
        if message.payload.is_empty() {
            return Ok(None);
        }
        Ok(Some(Event::Media(Tag {
            kind,
            timestamp: message.timestamp,
            data: message.payload,
        })))
    }

    /// Metadata keeps its bytes, without the command that wraps it. What is too large
    /// or not AMF0 is dropped: no stream fails for its metadata.
    fn data(&self, timestamp: u32, mut payload: Bytes) -> Option<Event> {
        /// The string `@setDataFrame` in AMF0.
        const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
        if !matches!(self.state, State::Publishing { .. }) || payload.len() > self.limits.max_metadata {
            return None;
        }
        if payload.starts_with(SET_DATA_FRAME) {
            payload.advance(SET_DATA_FRAME.len());
        }
        let values = amf0::read_all(&payload).ok()?;
        match values.first()?.as_str()? {
            "@clearDataFrame" => None,
            _ => Some(Event::Media(Tag {
                kind: TagKind::Script,
                timestamp,
                data: payload,
            })),
        }
    }

    fn commanded(&mut self, stream_id: u32, body: &[u8]) -> Result<Option<Event>, Error> {
        let publishing = matches!(self.state, State::Publishing { .. });
        if !publishing {
            self.commands += 1;
            Error::check("number of commands", self.commands, self.limits.max_commands)?;
        }
        let command = Command::read(body)?;
        let name = command.name.as_str();
        if self.state == State::Shaken {
            if name != "connect" {
                return Err(Error::OutOfOrder("command before connect"));
            }
            let connect = command.connect()?;
            self.encoder.clone_from(&connect.encoder);
            self.url_key.clone_from(&connect.key);
            self.state = State::ConnectPending {
                transaction: command.transaction,
            };
            return Ok(Some(Event::ConnectRequested(connect)));
        }
        match name {
            "connect" => return Err(Error::OutOfOrder("second connect")),
            "createStream" => {
                self.message_streams += 1;
                let limit = MAX_MESSAGE_STREAMS as usize;
                Error::check("number of message streams", self.message_streams as usize, limit)?;
                let id = Value::from(f64::from(self.message_streams));
                self.command(0, command::result(command.transaction, id));
            }
            "publish" if publishing => return Err(Error::OutOfOrder("second publish")),
            "publish" => {
                if stream_id == 0 || stream_id > self.message_streams {
                    return Err(Error::OutOfOrder("publish before createStream"));
                }
                let request = command.publish(self.url_key.as_ref(), &self.encoder)?;
                self.state = State::PublishPending { stream_id };
                return Ok(Some(Event::PublishRequested(request)));
            }
            "FCUnpublish" | "deleteStream" | "closeStream" => {
                if let State::Publishing { stream_id } = self.state {
                    self.status(stream_id, "status", "NetStream.Unpublish.Success", "unpublished");
                    self.state = State::Finished;
                    return Ok(Some(Event::Unpublished));
                }
            }
            "play" | "play2" => {
                self.status(
                    stream_id,
                    "error",
                    "NetStream.Play.Failed",
                    "this server takes publishers only",
                );
                self.state = State::Finished;
                return Ok(Some(Event::Unsupported { command: "play" }));
            }
            // Encoders send these two before they publish, and some wait for the answer.
            "releaseStream" | "FCPublish" if command.transaction != 0.0 => {
                self.command(0, command::result(command.transaction, Value::Undefined));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Tells the encoder how much has come. Encoders stop at a whole window without
    /// an answer, so it is sent at half of one.
    fn acknowledge(&mut self) {
        let shaken = !matches!(self.state, State::Handshake(_) | State::Finished | State::Failed(_));
        if shaken && self.received - self.acknowledged >= u64::from(self.window) / 2 {
            self.acknowledged = self.received;
            // The counter wraps by design.
            let total = self.received as u32;
            self.control(type_id::ACKNOWLEDGEMENT, &total.to_be_bytes());
        }
    }

    fn control(&mut self, type_id: u8, payload: &[u8]) {
        self.send(chunk_stream::CONTROL, type_id, 0, Bytes::copy_from_slice(payload));
    }

    fn command(&mut self, stream_id: u32, payload: Bytes) {
        self.send(chunk_stream::COMMAND, type_id::COMMAND_AMF0, stream_id, payload);
    }

    fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        let payload = command::on_status(level, code, description);
        self.send(chunk_stream::STATUS, type_id::COMMAND_AMF0, stream_id, payload);
    }

    fn send(&mut self, chunk_stream: u8, type_id: u8, stream_id: u32, payload: Bytes) {
        let message = Message {
            timestamp: 0,
            type_id,
            stream_id,
            payload,
        };
        self.writer.write(chunk_stream, &message, &mut self.output);
    }
}

/// The number in a protocol control message.
fn control_value(payload: &[u8]) -> Result<u32, Error> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or(Error::Malformed("control message"))
}
