//! Sums of bytes, sixteen at a time: checksums of tables and ROMs are a noticeable part of the way to the guest.

use safe_arch::{add_i8_m128i, load_unaligned_m128i, zeroed_m128i};

/// The sum of `bytes` modulo 256.
pub fn bytes(bytes: &[u8]) -> u8 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let lanes = blocks.iter().fold(zeroed_m128i(), |lanes, block| {
        add_i8_m128i(lanes, load_unaligned_m128i(block))
    });
    let lanes: [u8; 16] = lanes.into();
    let all = lanes.iter().chain(rest);
    all.fold(0, |sum, byte| sum.wrapping_add(*byte))
}
