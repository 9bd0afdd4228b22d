//! Disks of people who may mean harm: partitions, volumes and file systems, read-only and within bounds.
//!
//! The host bootloader reads a guest's kernel from the guest's own disk, so every byte here is the guest's. What the crate holds to:
//!
//! - Lengths and sums are checked; a wrong one is an [`Error`], never a panic.
//! - Each read and each step is charged to a [`Budget`] that the caller sets, so that no structure, cycle or size costs without end.
//! - Memory does not grow with what the disk claims: readers hold some blocks of a bounded size, and directories are visited entry by entry.
//! - The disk may change between two reads. Nothing that was checked is read again to be used.
//!
//! [`ReadAt`] is what can be read: an image, a block device, bytes. [`Source`] is a part of it with the budget. [`volume::scan`] finds
//! what is on a disk, and [`FileSystem`] is one interface to all file systems; [`path::open`] follows a path through one.
//!
//! The readers are our own where a crate would bring its own allocation, or refuses disks that are in use: ext4-view reads all group
//! descriptors at once and knows neither `meta_bg`, inline data nor a dirty journal of ext3.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod btrfs;
mod bytes;
mod compress;
mod error;
pub mod ext;
pub mod fat;
mod fs;
#[cfg(feature = "std")]
pub mod image;
pub mod iso;
pub mod lvm;
pub mod partition;
pub mod path;
mod runs;
mod source;
pub mod squashfs;
pub mod volume;
pub mod xfs;

pub use error::{Error, Result};
pub use fs::{Entry, FileKind, FileSystem, Flow, Metadata, Node, Stretch, list, read_file};
pub use source::{Budget, Limits, ReadAt, Source};
