//! What is on a disk: its volumes, and the file system of each.

use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::partition::{self, Partition, SECTOR_SIZES, Scheme, Table};
use crate::source::Source;
use crate::{btrfs, ext, fat, iso, lvm, squashfs, xfs};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// Where a volume lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The disk as a whole.
    Whole,
    /// A partition of this scheme.
    Partition(Scheme, Partition),
    /// A logical volume of LVM.
    Logical {
        /// The volume group's name.
        group: String,
        /// The volume's name.
        name: String,
        /// The UUIDs of group and volume.
        uuids: (String, String),
    },
}

/// Something on a disk that may hold a file system.
#[derive(Clone)]
pub struct Volume {
    /// Where it lies.
    pub origin: Origin,
    /// Its bytes.
    pub source: Source,
    /// Its file system, or why there is none that can be read.
    pub fs: Result<Rc<dyn FileSystem>>,
}

impl Volume {
    /// GRUB's name for it: empty for the whole disk; `msdos1` or `gpt2`, which GRUB has behind the disk's name; or `lvm/group-name`,
    /// with dashes in names doubled.
    pub fn grub_name(&self) -> String {
        match &self.origin {
            Origin::Whole => String::new(),
            Origin::Partition(Scheme::Mbr, partition) => format!("msdos{}", partition.number),
            Origin::Partition(Scheme::Gpt, partition) => format!("gpt{}", partition.number),
            Origin::Logical { group, name, .. } => {
                let doubled = |name: &String| name.replace('-', "--");
                format!("lvm/{}-{}", doubled(group), doubled(name))
            }
        }
    }
}

/// What [`scan`] found.
#[derive(Clone, Default)]
pub struct Scan {
    /// The whole disk if it has a file system, then the partitions in the table's order, then LVM's logical volumes.
    pub volumes: Vec<Volume>,
    /// What is wrong with the disk's tables, for a log.
    pub complaints: Vec<&'static str>,
}

/// A reader that knows a file system by its superblock.
pub type Open = fn(Source) -> Result<Rc<dyn FileSystem>>;

/// The readers, in the order in which they are tried: those with a strict signature first.
pub const READERS: [Open; 6] = [
    |source| Ok(Rc::new(ext::Ext::open(source)?)),
    |source| Ok(Rc::new(xfs::Xfs::open(source)?)),
    |source| Ok(Rc::new(btrfs::Btrfs::open(source)?)),
    |source| Ok(Rc::new(squashfs::Squashfs::open(source)?)),
    |source| Ok(Rc::new(iso::Iso::open(source)?)),
    |source| Ok(Rc::new(fat::Fat::open(source)?)),
];

/// Opens the file system in `source`.
///
/// # Errors
/// [`Error::NotFound`] if there is none that this crate knows, [`Error::Unsupported`] if there is one that it cannot read, or the
/// source cannot be read.
pub fn open(source: &Source) -> Result<Rc<dyn FileSystem>> {
    let mut reason = Error::NotFound;
    for reader in READERS {
        match reader(source.clone()) {
            Ok(fs) => return Ok(fs),
            Err(error @ (Error::Budget | Error::Memory | Error::Io)) => return Err(error),
            Err(error @ Error::Unsupported(_)) => reason = error,
            Err(_) => {}
        }
    }
    Err(reason)
}

/// Finds the volumes of a disk.
///
/// A disk that does not tell the size of its sectors is read in sectors of 512 bytes, and of 4,096 if only those show a file system.
///
/// # Errors
/// [`Error::Io`], [`Error::Memory`] and [`Error::Budget`]: all else is a volume or a complaint less.
pub fn scan(disk: &Source) -> Result<Scan> {
    let mut scan = Scan::default();
    match open(disk) {
        Ok(fs) => scan.volumes.push(Volume {
            origin: Origin::Whole,
            source: disk.clone(),
            fs: Ok(fs),
        }),
        Err(error @ (Error::Io | Error::Memory | Error::Budget)) => return Err(error),
        Err(_) => {}
    }
    if let Some((table, volumes)) = partitions(disk)? {
        scan.volumes.extend(volumes);
        scan.complaints.extend(table.complaint);
    }
    let mut places: Vec<&Source> = scan.volumes.iter().map(|volume| &volume.source).collect();
    places.push(disk);
    let logical = logical(&places)?;
    scan.volumes.extend(logical);
    Ok(scan)
}

/// The logical volumes of LVM that lie in `places`.
fn logical(places: &[&Source]) -> Result<Vec<Volume>> {
    let mut physicals = Vec::new();
    for place in places {
        match lvm::physical(place) {
            Ok(physical) => physicals.push(physical),
            Err(error @ (Error::Memory | Error::Budget)) => return Err(error),
            Err(_) => {}
        }
    }
    let mut volumes = Vec::new();
    for lvm::Logical {
        group,
        name,
        uuids,
        source,
    } in lvm::logical(&physicals)?
    {
        let (source, fs) = match source {
            Ok(source) => (source.clone(), open(&source)),
            Err(error) => (places[0].part(0, 0)?, Err(error)),
        };
        if let Err(error @ (Error::Memory | Error::Budget)) = fs {
            return Err(error);
        }
        volumes.push(Volume {
            origin: Origin::Logical { group, name, uuids },
            source,
            fs,
        });
    }
    Ok(volumes)
}

/// The partition table and its volumes, in the sectors that make sense.
fn partitions(disk: &Source) -> Result<Option<(Table, Vec<Volume>)>> {
    let told = disk
        .sector_size()
        .filter(|size| SECTOR_SIZES.contains(size));
    let mut best: Option<(Table, Vec<Volume>)> = None;
    for sector in SECTOR_SIZES {
        if told.is_some_and(|told| told != sector) {
            continue;
        }
        let Some(table) = partition::table(disk, sector)? else {
            continue;
        };
        let volumes = volumes(disk, &table)?;
        if volumes.iter().any(|volume| volume.fs.is_ok()) {
            return Ok(Some((table, volumes)));
        }
        let fewer =
            |(best, _): &(Table, Vec<Volume>)| best.partitions.len() < table.partitions.len();
        if best.as_ref().is_none_or(fewer) {
            best = Some((table, volumes));
        }
    }
    Ok(best)
}

fn volumes(disk: &Source, table: &Table) -> Result<Vec<Volume>> {
    let mut volumes = Vec::new();
    for partition in &table.partitions {
        let source = disk.part(partition.start, partition.size)?;
        let fs = match open(&source) {
            Err(error @ (Error::Memory | Error::Budget)) => return Err(error),
            fs => fs,
        };
        volumes.push(Volume {
            origin: Origin::Partition(table.scheme, partition.clone()),
            source,
            fs,
        });
    }
    Ok(volumes)
}
