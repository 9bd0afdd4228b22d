//! The local APIC in virtual wire mode: the PIC's interrupts reach the boot processor as if there were no APIC.
//!
//! Source: MultiProcessor Specification 1.4, section 3.6.2.2. The I/O APIC stays as reset leaves it, all inputs masked, but for its
//! ID where the tables have another one than 0.

use crate::arch::PhysMem;

/// Local APIC registers (Intel SDM volume 3, section 11.4.1).
const BASE: u64 = 0xfee0_0000;
const SPURIOUS: u64 = BASE + 0xf0;
const LINT0: u64 = BASE + 0x350;
const LINT1: u64 = BASE + 0x360;

/// The I/O APIC's registers (Intel datasheet 290566, 82093AA, section 3.2): which one, and its value.
const IOAPIC_SELECT: u64 = 0xfec0_0000;
const IOAPIC_WINDOW: u64 = IOAPIC_SELECT + 0x10;
/// The register of the ID, which is in bits 27:24.
const IOAPIC_ID: u32 = 0;

const ENABLE_VECTOR_FF: u32 = 0x1ff;
const EXT_INT_LEVEL: u32 = 0x8700;
const NMI_LEVEL: u32 = 0x8400;

/// Switches the boot processor's local APIC on. Only for a processor that has one (CPUID 1, EDX bit 9).
pub fn virtual_wire(hw: &impl PhysMem) {
    hw.write32(SPURIOUS, ENABLE_VECTOR_FF);
    hw.write32(LINT0, EXT_INT_LEVEL);
    hw.write32(LINT1, NMI_LEVEL);
}

/// Gives the I/O APIC its ID, below 16. Only where there is one.
pub fn identify_ioapic(hw: &impl PhysMem, id: u8) {
    hw.write32(IOAPIC_SELECT, IOAPIC_ID);
    hw.write32(IOAPIC_WINDOW, u32::from(id) << 24);
}
