//! The map from drive numbers to drives.

use super::cd::Cd;
use super::disk::{self, HardDisk};
use super::emulation::Emulation;
use super::floppy::{self, Floppy};
use crate::arch::{DmaMemory, PhysMem, Ports};
use crate::storage::{Chs, Disk, Kind};
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Mutex;

/// Drive number of the first hard disk; diskettes are those before.
pub const FIRST_DISK: u8 = 0x80;
/// Most hard disks, ours and option ROMs'.
pub const MOST_DISKS: u8 = FIRST_CD - FIRST_DISK;
/// Drive number of the first CD drive, as in SeaBIOS.
pub const FIRST_CD: u8 = 0xe0;

/// All drives. Those of a kind are numbered without gaps, but for the hard disks that option ROMs serve.
#[derive(Default)]
pub struct Drives {
    /// What a CD emulates now, or was booted as.
    pub emulation: Option<Emulation>,
    /// Numbers of the hard disks that option ROMs serve, in ascending order. Ours pass over them.
    others: Vec<u8>,
    /// Memory for a sector of a CD, which what it emulates reads parts of.
    sector: Option<u64>,
    floppies: Vec<Floppy>,
    disks: Vec<HardDisk>,
    cds: Vec<Cd>,
    /// The number of the drive that was put before the others of its kind.
    preferred: Option<u8>,
}

