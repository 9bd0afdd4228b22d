//! A drive as any program sees it, by INT 13h: its size and its sectors.

use super::label::Sector;
use crate::arch::{Hardware, RealRegs, frame};
use crate::low_memory::BOOT_SECTOR;

/// Where sectors are read to, and the structures of the calls after them: all of it where boot programs are loaded, of which none
/// runs now.
const BUFFER: u16 = BOOT_SECTOR as u16;
const PACKET: u16 = BUFFER + LARGEST as u16;
/// The largest sector of any medium.
const LARGEST: u64 = 4096;

/// The drive's medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    drive: u8,
    sectors: u64,
    sector_size: u64,
}

impl Medium {
    /// What is in `drive`.
    pub fn of(hw: &impl Hardware, drive: u8) -> Option<Self> {
        const PARAMETERS: u32 = 0x4800;
        const SIZE: u16 = 0x1e;
        let at = u64::from(PACKET);
        hw.fill(at, SIZE.into(), 0);
        hw.write16(at, SIZE);
        if !call(hw, PARAMETERS, drive) {
            return None;
        }
        let medium = Self {
            drive,
            sectors: hw.read64(at + 16),
            sector_size: hw.read16(at + 24).into(),
        };
        let known = [512, 2048, LARGEST].contains(&medium.sector_size);
        (known && medium.sectors > 0).then_some(medium)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.sectors.saturating_mul(self.sector_size)
    }

    /// The 512 bytes at `index`, counted in 512 bytes.
    pub fn read(&self, hw: &impl Hardware, index: u64) -> Option<Sector> {
        const READ: u32 = 0x4200;
        let parts = self.sector_size / 512;
        let (lba, part) = (index / parts, index % parts);
        if lba >= self.sectors {
            return None;
        }
        let at = u64::from(PACKET);
        // Size of the packet, one sector, 0000:7C00.
        hw.write64(at, 0x10 | 1 << 16 | u64::from(BUFFER) << 32);
        hw.write64(at + 8, lba);
        let read = call(hw, READ, self.drive);
        read.then(|| hw.read_as(u64::from(BUFFER) + 512 * part))
    }
}

/// INT 13h with DS:SI at the packet; false where it fails.
fn call(hw: &impl Hardware, function: u32, drive: u8) -> bool {
    let mut regs = RealRegs {
        eax: function,
        edx: drive.into(),
        esi: PACKET.into(),
        ..RealRegs::default()
    };
    hw.call_int(0x13, &mut regs);
    regs.flags & frame::CARRY == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::PhysMem;
    use crate::arch::fake::Fake;

    #[test]
    fn parts_of_large_sectors() {
        let hw = Fake::default();
        hw.on_int(|hw, _, regs| match regs.eax >> 8 {
            0x48 => {
                hw.write64(0x8c10, 10);
                hw.write16(0x8c18, 2048);
            }
            _ => {
                let lba = hw.read64(0x8c08) as u8;
                for part in 0..4 {
                    hw.fill(0x7c00 + 512 * part, 512, lba * 16 + part as u8);
                }
            }
        });
        let medium = Medium::of(&hw, 0xe0).expect("a medium");
        assert_eq!(medium.size(), 20480);
        assert_eq!(medium.read(&hw, 7), Some([0x13; 512]));
        assert_eq!(medium.read(&hw, 40), None);
    }

    #[test]
    fn a_drive_that_answers_nothing_has_no_medium() {
        let hw = Fake::default();
        assert_eq!(Medium::of(&hw, 0x80), None);
        hw.on_int(|_, _, regs| regs.flags |= frame::CARRY);
        assert_eq!(Medium::of(&hw, 0x80), None);
    }
}
