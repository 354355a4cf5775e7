//! The two forms of the handshake, as clients check them.

use std::ops::Range;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{common::run, streams::quirky_stream};

const PACKET: usize = 1536;
const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// What follows the words in the longer key.
const SERVER_REST: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e, 0xec, 0x5d,
    0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

/// The digest's place by the four bytes at `told`, and the digest of the rest.
fn digest(packet: &[u8], told: usize, key: &[u8]) -> (Range<usize>, Vec<u8>) {
    let sum = packet[told..told + 4]
        .iter()
        .map(|&byte| usize::from(byte))
        .sum::<usize>();
    let start = told + 4 + sum % 728;
    let rest = [&packet[..start], &packet[start + 32..]].concat();
    (start..start + 32, mac(key, &rest))
}

/// C1 with a digest whose place the bytes at `told` give.
fn hello(version: [u8; 4], told: usize, place: [u8; 4]) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..PACKET).map(|i| (i * 31 % 251) as u8).collect();
    packet[4..8].copy_from_slice(&version);
    packet[told..told + 4].copy_from_slice(&place);
    let (at, digest) = digest(&packet, told, PLAYER);
    packet[at].copy_from_slice(&digest);
    packet
}

/// S1 and S2 for a C1, behind which a publish goes on as ever.
fn answered(hello: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (stream, _) = quirky_stream();
    let (expected, _, _) = run([&stream[..]]);
    let bytes = [&[3], hello, &stream[1 + PACKET..]].concat();
    let (events, mut session, result) = run([&bytes[..]]);
    assert!(result.is_ok() && events == expected, "{result:?}: {events:?}");
    let output = session.take_output();
    assert_eq!(output[0], 3);
    (
        output[1..1 + PACKET].to_vec(),
        output[1 + PACKET..1 + 2 * PACKET].to_vec(),
    )
}

#[test]
fn a_digest_is_answered_by_a_signature() {
    for told in [8, 772] {
        // The nearest place, the farthest, and one by a sum that wraps.
        for place in [[0; 4], [255, 255, 217, 0], [255; 4]] {
            let hello = hello([9, 0, 124, 2], told, place);
            let (s1, s2) = answered(&hello);
            assert!(s1[4] >= 3, "clients look at the digest from version 3 on");
            let (at, expected) = digest(&s1, told, SERVER);
            assert_eq!(s1[at], expected, "S1 by {told} and {place:?}");
            let (at, _) = digest(&hello, told, PLAYER);
            let key = mac(&[SERVER, &SERVER_REST].concat(), &hello[at]);
            let (signed, signature) = s2.split_at(PACKET - 32);
            assert_eq!(signature, mac(&key, signed), "S2 by {told} and {place:?}");
        }
    }
}

#[test]
fn without_a_version_or_a_digest_the_answer_is_an_echo() {
    let no_version = hello([0; 4], 8, [1; 4]);
    let mut no_digest = hello([9, 0, 124, 2], 772, [1; 4]);
    no_digest[PACKET - 1] ^= 1;
    for hello in [no_version, no_digest] {
        let (s1, s2) = answered(&hello);
        assert_eq!((&s1[4..8], s2), (&[0; 4][..], hello));
    }
}
