//! The grant table: which of our pages another domain may use, version 1 (public header grant_table.h).
//!
//! Its first page shows in the range below 4 GiB that no guest has RAM or devices in, until the guest's own driver moves it to where it
//! wants it. A domain that was saved and restored has a new table, which shows nowhere.

use crate::arch::PhysMem;
use crate::arch::hypercalls::{Errno, Hypercalls};
use crate::units::PAGE;

/// Where the page shows.
const TABLE: u64 = 0xfd00_0000;
/// Entries of the page, each of 8 bytes: flags, the domain that may use a page, and the page.
pub const ENTRIES: u32 = (PAGE / 8) as u32;

/// Flags: access is permitted; the page is mapped for reading or for writing.
const PERMIT_ACCESS: u16 = 1;
const READING: u16 = 1 << 3;
const WRITING: u16 = 1 << 4;

/// The table.
#[derive(Clone, Copy, Debug)]
pub struct Grants<H> {
    hw: H,
}

impl<H: PhysMem> Grants<H> {
    /// Has Xen show the table.
    ///
    /// # Errors
    /// Xen does not.
    pub fn open(hw: H, xen: &impl Hypercalls) -> Result<Self, Errno> {
        xen.map_grant_table(TABLE / PAGE)?;
        Ok(Self { hw })
    }

    /// Lets `domain` read and write the page at physical address `page` by the number `reference`.
    pub fn allow(&self, reference: u32, domain: u16, page: u64) {
        let entry = entry(reference);
        // The permission comes last.
        self.hw.write32(entry + 4, (page / PAGE) as u32);
        self.hw.write32(entry, permission(domain));
    }

    /// Whether `domain` still has the page at `page`: not so in a table that is another one by now, or shows elsewhere.
    pub fn allows(&self, reference: u32, domain: u16, page: u64) -> bool {
        let entry = entry(reference);
        let used = u32::from(READING | WRITING);
        self.hw.read32(entry) & !used == permission(domain)
            && u64::from(self.hw.read32(entry + 4)) == page / PAGE
    }

    /// Takes a permission back. Returns whether the other domain has let the page go; if not, it keeps it.
    pub fn take_back(&self, reference: u32) -> bool {
        let entry = entry(reference);
        if self.hw.read16(entry) & (READING | WRITING) != 0 {
            return false;
        }
        self.hw.write64(entry, 0);
        true
    }

    /// Whether the table shows where it was put: not so in a domain that was saved and restored since, nor where another driver moved it.
    pub fn are_shown(&self) -> bool {
        self.hw.read64(TABLE) != u64::MAX
    }

    /// Whether nobody has anything by the number `reference`.
    pub fn is_free(&self, reference: u32) -> bool {
        self.hw.read16(entry(reference)) == 0
    }
}

fn entry(reference: u32) -> u64 {
    TABLE + u64::from(reference % ENTRIES) * 8
}

fn permission(domain: u16) -> u32 {
    u32::from(PERMIT_ACCESS) | u32::from(domain) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::fake_xen::FakeXen;

    #[test]
    fn permissions_come_and_go() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        let grants = Grants::open(hw.clone(), &xen).unwrap();
        assert_eq!(xen.grant_table.get(), Some(TABLE / PAGE));
        assert!(grants.are_shown());
        grants.allow(9, 3, 0x12_3000);
        assert_eq!(hw.read64(TABLE + 72), 0x123_0003_0001);
        assert!(grants.allows(9, 3, 0x12_3000) && !grants.allows(9, 0, 0x12_3000));
        hw.write16(TABLE + 72, PERMIT_ACCESS | WRITING);
        assert!(grants.allows(9, 3, 0x12_3000) && !grants.take_back(9));
        hw.write16(TABLE + 72, PERMIT_ACCESS);
        assert!(grants.take_back(9) && grants.is_free(9) && !grants.allows(9, 3, 0x12_3000));
        hw.fill(TABLE, PAGE, 0xff);
        assert!(!grants.are_shown());
    }
}
