//! What a peer may make the server hold or do.

/// Limits of one stage of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Largest message in bytes.
    pub max_message: usize,
    /// Chunk streams in use.
    pub max_chunk_streams: usize,
    /// Bytes of incomplete messages over all chunk streams.
    pub max_partial: usize,
    /// Bytes that are reserved for one message on the word of its header alone.
    pub max_reserved: usize,
}

/// Limits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a publish is accepted. Real encoders stay under 4 KiB and 6 chunk streams.
    pub before_publish: Stage,
    /// From then on. A keyframe of a 50 Mbit/s stream is about 2 MiB.
    pub publishing: Stage,
    /// Bytes pushed and not yet polled: two reads of the network.
    pub max_input: usize,
    /// Bytes that wait to be sent. A peer that asks and never reads meets it.
    pub max_output: usize,
    /// Commands until a publish is accepted. Real encoders send about six.
    pub max_commands: usize,
    /// Bytes of a metadata message; larger ones are dropped.
    pub max_metadata: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            before_publish: Stage {
                max_message: 64 * 1024,
                max_chunk_streams: 16,
                max_partial: 128 * 1024,
                max_reserved: 4 * 1024,
            },
            publishing: Stage {
                max_message: castlog_flv::MAX_TAG_SIZE,
                max_chunk_streams: 64,
                max_partial: 12 * 1024 * 1024,
                // Most frames of a 6 Mbit/s stream; over all chunk streams 2 MiB.
                max_reserved: 32 * 1024,
            },
            max_input: 256 * 1024,
            max_output: 256 * 1024,
            max_commands: 64,
            max_metadata: 64 * 1024,
        }
    }
}
