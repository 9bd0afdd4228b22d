//! FAT12, FAT16 and FAT32 with long names.
//!
//! Source: Microsoft, FAT: General Overview of On-Disk Format, version 1.03.

use crate::bytes::{Fields, is_name, text, utf16};
use crate::error::{Error, Result};
use crate::fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node, Stretch};
use crate::source::Source;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

/// Bytes of a directory entry.
const ENTRY: u64 = 32;
/// Bytes of a directory at most: 65,536 entries (section "FAT Directory Structure").
const MAX_DIRECTORY: u64 = 65536 * ENTRY;
/// Parts of a long name at most, 13 characters each.
const MAX_PARTS: u8 = 20;
const ATTR_LABEL: u8 = 0x08;
const ATTR_DIRECTORY: u8 = 0x10;
const ATTR_LONG: u8 = 0x0f;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// Where a directory's entries lie.
#[derive(Clone, Copy)]
enum Place {
    /// The root of FAT12 and FAT16: bytes from the start, and their number.
    Fixed(u64, u64),
    /// A chain of clusters.
    Chain(u32),
}

/// What the boot sector says, in bytes.
#[derive(Clone, Debug)]
struct Layout {
    width: Width,
    cluster: u64,
    table: u64,
    data: u64,
    clusters: u32,
    root: u64,
    root_size: u64,
    root_cluster: u32,
    serial: u32,
    label: [u8; 11],
}

impl Layout {
    fn parse(sector: &[u8]) -> Result<Self> {
        let bpb = Fields(sector);
        if sector.get(510..512) != Some(&[0x55, 0xaa]) {
            return Err(Error::Corrupt("no FAT boot sector"));
        }
        let bytes = u64::from(bpb.le16(11)?);
        let per_cluster = u64::from(bpb.u8(13)?);
        let reserved = u64::from(bpb.le16(14)?);
        let tables = u64::from(bpb.u8(16)?);
        let root_entries = u64::from(bpb.le16(17)?);
        let media = bpb.u8(21)?;
        if ![512, 1024, 2048, 4096].contains(&bytes)
            || !per_cluster.is_power_of_two()
            || reserved == 0
            || !(1..=4).contains(&tables)
            || (media < 0xf8 && media != 0xf0)
        {
            return Err(Error::Corrupt("the FAT parameters"));
        }
        let or = |short: u16, long: u32| if short != 0 { short.into() } else { long };
        let total = u64::from(or(bpb.le16(19)?, bpb.le32(32)?));
        let short_table = bpb.le16(22)?;
        let table = u64::from(or(short_table, bpb.le32(36)?));
        let root_sectors = (root_entries * ENTRY).div_ceil(bytes);
        let meta = reserved + tables * table + root_sectors;
        let data = total.checked_sub(meta);
        let (Some(data), true) = (data, table != 0) else {
            return Err(Error::Corrupt("the FAT sizes"));
        };
        let clusters = data / per_cluster;
        let width = match clusters {
            _ if short_table == 0 => Width::Fat32,
            0..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            _ => Width::Fat32,
        };
        let wide = width == Width::Fat32;
        let tail = if wide { 67 } else { 39 };
        Ok(Self {
            width,
            cluster: bytes * per_cluster,
            table: reserved * bytes,
            data: meta * bytes,
            clusters: u32::try_from(clusters).map_err(|_| Error::Corrupt("the FAT sizes"))?,
            root: (reserved + tables * table) * bytes,
            root_size: root_entries * ENTRY,
            root_cluster: if wide { bpb.le32(44)? } else { 0 },
            serial: bpb.le32(tail)?,
            label: bpb.array(tail + 4)?,
        })
    }

    fn is_cluster(&self, number: u32) -> bool {
        number >= 2 && number - 2 < self.clusters
    }
}

/// A FAT file system.
pub struct Fat {
    source: Source,
    layout: Layout,
    /// The last place in a chain: its first cluster, an index and the cluster there. Files are read from front to back.
    last: Cell<(u32, u64, u32)>,
}

