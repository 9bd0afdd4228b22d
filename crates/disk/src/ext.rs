//! ext2, ext3 and ext4. A journal that was not played back does not matter: what stands on the disk is read.
//!
//! Source: Linux, Documentation/filesystems/ext4 ("ext4 Data Structures and Algorithms").

use crate::bytes::{Fields, is_name, text, uuid};
use crate::error::{Error, Result};
use crate::fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node, Stretch};
use crate::runs::{Content, Run};
use crate::source::Source;
use alloc::string::String;
use alloc::vec::Vec;

const MAGIC: u16 = 0xef53;
const ROOT: u64 = 2;

const INCOMPAT_COMPRESSION: u32 = 0x1;
const INCOMPAT_JOURNAL_DEVICE: u32 = 0x8;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
/// All others that do not keep a reader from reading: file types, recovery, extents, MMP, flex_bg, attributes in inodes, data in
/// directories, checksum seed, large directories, inline data, encryption and folded case.
const INCOMPAT_KNOWN: u32 = 0x3_f7d6;
const RO_COMPAT_SPARSE: u32 = 0x1;
const COMPAT_SPARSE2: u32 = 0x200;

const INODE_ENCRYPTED: u32 = 0x800;
const INODE_EXTENTS: u32 = 0x8_0000;
const INODE_INLINE: u32 = 0x1000_0000;

/// Bytes of an inode's block map, inline data or short link.
const I_BLOCK: usize = 60;
/// Levels of an extent tree at most (ext4, EXT4_MAX_EXTENT_DEPTH).
const MAX_DEPTH: u16 = 5;
const EXTENT_MAGIC: u16 = 0xf30a;
/// Blocks of an extent at most; more means that it is not yet written, with this subtracted.
const MAX_EXTENT: u16 = 32768;
/// In-inode attributes begin with this.
const XATTR_MAGIC: u32 = 0xea02_0000;
const XATTR_SYSTEM: u8 = 7;

/// An ext2, ext3 or ext4 file system.
pub struct Ext {
    source: Source,
    block: u64,
    blocks: u64,
    first_block: u64,
    inode_size: u64,
    inodes_per_group: u64,
    blocks_per_group: u64,
    groups: u64,
    descriptor: u64,
    wide: bool,
    /// With `meta_bg`, the first block of descriptors that lies in its own group.
    first_meta: Option<u64>,
    ro_compat: u32,
    /// The groups with copies of the superblock under `sparse_super2`.
    copies: Option<[u32; 2]>,
    uuid: [u8; 16],
    label: String,
}

struct Inode {
    bytes: Vec<u8>,
    kind: FileKind,
    size: u64,
    flags: u32,
    map: [u8; I_BLOCK],
}

impl Inode {
    fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind,
            size: self.size,
        }
    }
}

