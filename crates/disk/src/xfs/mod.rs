//! XFS, versions 4 and 5. A log that was not played back does not matter: what stands on the disk is read.
//!
//! Source: XFS Algorithms & Data Structures, 3rd edition (kernel.org). All numbers are big-endian.

mod directory;
mod map;

use crate::bytes::{Fields, text, uuid};
use crate::error::{Error, Result};
use crate::fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node, Stretch};
use crate::path::MAX_PATH;
use crate::runs::{Content, Run};
use crate::source::Source;
use alloc::string::String;
use alloc::vec::Vec;

const MAGIC: &[u8] = b"XFSB";
const INODE_MAGIC: [u8; 2] = *b"IN";
/// Version 4: directories of version 2, which all have since 2002.
const VERSION_DIR2: u16 = 0x2000;
/// Version 4: directory entries have a type.
const FEATURES2_TYPE: u32 = 0x200;
/// Version 5: directory entries have a type.
const INCOMPAT_TYPE: u32 = 0x1;
/// Version 5: types, sparse inodes, a UUID for metadata, big times, repair, wide extent counts, exchange, parent pointers and metadata
/// directories do not keep a reader from reading.
const INCOMPAT_KNOWN: u32 = 0x1ff;
/// The data of a file lies on a realtime device.
const FLAG_REALTIME: u16 = 1;
/// The header of a block of a link's target in version 5.
const LINK_HEADER: usize = 56;
const LINK_MAGIC: &[u8] = b"XSLM";

/// An XFS file system.
pub struct Xfs {
    source: Source,
    block: u64,
    blocks: u64,
    root: u64,
    group_blocks: u64,
    groups: u64,
    inode_size: usize,
    /// The logarithms of inodes in a block and of blocks in a group, by which numbers are split.
    inode_log: u32,
    group_log: u32,
    /// Bytes of a directory block.
    directory_block: usize,
    version: u8,
    has_type: bool,
    uuid: [u8; 16],
    label: String,
}

/// How a fork holds its data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Local,
    Extents,
    Tree,
}

struct Inode {
    kind: FileKind,
    size: u64,
    format: Format,
    /// The data fork.
    fork: Vec<u8>,
    /// Extents in the fork.
    extents: u64,
    realtime: bool,
}

impl Inode {
    fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind,
            size: self.size,
        }
    }
}

impl Xfs {
    /// Reads the superblock.
    ///
    /// # Errors
    /// It is no XFS, has features that change how it is read, or cannot be read.
    pub fn open(source: Source) -> Result<Self> {
        const WRONG: Error = Error::Corrupt("the XFS superblock");
        let bytes: [u8; 512] = source.array(0)?;
        let sb = Fields(&bytes);
        if !bytes.starts_with(MAGIC) {
            return Err(Error::Corrupt("no XFS superblock"));
        }
        let features = sb.be16(100)?;
        let version = (features & 15) as u8;
        let has_type = match version {
            4 if features & VERSION_DIR2 == 0 => {
                return Err(Error::Unsupported("XFS with directories of version 1"));
            }
            4 => sb.be32(200)? & FEATURES2_TYPE != 0,
            5 if sb.be32(216)? & !INCOMPAT_KNOWN != 0 => {
                return Err(Error::Unsupported("an unknown feature of XFS"));
            }
            5 => sb.be32(216)? & INCOMPAT_TYPE != 0,
            _ => return Err(Error::Unsupported("an old version of XFS")),
        };
        let block = u64::from(sb.be32(4)?);
        let inode_size = usize::from(sb.be16(104)?);
        let inode_log = u32::from(sb.u8(123)?);
        let group_log = u32::from(sb.u8(124)?);
        let directory_log = u32::from(sb.u8(192)?);
        let group_blocks = u64::from(sb.be32(84)?);
        if !block.is_power_of_two() || !(512..=65536).contains(&block) {
            return Err(WRONG);
        }
        let is_inode_size = inode_size.is_power_of_two() && (256..=2048).contains(&inode_size);
        if !is_inode_size || (inode_size as u64) << inode_log.min(16) != block {
            return Err(WRONG);
        }
        if group_blocks == 0 || group_log > 31 || group_blocks > 1 << group_log {
            return Err(WRONG);
        }
        if directory_log > 7 || block << directory_log > 65536 {
            return Err(WRONG);
        }
        Ok(Self {
            source,
            block,
            blocks: sb.be64(8)?,
            root: sb.be64(56)?,
            group_blocks,
            groups: sb.be32(88)?.into(),
            inode_size,
            inode_log,
            group_log,
            directory_block: (block as usize) << directory_log,
            version,
            has_type,
            uuid: sb.array(32)?,
            label: text(sb.slice(108, 12)?),
        })
    }

