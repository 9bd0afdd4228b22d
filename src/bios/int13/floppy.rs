//! Diskette drives: drives 00h to 7Fh.

use super::{Answer, BAD_COMMAND, Memory, Reply, status};
use crate::arch::{Frame, Hardware};
use crate::storage::Disk;

/// A diskette drive.
pub struct Floppy {
    disk: Disk,
}

impl Floppy {
    /// A drive.
    pub fn new(disk: Disk) -> Self {
        Self { disk }
    }

    /// Serves a call for this drive.
    pub fn call<H: Hardware>(&mut self, _hw: &H, _memory: &Memory, frame: &mut Frame) -> Answer {
        match frame.ah() {
            0x00 => self.disk.reset().map(|()| Reply::Done).map_err(status),
            0x01 => Ok(Reply::LastStatus),
            _ => Err(BAD_COMMAND),
        }
    }
}
