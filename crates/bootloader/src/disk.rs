//! The volumes of a real disk.

use crate::volumes::{File, FileError, Kind, Location, VolumeId, VolumeInfo, Volumes};
use firstlight_disk::partition::{Partition, Scheme, Type};
use firstlight_disk::volume::{self, Origin, Volume};
use firstlight_disk::{
    Budget, Error, FileKind, FileSystem, Limits, Node, ReadAt, Source, list, path,
};
use std::rc::Rc;

/// What finding and reading configurations may read of a disk, and what copying a file may on top of its size.
pub const READING: Limits = Limits {
    bytes: 256 << 20,
    steps: 4_000_000,
};

/// How many names of a directory are looked at.
const NAMES: usize = 20_000;

/// A file system with what is known of it.
struct Held {
    info: VolumeInfo,
    fs: Rc<dyn FileSystem>,
    /// Marked in the partition table as the one to boot from.
    active: bool,
}

/// The file systems of a disk, the active partition first, then in the disk's order.
pub struct Disk {
    held: Vec<Held>,
    budget: Rc<Budget>,
    /// What is wrong with the disk, for people.
    pub complaints: Vec<String>,
}

impl Disk {
    /// Finds the volumes of `data`. With an `offset`, only the file system that begins there is one.
    ///
    /// # Errors
    /// A text that says why the disk cannot be read.
    pub fn scan(data: Rc<dyn ReadAt>, offset: Option<u64>) -> Result<Self, String> {
        let budget = Budget::new(READING);
        let source = Source::new(data, budget.clone());
        let mut disk = Self {
            held: Vec::new(),
            budget,
            complaints: Vec::new(),
        };
        match offset {
            Some(offset) => {
                let part = source.part(offset, u64::MAX);
                let opened = part.and_then(|part| volume::open(&part));
                let fs = opened.map_err(|error| format!("at {offset}: {error}"))?;
                let info = describe(fs.as_ref(), vec!["hd0".to_owned()]);
                let active = false;
                disk.held.push(Held { info, fs, active });
            }
            None => disk.add(&source, "hd0")?,
        }
        disk.held.sort_by_key(|held| !held.active);
        Ok(disk)
    }

    /// Adds the volumes of a disk that GRUB calls `name`.
    fn add(&mut self, source: &Source, name: &str) -> Result<(), String> {
        let scan = volume::scan(source).map_err(|error| error.to_string())?;
        let complaints = scan.complaints.iter();
        self.complaints
            .extend(complaints.map(|complaint| (*complaint).to_owned()));
        for volume in scan.volumes {
            let names = names(&volume, name);
            let fs = match &volume.fs {
                Ok(fs) => fs.clone(),
                Err(Error::NotFound) => continue,
                Err(error) => {
                    self.complaints.push(format!("{}: {error}", names[0]));
                    continue;
                }
            };
            let mut info = describe(fs.as_ref(), names);
            let mut active = false;
            if let Origin::Partition(scheme, partition) = &volume.origin {
                active = partition.active && *scheme == Scheme::Mbr;
                info.partition_uuid = partition.uuid.clone();
                info.attributes = partition.attributes;
                if let Type::Gpt(kind) = &partition.kind {
                    info.partition_type = Some(kind.clone());
                }
                info.partition_map = Some(map(*scheme).to_owned());
            }
            self.held.push(Held { info, fs, active });
        }
        Ok(())
    }

    fn fs(&self, volume: VolumeId) -> Result<&dyn FileSystem, FileError> {
        let held = self.held.get(volume).ok_or(FileError::NotFound)?;
        Ok(held.fs.as_ref())
    }

    /// Follows a path: from where GRUB's paths begin, and from the root that a system sees.
    fn node(&self, place: &Location) -> Result<(&dyn FileSystem, Node), FileError> {
        let fs = self.fs(place.volume)?;
        let (root, top) = (fs.root(), fs.top_level());
        let found = path::open_from(fs, root, place.path.as_bytes());
        let found = match found {
            Err(Error::NotFound | Error::NotADirectory) if top != root => {
                path::open_from(fs, top, place.path.as_bytes())
            }
            found => found,
        };
        Ok((fs, found.map_err(error)?))
    }

    /// Allows the disk to be read for a file of `size` bytes more.
    pub fn allow(&self, size: u64) {
        self.budget.refill(Limits {
            bytes: READING.bytes.saturating_add(size.saturating_mul(2)),
            steps: READING.steps,
        });
    }
}

fn map(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Mbr => "msdos",
        Scheme::Gpt => "gpt",
    }
}

