//! Images and block devices of the host.

use crate::error::{Error, Result};
use crate::source::ReadAt;
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

/// A raw image or a block device, open for reading. It needs no more system calls than `pread` once it is open.
#[derive(Debug)]
pub struct Image {
    file: File,
    size: u64,
    sector_size: Option<u32>,
}

impl Image {
    /// Opens `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is neither a regular file nor a block device.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_file(File::open(path)?)
    }

    /// Takes an open file.
    ///
    /// # Errors
    /// It is neither a regular file nor a block device, or does not tell its size.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "neither an image nor a block device",
            ));
        }
        let sector_size = if kind.is_block_device() {
            logical_sector(metadata.rdev())
        } else {
            None
        };
        Ok(Self {
            size: file.seek(SeekFrom::End(0))?,
            file,
            sector_size,
        })
    }
}

/// A block device's logical sector, from sysfs (Linux, Documentation/ABI/stable/sysfs-block). A partition has its disk one level up.
fn logical_sector(device: u64) -> Option<u32> {
    // The halves of a device number as Linux splits it: makedev(3).
    let major = (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000;
    let minor = device & 0xff | (device >> 12) & 0xffff_ff00;
    ["queue", "../queue"].iter().find_map(|queue| {
        let path = std::format!("/sys/dev/block/{major}:{minor}/{queue}/logical_block_size");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Error::OutOfRange,
                _ => Error::Io,
            })
    }

    fn sector_size(&self) -> Option<u32> {
        self.sector_size
    }

    fn place(&self, offset: u64, _len: u64) -> Option<u64> {
        Some(offset)
    }
}
