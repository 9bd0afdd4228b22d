//! One interface to all file systems.

use crate::bytes::buffer;
use crate::error::{Error, Result};
use crate::path::MAX_PATH;
use crate::source::{ReadAt, Source};
use alloc::string::String;
use alloc::vec::Vec;

/// A file, directory or link: two numbers that only its file system understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub(crate) id: u64,
    pub(crate) place: u64,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Other,
}

impl FileKind {
    /// From the type in a Unix mode, bits 15:12.
    pub(crate) fn from_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => FileKind::File,
            0o040_000 => FileKind::Directory,
            0o120_000 => FileKind::Link,
            _ => FileKind::Other,
        }
    }
}

/// What a file system says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// The size in bytes that the file system claims. A hostile one claims anything.
    pub size: u64,
}

impl Metadata {
    /// Fails where it is no file.
    pub(crate) fn file(self) -> Result<()> {
        match self.kind {
            FileKind::File => Ok(()),
            _ => Err(Error::NotAFile),
        }
    }

    /// Fails where it is no directory.
    pub(crate) fn directory(self) -> Result<()> {
        match self.kind {
            FileKind::Directory => Ok(()),
            _ => Err(Error::NotADirectory),
        }
    }

    /// The length of a link's target. Fails where it is no link, or where a path can never be as long.
    pub(crate) fn link(self) -> Result<usize> {
        if self.kind != FileKind::Link {
            return Err(Error::Corrupt("not a symbolic link"));
        }
        usize::try_from(self.size)
            .ok()
            .filter(|size| *size <= MAX_PATH)
            .ok_or(Error::TooLong)
    }
}

/// Bytes of a file that lie in a row on the image or device that all is read from, as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where they lie there, in bytes.
    pub at: u64,
    /// How many: not 0 within the file.
    pub len: u64,
}

impl Stretch {
    /// The `len` bytes of a source from `at` on, charged as if they were read, if they are in a row on the disk.
    pub(crate) fn of(source: &Source, at: u64, len: u64) -> Result<Option<Self>> {
        let Some(at) = source.place(at, len).filter(|_| len > 0) else {
            return Ok(None);
        };
        source.budget().charge(len)?;
        Ok(Some(Self { at, len }))
    }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name: bytes without `/` and NUL, in UTF-8 if the file system's names are Unicode.
    pub name: &'a [u8],
    /// What it names.
    pub node: Node,
}

/// Whether a visit of a directory goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next entry.
    Continue,
    /// No more.
    Stop,
}

/// A file system, read-only. All of its reads are charged to the budget of its source.
pub trait FileSystem {
    /// The format by GRUB's name for it: `ext2` (to ext4), `fat`, `iso9660`, `xfs`, `btrfs`, `squash4`.
    fn kind(&self) -> &'static str;

    /// The label, empty if there is none.
    fn label(&self) -> String;

    /// The UUID or serial number as blkid prints it. GRUB's `search --fs-uuid` compares it without regard to case.
    fn uuid(&self) -> Option<String>;

    /// The root directory. For btrfs, that of the default subvolume.
    fn root(&self) -> Node;

    /// Where GRUB's paths begin if that is not the root: btrfs' top level.
    fn top_level(&self) -> Node {
        self.root()
    }

    /// The kind and size of a node.
    ///
    /// # Errors
    /// The node's structures cannot be read.
    fn metadata(&self, node: Node) -> Result<Metadata>;

    /// Calls `visit` for each entry, without `.` and `..`, and stops where it says so or fails.
    ///
    /// # Errors
    /// [`Error::NotADirectory`], what `visit` returns, or the directory cannot be read.
    fn read_dir(
        &self,
        directory: Node,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<Flow>,
    ) -> Result<()>;

    /// The entry of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the directory cannot be read.
    fn lookup(&self, directory: Node, name: &[u8]) -> Result<Node> {
        let mut found = None;
        self.read_dir(directory, &mut |entry| {
            if entry.name != name {
                return Ok(Flow::Continue);
            }
            found = Some(entry.node);
            Ok(Flow::Stop)
        })?;
        found.ok_or(Error::NotFound)
    }

    /// The target of a symbolic link, at most [`path::MAX_PATH`](crate::path::MAX_PATH) bytes.
    ///
    /// # Errors
    /// It is no link, or cannot be read.
    fn read_link(&self, node: Node) -> Result<Vec<u8>>;

    /// Where a file's bytes from `offset` on lie on the disk, at most `len` of them, so that they can be copied without being read
    /// here. Nothing where they are stored in another way, or where the file system does not tell; then [`read`](Self::read) has them.
    ///
    /// # Errors
    /// [`Error::NotAFile`], or its structures cannot be read.
    fn stretch(&self, _file: Node, _offset: u64, _len: u64) -> Result<Option<Stretch>> {
        Ok(None)
    }

    /// Reads from a file at `offset` and returns how many bytes: fewer than `buffer` takes only at the end of the file.
    ///
    /// # Errors
    /// [`Error::NotAFile`], or the file cannot be read.
    fn read(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// A whole file, of at most `limit` bytes.
///
/// # Errors
/// [`Error::TooLong`] if it is longer, [`Error::NotAFile`] if it is none, or it cannot be read.
pub fn read_file(fs: &dyn FileSystem, file: Node, limit: usize) -> Result<Vec<u8>> {
    /// Memory is taken as content arrives, not as the size claims.
    const CHUNK: usize = 256 << 10;
    let metadata = fs.metadata(file)?;
    if metadata.kind != FileKind::File {
        return Err(Error::NotAFile);
    }
    if metadata.size > limit as u64 {
        return Err(Error::TooLong);
    }
    let mut content = Vec::new();
    loop {
        let mut chunk = buffer(CHUNK.min(limit - content.len() + 1))?;
        let count = fs.read(file, content.len() as u64, &mut chunk)?;
        if count == 0 {
            return Ok(content);
        }
        if count > limit - content.len() {
            return Err(Error::TooLong);
        }
        content.try_reserve(count).map_err(|_| Error::Memory)?;
        content.extend_from_slice(&chunk[..count]);
    }
}

/// The names in a directory and what they name, at most `limit` of them.
///
/// # Errors
/// [`Error::TooLong`] if there are more, or the directory cannot be read.
pub fn list(fs: &dyn FileSystem, directory: Node, limit: usize) -> Result<Vec<(Vec<u8>, Node)>> {
    let mut entries = Vec::new();
    fs.read_dir(directory, &mut |entry| {
        if entries.len() == limit {
            return Err(Error::TooLong);
        }
        entries.try_reserve(1).map_err(|_| Error::Memory)?;
        entries.push((entry.name.to_vec(), entry.node));
        Ok(Flow::Continue)
    })?;
    Ok(entries)
}
