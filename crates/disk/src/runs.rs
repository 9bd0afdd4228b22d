//! Files whose blocks lie in rows on the disk: what readers of such file systems share.

use crate::error::Result;
use crate::fs::Stretch;
use crate::source::Source;

/// Blocks of a file that lie in a row, or a hole.
pub(crate) struct Run {
    /// The first block on the disk, or none in a hole.
    pub physical: Option<u64>,
    /// How many, at least one.
    pub blocks: u64,
}

/// A file's content: `size` bytes in blocks of `block` bytes.
pub(crate) struct Content<'a, M, B> {
    pub source: &'a Source,
    pub block: u64,
    pub size: u64,
    /// Where a block of the file lies.
    pub map: M,
    /// The byte at which a block of the disk begins.
    pub byte: B,
}

impl<M: Fn(u64) -> Result<Run>, B: Fn(u64) -> Result<u64>> Content<'_, M, B> {
    /// Where byte `offset` lies, or nothing in a hole, and how many bytes of the row are left there.
    fn locate(&self, offset: u64) -> Result<(Option<u64>, u64)> {
        let run = (self.map)(offset / self.block)?;
        let within = offset % self.block;
        let left = run.blocks.saturating_mul(self.block) - within;
        let at = run.physical.map(&self.byte).transpose()?;
        Ok((at.map(|at| at.saturating_add(within)), left))
    }

    /// Fills `buffer` from `offset` on, with zeros for holes. Returns how many bytes the file has there.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let len = self.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let (at, left) = self.locate(offset + done as u64)?;
            let count = left.min((len - done) as u64) as usize;
            let part = &mut buffer[done..done + count];
            match at {
                Some(at) => self.source.read(at, part)?,
                None => {
                    self.source.budget().charge(count as u64)?;
                    part.fill(0);
                }
            }
            done += count;
        }
        Ok(len)
    }

    /// The row in which byte `offset` lies, of at most `len` bytes, charged as if it were read.
    pub fn stretch(&self, offset: u64, len: u64) -> Result<Option<Stretch>> {
        let (Some(at), left) = self.locate(offset)? else {
            return Ok(None);
        };
        let len = left.min(len).min(self.size.saturating_sub(offset));
        Stretch::of(self.source, at, len)
    }
}
