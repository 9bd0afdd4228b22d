//! Waking up from the sleep state S3: the machine was reset, its memory was not.
//!
//! Source: ACPI specification 6.5, sections 5.2.5 to 5.2.10 (tables), 4.8.3.2.1 (PM1 control), 16.3.1 (what firmware does). The
//! tables and everything of ours are in memory that the map keeps from the guest, so they are as they were.

use alloc::vec::Vec;

use super::Machine;
use super::{Installed, Platform, qemu};
use crate::arch::{Clock, PhysMem, Ports};
use crate::devices::pci::setup;
use crate::devices::pic;
use firstlight_tables::loader::Told;

/// What is kept of the tables for waking up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Physical address of the ACPI root pointer.
    pub rsdp: Option<u64>,
    /// Addresses that QEMU was told and forgets by a reset.
    pub told: Vec<Told>,
}

impl From<Installed> for Kept {
    fn from(installed: Installed) -> Self {
        Self {
            rsdp: installed.rsdp,
            told: installed.told,
        }
    }
}

const RSDT: u32 = u32::from_le_bytes(*b"RSDT");
const FADT: u32 = u32::from_le_bytes(*b"FACP");
const FACS: u32 = u32::from_le_bytes(*b"FACS");
/// Offsets in these tables and in the root pointer.
const RSDP_RSDT: u64 = 16;
const LENGTH: u64 = 4;
const HEADER: u32 = 36;
const FADT_FACS: u64 = 36;
const FADT_PM1A_CONTROL: u64 = 64;
const FACS_VECTOR: u64 = 12;
/// More tables than any machine has.
const MOST_TABLES: u32 = 256;
/// PM1 control: power management interrupts are SCIs.
const SCI_EN: u16 = 1 << 0;

/// Brings the chip set, the PCI functions and the interrupt controllers back to what they were when the guest started, and QEMU's
/// knowledge of addresses. Gives where the guest wants to go on in real mode, an address below 1 MiB; `None`, and nothing was
/// done, where it did not say.
pub fn restore(hw: &(impl Ports + PhysMem + Clock), machine: &mut Machine) -> Option<u32> {
    let fadt = fadt(hw, machine.wake.rsdp?)?;
    let facs = u64::from(hw.read32(fadt + FADT_FACS));
    let vector = hw.read32(facs + FACS_VECTOR);
    if hw.read32(facs) != FACS || !(1..1 << 20).contains(&vector) {
        return None;
    }
    machine.chipset.config_access(hw, machine.low_ram_end);
    setup::restore(hw, &machine.pci_access(), &machine.pci);
    pic::init(hw, 0);
    let control = hw.read32(fadt + FADT_PM1A_CONTROL) as u16;
    if control != 0 {
        hw.out16(control, hw.in16(control) | SCI_EN);
    }
    match machine.platform {
        Platform::Qemu => qemu::restore(hw, machine),
        Platform::Xen(_) => {}
    }
    Some(vector)
}

fn fadt(hw: &impl PhysMem, rsdp: u64) -> Option<u64> {
    let rsdt = u64::from(hw.read32(rsdp + RSDP_RSDT));
    if hw.read32(rsdt) != RSDT {
        return None;
    }
    let count = hw.read32(rsdt + LENGTH).checked_sub(HEADER)? / 4;
    (0..count.min(MOST_TABLES))
        .map(|index| u64::from(hw.read32(rsdt + u64::from(HEADER + 4 * index))))
        .find(|table| hw.read32(*table) == FADT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    /// A machine with a root pointer at F0000h, and one table before the FADT.
    fn sleeping(vector: u32) -> (Fake, Machine) {
        let hw = Fake::default();
        hw.write32(0xf0000 + RSDP_RSDT, 0x1000);
        for (address, value) in [
            (0x1000, RSDT),
            (0x1000 + LENGTH, HEADER + 8),
            (0x1000 + 36, 0x2000),
            (0x1000 + 40, 0x3000),
            (0x3000, FADT),
            (0x3000 + FADT_FACS, 0x4000),
            (0x3000 + FADT_PM1A_CONTROL, 0x604),
            (0x4000, FACS),
            (0x4000 + FACS_VECTOR, vector),
        ] {
            hw.write32(address, value);
        }
        let mut machine = Machine::default();
        machine.wake.rsdp = Some(0xf0000);
        (hw, machine)
    }

    #[test]
    fn the_guest_goes_on_where_it_said() {
        let (hw, mut machine) = sleeping(0x9a210);
        hw.script_port(0x604, &[0]);
        assert_eq!(restore(&hw, &mut machine), Some(0x9a210));
        let enabled = (0x604, SCI_EN.into());
        assert!(hw.port_writes.borrow().contains(&enabled));
    }

    #[test]
    fn a_guest_that_did_not_sleep_does_not_wake() {
        for vector in [0, 1 << 20, u32::MAX] {
            let (hw, mut machine) = sleeping(vector);
            assert_eq!(restore(&hw, &mut machine), None);
            assert!(hw.port_writes.borrow().is_empty());
        }
        let (hw, mut machine) = sleeping(0x9a210);
        hw.write32(0x1000 + LENGTH, 35);
        assert_eq!(restore(&hw, &mut machine), None);
        hw.write32(0x1000 + LENGTH, u32::MAX);
        hw.write32(0x3000, 0);
        assert_eq!(restore(&hw, &mut machine), None);
        machine.wake.rsdp = None;
        assert_eq!(restore(&hw, &mut machine), None);
    }
}
