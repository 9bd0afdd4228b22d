//! Decompression into a bounded buffer, for btrfs and squashfs.

use crate::bytes::buffer;
use crate::error::{Error, Result};
use alloc::vec::Vec;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes of a zstd window at most. btrfs has 128 KiB, squashfs one block.
const MAX_WINDOW: u64 = 8 << 20;
/// KiB that xz may take at most: its dictionary is one block of squashfs.
const MAX_XZ: u32 = 8 << 10;

/// A way of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Zlib,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

impl Codec {
    /// Decompresses to at most `limit` bytes, a number that the caller has bounded. What follows the end of the stream does not matter.
    pub fn decompress(self, input: &[u8], limit: usize) -> Result<Vec<u8>> {
        let output = match self {
            Codec::Zlib => miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(input, limit)
                .map_err(|_| BAD)?,
            Codec::Lzo => fill(limit, |output| {
                lzokay::decompress::decompress(input, output).map_err(|_| BAD)
            })?,
            Codec::Lz4 => fill(limit, |output| {
                lz4_flex::block::decompress_into(input, output).map_err(|_| BAD)
            })?,
            Codec::Xz => fill(limit, |output| xz(input, output))?,
            Codec::Zstd => zstd(input, limit)?,
        };
        if output.len() > limit {
            return Err(BAD);
        }
        Ok(output)
    }
}

const BAD: Error = Error::Corrupt("compressed data");

/// The part of a buffer of `limit` bytes that `decompress` fills.
fn fill(limit: usize, decompress: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut output = buffer(limit)?;
    let len = decompress(&mut output)?;
    output.truncate(len);
    Ok(output)
}

fn xz(input: &[u8], output: &mut [u8]) -> Result<usize> {
    use lzma_rust2::Read;
    let mut reader = lzma_rust2::XzReader::new_mem_limit(input, false, MAX_XZ);
    let mut done = 0;
    while done < output.len() {
        match reader.read(&mut output[done..]).map_err(|_| BAD)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// One frame, block by block, so that a small input cannot make much before it is noticed.
fn zstd(mut input: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW);
    decoder.init(&mut input).map_err(|_| BAD)?;
    let mut output = Vec::new();
    loop {
        let finished = decoder
            .decode_blocks(&mut input, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| BAD)?;
        if let Some(part) = decoder.collect() {
            output.try_reserve(part.len()).map_err(|_| Error::Memory)?;
            output.extend_from_slice(&part);
        }
        if finished || output.len() > limit {
            return Ok(output);
        }
    }
}
