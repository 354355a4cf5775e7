//! The handshake: each side sends a version and 1536 bytes, and answers the other's.
//!
//! In the plain form the answer is an echo. In the digest form, which the
//! specification does not have, a client that names its version hides an HMAC-SHA-256
//! in its bytes; the server does the same and signs its answer with a key made of the
//! client's. Who began so may go away when it is not answered so. The keys are the
//! same for everybody, so that the digests prove nothing about the peer.

use std::ops::Range;

use bytes::{Buf, BufMut, BytesMut};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Error;

/// Bytes of C1, S1, C2 and S2.
const PACKET: usize = 1536;
const VERSION: u8 = 3;
/// What S1 of the digest form says where that of the plain form says zero. Below 3 in
/// the first byte some clients do not look at the digest.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

const DIGEST: usize = 32;
/// Where the four bytes may be that say how far behind them the digest is: behind the
/// version, or in the middle of the packet.
const SCHEMES: [usize; 2] = [8, 772];
/// The digest is less than this far behind them.
const REACH: usize = 728;

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
/// The server's digest is made with the words alone, the answer's key with all of it.
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001\
    \xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57\
    \x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";
const SERVER_WORDS: usize = SERVER_KEY.len() - 32;

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
            answer(&hello, seed, output);
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

/// Puts S1 and S2: in the digest form if C1 is in it, and else in the plain form.
fn answer(hello: &[u8], seed: u64, output: &mut BytesMut) {
    let mut filler = Filler(seed | 1);
    let mut own = [0; PACKET];
    filler.fill(&mut own[8..]);
    let Some((scheme, theirs)) = find_digest(hello) else {
        output.put_slice(&own);
        output.put_slice(hello);
        return;
    };
    own[4..8].copy_from_slice(&SERVER_VERSION);
    let at = digest_place(&own, scheme);
    let digest = mac(&SERVER_KEY[..SERVER_WORDS], &[&own[..at.start], &own[at.end..]]);
    own[at].copy_from_slice(&digest);
    output.put_slice(&own);

    let mut signed = [0; PACKET - DIGEST];
    filler.fill(&mut signed);
    let key = mac(SERVER_KEY, &[&theirs]);
    output.put_slice(&signed);
    output.put_slice(&mac(&key, &[&signed]));
}

/// The scheme and the digest of a C1, if it names a version and has a digest.
fn find_digest(hello: &[u8]) -> Option<(usize, [u8; DIGEST])> {
    if hello[4..8] == [0; 4] {
        return None;
    }
    SCHEMES.into_iter().find_map(|scheme| {
        let at = digest_place(hello, scheme);
        let digest = mac(CLIENT_KEY, &[&hello[..at.start], &hello[at.end..]]);
        (hello[at] == digest).then_some((scheme, digest))
    })
}

fn digest_place(packet: &[u8], scheme: usize) -> Range<usize> {
    let behind = scheme + 4;
    let distance: usize = packet[scheme..behind].iter().map(|&byte| usize::from(byte)).sum();
    let start = behind + distance % REACH;
    start..start + DIGEST
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Bytes that differ between connections, by xorshift: they need not be secret.
struct Filler(u64);

impl Filler {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_be_bytes()[..chunk.len()]);
        }
    }
}
