//! squashfs 4.0, which live media have.
//!
//! Source: Linux, Documentation/filesystems/squashfs.rst, and fs/squashfs/squashfs_fs.h for the structures.

use crate::bytes::{Fields, is_name};
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node};
use crate::source::Source;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

const MAGIC: &[u8] = b"hsqs";
/// Bytes of a metadata block after decompression.
const METADATA: usize = 8192;
/// Bytes of a data block at most.
const MAX_BLOCK: u32 = 1 << 20;
/// In a metadata block's length: it is stored as it is.
const METADATA_STORED: u16 = 0x8000;
/// In a data block's length: it is stored as it is.
const DATA_STORED: u32 = 1 << 24;
/// A file without a fragment.
const NO_FRAGMENT: u32 = u32::MAX;
/// Bytes of an entry in the table of fragments.
const FRAGMENT: u64 = 16;
/// Bytes of a directory's list that are not there: the kernel counts `.` and `..`.
const DOTS: u32 = 3;
/// Entries behind one header of a directory at most.
const MAX_HEADER: u32 = 256;
const WRONG: Error = Error::Corrupt("an inode of squashfs");

/// A decompressed metadata block with the place of the next one.
type Metablock = (u64, Rc<[u8]>, u64);

/// A squashfs file system.
pub struct Squashfs {
    source: Source,
    codec: Codec,
    block: u32,
    root: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    fragment_count: u32,
    /// The metadata block and the data block last read, by their places.
    metadata: RefCell<Option<Metablock>>,
    data: RefCell<Option<(u64, Rc<[u8]>)>>,
}

/// A place in the decompressed metadata.
struct Cursor<'a> {
    fs: &'a Squashfs,
    block: u64,
    offset: usize,
}

impl Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            let (data, next) = self.fs.metablock(self.block)?;
            if self.offset >= data.len() {
                // Each block lies behind the one before, so this comes to an end.
                self.block = next;
                self.offset = self.offset.saturating_sub(data.len());
                continue;
            }
            let count = (data.len() - self.offset).min(out.len() - done);
            out[done..done + count].copy_from_slice(&data[self.offset..self.offset + count]);
            done += count;
            self.offset += count;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}

/// What follows an inode's common fields.
enum Body {
    Directory {
        block: u32,
        offset: u16,
    },
    File {
        start: u64,
        fragment: u32,
        offset: u32,
    },
    Link,
    Other,
}

struct Inode {
    size: u64,
    body: Body,
}

/// What follows the common fields, by the type of the inode.
impl Inode {
    fn directory(bytes: &[u8; 16]) -> Result<Self> {
        let fields = Fields(bytes);
        Ok(Self {
            size: fields.le16(8)?.into(),
            body: Body::Directory {
                block: fields.le32(0)?,
                offset: fields.le16(10)?,
            },
        })
    }

    fn extended_directory(bytes: &[u8; 24]) -> Result<Self> {
        let fields = Fields(bytes);
        Ok(Self {
            size: fields.le32(4)?.into(),
            body: Body::Directory {
                block: fields.le32(8)?,
                offset: fields.le16(18)?,
            },
        })
    }

    fn file(bytes: &[u8; 16]) -> Result<Self> {
        let fields = Fields(bytes);
        Ok(Self {
            size: fields.le32(12)?.into(),
            body: Body::File {
                start: fields.le32(0)?.into(),
                fragment: fields.le32(4)?,
                offset: fields.le32(8)?,
            },
        })
    }

    fn extended_file(bytes: &[u8; 40]) -> Result<Self> {
        let fields = Fields(bytes);
        Ok(Self {
            size: fields.le64(8)?,
            body: Body::File {
                start: fields.le64(0)?,
                fragment: fields.le32(28)?,
                offset: fields.le32(32)?,
            },
        })
    }

    fn link(bytes: &[u8; 8]) -> Result<Self> {
        Ok(Self {
            size: Fields(bytes).le32(4)?.into(),
            body: Body::Link,
        })
    }
}

impl Inode {
    fn metadata(&self) -> Metadata {
        Metadata {
            kind: match self.body {
                Body::Directory { .. } => FileKind::Directory,
                Body::File { .. } => FileKind::File,
                Body::Link => FileKind::Link,
                Body::Other => FileKind::Other,
            },
            size: self.size,
        }
    }
}

