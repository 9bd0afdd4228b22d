//! INT 13h: diskettes, disks and CDs.
//!
//! [`Drives`] maps drive numbers to drives; what a function does is up to the kind of drive, one file each. Every function leaves
//! its status in AH, CF and the BIOS data area. A request that names sectors or memory it may not is refused before anything is
//! moved.
//!
//! The drives have a lock of their own. While a device works, interrupts are served, and what handlers call finds all other services
//! as usual; a call to INT 13h from there is answered at once with "not ready" (diskettes: "timeout"), which callers that are
//! prepared for it try again.
//!
//! Sources: IBM PS/2 and PC BIOS Interface Technical Reference, INT 13h; Ralf Brown's interrupt list; Enhanced Disk Drive
//! Specification 3.0 (T13/1226D).

mod cd;
mod disk;
mod drives;
mod edd;
pub mod emulation;
mod floppy;
mod geometry;
#[cfg(test)]
mod tests;
mod transfer;

use super::Bios;
use super::bda::Bda;
use super::buffer::Buffers;
use crate::arch::{Frame, Handle, Outcome, frame};
use crate::storage::DiskError;
pub use disk::HardDisk;
use drives::Drive;
pub use drives::{Drives, FIRST_DISK, MOST_DISKS};
pub use emulation::Emulation;
pub use geometry::Geometries;
use spin::Mutex;

/// Status: no such function or drive, or an argument out of range.
const BAD_COMMAND: u8 = 0x01;
/// Status: the buffer lies where it may not.
const BOUNDARY: u8 = 0x09;
/// Status: the device did not answer in time.
const TIMEOUT: u8 = 0x80;
/// Status: the drive is not ready.
const NOT_READY: u8 = 0xaa;

/// Offset in the EBDA of the table that AH=48h points at.
const EXTENSION_OFFSET: u16 = 0x60;

/// Serves INT 13h and INT 40h.
pub fn serve<H: Handle>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    let (drives, buffers) = {
        let bios = bios.lock();
        (bios.drives.clone(), Buffers::of(&bios.machine))
    };
    // Diskettes have a status byte of their own.
    let diskette = frame.dl() < FIRST_DISK;
    let Some(mut drives) = drives.try_lock() else {
        // The status byte is for the call that this one came into.
        frame.set_carry(true);
        frame.set_ah(if diskette { TIMEOUT } else { NOT_READY });
        return Outcome::Return;
    };
    let last = if diskette {
        Bda::floppy_status()
    } else {
        Bda::disk_status()
    };
    // A caller that keeps interrupts out has its reasons.
    let before = hw.allow_interrupts(frame.flags & frame::INTERRUPT != 0);
    let answer = match drives.get(frame.dl()) {
        _ if frame.ah() == 0x4b => emulation::end_or_ask(hw, &mut drives, frame),
        _ if matches!(frame.ah(), 0x4a | 0x4c) => {
            emulation::begin_by_packet(hw, &mut drives, &buffers, frame)
        }
        _ if frame.ah() == 0x4d => emulation::catalogue(hw, &mut drives, &buffers, frame),
        Some(Drive::Floppy(floppy, count)) => floppy.call(hw, &buffers, frame, count),
        Some(Drive::Disk(disk)) => disk.call(hw, &buffers, frame),
        Some(Drive::Cd(cd)) => cd.call(hw, &buffers, frame),
        None => Err(BAD_COMMAND),
    };
    hw.allow_interrupts(before);
    drop(drives);
    let status = match answer {
        Ok(Reply::Gone) => return Outcome::Return,
        Ok(Reply::LastStatus) => last.get(hw),
        Ok(_) => 0,
        Err(status) => status,
    };
    last.set(hw, status);
    frame.set_carry(status != 0);
    frame.set_ah(match answer {
        Ok(Reply::Ah(value)) => value,
        _ => status,
    });
    Outcome::Return
}

/// The status for what a device reports (Ralf Brown's list, table 00234).
fn status(error: DiskError) -> u8 {
    match error {
        DiskError::BadRequest => BAD_COMMAND,
        DiskError::WriteProtected => 0x03,
        DiskError::SectorNotFound => 0x04,
        DiskError::MediumChanged => 0x06,
        DiskError::Media => 0x10,
        DiskError::Controller => 0x20,
        DiskError::NoMedium => 0x31,
        DiskError::Timeout => TIMEOUT,
        DiskError::NotReady => NOT_READY,
    }
}

/// What a function that worked leaves in AH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Zero.
    Done,
    /// A value of its own.
    Ah(u8),
    /// The status of the last operation, with CF to match.
    LastStatus,
    /// The caller does not go on: the frame starts a boot program.
    Gone,
}

/// What a function comes to: a reply, or the status of what went wrong.
pub type Answer = Result<Reply, u8>;
