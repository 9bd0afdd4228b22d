//! Reads all that a disk offers, for disks that may be anything. Shared with the fuzz targets.

use firstlight_disk::{
    Budget, Entry, Error, FileKind, FileSystem, Flow, Limits, Node, ReadAt, Source, path, volume,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What one damaged disk may cost.
pub const LIMITS: Limits = Limits {
    bytes: 32 << 20,
    steps: 200_000,
};

/// Bytes of a page of a sparse disk.
pub const PAGE: usize = 4096;

/// A disk of some pages, with zeros between them: small to keep and to change, however large the disk is.
///
/// Its form is pieces of a page's number, 32 bits and little-endian, and its bytes. A piece that is cut off does not count.
pub struct Sparse {
    size: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Sparse {
    /// Reads the form.
    pub fn new(bytes: &[u8]) -> Self {
        let mut pages = BTreeMap::new();
        for piece in bytes.chunks_exact(4 + PAGE) {
            let (number, page) = piece.split_at(4);
            let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
            pages.insert(u64::from(number), page.to_vec());
        }
        let last = pages.last_key_value().map(|(number, _)| number + 1);
        Self {
            size: last.unwrap_or(0) * PAGE as u64,
            pages,
        }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(Error::OutOfRange);
        }
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let first = offset / PAGE as u64;
        for (number, page) in self.pages.range(first..end.div_ceil(PAGE as u64)) {
            let start = number * PAGE as u64;
            for (at, byte) in (start..).zip(page) {
                if (offset..end).contains(&at) {
                    buffer[(at - offset) as usize] = *byte;
                }
            }
        }
        Ok(())
    }
}

/// Directories below one another that a walk goes into.
const DEPTH: usize = 6;

/// Scans a disk and reads every file on it, as far as the budget goes.
pub fn disk(data: Rc<dyn ReadAt>) {
    let source = Source::new(data, Budget::new(LIMITS));
    let Ok(scan) = volume::scan(&source) else {
        return;
    };
    for volume in scan.volumes {
        if let Ok(fs) = volume.fs {
            file_system(fs.as_ref());
        }
    }
}

/// Reads every file of a file system, as far as the budget goes.
pub fn file_system(fs: &dyn FileSystem) {
    let _ = (fs.label(), fs.uuid(), fs.kind());
    for root in [fs.root(), fs.top_level()] {
        let _ = directory(fs, root, DEPTH);
        for path in [
            &b"/boot/grub/grub.cfg"[..],
            b"/etc/link",
            b"/loop",
            b"/absolute/grub.cfg",
        ] {
            if let Ok(file) = path::open_from(fs, root, path) {
                let _ = firstlight_disk::read_file(fs, file, 1 << 20);
            }
        }
    }
}

/// Goes through a directory. Only a spent budget ends it early.
fn directory(fs: &dyn FileSystem, node: Node, depth: usize) -> Result<(), Error> {
    let result = fs.read_dir(node, &mut |entry: Entry<'_>| {
        assert!(!entry.name.is_empty() && !entry.name.contains(&b'/'));
        let Ok(metadata) = fs.metadata(entry.node) else {
            return Ok(Flow::Continue);
        };
        let result = match metadata.kind {
            FileKind::Directory if depth > 0 => directory(fs, entry.node, depth - 1),
            FileKind::Link => fs.read_link(entry.node).map(|target| {
                assert!(target.len() <= path::MAX_PATH);
            }),
            _ => content(fs, entry.node),
        };
        match result {
            Err(Error::Budget) => Err(Error::Budget),
            _ => Ok(Flow::Continue),
        }
    });
    match result {
        Err(Error::Budget) => Err(Error::Budget),
        _ => Ok(()),
    }
}

/// Reads a file at its begin, in its middle and beyond its end.
fn content(fs: &dyn FileSystem, node: Node) -> Result<(), Error> {
    let size = fs.metadata(node)?.size;
    let mut buffer = vec![0; 8192];
    for offset in [0, 4096, size / 2, size.saturating_sub(1), size, u64::MAX] {
        let count = fs.read(node, offset, &mut buffer)?;
        assert!(count <= buffer.len());
        if let Ok(Some(stretch)) = fs.stretch(node, offset, 8192) {
            assert!((1..=8192).contains(&stretch.len));
        }
    }
    Ok(())
}
