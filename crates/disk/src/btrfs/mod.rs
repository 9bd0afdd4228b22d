//! btrfs on one device: subvolumes, and files that may be compressed. A log tree that was not played back does not matter.
//!
//! Source: btrfs documentation, "On-disk Format", and Linux, include/uapi/linux/btrfs_tree.h.

mod chunks;
mod file;
mod tree;

use crate::bytes::{Fields, is_name, text, uuid};
use crate::error::{Error, Result};
use crate::fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node, Stretch};
use crate::source::Source;
use alloc::string::String;
use alloc::vec::Vec;
use chunks::Chunks;
use core::cell::{Cell, RefCell};
use tree::{Key, Root};

/// The first superblock. The others are copies.
const SUPERBLOCK: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"_BHRfS_M";

/// Trees (BTRFS_*_OBJECTID).
const ROOT_TREE: u64 = 1;
const TOP_LEVEL: u64 = 5;
/// The directory of the tree of roots that has the default subvolume.
const ROOT_DIRECTORY: u64 = 6;
/// The first free number of an object: the root directory of each subvolume.
const FIRST_FREE: u64 = 256;

/// Kinds of items (BTRFS_*_KEY).
const INODE_ITEM: u8 = 1;
const DIR_ITEM: u8 = 84;
const DIR_INDEX: u8 = 96;
const EXTENT_DATA: u8 = 108;
const ROOT_ITEM: u8 = 132;

/// Incompatible features that do not keep a reader from reading: backrefs, default subvolume, mixed groups, lzo, zstd, big metadata,
/// extended references, RAID 5 and 6, skinny metadata, no holes, a UUID for metadata, RAID 1 of 3 and 4 copies, zones, and the two newer
/// extent trees, which are for writers.
const INCOMPAT_KNOWN: u64 = 0x3fff;

/// A btrfs file system.
pub struct Btrfs {
    source: Source,
    chunks: Chunks,
    node_size: usize,
    sector: u64,
    roots: Root,
    default: u64,
    uuid: [u8; 16],
    label: String,
    /// The tree of the subvolume last used.
    last: Cell<Option<(u64, Root)>>,
    /// The extent last decompressed, by its logical address.
    extent: RefCell<Option<(u64, Vec<u8>)>>,
}

impl Btrfs {
    /// Reads the superblock and the map of chunks, and finds the default subvolume.
    ///
    /// # Errors
    /// It is no btrfs, lies on several devices or has features that change how it is read, or cannot be read.
    pub fn open(source: Source) -> Result<Self> {
        const WRONG: Error = Error::Corrupt("the btrfs superblock");
        let bytes = source.bytes(SUPERBLOCK, 4096)?;
        let sb = Fields(&bytes);
        if sb.array(64)? != *MAGIC {
            return Err(Error::Corrupt("no btrfs superblock"));
        }
        if sb.le64(188)? & !INCOMPAT_KNOWN != 0 {
            return Err(Error::Unsupported("an unknown feature of btrfs"));
        }
        let sector = u64::from(sb.le32(144)?);
        let node_size = sb.le32(148)? as usize;
        let is_size = |size: u64| size.is_power_of_two() && (4096..=65536).contains(&size);
        if !is_size(sector) || !is_size(node_size as u64) {
            return Err(WRONG);
        }
        let roots = Root {
            tree: ROOT_TREE,
            address: sb.le64(80)?,
            level: sb.u8(198)?,
        };
        let chunk_root = Root {
            tree: 3,
            address: sb.le64(88)?,
            level: sb.u8(199)?,
        };
        let device = sb.le64(201)?;
        let system = sb.slice(811, sb.le32(160)?.min(2048) as usize)?;
        let mut btrfs = Self {
            chunks: Chunks::system(system, device)?,
            source,
            node_size,
            sector,
            roots,
            default: TOP_LEVEL,
            uuid: sb.array(32)?,
            label: text(sb.slice(299, 256)?),
            last: Cell::new(None),
            extent: RefCell::new(None),
        };
        btrfs.read_chunks(chunk_root, device)?;
        if let Some(default) = btrfs.find_default()? {
            btrfs.default = default;
        }
        Ok(btrfs)
    }

    /// The subvolume that is mounted where none is named: the entry "default" of the root directory.
    fn find_default(&self) -> Result<Option<u64>> {
        let mut default = None;
        self.entries(self.roots, ROOT_DIRECTORY, DIR_ITEM, &mut |name, key| {
            if name != b"default" || key.kind != ROOT_ITEM {
                return Ok(Flow::Continue);
            }
            default = Some(key.object);
            Ok(Flow::Stop)
        })?;
        Ok(default)
    }

    /// The tree of a subvolume.
    fn subvolume(&self, tree: u64) -> Result<Root> {
        if let Some((last, root)) = self.last.get()
            && last == tree
        {
            return Ok(root);
        }
        let mut root = None;
        let first = Key {
            object: tree,
            kind: ROOT_ITEM,
            offset: 0,
        };
        self.items(self.roots, first, &mut |key, item| {
            if (key.object, key.kind) == (tree, ROOT_ITEM) {
                let item = Fields(item);
                root = Some(Root {
                    tree,
                    address: item.le64(176)?,
                    level: item.u8(238)?,
                });
            }
            Ok(Flow::Stop)
        })?;
        let root = root.ok_or(Error::NotFound)?;
        self.last.set(Some((tree, root)));
        Ok(root)
    }

