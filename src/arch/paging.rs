//! What a caller's own page tables say of an address.
//!
//! Source: AMD64 manual volume 2, 5.2 and 5.3.

use super::abi::page::{LARGE, PRESENT};
use super::hw::PhysMem;

/// CR0.PG.
const PAGING: u64 = 1 << 31;
/// CR4.PSE and CR4.PAE.
const LARGE_PAGES: u64 = 1 << 4;
const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
/// EFER.LMA.
const LONG_MODE: u64 = 1 << 10;
/// The address in an entry of eight bytes.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A processor's paging registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

impl Paging {
    /// Whether every address is where it says.
    pub fn is_off(&self) -> bool {
        self.cr0 & PAGING == 0
    }

    /// The physical address of the page at `linear`, below 4 GiB; `None` where no memory is there.
    pub fn page(&self, memory: &impl PhysMem, linear: u32) -> Option<u64> {
        let linear = u64::from(linear);
        if self.is_off() {
            return Some(linear & !0xfff);
        }
        if self.cr4 & PHYSICAL_ADDRESS_EXTENSION == 0 {
            return self.two_levels(memory, linear);
        }
        // The upper tables' entries of the first 4 GiB: without long mode there are four, in 32 bytes that CR3 points at.
        let top = if self.efer & LONG_MODE != 0 {
            next(memory, self.cr3 & ADDRESS)? & ADDRESS
        } else {
            self.cr3 & 0xffff_ffe0
        };
        let entry = next(memory, top + 8 * (linear >> 30))?;
        if self.efer & LONG_MODE != 0 && entry & LARGE != 0 {
            return Some((entry & ADDRESS & !0x3fff_ffff) | (linear & 0x3fff_f000));
        }
        let entry = next(memory, (entry & ADDRESS) + 8 * (linear >> 21 & 0x1ff))?;
        if entry & LARGE != 0 {
            return Some((entry & ADDRESS & !0x1f_ffff) | (linear & 0x1f_f000));
        }
        let entry = next(memory, (entry & ADDRESS) + 8 * (linear >> 12 & 0x1ff))?;
        Some(entry & ADDRESS)
    }

    fn two_levels(&self, memory: &impl PhysMem, linear: u64) -> Option<u64> {
        let next = |at| {
            let entry = u64::from(memory.read32(at));
            (entry & PRESENT != 0).then_some(entry)
        };
        let entry = next((self.cr3 & 0xffff_f000) + 4 * (linear >> 22))?;
        if self.cr4 & LARGE_PAGES != 0 && entry & LARGE != 0 {
            // Bits 39:32 of the address stand in 20:13 (PSE-36).
            let high = (entry >> 13 & 0xff) << 32;
            return Some(high | (entry & 0xffc0_0000) | (linear & 0x3f_f000));
        }
        let entry = next((entry & 0xffff_f000) + 4 * (linear >> 12 & 0x3ff))?;
        Some(entry & 0xffff_f000)
    }
}

fn next(memory: &impl PhysMem, at: u64) -> Option<u64> {
    let entry = memory.read64(at);
    (entry & PRESENT != 0).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    const TWO_LEVELS: Paging = Paging {
        cr0: PAGING,
        cr3: 0x1018,
        cr4: LARGE_PAGES,
        efer: 0,
    };

    #[test]
    fn without_paging_memory_is_where_it_says() {
        let page = Paging::default().page(&Fake::default(), 0xd_4321);
        assert_eq!(page, Some(0xd_4000));
    }

    #[test]
    fn tables_of_two_levels() {
        let memory = Fake::default();
        memory.write32(0x1000, 0x2000 | 7);
        memory.write32(0x2000 + 4 * 0xd4, 0x0012_3000 | 7);
        assert_eq!(TWO_LEVELS.page(&memory, 0xd_4321), Some(0x12_3000));
        assert_eq!(TWO_LEVELS.page(&memory, 0xd_5000), None);
        assert_eq!(TWO_LEVELS.page(&memory, 0x40_0000), None);
        memory.write32(0x1004, 0x00c0_2000 | 0x87);
        assert_eq!(TWO_LEVELS.page(&memory, 0x41_2345), Some(0x1_00c1_2000));
    }

    #[test]
    fn tables_of_three_and_of_four_levels() {
        let memory = Fake::default();
        memory.write64(0x3000, 0x1020 | 1);
        memory.write64(0x1020, 0x2000 | 1);
        memory.write64(0x2000, 0x4000 | 3);
        memory.write64(0x2008, 0x8000_0000_0060_0083);
        memory.write64(0x4000 + 8 * 0xb8, 0x1_0000_0000 | 3);
        let three = Paging {
            cr3: 0x1020,
            cr4: PHYSICAL_ADDRESS_EXTENSION,
            ..TWO_LEVELS
        };
        assert_eq!(three.page(&memory, 0xb_8fff), Some(0x1_0000_0000));
        assert_eq!(three.page(&memory, 0x20_1000), Some(0x60_1000));
        assert_eq!(three.page(&memory, 0x4000_0000), None);
        let four = Paging {
            cr3: 0x3000,
            cr4: PHYSICAL_ADDRESS_EXTENSION,
            efer: LONG_MODE,
            ..TWO_LEVELS
        };
        memory.write64(0x1000, 0x2000 | 1);
        memory.write64(0x3000, 0x1000 | 1);
        assert_eq!(four.page(&memory, 0xb_8fff), Some(0x1_0000_0000));
        memory.write64(0x1000, 0x8000_0083);
        assert_eq!(four.page(&memory, 0xb_8fff), Some(0x800b_8000));
    }
}
