//! Sums of bytes, sixteen at a time: checksums of tables and ROMs are a noticeable part of the way to the guest.

use core::arch::x86_64::{
    _mm_add_epi8, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_setzero_si128, _mm_unpackhi_epi64,
};

/// The sum of `bytes` modulo 256.
pub fn bytes(bytes: &[u8]) -> u8 {
    // SAFETY: every processor in 64-bit mode has SSE2, and the firmware switches it on before its first Rust instruction.
    unsafe { by_sixteen(bytes) }
}

#[target_feature(enable = "sse2")]
fn by_sixteen(bytes: &[u8]) -> u8 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut lanes = _mm_setzero_si128();
    for block in blocks {
        let block = u128::from_le_bytes(*block);
        lanes = _mm_add_epi8(lanes, _mm_set_epi64x((block >> 64) as i64, block as i64));
    }
    let halves = [lanes, _mm_unpackhi_epi64(lanes, lanes)];
    let halves = halves.map(|half| _mm_cvtsi128_si64(half).to_le_bytes());
    let all = halves.as_flattened().iter().chain(rest);
    all.fold(0, |sum, byte| sum.wrapping_add(*byte))
}
