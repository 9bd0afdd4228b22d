//! What configurations may ask of a guest's disk: its volumes, and the files in them.

/// Which volume, counted from 0 in the order in which a disk has them.
pub type VolumeId = usize;

/// A file or directory: an absolute path in a volume. `/` stands between names, at the start, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub volume: VolumeId,
    pub path: String,
    /// Only these bytes of the file are meant.
    pub part: Option<Part>,
    /// The file is meant in an archive, in which it has this name: see [`crate::newc`].
    pub newc: Option<String>,
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub len: u64,
}

impl Location {
    /// The place `path` in `volume`, whether or not `path` starts with a slash. `.`, `..` and double slashes are resolved in the
    /// text; `..` at the root stays there.
    pub fn new(volume: VolumeId, path: &str) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        let path = format!("/{}", names.join("/"));
        Self {
            volume,
            path,
            part: None,
            newc: None,
        }
    }

    /// The directory in which this file is; the root's is the root.
    pub fn parent(&self) -> Self {
        Self::new(self.volume, &format!("{}/..", self.path))
    }

    /// `path` as seen from this directory; from the root, if it starts with a slash.
    pub fn join(&self, path: &str) -> Self {
        if path.starts_with('/') {
            Self::new(self.volume, path)
        } else {
            Self::new(self.volume, &format!("{}/{path}", self.path))
        }
    }

    /// The last name of the path, empty for the root.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What is known of a volume: a partition, a logical volume, or a whole disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeInfo {
    /// The names by which GRUB calls it, without parentheses: `hd0,gpt2`, `hd0,2`. The first is the usual one.
    pub names: Vec<String>,
    /// The file system's name as GRUB has it (`ext2`, `fat`, `xfs`), or nothing where none was recognised.
    pub filesystem: Option<String>,
    /// The file system's identifier, as `blkid` prints it.
    pub uuid: Option<String>,
    pub label: Option<String>,
    /// The identifier of the partition in its table.
    pub partition_uuid: Option<String>,
    /// What its GPT says the partition is for, and its attributes.
    pub partition_type: Option<String>,
    pub attributes: u64,
    /// The kind of partition table that it is from: `gpt`, `msdos`.
    pub partition_map: Option<String>,
    /// Paths may start with a subvolume's name (btrfs), so that configurations have to be looked for below it as well.
    pub subvolumes: Vec<String>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File { size: u64 },
    Directory,
}

/// Why a file cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    NotFound,
    /// A directory where a file is meant, or the other way round.
    WrongKind,
    /// It has more bytes than there is room for.
    TooLarge {
        size: u64,
        limit: u64,
    },
    /// The file system, or what carries it, is damaged or not supported; the text says how.
    Unreadable(String),
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileError::NotFound => f.write_str("no such file"),
            FileError::WrongKind => f.write_str("not a file"),
            FileError::TooLarge { size, limit } => {
                write!(f, "{size} bytes, where {limit} are allowed")
            }
            FileError::Unreadable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FileError {}

/// An open file.
pub trait File {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Reads up to `buffer.len()` bytes at `offset`. Returns how many, 0 only at or after the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError>;

    /// Where the bytes from `offset` on lie on the disk in a row, at most `len` of them, if they lie there as they are: the place
    /// and how many.
    fn stretch(&self, _offset: u64, _len: u64) -> Result<Option<(u64, u64)>, FileError> {
        Ok(None)
    }
}

/// A part of an open file.
struct OfPart<'a> {
    file: Box<dyn File + 'a>,
    start: u64,
    len: u64,
}

impl File for OfPart<'_> {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        let left = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let at = self.start.saturating_add(offset);
        self.file.read_at(at, &mut buffer[..left])
    }

    fn stretch(&self, offset: u64, len: u64) -> Result<Option<(u64, u64)>, FileError> {
        let left = self.len.saturating_sub(offset).min(len);
        self.file.stretch(self.start.saturating_add(offset), left)
    }
}

/// The volumes of a disk. What they hold is the guest's, and may be anything.
pub trait Volumes {
    /// How many volumes there are. `attach` adds to them.
    fn count(&self) -> usize;

    /// What is known of a volume. `volume` is less than `count()`.
    fn info(&self, volume: VolumeId) -> &VolumeInfo;

    /// What is at a place.
    fn kind(&self, place: &Location) -> Result<Kind, FileError>;

    /// The names in a directory, without `.` and `..`, in no particular order.
    fn list(&self, directory: &Location) -> Result<Vec<String>, FileError>;

    /// Opens a file, all of it.
    fn open_whole(&self, file: &Location) -> Result<Box<dyn File + '_>, FileError>;

    /// Opens a file, or the part of it that is meant, as far as the file goes.
    fn open(&self, place: &Location) -> Result<Box<dyn File + '_>, FileError> {
        let file = self.open_whole(place)?;
        let Some(Part { start, len }) = place.part else {
            return Ok(file);
        };
        let len = len.min(file.size().saturating_sub(start));
        Ok(Box::new(OfPart { file, start, len }))
    }

    /// Makes the file `image`, a disk image, available as the volume `name` and, if it has partitions, as `name,1` and so on.
    fn attach(&mut self, name: &str, image: &Location) -> Result<(), FileError>;

    /// The volume that has `name`, in which upper and lower case are the same.
    fn find(&self, name: &str) -> Option<VolumeId> {
        (0..self.count()).find(|volume| {
            let names = &self.info(*volume).names;
            names.iter().any(|known| known.eq_ignore_ascii_case(name))
        })
    }

    /// Whether there is a file at a place.
    fn is_file(&self, place: &Location) -> bool {
        matches!(self.kind(place), Ok(Kind::File { .. }))
    }

    /// Whether the file at a place can be read.
    fn has(&self, file: &Location) -> bool {
        self.open(file).is_ok()
    }

    /// Reads a whole file that has at most `limit` bytes.
    fn read(&self, file: &Location, limit: u64) -> Result<Vec<u8>, FileError> {
        let open = self.open(file)?;
        let size = open.size();
        if size > limit {
            return Err(FileError::TooLarge { size, limit });
        }
        let mut content = vec![0; size as usize];
        let mut filled = 0;
        while let Some(rest) = content.get_mut(filled..)
            && !rest.is_empty()
        {
            match open.read_at(filled as u64, rest)? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        content.truncate(filled);
        Ok(content)
    }

    /// Reads a text of at most `limit` bytes. Bytes that are not UTF-8 become U+FFFD, as in comments and titles of old files.
    fn read_text(&self, file: &Location, limit: u64) -> Result<String, FileError> {
        let content = self.read(file, limit)?;
        Ok(match String::from_utf8(content) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_in_the_text_and_stay_in_their_volume() {
        let place = |path: &str| Location::new(1, path).path;
        assert_eq!(place("boot//grub/./grub.cfg"), "/boot/grub/grub.cfg");
        assert_eq!(place("/a/../../../etc/passwd"), "/etc/passwd");
        assert_eq!(place(""), "/");
        let config = Location::new(1, "/boot/syslinux/syslinux.cfg");
        assert_eq!(config.name(), "syslinux.cfg");
        assert_eq!(config.parent().path, "/boot/syslinux");
        assert_eq!(config.parent().join("../vmlinuz").path, "/boot/vmlinuz");
        assert_eq!(config.parent().join("/vmlinuz").path, "/vmlinuz");
        assert_eq!(Location::new(0, "/").parent().path, "/");
    }
}
