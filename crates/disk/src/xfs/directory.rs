//! Directories of XFS: in the inode, or in blocks. The indexes behind the blocks are not needed to go through them.

use super::{Format, Inode, Xfs};
use crate::bytes::{Fields, buffer, is_name};
use crate::error::{Error, Result};
use crate::fs::{Entry, Flow, Node};

/// Bytes of a directory's data at most; its index lies behind (XFS_DIR2_LEAF_OFFSET).
const MAX_DATA: u64 = 32 << 30;
/// Marks space that is free.
const FREE: u16 = 0xffff;
const WRONG: Error = Error::Corrupt("a directory of XFS");

type Visit<'a> = &'a mut dyn FnMut(Entry<'_>) -> Result<Flow>;

impl Xfs {
    /// Calls `visit` for each entry.
    pub(super) fn visit(&self, inode: &Inode, visit: Visit<'_>) -> Result<()> {
        if inode.format == Format::Local {
            return self.visit_short(inode, visit);
        }
        let per_block = self.directory_block as u64 / self.block;
        let end = inode.size.min(MAX_DATA) / self.block;
        let mut logical = 0;
        let mut block = buffer(self.directory_block)?;
        while logical < end {
            let run = self.map(inode, logical)?;
            if run.physical.is_none() {
                self.source.step()?;
                let next = logical.saturating_add(run.blocks);
                logical = next.next_multiple_of(per_block);
                continue;
            }
            // The blocks that make up a directory's block need not lie in a row.
            for (index, part) in block.chunks_exact_mut(self.block as usize).enumerate() {
                let run = self.map(inode, logical + index as u64)?;
                self.source
                    .read(self.byte(run.physical.ok_or(WRONG)?)?, part)?;
            }
            if self.visit_block(&block, visit)? == Flow::Stop {
                break;
            }
            logical += per_block;
        }
        Ok(())
    }

    /// A directory in the inode: two counts, the parent, then entries, with numbers of four bytes or of eight.
    fn visit_short(&self, inode: &Inode, visit: Visit<'_>) -> Result<()> {
        let size = usize::try_from(inode.size).map_err(|_| WRONG)?;
        let fields = Fields(Fields(&inode.fork).slice(0, size)?);
        let wide = fields.u8(1)? != 0;
        let number = if wide { 8 } else { 4 };
        let mut at = 2 + number;
        for _ in 0..fields.u8(0)? {
            self.source.step()?;
            let len = usize::from(fields.u8(at)?);
            let name = fields.slice(at + 3, len)?;
            at += 3 + len + usize::from(self.has_type);
            let id = if wide {
                fields.be64(at)?
            } else {
                fields.be32(at)?.into()
            };
            at += number;
            if is_name(name) && visit(entry(name, id))? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// One block: a header, then entries and free space. In a directory of one block, an index follows.
    fn visit_block(&self, block: &[u8], visit: Visit<'_>) -> Result<Flow> {
        let fields = Fields(block);
        let header = match fields.slice(0, 4)? {
            b"XD2B" | b"XD2D" => 16,
            b"XDB3" | b"XDD3" => 64,
            _ => return Err(WRONG),
        };
        let end = match fields.slice(0, 4)? {
            b"XD2B" | b"XDB3" => {
                let tail = block.len() - 8;
                let index = (fields.be32(tail)? as usize).checked_mul(8).ok_or(WRONG)?;
                tail.checked_sub(index).ok_or(WRONG)?
            }
            _ => block.len(),
        };
        let mut at = header;
        while at < end {
            self.source.step()?;
            if fields.be16(at)? == FREE {
                let len = usize::from(fields.be16(at + 2)?);
                if len == 0 || len % 8 != 0 {
                    return Err(WRONG);
                }
                at += len;
                continue;
            }
            let id = fields.be64(at)?;
            let len = usize::from(fields.u8(at + 8)?);
            let name = fields.slice(at + 9, len)?;
            // Number, length, name, type and the entry's own place, together a multiple of eight.
            at += (8 + 1 + len + usize::from(self.has_type) + 2).next_multiple_of(8);
            if is_name(name) && visit(entry(name, id))? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }
}

fn entry(name: &[u8], id: u64) -> Entry<'_> {
    Entry {
        name,
        node: Node { id, place: 0 },
    }
}
