//! Booting from a CD: the entry of its El Torito catalogue, as a program or by way of the drive that it emulates.

use super::bootstrap::Start;
use super::candidate::Reason;
use crate::arch::Handle;
use crate::bios::Bios;
use crate::bios::int13::emulation::{self, Refused};
use crate::storage::eltorito::{self, Problem, SECTOR};
use spin::Mutex;

/// First address that boot programs are not loaded to: the extended BIOS data area.
const LOAD_END: u64 = 0x9_fc00;

/// Loads what is to be booted from CD drive `cd`, and starts the emulation that goes with it.
///
/// # Errors
/// Why nothing can be booted.
pub fn load<H: Handle>(bios: &Mutex<Bios>, hw: &H, cd: u8) -> Result<Start, Reason> {
    let drives = bios.lock().drives.clone();
    let drives = &mut *drives.lock();
    let disk = drives.cd(cd).ok_or(Reason::NoMedium)?;
    // It says first that it is new, and is read when it was looked at.
    let present = |_| disk.lock().info().sectors != 0;
    let record = emulation::read_cd(hw, drives, cd, eltorito::BOOT_RECORD)
        .or_else(|_| emulation::read_cd(hw, drives, cd, eltorito::BOOT_RECORD))
        .map_err(|status| match present(status) {
            true => Reason::Unreadable(status),
            false => Reason::NoMedium,
        })?;
    let mut sector =
        |lba: u32| emulation::read_cd(hw, drives, cd, lba.into()).map_err(Reason::Unreadable);
    let entry = eltorito::entry(&sector(eltorito::catalogue(&record)?)?)?;
    let emulated = entry.drive(&sector(entry.lba)?)?;
    let to = u64::from(entry.segment) << 4;
    let len = u64::from(entry.cd_sectors()) * SECTOR as u64;
    if to < 0x500 || to + len > LOAD_END {
        return Err(Problem::Outside.into());
    }
    disk.lock()
        .read(hw, entry.lba.into(), entry.cd_sectors(), to)
        .map_err(|_| Reason::Unreadable(0x04))?;
    let drive = emulation::begin(hw, drives, cd, &entry, emulated)?;
    Ok(Start {
        segment: entry.segment,
        offset: 0,
        drive,
    })
}

impl From<Problem> for Reason {
    fn from(problem: Problem) -> Self {
        Self::Unusable(alloc::format!("{problem}"))
    }
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        let why = match refused {
            Refused::NoDrive => return Self::NoMedium,
            Refused::Outside => return Problem::Outside.into(),
            Refused::NoMemory => "no memory is left for the drive that it emulates",
            Refused::NoNumber => "no drive number is left for the drive that it emulates",
        };
        Self::Unusable(why.into())
    }
}
