//! Booting from a CD: the entry of its El Torito catalogue, as a program or by way of the drive that it emulates.

use super::bootstrap::Start;
use super::candidate::Reason;
use super::medium::Medium;
use crate::arch::{Handle, PhysMem};
use crate::bios::Bios;
use crate::bios::int13::Emulation;
use crate::storage::eltorito::{self, Emulated, Problem, SECTOR};
use crate::storage::{Bounce, Chs, Disk};
use alloc::boxed::Box;
use spin::Mutex;

/// First address that boot programs are not loaded to: the extended BIOS data area.
const LOAD_END: u64 = 0x9_fc00;

/// Loads what is to be booted from CD drive `cd`, and starts the emulation that goes with it.
///
/// # Errors
/// Why nothing can be booted.
pub fn load<H: Handle>(bios: &Mutex<Bios>, hw: &H, cd: u8) -> Result<Start, Reason> {
    let medium = Medium::of(hw, cd).ok_or(Reason::NoMedium)?;
    let sector = |lba: u64| -> Result<[u8; SECTOR], Reason> {
        let mut bytes = [0; SECTOR];
        for (part, index) in bytes.chunks_exact_mut(512).zip(4 * lba..) {
            part.copy_from_slice(&medium.read(hw, index).ok_or(Reason::Unreadable(0x04))?);
        }
        Ok(bytes)
    };
    let catalogue = eltorito::catalogue(&sector(eltorito::BOOT_RECORD)?)?;
    let entry = eltorito::entry(&sector(catalogue.into())?)?;
    let first = sector(entry.lba.into())?;
    let geometry = entry.geometry(&first)?;
    let to = u64::from(entry.segment) << 4;
    let len = u64::from(entry.cd_sectors()) * SECTOR as u64;
    if to < 0x500 || to + len > LOAD_END {
        return Err(Problem::Outside.into());
    }
    let drives = bios.lock().drives.clone();
    let mut drives = drives.lock();
    let disk = drives.cd(cd).ok_or(Reason::NoMedium)?;
    disk.lock()
        .read(hw, entry.lba.into(), entry.cd_sectors(), to)
        .map_err(|_| Reason::Unreadable(0x04))?;
    drives.end_emulation();
    let drive = match geometry {
        None => cd,
        Some(geometry) => {
            let device = emulate(hw, disk, entry.lba, geometry)?;
            drives
                .put_first(hw, device)
                .ok_or_else(|| Reason::Unusable("no drive number is left for it".into()))?
        }
    };
    drives.announce(hw);
    drives.emulation = Some(Emulation {
        media: entry.media,
        drive,
        cd,
        lba: entry.lba,
        segment: entry.segment,
        count: entry.count,
        geometry,
    });
    Ok(Start {
        segment: entry.segment,
        offset: 0,
        drive,
    })
}

fn emulate<H: Handle>(
    hw: &H,
    cd: alloc::sync::Arc<Mutex<Disk>>,
    lba: u32,
    geometry: Chs,
) -> Result<Disk, Reason> {
    let page = hw
        .dma_memory(SECTOR, SECTOR)
        .ok_or_else(|| Reason::Unusable("no memory is left for it".into()))?;
    let device = Emulated::new(hw.clone(), cd, lba, geometry, page).ok_or(Problem::Outside)?;
    Ok(Disk::new(Box::new(device), Bounce::NONE))
}

/// Ends what a CD emulates, before something else is booted.
pub fn end(bios: &Mutex<Bios>, hw: &impl PhysMem) {
    let drives = bios.lock().drives.clone();
    let mut drives = drives.lock();
    if drives.emulation.is_some() {
        drives.end_emulation();
        drives.announce(hw);
    }
}

impl From<Problem> for Reason {
    fn from(problem: Problem) -> Self {
        Self::Unusable(alloc::format!("{problem}"))
    }
}