    fn inode(&self, node: Node) -> Result<(Root, Metadata)> {
        let root = self.subvolume(node.place)?;
        let wanted = Key {
            object: node.id,
            kind: INODE_ITEM,
            offset: 0,
        };
        let mut inode = None;
        self.items(root, wanted, &mut |key, item| {
            if key == wanted {
                let item = Fields(item);
                inode = Some(Metadata {
                    kind: FileKind::from_mode(item.le32(52)?),
                    size: item.le64(16)?,
                });
            }
            Ok(Flow::Stop)
        })?;
        Ok((root, inode.ok_or(Error::Corrupt("no inode in btrfs"))?))
    }

    /// Calls `visit` for the name and the place of each entry of a directory, from its items of `kind`.
    fn entries(
        &self,
        root: Root,
        directory: u64,
        kind: u8,
        visit: &mut dyn FnMut(&[u8], Key) -> Result<Flow>,
    ) -> Result<()> {
        let first = Key {
            object: directory,
            kind,
            offset: 0,
        };
        self.items(root, first, &mut |key, item| {
            if (key.object, key.kind) != (directory, kind) {
                return Ok(Flow::Stop);
            }
            in_item(item, visit)
        })
    }

    /// What an entry of a subvolume names: an inode of it, or another subvolume.
    fn node(root: Root, key: Key) -> Option<Node> {
        match key.kind {
            INODE_ITEM => Some(Node {
                id: key.object,
                place: root.tree,
            }),
            ROOT_ITEM => Some(Node {
                id: FIRST_FREE,
                place: key.object,
            }),
            _ => None,
        }
    }

    fn directory(&self, node: Node) -> Result<Root> {
        let (root, inode) = self.inode(node)?;
        inode.directory()?;
        Ok(root)
    }
}

/// The entries in one item. Names of the same hash share one.
fn in_item(item: &[u8], visit: &mut dyn FnMut(&[u8], Key) -> Result<Flow>) -> Result<Flow> {
    let fields = Fields(item);
    let mut at = 0;
    while at < item.len() {
        let data = usize::from(fields.le16(at + 25)?);
        let len = usize::from(fields.le16(at + 27)?);
        let name = fields.slice(at + 30, len)?;
        if visit(name, Key::parse(fields, at)?)? == Flow::Stop {
            return Ok(Flow::Stop);
        }
        at += 30 + len + data;
    }
    Ok(Flow::Continue)
}

/// The hash of a name: CRC-32C from a begin of its own, and without inversion.
fn name_hash(name: &[u8]) -> u32 {
    name.iter().fold(!1, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

impl FileSystem for Btrfs {
    fn kind(&self) -> &'static str {
        "btrfs"
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn uuid(&self) -> Option<String> {
        Some(uuid(self.uuid))
    }

    fn root(&self) -> Node {
        Node {
            id: FIRST_FREE,
            place: self.default,
        }
    }

    fn top_level(&self) -> Node {
        Node {
            id: FIRST_FREE,
            place: TOP_LEVEL,
        }
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        Ok(self.inode(node)?.1)
    }

    fn read_dir(
        &self,
        directory: Node,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let root = self.directory(directory)?;
        self.entries(
            root,
            directory.id,
            DIR_INDEX,
            &mut |name, key| match Self::node(root, key) {
                Some(node) if is_name(name) => visit(Entry { name, node }),
                _ => Ok(Flow::Continue),
            },
        )
    }

    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node> {
        let root = self.directory(directory)?;
        let wanted = Key {
            object: directory.id,
            kind: DIR_ITEM,
            offset: name_hash(name).into(),
        };
        let mut found = None;
        self.items(root, wanted, &mut |key, item| {
            if key == wanted {
                in_item(item, &mut |other, key| {
                    if other != name {
                        return Ok(Flow::Continue);
                    }
                    found = Self::node(root, key);
                    Ok(Flow::Stop)
                })?;
            }
            Ok(Flow::Stop)
        })?;
        found.ok_or(Error::NotFound)
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let (root, inode) = self.inode(node)?;
        let size = inode.link()?;
        let mut target = crate::bytes::buffer(size)?;
        let count = self.content(root, node.id, &inode, 0, &mut target)?;
        target.truncate(count);
        Ok(target)
    }

    fn stretch(&self, file: Node, offset: u64, len: u64) -> Result<Option<Stretch>> {
        let (root, inode) = self.inode(file)?;
        inode.file()?;
        self.row(root, file.id, &inode, offset, len)
    }

    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (root, inode) = self.inode(file)?;
        inode.file()?;
        self.content(root, file.id, &inode, offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_of_a_name_is_that_of_btrfs() {
        // The key of the entry "default", which every btrfs has.
        assert_eq!(super::name_hash(b"default"), 2_378_154_706);
    }
}
