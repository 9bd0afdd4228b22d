//! ISO 9660 with Rock Ridge or Joliet names.
//!
//! Source: ECMA-119 (ISO 9660), 4th edition; Joliet Specification, 1995; IEEE P1281 (SUSP) and P1282 (Rock Ridge).
//! Names come from Rock Ridge if it is there, else from Joliet, else from ISO 9660 in lower case and without versions, as under Linux.

mod susp;

use crate::bytes::{Fields, is_name, text, utf16};
use crate::error::{Error, Result};
use crate::fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node, Stretch};
use crate::source::Source;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use susp::{Alias, Attributes};

/// Bytes of a logical sector.
const SECTOR: u64 = 2048;
/// The sector of the first volume descriptor.
const FIRST_DESCRIPTOR: u64 = 16;
/// Volume descriptors at most.
const MAX_DESCRIPTORS: u64 = 64;
/// Where a volume descriptor holds the record of the root directory.
const ROOT_RECORD: u64 = 156;
/// Bytes of a directory record without its name.
const RECORD: usize = 33;
/// Extents of one file at most: 4 GiB each.
const MAX_EXTENTS: usize = 256;

const FLAG_DIRECTORY: u8 = 0x02;
const FLAG_MORE: u8 = 0x80;

/// How names are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// Rock Ridge; so many bytes are skipped in each system use area.
    RockRidge(usize),
    /// UCS-2, big-endian.
    Joliet,
    /// ISO 9660's own.
    Plain,
}

/// An ISO 9660 file system.
pub struct Iso {
    source: Source,
    block: u64,
    names: Names,
    root: Node,
    label: String,
    uuid: Option<String>,
}

/// A directory record.
struct Record {
    bytes: Vec<u8>,
    start: u64,
    size: u64,
    flags: u8,
}

impl Record {
    fn name(&self) -> Result<&[u8]> {
        let fields = Fields(&self.bytes);
        fields.slice(RECORD, fields.u8(32)?.into())
    }

    /// The system use area.
    fn system_use(&self) -> &[u8] {
        let name = self.bytes.get(32).copied().unwrap_or(0);
        // The name is padded to an even place (ECMA-119, 9.1.12).
        let start = (RECORD + usize::from(name)).next_multiple_of(2);
        self.bytes.get(start..).unwrap_or_default()
    }

    /// Whether it is `.` or `..`.
    fn is_dot(&self) -> bool {
        matches!(self.name(), Ok([0 | 1]))
    }
}

impl Iso {
    /// Reads the volume descriptors.
    ///
    /// # Errors
    /// It is no ISO 9660, or cannot be read.
    pub fn open(source: Source) -> Result<Self> {
        let mut primary = None;
        let mut joliet = None;
        for sector in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MAX_DESCRIPTORS {
            let descriptor: [u8; SECTOR as usize] = match source.array(sector * SECTOR) {
                Ok(descriptor) => descriptor,
                Err(Error::OutOfRange) => break,
                Err(error) => return Err(error),
            };
            if descriptor[1..6] != *b"CD001" {
                break;
            }
            match descriptor[0] {
                1 if primary.is_none() => primary = Some((sector, descriptor)),
                // The escape sequences of UCS-2 levels 1 to 3.
                2 if joliet.is_none()
                    && matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E") =>
                {
                    joliet = Some((sector, descriptor));
                }
                255 => break,
                _ => {}
            }
        }
        let (sector, descriptor) = primary.ok_or(Error::Corrupt("no ISO 9660 descriptor"))?;
        let fields = Fields(&descriptor);
        let block = u64::from(fields.le16(128)?);
        if ![512, 1024, 2048].contains(&block) {
            return Err(Error::Corrupt("the block size of ISO 9660"));
        }
        let mut iso = Self {
            source,
            block,
            names: Names::Plain,
            root: root_of(sector),
            label: text(fields.slice(40, 32)?),
            uuid: uuid(&descriptor),
        };
        if let Some(skip) = iso.rock_ridge()? {
            iso.names = Names::RockRidge(skip);
        } else if let Some((sector, descriptor)) = joliet {
            iso.names = Names::Joliet;
            iso.root = root_of(sector);
            iso.label = String::from(utf16(big_endian(&descriptor[40..72])).trim_end());
        }
        Ok(iso)
    }

