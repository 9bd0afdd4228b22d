//! Where the blocks of a file lie: extents in the inode, or in a tree below it.

use super::{Format, Inode, Xfs};
use crate::bytes::Fields;
use crate::error::{Error, Result};
use crate::runs::Run;
use alloc::vec::Vec;

/// Levels of the tree at most (XFS_BTREE_MAXLEVELS).
const MAX_LEVEL: u16 = 9;
/// Bytes of an extent.
const EXTENT: usize = 16;
const WRONG: Error = Error::Corrupt("the extents of an XFS file");

/// An extent as it is packed into 128 bits.
struct Extent {
    start: u64,
    physical: Option<u64>,
    count: u64,
}

impl Extent {
    fn parse(fields: Fields<'_>, at: usize) -> Result<Self> {
        let bits = u128::from(fields.be64(at)?) << 64 | u128::from(fields.be64(at + 8)?);
        let field = |from: u32, width: u32| (bits >> from) as u64 & ((1 << width) - 1);
        let written = bits >> 127 == 0;
        Ok(Self {
            start: field(73, 54),
            physical: written.then_some(field(21, 52)),
            count: field(0, 21),
        })
    }
}

impl Xfs {
    /// Where `logical`, a block of a file, lies.
    pub(super) fn map(&self, inode: &Inode, logical: u64) -> Result<Run> {
        match inode.format {
            Format::Local => Err(WRONG),
            Format::Extents => {
                let count = usize::try_from(inode.extents).unwrap_or(usize::MAX);
                find(Fields(&inode.fork), 0, count, logical, u64::MAX)
            }
            Format::Tree => self.map_tree(inode, logical),
        }
    }

    fn map_tree(&self, inode: &Inode, logical: u64) -> Result<Run> {
        let header = if self.version >= 5 { 72 } else { 24 };
        let magic = if self.version >= 5 { b"BMA3" } else { b"BMAP" };
        let mut node: Vec<u8> = inode.fork.clone();
        let (mut level, mut count) = (Fields(&node).be16(0)?, Fields(&node).be16(2)?);
        // The root in the inode has a header of four bytes. Keys and pointers each take half of the rest.
        let mut start = 4;
        if !(1..=MAX_LEVEL).contains(&level) {
            return Err(WRONG);
        }
        // Where the part of the file that this path through the tree covers ends.
        let mut end = u64::MAX;
        while level > 0 {
            let fields = Fields(&node);
            let most = node.len().saturating_sub(start) / 16;
            let count_here = usize::from(count);
            if count_here == 0 || count_here > most {
                return Err(WRONG);
            }
            let mut child = 0;
            for index in 0..count_here {
                let key = fields.be64(start + index * 8)?;
                if key > logical {
                    // Before the first key there is a hole, which the first child tells as well.
                    if index > 0 {
                        end = end.min(key);
                    }
                    break;
                }
                child = index;
            }
            let pointer = fields.be64(start + most * 8 + child * 8)?;
            node = self
                .source
                .bytes(self.byte(pointer)?, self.block as usize)?;
            let fields = Fields(&node);
            if fields.slice(0, 4)? != magic || fields.be16(4)? != level - 1 {
                return Err(WRONG);
            }
            (level, count, start) = (level - 1, fields.be16(6)?, header);
        }
        find(Fields(&node), start, count.into(), logical, end)
    }
}

/// Finds a block among `count` extents from `at` on, which are in order.
fn find(fields: Fields<'_>, at: usize, count: usize, logical: u64, end: u64) -> Result<Run> {
    let mut end = end;
    for index in 0..count {
        let extent = Extent::parse(fields, at + index * EXTENT)?;
        if extent.start > logical {
            end = end.min(extent.start);
            break;
        }
        let within = logical - extent.start;
        if within < extent.count {
            return Ok(Run {
                physical: extent.physical.map(|physical| physical + within),
                blocks: extent.count - within,
            });
        }
    }
    Ok(Run {
        physical: None,
        blocks: end.saturating_sub(logical).max(1),
    })
}
