//! Trees of btrfs: nodes with keys and pointers, leaves with keys and items.

use super::Btrfs;
use crate::bytes::{Fields, buffer};
use crate::error::{Error, Result};
use crate::fs::Flow;
use alloc::vec::Vec;

/// Levels at most (BTRFS_MAX_LEVEL).
const MAX_LEVEL: u8 = 8;
const HEADER: usize = 101;
/// Bytes of a key with a pointer and a generation, and of a key with an item's place and size.
const POINTER: usize = 33;
const ITEM: usize = 25;
/// Bytes of a key.
pub(super) const KEY: usize = 17;
const WRONG: Error = Error::Corrupt("a node of a btrfs tree");

/// The key of an item, in the order of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub object: u64,
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    pub fn parse(fields: Fields<'_>, at: usize) -> Result<Self> {
        Ok(Self {
            object: fields.le64(at)?,
            kind: fields.u8(at + 8)?,
            offset: fields.le64(at + 9)?,
        })
    }
}

/// Where a tree begins.
#[derive(Clone, Copy)]
pub(super) struct Root {
    /// The tree's number.
    pub tree: u64,
    pub address: u64,
    pub level: u8,
}

/// A leaf, and the key at which the next one begins.
struct Leaf {
    bytes: Vec<u8>,
    next: Option<Key>,
}

impl Leaf {
    fn len(&self) -> Result<usize> {
        Ok(Fields(&self.bytes).le32(96)? as usize)
    }

    fn key(&self, index: usize) -> Result<Key> {
        Key::parse(Fields(&self.bytes), HEADER + index * ITEM)
    }

    fn item(&self, index: usize) -> Result<&[u8]> {
        let fields = Fields(&self.bytes);
        let at = HEADER + index * ITEM;
        let place = HEADER + fields.le32(at + 17)? as usize;
        fields.slice(place, fields.le32(at + 21)? as usize)
    }
}

impl Btrfs {
    fn tree_node(&self, address: u64, level: u8) -> Result<Vec<u8>> {
        let mut bytes = buffer(self.node_size)?;
        self.read_logical(address, &mut bytes)?;
        let fields = Fields(&bytes);
        if fields.le64(48)? != address || fields.u8(100)? != level {
            return Err(WRONG);
        }
        let size = if level == 0 { ITEM } else { POINTER };
        if fields.le32(96)? as usize > (self.node_size - HEADER) / size {
            return Err(WRONG);
        }
        Ok(bytes)
    }

    /// The leaf in which `key` is or would be.
    fn leaf(&self, root: Root, key: Key) -> Result<Leaf> {
        if root.level >= MAX_LEVEL {
            return Err(WRONG);
        }
        let mut next = None;
        let mut bytes = self.tree_node(root.address, root.level)?;
        for level in (0..root.level).rev() {
            let fields = Fields(&bytes);
            let count = fields.le32(96)? as usize;
            let mut child = 0;
            for index in 0..count {
                let first = Key::parse(fields, HEADER + index * POINTER)?;
                if index > 0 && first > key {
                    next = Some(first);
                    break;
                }
                child = index;
            }
            let address = fields.le64(HEADER + child * POINTER + KEY)?;
            bytes = self.tree_node(address, level)?;
        }
        Ok(Leaf { bytes, next })
    }

    /// Calls `visit` for each item from the first whose key is not below `key`.
    pub(super) fn items(
        &self,
        root: Root,
        mut key: Key,
        visit: &mut dyn FnMut(Key, &[u8]) -> Result<Flow>,
    ) -> Result<()> {
        loop {
            let leaf = self.leaf(root, key)?;
            for index in 0..leaf.len()? {
                let at = leaf.key(index)?;
                if at < key {
                    continue;
                }
                self.source.step()?;
                if visit(at, leaf.item(index)?)? == Flow::Stop {
                    return Ok(());
                }
            }
            // The key of the next leaf is above all that this one may hold, so this comes to an end.
            match leaf.next {
                Some(next) if next > key => key = next,
                _ => return Ok(()),
            }
        }
    }

    /// The last item whose key is not above `key`, as far as it is in the leaf where `key` would be.
    pub(super) fn last_item(&self, root: Root, key: Key) -> Result<Option<(Key, Vec<u8>)>> {
        let leaf = self.leaf(root, key)?;
        let mut found = None;
        for index in 0..leaf.len()? {
            let at = leaf.key(index)?;
            if at > key {
                break;
            }
            found = Some((at, index));
        }
        match found {
            Some((at, index)) => Ok(Some((at, leaf.item(index)?.to_vec()))),
            None => Ok(None),
        }
    }
}