/// An entry with its short name, and its long one if it has a valid one.
struct Item {
    node: Node,
    short: Vec<u8>,
    long: Option<String>,
    attributes: u8,
}

/// A long name as its parts come in, last part first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    next: u8,
    sum: u8,
}

impl LongName {
    fn add(&mut self, entry: &[u8; 32]) {
        let number = entry[0] & 0x3f;
        if entry[0] & 0x40 != 0 {
            self.units.clear();
            self.sum = entry[13];
        } else if number + 1 != self.next || self.sum != entry[13] {
            *self = Self::default();
            return;
        }
        if !(1..=MAX_PARTS).contains(&number) {
            *self = Self::default();
            return;
        }
        self.next = number;
        let part = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
        let part = part
            .chunks_exact(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        self.units.splice(0..0, part);
    }

    /// The name, if all parts are there and belong to this short name.
    fn take(&mut self, short: &[u8; 32]) -> Option<String> {
        let name = core::mem::take(self);
        let sum = short[..11]
            .iter()
            .fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
        let complete = name.next == 1 && name.sum == sum;
        let name = complete.then(|| utf16(name.units.into_iter()))?;
        is_name(name.as_bytes()).then_some(name)
    }
}

/// The name of eight and three characters, in the case that Windows NT notes in byte 12.
fn short_name(entry: &[u8; 32]) -> Vec<u8> {
    let part = |field: &[u8], lower: bool| {
        let end = field
            .iter()
            .rposition(|&byte| byte != b' ')
            .map_or(0, |last| last + 1);
        let mut part = field[..end].to_vec();
        if lower {
            part.make_ascii_lowercase();
        }
        part
    };
    let mut name = part(&entry[..8], entry[12] & 0x08 != 0);
    if let Some(first) = name.first_mut()
        && *first == 0x05
    {
        *first = 0xe5;
    }
    let extension = part(&entry[8..11], entry[12] & 0x10 != 0);
    if !extension.is_empty() {
        name.push(b'.');
        name.extend(extension);
    }
    name
}

impl Fat {
    /// Reads the boot sector.
    ///
    /// # Errors
    /// It is no FAT, or cannot be read.
    pub fn open(source: Source) -> Result<Self> {
        let sector: [u8; 512] = source.array(0)?;
        Ok(Self {
            layout: Layout::parse(&sector)?,
            source,
            last: Cell::new((0, 0, 0)),
        })
    }

    /// The cluster after `cluster`, or none at the end of the chain.
    fn next(&self, cluster: u32) -> Result<Option<u32>> {
        let table = self.layout.table;
        let number = u64::from(cluster);
        let next = match self.layout.width {
            Width::Fat12 => {
                let pair = self.source.array(table + number * 3 / 2)?;
                let pair = u32::from(u16::from_le_bytes(pair));
                if cluster.is_multiple_of(2) {
                    pair & 0xfff
                } else {
                    pair >> 4
                }
            }
            Width::Fat16 => u16::from_le_bytes(self.source.array(table + number * 2)?).into(),
            Width::Fat32 => {
                u32::from_le_bytes(self.source.array(table + number * 4)?) & 0x0fff_ffff
            }
        };
        let end = match self.layout.width {
            Width::Fat12 => 0xff8,
            Width::Fat16 => 0xfff8,
            Width::Fat32 => 0x0fff_fff8,
        };
        if next >= end {
            return Ok(None);
        }
        if !self.layout.is_cluster(next) {
            return Err(Error::Corrupt("a chain of clusters leaves the disk"));
        }
        Ok(Some(next))
    }

