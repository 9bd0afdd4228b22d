//! Chunks: where logical addresses lie on the device.

use super::Btrfs;
use super::tree::{KEY, Key, Root};
use crate::bytes::Fields;
use crate::error::{Error, Result};
use crate::fs::Flow;
use alloc::vec::Vec;

const CHUNK_ITEM: u8 = 228;
/// The object of all chunks (BTRFS_FIRST_CHUNK_TREE_OBJECTID).
const CHUNKS: u64 = 256;
/// Chunks at most: 64 TiB of the usual size of 1 GiB.
const MAX_CHUNKS: usize = 65536;
/// Bytes of one stripe, behind a chunk's 48.
const STRIPE: usize = 32;
/// RAID 0, 10, 5 and 6: data in turns on several devices.
const STRIPED: u64 = 0x8 | 0x40 | 0x80 | 0x100;
const WRONG: Error = Error::Corrupt("a chunk of btrfs");

struct Chunk {
    start: u64,
    len: u64,
    /// Where it begins on this device, or none if it is elsewhere or in stripes.
    physical: Option<u64>,
}

/// The chunks in the order of their addresses.
#[derive(Default)]
pub(super) struct Chunks(Vec<Chunk>);

impl Chunks {
    /// The chunks that the superblock holds: those of the tree that has the others.
    pub fn system(bytes: &[u8], device: u64) -> Result<Self> {
        let mut chunks = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            let key = Key::parse(Fields(bytes), at)?;
            let item = bytes.get(at + KEY..).unwrap_or_default();
            let stripes = usize::from(Fields(item).le16(44)?);
            chunks.add(key, item, device)?;
            at += KEY + 48 + stripes * STRIPE;
        }
        chunks.sort();
        Ok(chunks)
    }

    fn add(&mut self, key: Key, item: &[u8], device: u64) -> Result<()> {
        let item = Fields(item);
        let (len, kind) = (item.le64(0)?, item.le64(24)?);
        let count = usize::from(item.le16(44)?);
        let mut physical = None;
        for at in (0..count).map(|index| 48 + index * STRIPE) {
            if item.le64(at)? == device {
                physical = Some(item.le64(at + 8)?);
                break;
            }
        }
        if len == 0 || key.offset.checked_add(len).is_none() {
            return Err(WRONG);
        }
        let chunk = Chunk {
            start: key.offset,
            len,
            physical: physical.filter(|_| kind & STRIPED == 0),
        };
        if self.0.len() == MAX_CHUNKS {
            return Err(WRONG);
        }
        self.0.try_reserve(1).map_err(|_| Error::Memory)?;
        self.0.push(chunk);
        Ok(())
    }

    /// Puts all in order.
    fn sort(&mut self) {
        self.0.sort_by_key(|chunk| chunk.start);
    }

    /// Where `address` lies on the device, and how many bytes from there on lie in a row.
    pub fn find(&self, address: u64) -> Result<(u64, u64)> {
        let index = self.0.partition_point(|chunk| chunk.start <= address);
        let chunk = index
            .checked_sub(1)
            .and_then(|index| self.0.get(index))
            .filter(|chunk| address - chunk.start < chunk.len)
            .ok_or(Error::Corrupt("an address of btrfs outside all chunks"))?;
        let within = address - chunk.start;
        let physical = chunk
            .physical
            .ok_or(Error::Unsupported("btrfs on several devices"))?;
        let place = physical.checked_add(within).ok_or(Error::OutOfRange)?;
        Ok((place, chunk.len - within))
    }
}

impl Btrfs {
    /// Reads the tree of chunks.
    pub(super) fn read_chunks(&mut self, root: Root, device: u64) -> Result<()> {
        let mut chunks = Chunks::default();
        let first = Key {
            object: CHUNKS,
            kind: CHUNK_ITEM,
            offset: 0,
        };
        self.items(root, first, &mut |key, item| {
            if (key.object, key.kind) != (CHUNKS, CHUNK_ITEM) {
                return Ok(Flow::Stop);
            }
            chunks.add(key, item, device)?;
            Ok(Flow::Continue)
        })?;
        chunks.sort();
        self.chunks = chunks;
        Ok(())
    }

    /// Reads from a logical address.
    pub(super) fn read_logical(&self, mut address: u64, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let (place, left) = self.chunks.find(address)?;
            let count = left.min(buffer.len() as u64) as usize;
            let (part, rest) = buffer.split_at_mut(count);
            self.source.read(place, part)?;
            address += count as u64;
            buffer = rest;
        }
        Ok(())
    }
}