    /// Whether the root directory's own record announces Rock Ridge, and how many bytes its `SP` says to skip.
    fn rock_ridge(&self) -> Result<Option<usize>> {
        let root = self.record(self.root)?;
        let own = match self.record(Node {
            id: root.start,
            place: root.start.saturating_add(root.size),
        }) {
            Ok(own) => own,
            Err(error @ (Error::Io | Error::Budget | Error::Memory)) => return Err(error),
            Err(_) => return Ok(None),
        };
        Ok(susp::announced(own.system_use()))
    }

    /// The record that lies at byte `node.id` of the disk, within one sector.
    fn record(&self, node: Node) -> Result<Record> {
        let len: [u8; 1] = self.source.array(node.id)?;
        let len = usize::from(len[0]);
        let rest = (SECTOR - node.id % SECTOR) as usize;
        if len <= RECORD || len > rest {
            return Err(Error::Corrupt("a directory record"));
        }
        let bytes = self.source.bytes(node.id, len)?;
        let fields = Fields(&bytes);
        let start = u64::from(fields.le32(2)?) + u64::from(fields.u8(1)?);
        Ok(Record {
            start: start * self.block,
            size: fields.le32(10)?.into(),
            flags: fields.u8(25)?,
            bytes,
        })
    }

    /// Calls `visit` for each record of a directory with where it lies and where the directory ends.
    fn records(
        &self,
        start: u64,
        size: u64,
        visit: &mut dyn FnMut(Node, &Record) -> Result<Flow>,
    ) -> Result<()> {
        let end = start.saturating_add(size).min(self.source.size());
        let mut at = start;
        while at < end {
            self.source.step()?;
            let len: [u8; 1] = self.source.array(at)?;
            if len[0] == 0 {
                // No more in this sector.
                at = (at + 1).next_multiple_of(SECTOR);
                continue;
            }
            let node = Node { id: at, place: end };
            let record = self.record(node)?;
            at += record.bytes.len() as u64;
            if visit(node, &record)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    fn attributes(&self, record: &Record) -> Result<Attributes> {
        match self.names {
            Names::RockRidge(skip) => {
                susp::attributes(&self.source, self.block, record.system_use(), skip)
            }
            _ => Ok(Attributes::default()),
        }
    }

    fn is_directory(record: &Record, attributes: &Attributes) -> bool {
        record.flags & FLAG_DIRECTORY != 0 || attributes.child.is_some()
    }

    /// The record of a node, and Rock Ridge's attributes of it. A moved directory is followed to where it is.
    fn follow(&self, node: Node) -> Result<(Record, Attributes)> {
        let record = self.record(node)?;
        if node == self.root {
            return Ok((record, Attributes::default()));
        }
        let attributes = self.attributes(&record)?;
        let Some(child) = attributes.child else {
            return Ok((record, attributes));
        };
        let start = u64::from(child) * self.block;
        let own = self.record(Node {
            id: start,
            place: start,
        })?;
        if own.flags & FLAG_DIRECTORY == 0 || own.start != start {
            return Err(Error::Corrupt("a moved directory"));
        }
        Ok((own, Attributes::default()))
    }

    /// The name of an entry by the names that are in use.
    fn name(&self, record: &Record, attributes: &mut Attributes) -> Result<Vec<u8>> {
        if let Some(name) = attributes.name.take() {
            return Ok(name);
        }
        let name = record.name()?;
        if self.names == Names::Joliet {
            let name = utf16(big_endian(name));
            return Ok(strip_version(name.as_bytes()).to_vec());
        }
        let mut name = strip_version(name).to_ascii_lowercase();
        if name.last() == Some(&b'.') {
            name.pop();
        }
        Ok(name)
    }

    /// The extents of a file: its record and, as long as one announces more, the next.
    fn extents(&self, node: Node, first: &Record) -> Result<Vec<(u64, u64)>> {
        let mut extents = Vec::from([(first.start, first.size)]);
        if first.flags & FLAG_MORE == 0 {
            return Ok(extents);
        }
        let mut more = false;
        let size = node.place.saturating_sub(node.id);
        self.records(node.id, size, &mut |at, record| {
            if at.id == node.id {
                more = true;
                return Ok(Flow::Continue);
            }
            if record.name()? != first.name()? || extents.len() == MAX_EXTENTS {
                return Err(Error::Corrupt("a file of several extents"));
            }
            extents.push((record.start, record.size));
            more = record.flags & FLAG_MORE != 0;
            Ok(if more { Flow::Continue } else { Flow::Stop })
        })?;
        if more {
            return Err(Error::Corrupt("a file of several extents"));
        }
        Ok(extents)
    }
}

fn root_of(sector: u64) -> Node {
    let id = sector * SECTOR + ROOT_RECORD;
    Node { id, place: id }
}

fn big_endian(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes
        .chunks_exact(2)
        .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
}

fn strip_version(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|&byte| byte == b';');
    &name[..end.unwrap_or(name.len())]
}

/// The date of the last change, or else of the making, in the form that GRUB and blkid use as UUID.
fn uuid(descriptor: &[u8]) -> Option<String> {
    let date = [830, 813].into_iter().find_map(|at| {
        let date = descriptor.get(at..at + 16)?;
        let is_date =
            date.iter().all(u8::is_ascii_digit) && date.iter().any(|&digit| digit != b'0');
        is_date.then(|| core::str::from_utf8(date).ok()).flatten()
    })?;
    let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
    Some(format!(
        "{}-{}-{}-{}-{}-{}-{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14),
        part(14, 16)
    ))
}

impl FileSystem for Iso {
    fn kind(&self) -> &'static str {
        "iso9660"
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn uuid(&self) -> Option<String> {
        self.uuid.clone()
    }