    /// The cluster at `index` of the chain that begins with `first`, or none if the chain is shorter.
    fn cluster(&self, first: u32, index: u64) -> Result<Option<u32>> {
        if !self.layout.is_cluster(first) {
            return Ok(None);
        }
        // A chain with more links than there are clusters has a circle.
        if index >= self.layout.clusters.into() {
            return Err(Error::Corrupt("a chain of clusters goes in a circle"));
        }
        let (chain, mut at, mut cluster) = self.last.get();
        if chain != first || at > index {
            (at, cluster) = (0, first);
        }
        while at < index {
            match self.next(cluster)? {
                Some(next) => (at, cluster) = (at + 1, next),
                None => return Ok(None),
            }
        }
        self.last.set((first, at, cluster));
        Ok(Some(cluster))
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.layout.data + u64::from(cluster.saturating_sub(2)) * self.layout.cluster
    }

    /// The directory entry of a node other than the root.
    fn entry(&self, node: Node) -> Result<[u8; 32]> {
        self.source.array(node.id)
    }

    fn first_cluster(&self, entry: &[u8; 32]) -> u32 {
        let low = u32::from(u16::from_le_bytes([entry[26], entry[27]]));
        let high = u32::from(u16::from_le_bytes([entry[20], entry[21]]));
        match self.layout.width {
            Width::Fat32 => (high << 16 | low) & 0x0fff_ffff,
            _ => low,
        }
    }

    fn place(&self, directory: Node) -> Result<Place> {
        if directory == self.root() {
            return Ok(match self.layout.width {
                Width::Fat32 => Place::Chain(self.layout.root_cluster),
                _ => Place::Fixed(self.layout.root, self.layout.root_size),
            });
        }
        let entry = self.entry(directory)?;
        if entry[11] & ATTR_DIRECTORY == 0 {
            return Err(Error::NotADirectory);
        }
        Ok(Place::Chain(self.first_cluster(&entry)))
    }

    /// Where the directory entry at byte `at` of a directory lies, or none at its end.
    fn entry_offset(&self, place: Place, at: u64) -> Result<Option<u64>> {
        match place {
            Place::Fixed(start, size) => Ok((at < size).then_some(start + at)),
            Place::Chain(first) => {
                let cluster = self.cluster(first, at / self.layout.cluster)?;
                Ok(cluster.map(|cluster| self.offset(cluster) + at % self.layout.cluster))
            }
        }
    }