/// A drive as the map has it.
pub enum Drive<'a> {
    /// 00h to 7Fh.
    /// With the number of such drives.
    Floppy(&'a mut Floppy, usize),
    /// 80h to DFh.
    Disk(&'a mut HardDisk),
    /// E0h to FFh.
    Cd(&'a mut Cd),
}

impl Drives {
    /// The drive with this number, if there is one.
    pub fn get(&mut self, number: u8) -> Option<Drive<'_>> {
        match number {
            FIRST_CD.. => {
                let cd = self.cds.get_mut(usize::from(number - FIRST_CD))?;
                Some(Drive::Cd(cd))
            }
            FIRST_DISK.. => {
                let index = self.disk_index(number)?;
                Some(Drive::Disk(self.disks.get_mut(index)?))
            }
            _ => {
                let count = self.floppies.len();
                let floppy = self.floppies.get_mut(usize::from(number))?;
                Some(Drive::Floppy(floppy, count))
            }
        }
    }

    /// Adds a drive behind those of its kind, and returns its number; `None` where the numbers have run out. Of a hard disk,
    /// `geometry` is what the user says that callers see.
    pub fn add(&mut self, hw: &impl Ports, disk: Disk, geometry: Option<Chs>) -> Option<u8> {
        let number = self.next(disk.info().kind)?;
        match disk.info().kind {
            Kind::Floppy => self.floppies.push(Floppy::new(disk, Some(number))),
            Kind::HardDisk => self.disks.push(HardDisk::new(hw, disk, geometry)),
            Kind::CdRom => self.cds.push(Cd::new(disk)),
        }
        Some(number)
    }

    /// The number of the next drive of a kind.
    fn next(&self, kind: Kind) -> Option<u8> {
        let (first, end, count) = match kind {
            Kind::Floppy => (0, u16::from(FIRST_DISK), self.floppies.len()),
            Kind::HardDisk => return self.disk_number(self.disks.len()),
            Kind::CdRom => (FIRST_CD.into(), 0x100, self.cds.len()),
        };
        let number = u16::try_from(count).ok()?.checked_add(first)?;
        u8::try_from(number).ok().filter(|_| number < end)
    }

    /// The number of our hard disk `index`; `None` where the numbers have run out.
    pub fn disk_number(&self, index: usize) -> Option<u8> {
        let mut number = index.checked_add(FIRST_DISK.into())?;
        for &other in &self.others {
            if usize::from(other) <= number {
                number += 1;
            }
        }
        let number = u8::try_from(number).ok()?;
        (number < FIRST_CD).then_some(number)
    }

    /// Which of our hard disks would have this number; `None` where an option ROM's has it, or where it is none of a hard disk.
    fn disk_index(&self, number: u8) -> Option<usize> {
        if number >= FIRST_CD || self.others.contains(&number) {
            return None;
        }
        let below = self.others.iter().filter(|other| **other < number).count();
        usize::from(number.checked_sub(FIRST_DISK)?).checked_sub(below)
    }

    /// Leaves a number to an option ROM's hard disk: those of ours that have it or a higher one go up by one.
    pub fn leave_number(&mut self, number: u8) {
        let at = self.others.partition_point(|other| *other < number);
        if self.others.get(at) != Some(&number) {
            self.others.insert(at, number);
        }
    }

    /// Takes our hard disks from `index` on out until [`Drives::bring_back`]. The data area says then what comes before them.
    pub fn hold_back(&mut self, hw: &impl PhysMem, index: usize) -> Vec<HardDisk> {
        let held = self.disks.split_off(index.min(self.disks.len()));
        self.announce(hw);
        held
    }

    /// Puts hard disks back behind the others of ours.
    pub fn bring_back(&mut self, hw: &impl PhysMem, mut held: Vec<HardDisk>) {
        self.disks.append(&mut held);
        self.announce(hw);
    }

    /// Puts a drive before those of its kind, whose numbers go up by one: what a CD emulates is drive 00h or 80h, or the first hard
    /// disk that is no option ROM's. It is drive `None` where there is no number for the last one then.
    pub fn put_first(&mut self, hw: &impl Ports, disk: Disk) -> Option<u8> {
        let kind = disk.info().kind;
        self.next(kind)?;
        match kind {
            Kind::Floppy => self.floppies.insert(0, Floppy::new(disk, None)),
            Kind::HardDisk => self.disks.insert(0, HardDisk::new(hw, disk, None)),
            Kind::CdRom => self.cds.insert(0, Cd::new(disk)),
        }
        match kind {
            Kind::Floppy => Some(0),
            Kind::HardDisk => self.disk_number(0),
            Kind::CdRom => Some(FIRST_CD),
        }
    }

    /// Memory for a sector of a CD, of which what it emulates reads parts; `None` where none is left. Only one CD emulates.
    pub fn cd_sector(&mut self, hw: &impl DmaMemory) -> Option<u64> {
        const LEN: usize = crate::storage::eltorito::SECTOR;
        self.sector = self.sector.or_else(|| hw.dma_buffer(LEN, LEN));
        self.sector
    }

    /// Our own hard disks, first to last.
    pub fn disks(&self) -> &[HardDisk] {
        &self.disks
    }

    /// Whether this is a diskette drive in which no medium has been seen.
    pub fn is_empty_floppy(&self, number: u8) -> bool {
        let floppy = self.floppies.get(usize::from(number));
        floppy.is_some_and(Floppy::is_empty)
    }

    /// The CD drive with this number, as what it emulates shares it.
    pub fn cd(&self, number: u8) -> Option<Arc<Mutex<Disk>>> {
        let cd = self.cds.get(usize::from(number.checked_sub(FIRST_CD)?))?;
        Some(cd.disk().clone())
    }

    /// Ends what a CD emulates: drives have their own numbers again.
    pub fn end_emulation(&mut self) {
        if let Some(kind) = self.emulation.take().and_then(|emulation| emulation.kind()) {
            self.take_first(kind);
        }
    }

    /// Takes the first drive of a kind out; the numbers of the others go down by one.
    pub fn take_first(&mut self, kind: Kind) {
        match kind {
            Kind::Floppy if !self.floppies.is_empty() => drop(self.floppies.remove(0)),
            Kind::HardDisk if !self.disks.is_empty() => drop(self.disks.remove(0)),
            Kind::CdRom if !self.cds.is_empty() => drop(self.cds.remove(0)),
            _ => {}
        }
    }

    /// Puts a drive of ours before the others of its kind, whose numbers go up by one, until [`Drives::as_found`]. Returns its
    /// number then. What is not ours keeps its number, and so does everything while another drive is preferred.
    pub fn prefer(&mut self, hw: &impl PhysMem, number: u8) -> u8 {
        let first = match number {
            FIRST_CD.. => FIRST_CD,
            FIRST_DISK.. => self.disk_number(0).unwrap_or(FIRST_DISK),
            _ => 0,
        };
        let ours = self.get(number).is_some();
        if number == first || !ours || self.preferred.is_some() {
            return number;
        }
        self.preferred = Some(number);
        let index = self.index(number);
        match number {
            FIRST_CD.. => self.cds[..=index].rotate_right(1),
            FIRST_DISK.. => self.disks[..=index].rotate_right(1),
            _ => self.floppies[..=index].rotate_right(1),
        }
        self.renumbered(hw);
        first
    }

    /// Gives all drives the numbers that they were found with, before something is booted: nothing is emulated or preferred any
    /// more.
    pub fn as_found(&mut self, hw: &impl PhysMem) {
        let emulated = self.emulation.is_some();
        self.end_emulation();
        let preferred = self.preferred.take();
        if let Some(number) = preferred {
            let index = self.index(number);
            match number {
                FIRST_CD.. => rotate_back(&mut self.cds, index),
                FIRST_DISK.. => rotate_back(&mut self.disks, index),
                _ => rotate_back(&mut self.floppies, index),
            }
        }
        if emulated || preferred.is_some() {
            self.renumbered(hw);
        }
    }

    /// Which of ours, among those of its kind, the drive with this number is.
    fn index(&self, number: u8) -> usize {
        match number {
            FIRST_CD.. => usize::from(number - FIRST_CD),
            FIRST_DISK.. => self.disk_index(number).unwrap_or(0),
            _ => number.into(),
        }
    }

    /// Tells the data areas after numbers have changed.
    fn renumbered(&mut self, hw: &impl PhysMem) {
        floppy::renumber(hw, &mut self.floppies);
        self.announce(hw);
    }

    /// Enters the number of diskette drives and the hard disks into the BIOS data area, and those of ours that are drives 80h and
    /// 81h into the tables at INT 41h and 46h.
    pub fn announce(&self, hw: &impl PhysMem) {
        floppy::announce(hw, self.floppies.len());
        let count = self.next(Kind::HardDisk).unwrap_or(FIRST_CD) - FIRST_DISK;
        let number = |number| self.disks.get(self.disk_index(number)?);
        disk::announce(hw, count, [FIRST_DISK, FIRST_DISK + 1].map(number));
    }

    /// Leaves the hard disks to the guest's own drivers, until they are next used here.
    pub fn quiesce(&mut self) {
        for disk in &mut self.disks {
            disk.quiesce();
        }
    }

    /// Adds a hard disk as tests want it.
    #[cfg(test)]
    pub fn push(&mut self, disk: HardDisk) {
        self.disks.push(disk);
    }
}

/// Puts the first of `drives` back to where it was.
fn rotate_back<T>(drives: &mut [T], index: usize) {
    if let Some(before) = drives.get_mut(..=index) {
        before.rotate_left(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_is_ours_or_an_option_roms(
            others in proptest::collection::vec(FIRST_DISK..FIRST_CD, 0..20),
            any: u8,
        ) {
            let mut drives = Drives::default();
            for &other in &others {
                drives.leave_number(other);
            }
            let ours: Vec<u8> = (0..).map_while(|index| drives.disk_number(index)).collect();
            let expected = (FIRST_DISK..FIRST_CD).filter(|number| !others.contains(number));
            prop_assert_eq!(&ours, &expected.collect::<Vec<_>>());
            let index = drives.disk_index(any);
            prop_assert_eq!(index, ours.iter().position(|number| *number == any));
        }
    }
}
