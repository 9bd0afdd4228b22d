//! Files of btrfs: extents in the tree or on the disk, as they are or compressed.

use super::tree::{Key, Root};
use super::{Btrfs, EXTENT_DATA, Metadata};
use crate::bytes::{Fields, buffer};
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::fs::{Flow, Stretch};
use alloc::vec::Vec;

/// Bytes of a compressed extent at most, before and after (BTRFS_MAX_COMPRESSED and BTRFS_MAX_UNCOMPRESSED).
const MAX_COMPRESSED: u64 = 128 << 10;
/// Where an extent's item has its data, if that is in the item.
const INLINE: usize = 21;
const WRONG: Error = Error::Corrupt("an extent of btrfs");

/// What an item says of a part of a file.
struct Extent {
    /// Where it begins in the file, and where it ends.
    start: u64,
    end: u64,
    codec: Option<Codec>,
    place: Place,
}

enum Place {
    /// In the item.
    Inline(Vec<u8>, u64),
    /// On the disk: address, bytes there, bytes after decompression, and where in those this part begins.
    Disk(u64, u64, u64, u64),
    /// Nowhere: zeros.
    Hole,
}

impl Extent {
    fn parse(start: u64, item: &[u8]) -> Result<Self> {
        let fields = Fields(item);
        let made = fields.le64(8)?;
        let codec = match fields.u8(16)? {
            0 => None,
            1 => Some(Codec::Zlib),
            2 => Some(Codec::Lzo),
            3 => Some(Codec::Zstd),
            _ => return Err(Error::Unsupported("an unknown compression of btrfs")),
        };
        if fields.u8(17)? != 0 || fields.le16(18)? != 0 {
            return Err(Error::Unsupported("an encrypted file"));
        }
        let (len, place) = match fields.u8(20)? {
            0 => {
                let data = item.get(INLINE..).unwrap_or_default().to_vec();
                (made, Place::Inline(data, made))
            }
            kind @ (1 | 2) => {
                let (address, size) = (fields.le64(21)?, fields.le64(29)?);
                let (offset, len) = (fields.le64(37)?, fields.le64(45)?);
                // Space that is only set aside, and address 0, read as zeros.
                let place = if kind == 2 || address == 0 {
                    Place::Hole
                } else {
                    Place::Disk(address, size, made, offset)
                };
                (len, place)
            }
            _ => return Err(WRONG),
        };
        Ok(Self {
            start,
            end: start.checked_add(len).ok_or(WRONG)?,
            codec,
            place,
        })
    }

    /// The logical address of byte `at` of the file, one of this extent's, if it is on the disk as it is.
    fn address(&self, at: u64) -> Result<Option<u64>> {
        let (Place::Disk(address, _, _, offset), None) = (&self.place, self.codec) else {
            return Ok(None);
        };
        let start = address.checked_add(*offset);
        let address = start.and_then(|start| start.checked_add(at - self.start));
        address.ok_or(WRONG).map(Some)
    }
}