    /// Calls `visit` for each entry in use, labels too.
    fn items(&self, directory: Node, visit: &mut dyn FnMut(&Item) -> Result<Flow>) -> Result<()> {
        let place = self.place(directory)?;
        let mut long = LongName::default();
        for at in (0..MAX_DIRECTORY).step_by(ENTRY as usize) {
            let Some(offset) = self.entry_offset(place, at)? else {
                return Ok(());
            };
            let entry: [u8; 32] = self.source.array(offset)?;
            match entry[0] {
                0 => return Ok(()),
                0xe5 => long = LongName::default(),
                _ if entry[11] & 0x3f == ATTR_LONG => long.add(&entry),
                _ => {
                    let item = Item {
                        node: Node {
                            id: offset,
                            place: 0,
                        },
                        short: short_name(&entry),
                        long: long.take(&entry),
                        attributes: entry[11],
                    };
                    if visit(&item)? == Flow::Stop {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`items`](Self::items), without labels and without `.` and `..`.
    fn files(&self, directory: Node, visit: &mut dyn FnMut(&Item) -> Result<Flow>) -> Result<()> {
        self.items(directory, &mut |item| {
            if item.attributes & ATTR_LABEL != 0 || !is_name(&item.short) {
                return Ok(Flow::Continue);
            }
            visit(item)
        })
    }
}

impl FileSystem for Fat {
    fn kind(&self) -> &'static str {
        "fat"
    }

    fn label(&self) -> String {
        let mut label = None;
        let search = self.items(self.root(), &mut |item| {
            if item.attributes & (ATTR_LABEL | ATTR_DIRECTORY) != ATTR_LABEL {
                return Ok(Flow::Continue);
            }
            let field: [u8; 11] = self.source.array(item.node.id)?;
            label = Some(text(&field));
            Ok(Flow::Stop)
        });
        match label {
            Some(label) if search.is_ok() => label,
            _ if &self.layout.label == b"NO NAME    " => String::new(),
            _ => text(&self.layout.label),
        }
    }

    fn uuid(&self) -> Option<String> {
        let serial = self.layout.serial;
        Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
    }

    fn root(&self) -> Node {
        Node { id: 0, place: 0 }
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        let directory = Metadata {
            kind: FileKind::Directory,
            size: 0,
        };
        if node == self.root() {
            return Ok(directory);
        }
        let entry = self.entry(node)?;
        if entry[11] & ATTR_DIRECTORY != 0 {
            return Ok(directory);
        }
        Ok(Metadata {
            kind: FileKind::File,
            size: u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]).into(),
        })
    }

    fn read_dir(
        &self,
        directory: Node,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<()> {
        self.files(directory, &mut |item| {
            visit(Entry {
                name: item
                    .long
                    .as_ref()
                    .map_or(&item.short, |long| long.as_bytes()),
                node: item.node,
            })
        })
    }

    /// Case does not matter, and the short name serves too.
    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node> {
        let mut found = None;
        self.files(directory, &mut |item| {
            let long = item.long.as_ref().map(|long| long.as_bytes());
            if !item.short.eq_ignore_ascii_case(name)
                && !long.is_some_and(|long| long.eq_ignore_ascii_case(name))
            {
                return Ok(Flow::Continue);
            }
            found = Some(item.node);
            Ok(Flow::Stop)
        })?;
        found.ok_or(Error::NotFound)
    }

    fn read_link(&self, _node: Node) -> Result<Vec<u8>> {
        Err(Error::Unsupported("FAT has no links"))
    }

    fn stretch(&self, file: Node, offset: u64, len: u64) -> Result<Option<Stretch>> {
        let (first, size) = self.file(file)?;
        let len = size.saturating_sub(offset).min(len);
        if len == 0 {
            return Ok(None);
        }
        let (at, left) = self.locate(first, offset, len)?;
        Stretch::of(&self.source, at, left.min(len))
    }

    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (first, size) = self.file(file)?;
        let len = size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let wanted = (len - done) as u64;
            let (at, left) = self.locate(first, offset + done as u64, wanted)?;
            let count = left.min(wanted) as usize;
            self.source.read(at, &mut buffer[done..done + count])?;
            done += count;
        }
        Ok(len)
    }
}

impl Fat {
    /// A file's first cluster and size.
    fn file(&self, node: Node) -> Result<(u32, u64)> {
        if node == self.root() {
            return Err(Error::NotAFile);
        }
        let entry = self.entry(node)?;
        if entry[11] & ATTR_DIRECTORY != 0 {
            return Err(Error::NotAFile);
        }
        let size = u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]);
        Ok((self.first_cluster(&entry), size.into()))
    }

    /// Where byte `offset` of the chain that begins with `first` lies, and how many bytes lie in a row from there on, as far as
    /// `wanted` of them need to be known.
    fn locate(&self, first: u32, offset: u64, wanted: u64) -> Result<(u64, u64)> {
        let index = offset / self.layout.cluster;
        let Some(cluster) = self.cluster(first, index)? else {
            return Err(Error::Corrupt(
                "a chain of clusters is shorter than its file",
            ));
        };
        let within = offset % self.layout.cluster;
        let run = self.run(first, cluster, index, wanted)?;
        Ok((self.offset(cluster) + within, run - within))
    }

    /// How many bytes lie in a row from `cluster`, the one at `index`, as far as `wanted` bytes and one cluster more need them.
    fn run(&self, first: u32, cluster: u32, index: u64, wanted: u64) -> Result<u64> {
        let most = wanted.div_ceil(self.layout.cluster) + 1;
        let mut run = 1;
        while run < most {
            match self.next(cluster + run as u32 - 1)? {
                Some(next) if u64::from(next) == u64::from(cluster) + run => run += 1,
                _ => break,
            }
        }
        self.last
            .set((first, index + run - 1, cluster + run as u32 - 1));
        Ok(run * self.layout.cluster)
    }
}