    fn root(&self) -> Node {
        self.root
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        let (record, attributes) = self.follow(node)?;
        if Self::is_directory(&record, &attributes) {
            return Ok(Metadata {
                kind: FileKind::Directory,
                size: record.size,
            });
        }
        let kind = match attributes.mode {
            _ if attributes.link.is_some() => FileKind::Link,
            Some(mode) => FileKind::from_mode(mode),
            None => FileKind::File,
        };
        let extents = self.extents(node, &record)?;
        let size = extents.iter().map(|(_, size)| size).sum();
        Ok(Metadata { kind, size })
    }

    fn read_dir(
        &self,
        directory: Node,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let (record, _) = self.follow(directory)?;
        if record.flags & FLAG_DIRECTORY == 0 {
            return Err(Error::NotADirectory);
        }
        // Further extents of a file have records of the same name: only the first is an entry.
        let mut more = false;
        self.records(record.start, record.size, &mut |node, record| {
            let is_first = !core::mem::replace(&mut more, record.flags & FLAG_MORE != 0);
            if record.is_dot() || !is_first {
                return Ok(Flow::Continue);
            }
            let mut attributes = self.attributes(record)?;
            let name = self.name(record, &mut attributes)?;
            if attributes.moved || !is_name(&name) {
                return Ok(Flow::Continue);
            }
            visit(Entry { name: &name, node })
        })
    }

    /// Case matters only under Rock Ridge.
    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node> {
        let exact = matches!(self.names, Names::RockRidge(_));
        let mut found = None;
        self.read_dir(directory, &mut |entry| {
            if entry.name != name && (exact || !entry.name.eq_ignore_ascii_case(name)) {
                return Ok(Flow::Continue);
            }
            found = Some(entry.node);
            Ok(Flow::Stop)
        })?;
        found.ok_or(Error::NotFound)
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let (_, attributes) = self.follow(node)?;
        match attributes.link {
            Some(Alias { target, .. }) => Ok(target),
            None => Err(Error::Corrupt("not a symbolic link")),
        }
    }

    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut skip = offset;
        let mut done = 0;
        for (start, size) in self.file(file)? {
            if skip >= size {
                skip -= size;
                continue;
            }
            let count = (size - skip).min((buffer.len() - done) as u64) as usize;
            self.source
                .read(start + skip, &mut buffer[done..done + count])?;
            done += count;
            skip = 0;
        }
        Ok(done)
    }

    fn stretch(&self, file: Node, offset: u64, len: u64) -> Result<Option<Stretch>> {
        let mut skip = offset;
        for (start, size) in self.file(file)? {
            if skip >= size {
                skip -= size;
                continue;
            }
            let len = len.min(size - skip);
            return Stretch::of(&self.source, start + skip, len);
        }
        Ok(None)
    }
}

impl Iso {
    /// Where the parts of a regular file lie, and their sizes.
    fn file(&self, file: Node) -> Result<Vec<(u64, u64)>> {
        let (record, attributes) = self.follow(file)?;
        let is_file = attributes
            .mode
            .is_none_or(|mode| FileKind::from_mode(mode) == FileKind::File);
        if Self::is_directory(&record, &attributes) || attributes.link.is_some() || !is_file {
            return Err(Error::NotAFile);
        }
        if attributes.compressed {
            return Err(Error::Unsupported("a file compressed by zisofs"));
        }
        self.extents(file, &record)
    }
}
