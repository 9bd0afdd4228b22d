//! Reads all that a disk offers, for disks that may be anything. Shared with the fuzz targets.

use firstlight_disk::{
    Budget, Entry, Error, FileKind, FileSystem, Flow, Limits, Node, Source, path, volume,
};
use std::rc::Rc;

/// What one damaged disk may cost.
pub const LIMITS: Limits = Limits {
    bytes: 32 << 20,
    steps: 200_000,
};

/// Directories below one another that a walk goes into.
const DEPTH: usize = 6;

/// Scans a disk and reads every file on it, as far as the budget goes.
pub fn disk(bytes: Vec<u8>) {
    let source = Source::new(Rc::new(bytes), Budget::new(LIMITS));
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
    }
    Ok(())
}