/// GRUB's names of a volume.
fn names(volume: &Volume, disk: &str) -> Vec<String> {
    match &volume.origin {
        Origin::Whole if disk == "hd0" => ["hd0", "cd0", "cd"].map(str::to_owned).to_vec(),
        Origin::Whole => vec![disk.to_owned()],
        Origin::Partition(_, Partition { number, .. }) => {
            vec![
                format!("{disk},{}", volume.grub_name()),
                format!("{disk},{number}"),
            ]
        }
        Origin::Logical { uuids, .. } => {
            vec![volume.grub_name(), format!("lvmid/{}/{}", uuids.0, uuids.1)]
        }
    }
}

fn describe(fs: &dyn FileSystem, names: Vec<String>) -> VolumeInfo {
    let kind = fs.kind();
    // Where a system's root is a subvolume that is not the default: Ubuntu, Debian, Fedora, Arch.
    let subvolumes: &[&str] = match kind {
        "btrfs" => &["/@", "/@rootfs", "/root", "/@/boot", "/@boot"],
        _ => &[],
    };
    VolumeInfo {
        names,
        filesystem: Some(kind.to_owned()),
        uuid: fs.uuid(),
        label: Some(fs.label()).filter(|label| !label.is_empty()),
        subvolumes: subvolumes.iter().map(|name| (*name).to_owned()).collect(),
        ..VolumeInfo::default()
    }
}

fn error(error: Error) -> FileError {
    match error {
        Error::NotFound | Error::NotADirectory => FileError::NotFound,
        Error::NotAFile => FileError::WrongKind,
        other => FileError::Unreadable(other.to_string()),
    }
}

/// An open file of a file system.
struct Open<'a> {
    fs: &'a dyn FileSystem,
    node: Node,
    size: u64,
}

impl File for Open<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        self.fs.read(self.node, offset, buffer).map_err(error)
    }

    fn stretch(&self, offset: u64, len: u64) -> Result<Option<(u64, u64)>, FileError> {
        let found = self.fs.stretch(self.node, offset, len).map_err(error)?;
        Ok(found.map(|stretch| (stretch.at, stretch.len)))
    }
}

/// A file of a file system as a disk: an image in which there are volumes again.
struct Image {
    fs: Rc<dyn FileSystem>,
    node: Node,
    size: u64,
}

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> firstlight_disk::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(Error::OutOfRange);
        }
        match self.fs.read(self.node, offset, buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(Error::OutOfRange),
        }
    }
}

impl Volumes for Disk {
    fn count(&self) -> usize {
        self.held.len()
    }

    fn info(&self, volume: VolumeId) -> &VolumeInfo {
        &self.held[volume].info
    }

    fn kind(&self, place: &Location) -> Result<Kind, FileError> {
        let (fs, node) = self.node(place)?;
        let metadata = fs.metadata(node).map_err(error)?;
        match metadata.kind {
            FileKind::File => Ok(Kind::File {
                size: metadata.size,
            }),
            FileKind::Directory => Ok(Kind::Directory),
            FileKind::Link | FileKind::Other => Err(FileError::WrongKind),
        }
    }

    fn list(&self, directory: &Location) -> Result<Vec<String>, FileError> {
        let (fs, node) = self.node(directory)?;
        let entries = list(fs, node, NAMES).map_err(error)?;
        let names = entries.into_iter().map(|(name, _)| String::from_utf8(name));
        Ok(names.filter_map(Result::ok).collect())
    }

    fn open_whole(&self, file: &Location) -> Result<Box<dyn File + '_>, FileError> {
        let (fs, node) = self.node(file)?;
        let metadata = fs.metadata(node).map_err(error)?;
        if metadata.kind != FileKind::File {
            return Err(FileError::WrongKind);
        }
        let size = metadata.size;
        Ok(Box::new(Open { fs, node, size }))
    }

    fn attach(&mut self, name: &str, image: &Location) -> Result<(), FileError> {
        let (fs, node) = self.node(image)?;
        let metadata = fs.metadata(node).map_err(error)?;
        if metadata.kind != FileKind::File {
            return Err(FileError::WrongKind);
        }
        let fs = self.held[image.volume].fs.clone();
        let size = metadata.size;
        let source = Source::new(Rc::new(Image { fs, node, size }), self.budget.clone());
        let before = self.held.len();
        self.add(&source, name).map_err(FileError::Unreadable)?;
        match self.held.len() > before {
            true => Ok(()),
            false => Err(FileError::Unreadable(
                "there is no file system in it".to_owned(),
            )),
        }
    }
}