impl Btrfs {
    /// Reads a file's or a link's content.
    pub(super) fn content(
        &self,
        root: Root,
        object: u64,
        inode: &Metadata,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let len = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let rest = &mut buffer[done..len];
            done += match self.extent_at(root, object, at)? {
                Some(extent) => self.read_extent(&extent, at, rest)?,
                None => {
                    let end = self.hole_end(root, object, at)?.unwrap_or(u64::MAX);
                    self.zeros(end - at, rest)?
                }
            };
        }
        Ok(len)
    }

    /// Where a file's bytes from `offset` on lie in a row, if they are neither compressed, nor in the tree, nor nowhere.
    pub(super) fn row(
        &self,
        root: Root,
        object: u64,
        inode: &Metadata,
        offset: u64,
        len: u64,
    ) -> Result<Option<Stretch>> {
        let len = inode.size.saturating_sub(offset).min(len);
        let extent = match len {
            0 => None,
            _ => self.extent_at(root, object, offset)?,
        };
        let Some(extent) = extent else {
            return Ok(None);
        };
        let Some(address) = extent.address(offset)? else {
            return Ok(None);
        };
        let (at, left) = self.chunks.find(address)?;
        let len = len.min(extent.end - offset).min(left);
        Stretch::of(&self.source, at, len)
    }

    /// The extent that has byte `at` of a file.
    fn extent_at(&self, root: Root, object: u64, at: u64) -> Result<Option<Extent>> {
        let key = Key {
            object,
            kind: EXTENT_DATA,
            offset: at,
        };
        match self.last_item(root, key)? {
            Some((found, item)) if (found.object, found.kind) == (object, EXTENT_DATA) => {
                let extent = Extent::parse(found.offset, &item)?;
                Ok((extent.start <= at && at < extent.end).then_some(extent))
            }
            _ => Ok(None),
        }
    }

    /// Where the first extent behind byte `at` begins.
    fn hole_end(&self, root: Root, object: u64, at: u64) -> Result<Option<u64>> {
        let mut end = None;
        let key = Key {
            object,
            kind: EXTENT_DATA,
            offset: at.saturating_add(1),
        };
        self.items(root, key, &mut |key, _| {
            if (key.object, key.kind) == (object, EXTENT_DATA) && key.offset > at {
                end = Some(key.offset);
            }
            Ok(Flow::Stop)
        })?;
        Ok(end)
    }

    fn zeros(&self, len: u64, out: &mut [u8]) -> Result<usize> {
        let count = len.min(out.len() as u64) as usize;
        self.source.budget().charge(count as u64)?;
        out[..count].fill(0);
        Ok(count)
    }

    /// Reads from byte `at` of the file to at most the extent's end. Returns how many bytes, at least one.
    fn read_extent(&self, extent: &Extent, at: u64, out: &mut [u8]) -> Result<usize> {
        let within = at - extent.start;
        let count = (extent.end - at).min(out.len() as u64) as usize;
        let out = &mut out[..count];
        match (&extent.place, extent.codec) {
            (Place::Hole, _) => return self.zeros(count as u64, out),
            (Place::Inline(data, _), None) => copy(data, within, out)?,
            (Place::Inline(data, made), Some(codec)) => {
                copy(&self.decompress(codec, data, *made)?, within, out)?;
            }
            (Place::Disk(..), None) => {
                let address = extent.address(at)?.ok_or(WRONG)?;
                self.read_logical(address, out)?;
            }
            (&Place::Disk(address, size, made, offset), Some(codec)) => {
                let within = offset.checked_add(within).ok_or(WRONG)?;
                self.read_compressed((address, size), made, codec, within, out)?;
            }
        }
        Ok(count)
    }

    /// Reads from a compressed extent, which is kept: files are read front to back.
    fn read_compressed(
        &self,
        (address, size): (u64, u64),
        made: u64,
        codec: Codec,
        within: u64,
        out: &mut [u8],
    ) -> Result<()> {
        let mut kept = self.extent.borrow_mut();
        if let Some((held, data)) = kept.as_ref()
            && *held == address
        {
            return copy(data, within, out);
        }
        if size > MAX_COMPRESSED {
            return Err(WRONG);
        }
        let mut data = buffer(size as usize)?;
        self.read_logical(address, &mut data)?;
        let (_, data) = kept.insert((address, self.decompress(codec, &data, made)?));
        copy(data, within, out)
    }

    fn decompress(&self, codec: Codec, data: &[u8], made: u64) -> Result<Vec<u8>> {
        if made > MAX_COMPRESSED {
            return Err(WRONG);
        }
        self.source.budget().charge(made)?;
        let mut made_data = match codec {
            Codec::Lzo => self.segments(data, made as usize)?,
            codec => codec.decompress(data, made as usize)?,
        };
        // The last sector of a file may be stored shorter than it is.
        made_data.resize(made as usize, 0);
        Ok(made_data)
    }

    /// LZO in btrfs: the length of all, then segments of one sector each with their lengths, which do not cross a sector's end.
    fn segments(&self, data: &[u8], limit: usize) -> Result<Vec<u8>> {
        let fields = Fields(data);
        let sector = self.sector as usize;
        let end = (fields.le32(0)? as usize).min(data.len());
        let mut made = Vec::new();
        let mut at = 4;
        while at < end && made.len() < limit {
            if sector - at % sector < 4 {
                at = at.next_multiple_of(sector);
                continue;
            }
            let len = fields.le32(at)? as usize;
            let segment = fields.slice(at + 4, len)?;
            made.extend(Codec::Lzo.decompress(segment, sector)?);
            at += 4 + len;
        }
        made.truncate(limit);
        Ok(made)
    }
}

/// Copies from `within` on. What the extent promises and its data does not have is an error.
fn copy(data: &[u8], within: u64, out: &mut [u8]) -> Result<()> {
    let start = usize::try_from(within).map_err(|_| WRONG)?;
    let end = start.checked_add(out.len()).ok_or(WRONG)?;
    out.copy_from_slice(data.get(start..end).ok_or(WRONG)?);
    Ok(())
}