impl Squashfs {
    /// Reads the superblock.
    ///
    /// # Errors
    /// It is no squashfs, of another version or by another compression than this crate knows, or cannot be read.
    pub fn open(source: Source) -> Result<Self> {
        let bytes: [u8; 96] = source.array(0)?;
        let sb = Fields(&bytes);
        if !bytes.starts_with(MAGIC) {
            return Err(Error::Corrupt("no squashfs superblock"));
        }
        if sb.le16(28)? != 4 {
            return Err(Error::Unsupported("an old version of squashfs"));
        }
        let codec = match sb.le16(20)? {
            1 => Codec::Zlib,
            3 => Codec::Lzo,
            4 => Codec::Xz,
            5 => Codec::Lz4,
            6 => Codec::Zstd,
            _ => return Err(Error::Unsupported("squashfs by an unknown compression")),
        };
        let block = sb.le32(12)?;
        if !block.is_power_of_two() || !(4096..=MAX_BLOCK).contains(&block) {
            return Err(Error::Corrupt("the block size of squashfs"));
        }
        Ok(Self {
            source,
            codec,
            block,
            root: sb.le64(32)?,
            inodes: sb.le64(64)?,
            directories: sb.le64(72)?,
            fragments: sb.le64(80)?,
            fragment_count: sb.le32(16)?,
            metadata: RefCell::default(),
            data: RefCell::default(),
        })
    }

    /// The metadata block at a byte of the disk, and the place of the next one.
    fn metablock(&self, at: u64) -> Result<(Rc<[u8]>, u64)> {
        self.source.step()?;
        if let Some((held, data, next)) = self.metadata.borrow().as_ref()
            && *held == at
        {
            return Ok((data.clone(), *next));
        }
        let header = u16::from_le_bytes(self.source.array(at)?);
        let size = usize::from(header & !METADATA_STORED);
        if size == 0 || size > METADATA {
            return Err(Error::Corrupt("a metadata block of squashfs"));
        }
        let mut data = self.source.bytes(at + 2, size)?;
        if header & METADATA_STORED == 0 {
            self.source.budget().charge(METADATA as u64)?;
            data = self.codec.decompress(&data, METADATA)?;
        }
        let data: Rc<[u8]> = data.into();
        let next = at + 2 + size as u64;
        *self.metadata.borrow_mut() = Some((at, data.clone(), next));
        Ok((data, next))
    }

    /// A place in the metadata: the block's place in its table, and the byte in it.
    fn cursor(&self, table: u64, block: u64, offset: u16) -> Result<Cursor<'_>> {
        Ok(Cursor {
            fs: self,
            block: table.checked_add(block).ok_or(Error::OutOfRange)?,
            offset: offset.into(),
        })
    }

    /// Reads an inode. The cursor then stands behind it, where a file has its list of blocks and a link its target.
    fn inode(&self, node: Node) -> Result<(Inode, Cursor<'_>)> {
        let mut cursor = self.cursor(self.inodes, node.id >> 16, node.id as u16)?;
        let common: [u8; 16] = cursor.array()?;
        let kind = u16::from_le_bytes([common[0], common[1]]);
        let inode = match kind {
            1 => Inode::directory(&cursor.array()?)?,
            8 => Inode::extended_directory(&cursor.array()?)?,
            2 => Inode::file(&cursor.array()?)?,
            9 => Inode::extended_file(&cursor.array()?)?,
            3 | 10 => Inode::link(&cursor.array()?)?,
            4..=7 | 11..=14 => Inode {
                size: 0,
                body: Body::Other,
            },
            _ => return Err(WRONG),
        };
        Ok((inode, cursor))
    }

    /// A block of data at a byte of the disk, of `word`, its length with a mark, and at most one block after decompression.
    fn data(&self, at: u64, word: u32) -> Result<Rc<[u8]>> {
        if let Some((held, data)) = self.data.borrow().as_ref()
            && *held == at
        {
            return Ok(data.clone());
        }
        let size = word & !DATA_STORED;
        if size > self.block {
            return Err(Error::Corrupt("a data block of squashfs"));
        }
        let mut data = self.source.bytes(at, size as usize)?;
        if word & DATA_STORED == 0 {
            self.source.budget().charge(self.block.into())?;
            data = self.codec.decompress(&data, self.block as usize)?;
        }
        let data: Rc<[u8]> = data.into();
        *self.data.borrow_mut() = Some((at, data.clone()));
        Ok(data)
    }

    /// The block in which the ends of several files are.
    fn fragment(&self, number: u32) -> Result<Rc<[u8]>> {
        if number >= self.fragment_count {
            return Err(Error::Corrupt("a fragment of squashfs"));
        }
        let per_block = METADATA as u64 / FRAGMENT;
        let index = u64::from(number) / per_block * 8;
        let place = self.fragments.checked_add(index).ok_or(Error::OutOfRange)?;
        let block = u64::from_le_bytes(self.source.array(place)?);
        let offset = u64::from(number) % per_block * FRAGMENT;
        let entry: [u8; FRAGMENT as usize] = self.cursor(0, block, offset as u16)?.array()?;
        let fields = Fields(&entry);
        self.data(fields.le64(0)?, fields.le32(8)?)
    }

    /// Reads from byte `at` of a file to at most the end of its block.
    fn read_block(&self, file: &mut Reading<'_>, at: u64, out: &mut [u8]) -> Result<usize> {
        let block = u64::from(self.block);
        let index = at / block;
        let within = at % block;
        let left = (block - within).min(file.size - at);
        let count = left.min(out.len() as u64) as usize;
        let out = &mut out[..count];
        if index >= file.blocks {
            let data = self.fragment(file.fragment)?;
            copy(&data, file.offset + within, out)?;
            return Ok(count);
        }
        while file.next <= index {
            self.source.step()?;
            file.place = file
                .place
                .saturating_add(u64::from(file.word & !DATA_STORED));
            file.word = u32::from_le_bytes(file.cursor.array()?);
            file.next += 1;
        }
        if file.word & !DATA_STORED == 0 {
            self.source.budget().charge(count as u64)?;
            out.fill(0);
        } else {
            copy(&self.data(file.place, file.word)?, within, out)?;
        }
        Ok(count)
    }
}

