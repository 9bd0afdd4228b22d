//! What can go wrong.

use core::fmt;

/// The result of reading a disk.
pub type Result<T> = core::result::Result<T, Error>;

/// Why something on a disk cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device or file reports a failure.
    Io,
    /// A place outside the disk, the partition or the file system.
    OutOfRange,
    /// A structure contradicts its format. The text names it.
    Corrupt(&'static str),
    /// A valid structure that this crate does not read. The text names it.
    Unsupported(&'static str),
    /// No such file, directory or volume.
    NotFound,
    /// A path goes through something that is no directory.
    NotADirectory,
    /// A directory or a device where a file is expected.
    NotAFile,
    /// More symbolic links on one path than [`path::MAX_LINKS`](crate::path::MAX_LINKS).
    TooManyLinks,
    /// A path, a name or a file is longer than the bound for it.
    TooLong,
    /// The caller's [`Budget`](crate::Budget) is spent.
    Budget,
    /// No memory for a buffer.
    Memory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io => f.write_str("the disk cannot be read"),
            Error::OutOfRange => f.write_str("a place outside the disk"),
            Error::Corrupt(what) => write!(f, "damaged: {what}"),
            Error::Unsupported(what) => write!(f, "not supported: {what}"),
            Error::NotFound => f.write_str("not found"),
            Error::NotADirectory => f.write_str("not a directory"),
            Error::NotAFile => f.write_str("not a file"),
            Error::TooManyLinks => f.write_str("too many symbolic links"),
            Error::TooLong => f.write_str("too long"),
            Error::Budget => f.write_str("the disk takes more reading than is allowed"),
            Error::Memory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for Error {}