impl Ext {
    /// Reads the superblock.
    ///
    /// # Errors
    /// It is no such file system, has features that change how it is read, or cannot be read.
    pub fn open(source: Source) -> Result<Self> {
        let bytes: [u8; 1024] = source.array(1024)?;
        let sb = Fields(&bytes);
        if sb.le16(56)? != MAGIC {
            return Err(Error::Corrupt("no ext superblock"));
        }
        let dynamic = sb.le32(76)? >= 1;
        let feature = |at| if dynamic { sb.le32(at) } else { Ok(0) };
        let (compat, incompat, ro_compat) = (feature(92)?, feature(96)?, feature(100)?);
        let log = sb.le32(24)?;
        let first_block = u64::from(sb.le32(20)?);
        let blocks_per_group = u64::from(sb.le32(32)?);
        let inodes_per_group = u64::from(sb.le32(40)?);
        if log > 6 || first_block > 1 || blocks_per_group == 0 || inodes_per_group == 0 {
            return Err(Error::Corrupt("the ext superblock"));
        }
        if incompat & (INCOMPAT_COMPRESSION | INCOMPAT_JOURNAL_DEVICE) != 0 {
            return Err(Error::Unsupported("compressed ext, or a journal alone"));
        }
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(Error::Unsupported("an unknown feature of ext4"));
        }
        let block = 1024 << log;
        let wide = incompat & INCOMPAT_64BIT != 0;
        let descriptor = if wide { u64::from(sb.le16(254)?) } else { 32 };
        let inode_size = if dynamic {
            u64::from(sb.le16(88)?)
        } else {
            128
        };
        if !(32..=block).contains(&descriptor) || !(128..=block).contains(&inode_size) {
            return Err(Error::Corrupt("sizes in the ext superblock"));
        }
        let high = if wide { u64::from(sb.le32(336)?) } else { 0 };
        let blocks = high << 32 | u64::from(sb.le32(4)?);
        Ok(Self {
            source,
            block,
            blocks,
            first_block,
            inode_size,
            inodes_per_group,
            blocks_per_group,
            groups: blocks
                .saturating_sub(first_block)
                .div_ceil(blocks_per_group),
            descriptor,
            wide: wide && descriptor >= 64,
            first_meta: (incompat & INCOMPAT_META_BG != 0)
                .then_some(sb.le32(260)?)
                .map(u64::from),
            ro_compat,
            copies: (compat & COMPAT_SPARSE2 != 0).then_some([sb.le32(588)?, sb.le32(592)?]),
            uuid: sb.array(104)?,
            label: text(sb.slice(120, 16)?),
        })
    }

    /// Whether a group begins with a copy of the superblock.
    fn has_copy(&self, group: u64) -> bool {
        if let Some(copies) = self.copies {
            return group == 0 || copies.iter().any(|&copy| u64::from(copy) == group);
        }
        let power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        self.ro_compat & RO_COMPAT_SPARSE == 0 || group <= 1 || [3, 5, 7].into_iter().any(power)
    }

    /// Where a group's descriptor lies, in bytes.
    fn descriptor_at(&self, group: u64) -> u64 {
        let per_block = self.block / self.descriptor;
        let index = group / per_block;
        let block = match self.first_meta {
            Some(first) if index >= first && index > 0 => {
                let group = index * per_block;
                let start = group.saturating_mul(self.blocks_per_group);
                let start = start.saturating_add(self.first_block);
                start.saturating_add(self.has_copy(group).into())
            }
            // Behind the superblock, which blocks of 1 KiB have in block 1 even where that is no longer the first (bigalloc).
            _ => 1024 / self.block + 1 + index,
        };
        let within = group % per_block * self.descriptor;
        block.saturating_mul(self.block).saturating_add(within)
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let index = number.checked_sub(1).ok_or(Error::Corrupt("inode 0"))?;
        let group = index / self.inodes_per_group;
        if group >= self.groups {
            return Err(Error::Corrupt("an inode beyond the last"));
        }
        let descriptor = self
            .source
            .bytes(self.descriptor_at(group), self.descriptor as usize)?;
        let descriptor = Fields(&descriptor);
        let high = if self.wide { descriptor.le32(40)? } else { 0 };
        let table = u64::from(high) << 32 | u64::from(descriptor.le32(8)?);
        let at = table
            .checked_mul(self.block)
            .and_then(|at| at.checked_add(index % self.inodes_per_group * self.inode_size))
            .ok_or(Error::OutOfRange)?;
        let bytes = self.source.bytes(at, self.inode_size as usize)?;
        let inode = Fields(&bytes);
        let kind = FileKind::from_mode(inode.le16(0)?.into());
        let high = if kind == FileKind::File {
            inode.le32(108)?
        } else {
            0
        };
        Ok(Inode {
            kind,
            size: u64::from(high) << 32 | u64::from(inode.le32(4)?),
            flags: inode.le32(32)?,
            map: inode.array(40)?,
            bytes,
        })
    }

    /// One block of metadata.
    fn read_block(&self, number: u64) -> Result<Vec<u8>> {
        if number == 0 || number >= self.blocks {
            return Err(Error::Corrupt("a block outside the file system"));
        }
        let at = number.checked_mul(self.block).ok_or(Error::OutOfRange)?;
        self.source.bytes(at, self.block as usize)
    }

    /// Where `logical`, a block of a file, lies.
    fn map(&self, inode: &Inode, logical: u64) -> Result<Run> {
        if inode.flags & INODE_EXTENTS != 0 {
            self.map_extents(inode, logical)
        } else {
            self.map_blocks(inode, logical)
        }
    }

    fn map_extents(&self, inode: &Inode, logical: u64) -> Result<Run> {
        let mut node = inode.map.to_vec();
        let mut above = None;
        // The first block after the part of the file that this path through the tree covers.
        let mut end = u64::MAX;
        loop {
            let fields = Fields(&node);
            let (count, depth) = (usize::from(fields.le16(2)?), fields.le16(6)?);
            let expected = above.is_none_or(|above: u16| above == depth.saturating_add(1));
            if fields.le16(0)? != EXTENT_MAGIC || depth > MAX_DEPTH || !expected {
                return Err(Error::Corrupt("a node of an extent tree"));
            }
            // The last entry that begins at or before the block, and where the one after it begins.
            let mut found = None;
            for at in (0..count).map(|index| 12 + index * 12) {
                let first = u64::from(fields.le32(at)?);
                if first > logical {
                    end = end.min(first);
                    break;
                }
                found = Some(at);
            }
            let hole = Run {
                physical: None,
                blocks: (end - logical).max(1),
            };
            let Some(at) = found else {
                return Ok(hole);
            };
            if depth == 0 {
                let len = fields.le16(at + 4)?;
                let within = logical - u64::from(fields.le32(at)?);
                let written = len <= MAX_EXTENT;
                let len = u64::from(if written { len } else { len - MAX_EXTENT });
                if within >= len {
                    return Ok(hole);
                }
                let high = u64::from(fields.le16(at + 6)?);
                let start = high << 32 | u64::from(fields.le32(at + 8)?);
                return Ok(Run {
                    physical: written.then_some(start + within),
                    blocks: len - within,
                });
            }
            let high = u64::from(fields.le16(at + 8)?);
            let child = high << 32 | u64::from(fields.le32(at + 4)?);
            above = Some(depth);
            node = self.read_block(child)?;
        }
    }

    /// The block map of ext2 and ext3: 12 blocks, then trees of one, two and three levels.
    fn map_blocks(&self, inode: &Inode, logical: u64) -> Result<Run> {
        let map = Fields(&inode.map);
        let fan = self.block / 4;
        let one = |number: u32| Run {
            physical: (number != 0).then_some(number.into()),
            blocks: 1,
        };
        if logical < 12 {
            return Ok(one(map.le32(logical as usize * 4)?));
        }
        let mut index = logical - 12;
        let mut span = fan;
        for level in 0..3 {
            if index >= span {
                index -= span;
                span *= fan;
                continue;
            }
            let mut number = map.le32(48 + level * 4)?;
            for _ in 0..=level {
                if number == 0 {
                    return Ok(Run {
                        physical: None,
                        blocks: span - index % span,
                    });
                }
                span /= fan;
                let at = self.byte(number.into(), index / span % fan * 4)?;
                number = u32::from_le_bytes(self.source.array(at)?);
            }
            return Ok(one(number));
        }
        Err(Error::Corrupt("a file is longer than its block map"))
    }

    /// The place of a byte in a block.
    fn byte(&self, block: u64, within: u64) -> Result<u64> {
        if block >= self.blocks {
            return Err(Error::Corrupt("a block outside the file system"));
        }
        block
            .checked_mul(self.block)
            .and_then(|at| at.checked_add(within))
            .ok_or(Error::OutOfRange)
    }

    /// Content in the inode: 60 bytes in place of the block map, the rest in the attribute `system.data`.
    fn inline(inode: &Inode) -> Result<Vec<u8>> {
        let mut content = inode.map.to_vec();
        if let Ok(Some(rest)) = inline_rest(&inode.bytes) {
            content.extend_from_slice(rest);
        }
        content.truncate(usize::try_from(inode.size).unwrap_or(usize::MAX));
        Ok(content)
    }

    /// Reads any inode's content.
    fn content(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if inode.flags & INODE_ENCRYPTED != 0 {
            return Err(Error::Unsupported("an encrypted file"));
        }
        if inode.flags & INODE_INLINE != 0 {
            let content = Self::inline(inode)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let content = content.get(start..).unwrap_or_default();
            let len = buffer.len().min(content.len());
            buffer[..len].copy_from_slice(&content[..len]);
            return Ok(len);
        }
        self.data(inode).read(offset, buffer)
    }

    /// An inode's content, as far as it is in blocks.
    fn data<'a>(
        &'a self,
        inode: &'a Inode,
    ) -> Content<'a, impl Fn(u64) -> Result<Run>, impl Fn(u64) -> Result<u64>> {
        Content {
            source: &self.source,
            block: self.block,
            size: inode.size,
            map: |logical| self.map(inode, logical),
            byte: |block| self.byte(block, 0),
        }
    }

    /// Visits the entries in one block or in inline data. Returns whether to go on.
    fn visit_block(
        &self,
        block: &[u8],
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<Flow> {
        let fields = Fields(block);
        let mut at = 0;
        while at + 8 <= block.len() {
            self.source.step()?;
            let inode = fields.le32(at)?;
            let len = match usize::from(fields.le16(at + 4)?) {
                // The length of a whole block of 64 KiB does not fit.
                0 | 65535 if block.len() == 65536 => 65536,
                len => len,
            };
            let name_len = usize::from(fields.u8(at + 6)?);
            if len < 8 + name_len || len % 4 != 0 || at + len > block.len() {
                return Err(Error::Corrupt("a directory entry of ext"));
            }
            let name = fields.slice(at + 8, name_len)?;
            at += len;
            if inode == 0 || !is_name(name) {
                continue;
            }
            let node = Node {
                id: inode.into(),
                place: 0,
            };
            if visit(Entry { name, node })? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }
}

/// The value of the attribute `system.data` in an inode's own space.
fn inline_rest(inode: &[u8]) -> Result<Option<&[u8]>> {
    let fields = Fields(inode);
    let start = 128 + usize::from(fields.le16(128)?);
    if fields.le32(start)? != XATTR_MAGIC {
        return Ok(None);
    }
    let first = start + 4;
    let mut at = first;
    while fields.le32(at)? != 0 {
        let len = usize::from(fields.u8(at)?);
        if fields.u8(at + 1)? == XATTR_SYSTEM && fields.slice(at + 16, len)? == b"data" {
            let value = first + usize::from(fields.le16(at + 2)?);
            return Ok(Some(fields.slice(value, fields.le32(at + 8)? as usize)?));
        }
        at += (16 + len).next_multiple_of(4);
    }
    Ok(None)
}

impl FileSystem for Ext {
    fn kind(&self) -> &'static str {
        "ext2"
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn uuid(&self) -> Option<String> {
        (self.uuid != [0; 16]).then(|| uuid(self.uuid))
    }

    fn root(&self) -> Node {
        Node { id: ROOT, place: 0 }
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        Ok(self.inode(node.id)?.metadata())
    }

    fn read_dir(
        &self,
        directory: Node,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let inode = self.inode(directory.id)?;
        inode.metadata().directory()?;
        if inode.flags & INODE_INLINE != 0 {
            let content = Self::inline(&inode)?;
            // First the parent's number, then entries to the end of the block map, then those of the attribute.
            let (map, rest) = content.split_at(content.len().min(I_BLOCK));
            for part in [map.get(4..).unwrap_or_default(), rest] {
                if self.visit_block(part, visit)? == Flow::Stop {
                    break;
                }
            }
            return Ok(());
        }
        let mut logical = 0;
        while logical < inode.size.div_ceil(self.block) {
            let run = self.map(&inode, logical)?;
            let Some(first) = run.physical else {
                self.source.step()?;
                logical = logical.saturating_add(run.blocks);
                continue;
            };
            if self.visit_block(&self.read_block(first)?, visit)? == Flow::Stop {
                break;
            }
            logical += 1;
        }
        Ok(())
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let inode = self.inode(node.id)?;
        let size = inode.metadata().link()?;
        if inode.flags & (INODE_EXTENTS | INODE_INLINE | INODE_ENCRYPTED) == 0 && size < I_BLOCK {
            return Ok(inode.map[..size].to_vec());
        }
        let mut target = crate::bytes::buffer(size)?;
        let count = self.content(&inode, 0, &mut target)?;
        target.truncate(count);
        Ok(target)
    }

    fn stretch(&self, file: Node, offset: u64, len: u64) -> Result<Option<Stretch>> {
        let inode = self.inode(file.id)?;
        inode.metadata().file()?;
        match inode.flags & (INODE_INLINE | INODE_ENCRYPTED) {
            0 => self.data(&inode).stretch(offset, len),
            _ => Ok(None),
        }
    }

    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let inode = self.inode(file.id)?;
        inode.metadata().file()?;
        self.content(&inode, offset, buffer)
    }
}
