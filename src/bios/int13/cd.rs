//! CD and DVD drives: drives E0h to FFh, which only the functions of the enhanced disk drive specification know.

use super::geometry::Translation;
use super::transfer::{self, Action};
use super::{Answer, BAD_COMMAND, Reply, edd, status};
use crate::arch::{Frame, Hardware};
use crate::bios::buffer::Buffers;
use crate::storage::{Disk, DiskError, Medium};
use alloc::sync::Arc;
use spin::Mutex;

/// Status: the medium may have been changed.
const CHANGED: u8 = 0x06;
/// Status: the drive is not locked.
const NOT_LOCKED: u8 = 0xb0;
/// Status: the medium is locked in the drive.
const LOCKED: u8 = 0xb1;
/// Status: no more locks.
const LOCKS_EXHAUSTED: u8 = 0xb4;
/// Status: ejecting did not work.
const EJECT_FAILED: u8 = 0xb5;

/// A CD drive.
pub struct Cd {
    /// Shared with the drive that it emulates, if it does.
    disk: Arc<Mutex<Disk>>,
    /// How often the medium has been locked in.
    locks: u8,
}

impl Cd {
    /// A drive.
    pub fn new(disk: Disk) -> Self {
        Self {
            disk: Arc::new(Mutex::new(disk)),
            locks: 0,
        }
    }

    /// The drive itself.
    pub fn disk(&self) -> &Arc<Mutex<Disk>> {
        &self.disk
    }

    /// Serves a call for this drive.
    pub fn call<H: Hardware>(&mut self, hw: &H, buffers: &Buffers, frame: &mut Frame) -> Answer {
        let mut disk = self.disk.lock();
        match frame.ah() {
            0x00 | 0x0d => disk.reset().map(|()| Reply::Done).map_err(status),
            // Nothing to set up or to seek, as on a disk.
            0x09 | 0x0c | 0x10 | 0x11 | 0x14 => Ok(Reply::Done),
            0x4e if matches!(frame.al(), 1 | 3 | 4 | 6) => Ok(Reply::Done),
            0x01 => Ok(Reply::LastStatus),
            0x41 => Ok(edd::installation_check(frame)),
            0x42 => transfer::by_block(hw, &mut disk, buffers, frame, Action::Read),
            0x43 => Err(status(DiskError::WriteProtected)),
            0x44 | 0x47 => transfer::by_block(hw, &mut disk, buffers, frame, Action::Verify),
            0x45 => {
                drop(disk);
                self.lock(frame)
            }
            0x46 if self.locks != 0 => Err(LOCKED),
            0x46 => match disk.eject() {
                Ok(()) => Ok(Reply::Done),
                Err(_) => Err(EJECT_FAILED),
            },
            0x48 => {
                let parameters = edd::Parameters::of_cd(disk.info());
                edd::write_parameters(
                    hw,
                    frame,
                    parameters,
                    disk.info().edd.as_ref(),
                    Translation::None,
                )
            }
            0x49 => match disk.medium() {
                Ok(Medium::Same) => Ok(Reply::Done),
                Ok(Medium::Changed) => Err(CHANGED),
                Ok(Medium::Absent) => Err(status(DiskError::NoMedium)),
                Err(error) => Err(status(error)),
            },
            _ => Err(BAD_COMMAND),
        }
    }

    /// AH=45h: AL=0 locks the medium in the drive, 1 unlocks it, 2 asks. AL is then whether it is locked.
    fn lock(&mut self, frame: &mut Frame) -> Answer {
        let result = match (frame.al(), self.locks) {
            (0, u8::MAX) => Err(LOCKS_EXHAUSTED),
            (0, locks) => {
                self.locks = locks + 1;
                Ok(Reply::Done)
            }
            (1, 0) => Err(NOT_LOCKED),
            (1, locks) => {
                self.locks = locks - 1;
                Ok(Reply::Done)
            }
            (2, _) => Ok(Reply::Done),
            _ => return Err(BAD_COMMAND),
        };
        frame.set_al(u8::from(self.locks != 0));
        result
    }
}