/// A file as it is read from front to back.
struct Reading<'a> {
    size: u64,
    /// Whole blocks, behind which the rest is in a fragment, from `offset` there.
    blocks: u64,
    fragment: u32,
    offset: u64,
    /// At the length of block `next`. The block before begins at `place` and has the length `word`.
    cursor: Cursor<'a>,
    next: u64,
    place: u64,
    word: u32,
}

fn copy(data: &[u8], within: u64, out: &mut [u8]) -> Result<()> {
    let start = usize::try_from(within).map_err(|_| WRONG)?;
    let end = start.checked_add(out.len()).ok_or(WRONG)?;
    out.copy_from_slice(data.get(start..end).ok_or(WRONG)?);
    Ok(())
}

impl FileSystem for Squashfs {
    fn kind(&self) -> &'static str {
        "squash4"
    }

    fn label(&self) -> String {
        String::new()
    }

    fn uuid(&self) -> Option<String> {
        None
    }

    fn root(&self) -> Node {
        Node {
            id: self.root,
            place: 0,
        }
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        Ok(self.inode(node)?.0.metadata())
    }

    fn read_dir(
        &self,
        directory: Node,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let (inode, _) = self.inode(directory)?;
        let Body::Directory { block, offset } = inode.body else {
            return Err(Error::NotADirectory);
        };
        let mut left = inode.size.saturating_sub(DOTS.into());
        let mut cursor = self.cursor(self.directories, block.into(), offset)?;
        while left >= 12 {
            let header: [u8; 12] = cursor.array()?;
            let fields = Fields(&header);
            left -= 12;
            let (count, start) = (fields.le32(0)?, fields.le32(4)?);
            if count >= MAX_HEADER {
                return Err(Error::Corrupt("a directory of squashfs"));
            }
            for _ in 0..=count {
                let entry: [u8; 8] = cursor.array()?;
                let fields = Fields(&entry);
                let len = usize::from(fields.le16(6)?) + 1;
                let mut name = [0; 256];
                let name = name
                    .get_mut(..len)
                    .ok_or(Error::Corrupt("a directory of squashfs"))?;
                cursor.read(name)?;
                left = left.saturating_sub(8 + len as u64);
                let node = Node {
                    id: u64::from(start) << 16 | u64::from(fields.le16(0)?),
                    place: 0,
                };
                if is_name(name) && visit(Entry { name, node })? == Flow::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let (inode, mut cursor) = self.inode(node)?;
        let size = inode.metadata().link()?;
        let mut target = crate::bytes::buffer(size)?;
        cursor.read(&mut target)?;
        Ok(target)
    }

    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (inode, cursor) = self.inode(file)?;
        let Body::File {
            start,
            fragment,
            offset: in_fragment,
        } = inode.body
        else {
            return Err(Error::NotAFile);
        };
        let block = u64::from(self.block);
        let blocks = match fragment {
            NO_FRAGMENT => inode.size.div_ceil(block),
            _ => inode.size / block,
        };
        let mut reading = Reading {
            size: inode.size,
            blocks,
            fragment,
            offset: in_fragment.into(),
            cursor,
            next: 0,
            place: start,
            word: 0,
        };
        let len = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            done += self.read_block(&mut reading, at, &mut buffer[done..len])?;
        }
        Ok(len)
    }
}