    /// The byte at which a block lies: its number is split into a group and a block in it.
    fn byte(&self, number: u64) -> Result<u64> {
        let group = number >> self.group_log;
        let within = number & ((1 << self.group_log) - 1);
        let block = group
            .checked_mul(self.group_blocks)
            .and_then(|block| block.checked_add(within));
        match block {
            Some(block)
                if group < self.groups && within < self.group_blocks && block < self.blocks =>
            {
                block.checked_mul(self.block).ok_or(Error::OutOfRange)
            }
            _ => Err(Error::Corrupt("a block outside the file system")),
        }
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        const WRONG: Error = Error::Corrupt("an inode of XFS");
        let within = number & ((1 << self.inode_log) - 1);
        let at = self.byte(number >> self.inode_log)? + within * self.inode_size as u64;
        let bytes = self.source.bytes(at, self.inode_size)?;
        let inode = Fields(&bytes);
        if inode.array(0)? != INODE_MAGIC {
            return Err(WRONG);
        }
        // The core has 100 bytes in versions 1 and 2, and 176 in version 3.
        let version = inode.u8(4)?;
        let core = if version >= 3 { 176 } else { 100 };
        let wide = version >= 3 && inode.be64(120)? & 1 << 4 != 0;
        let fork = match usize::from(inode.u8(82)?) * 8 {
            0 => self.inode_size - core,
            offset => offset,
        };
        Ok(Inode {
            kind: FileKind::from_mode(inode.be16(2)?.into()),
            size: inode.be64(56)?,
            format: match inode.u8(5)? {
                1 => Format::Local,
                2 => Format::Extents,
                3 => Format::Tree,
                // A device, which has no data.
                0 => Format::Local,
                _ => return Err(WRONG),
            },
            extents: if wide {
                inode.be64(24)?
            } else {
                inode.be32(76)?.into()
            },
            fork: inode.slice(core, fork)?.to_vec(),
            realtime: inode.be16(90)? & FLAG_REALTIME != 0,
        })
    }

    /// Reads a file's or a link's blocks.
    fn content(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if inode.realtime {
            return Err(Error::Unsupported("a file on a realtime device of XFS"));
        }
        self.data(inode).read(offset, buffer)
    }

    fn data<'a>(
        &'a self,
        inode: &'a Inode,
    ) -> Content<'a, impl Fn(u64) -> Result<Run>, impl Fn(u64) -> Result<u64>> {
        Content {
            source: &self.source,
            block: self.block,
            size: inode.size,
            map: |logical| self.map(inode, logical),
            byte: |block| self.byte(block),
        }
    }

    /// A link's target in blocks. In version 5 each block has a header, which mkfs.xfs 6.1 forgets.
    fn remote_link(&self, inode: &Inode, size: usize) -> Result<Vec<u8>> {
        let mut target = Vec::new();
        for logical in 0..MAX_PATH as u64 {
            if target.len() >= size {
                break;
            }
            let run = self.map(inode, logical)?;
            let physical = run
                .physical
                .ok_or(Error::Corrupt("a symbolic link of XFS"))?;
            let block = self
                .source
                .bytes(self.byte(physical)?, self.block as usize)?;
            let header = match self.version {
                5.. if block.starts_with(LINK_MAGIC) => LINK_HEADER,
                _ => 0,
            };
            let part = &block[header..];
            target.extend_from_slice(&part[..part.len().min(size - target.len())]);
        }
        Ok(target)
    }
}

impl FileSystem for Xfs {
    fn kind(&self) -> &'static str {
        "xfs"
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn uuid(&self) -> Option<String> {
        Some(uuid(self.uuid))
    }

    fn root(&self) -> Node {
        Node {
            id: self.root,
            place: 0,
        }
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
        self.visit(&inode, visit)
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let inode = self.inode(node.id)?;
        let size = inode.metadata().link()?;
        match inode.format {
            Format::Local => Ok(Fields(&inode.fork).slice(0, size)?.to_vec()),
            _ => self.remote_link(&inode, size),
        }
    }

    fn stretch(&self, file: Node, offset: u64, len: u64) -> Result<Option<Stretch>> {
        let inode = self.inode(file.id)?;
        inode.metadata().file()?;
        match inode.realtime || inode.format == Format::Local {
            false => self.data(&inode).stretch(offset, len),
            true => Ok(None),
        }
    }

    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let inode = self.inode(file.id)?;
        inode.metadata().file()?;
        if inode.format == Format::Local {
            return Err(Error::Corrupt("an inode of XFS"));
        }
        self.content(&inode, offset, buffer)
    }
}
