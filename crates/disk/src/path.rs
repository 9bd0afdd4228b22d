//! Paths through a file system.

use crate::error::{Error, Result};
use crate::fs::{FileKind, FileSystem, Node};
use alloc::vec;
use alloc::vec::Vec;

/// Symbolic links that one path may go through, as Linux has it (path_resolution(7)).
pub const MAX_LINKS: usize = 40;
/// Bytes of a path or of a link's target, as Linux has it.
pub const MAX_PATH: usize = 4096;

/// Finds what `path` names, from the root, through symbolic links.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotADirectory`], [`Error::TooManyLinks`], [`Error::TooLong`], or the file system cannot be read.
pub fn open(fs: &dyn FileSystem, path: &[u8]) -> Result<Node> {
    open_from(fs, fs.root(), path)
}

/// As [`open`], with `root` for the root: btrfs has several.
///
/// # Errors
/// As [`open`].
pub fn open_from(fs: &dyn FileSystem, root: Node, path: &[u8]) -> Result<Node> {
    let mut links = 0;
    // The directories from the root to where we are: `..` needs no entry on the disk.
    let mut walk = vec![root];
    // What is still to go, the next path last.
    let mut pending: Vec<Vec<u8>> = vec![bounded(path)?];
    while let Some(rest) = pending.pop() {
        let Some((name, rest)) = next_name(&rest) else {
            continue;
        };
        let last = rest.is_empty() && pending.iter().all(|path| next_name(path).is_none());
        let wants_directory = rest.first() == Some(&b'/');
        if !rest.is_empty() {
            pending.push(rest.to_vec());
        }
        match name.as_slice() {
            b"." => continue,
            b".." => {
                if walk.len() > 1 {
                    walk.pop();
                }
                continue;
            }
            _ => {}
        }
        let node = fs.lookup(walk.last().copied().unwrap_or(root), &name)?;
        match fs.metadata(node)?.kind {
            FileKind::Directory => {
                if walk.len() == MAX_PATH {
                    return Err(Error::TooLong);
                }
                walk.push(node);
            }
            FileKind::Link => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::TooManyLinks);
                }
                let target = bounded(&fs.read_link(node)?)?;
                if target.is_empty() {
                    return Err(Error::NotFound);
                }
                if target.first() == Some(&b'/') {
                    walk.truncate(1);
                }
                pending.push(target);
            }
            FileKind::File | FileKind::Other if last && !wants_directory => return Ok(node),
            FileKind::File | FileKind::Other => return Err(Error::NotADirectory),
        }
    }
    Ok(walk.last().copied().unwrap_or(root))
}

fn bounded(path: &[u8]) -> Result<Vec<u8>> {
    if path.len() > MAX_PATH {
        return Err(Error::TooLong);
    }
    Ok(path.to_vec())
}

/// The first name of a path, and what follows it.
fn next_name(path: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let start = path.iter().position(|&byte| byte != b'/')?;
    let path = &path[start..];
    let end = path
        .iter()
        .position(|&byte| byte == b'/')
        .unwrap_or(path.len());
    Some((path[..end].to_vec(), &path[end..]))
}
