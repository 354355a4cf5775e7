//! The simple handshake: each side sends a version and 1536 bytes, and echoes the
//! other's. The digest variant that players of protected content ask for has no
//! use for publishers, and every encoder falls back to this one.

use bytes::{Buf, BufMut, BytesMut};

use crate::Error;

/// Bytes of C1, S1, C2 and S2.
const PACKET: usize = 1536;
const VERSION: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// C0 and C1 are awaited.
    Hello,
    /// S0, S1 and S2 are sent; C2 is awaited.
    Echo,
}

impl Handshake {
    /// Consumes what is complete of `input`; `true` when the handshake is done.
    pub(crate) fn advance(&mut self, input: &mut BytesMut, output: &mut BytesMut, seed: u64) -> Result<bool, Error> {
        if *self == Self::Hello {
            match input.first() {
                Some(&VERSION) => {}
                Some(&other) => return Err(Error::Version(other)),
                None => return Ok(false),
            }
            if input.len() < 1 + PACKET {
                return Ok(false);
            }
            input.advance(1);
            let hello = input.split_to(PACKET);
            output.put_u8(VERSION);
            put_hello(output, seed);
            output.put_slice(&hello);
            *self = Self::Echo;
        }
        if input.len() < PACKET {
            return Ok(false);
        }
        // Encoders are careless about the echo, which proves nothing anyway.
        input.advance(PACKET);
        Ok(true)
    }
}

/// S1: a time of zero, zeros, and filler that differs between connections.
fn put_hello(output: &mut BytesMut, seed: u64) {
    output.put_u64(0);
    // Xorshift: the filler has to vary, not to be secret.
    let mut state = seed | 1;
    for _ in 0..(PACKET - 8) / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        output.put_u64(state);
    }
}
