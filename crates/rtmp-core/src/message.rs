//! RTMP messages and the ids of those that matter to a publisher's session.

use bytes::Bytes;

/// One message, put together from its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds; wraps at 2³².
    pub timestamp: u32,
    /// Message type id.
    pub type_id: u8,
    /// Message stream id; 0 is the connection itself.
    pub stream_id: u32,
    /// The body.
    pub payload: Bytes,
}

/// Message type ids.
pub mod type_id {
    /// Protocol control: the sender's chunk size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Protocol control: a partly sent message is dropped.
    pub const ABORT: u8 = 2;
    /// Protocol control: bytes received so far.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User control: stream begin, ping and so on.
    pub const USER_CONTROL: u8 = 4;
    /// Protocol control: after how many bytes the sender wants an acknowledgement.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Protocol control: how many unacknowledged bytes the receiver may send.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Data with one byte before its AMF0 values.
    pub const DATA_AMF3: u8 = 15;
    /// A command with one byte before its AMF0 values.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data, such as metadata.
    pub const DATA_AMF0: u8 = 18;
    /// A command.
    pub const COMMAND_AMF0: u8 = 20;
}

/// User control event types.
pub(crate) mod user_control {
    pub(crate) const STREAM_BEGIN: u16 = 0;
    pub(crate) const PING_REQUEST: u16 = 6;
    pub(crate) const PING_RESPONSE: u16 = 7;
}
