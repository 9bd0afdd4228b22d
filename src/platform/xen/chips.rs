//! What Xen's virtual chipset needs beyond PCI: memory sizes in CMOS, the I/O APIC's ID, and ACPI switched on for the guest.

use super::guest::Guest;
use super::tables::IOAPIC_ID;
use crate::arch::{PhysMem, Ports};
use crate::devices::chipset::XEN_PM_BASE;
use crate::devices::{apic, rtc};
use crate::units::{FOUR_GIB, MIB};

/// PM1a event registers by HVM_PARAM_ACPI_IOPORTS_LOCATION 0 and 1 (public header hvm/ioreq.h).
const PM1A_EVENT: [u16; 2] = [0x1f40, XEN_PM_BASE];
const PM1A_CONTROL_OFFSET: u16 = 4;
const PM_TIMER_OFFSET: u16 = 8;
/// ACPI specification 6.5, table 4.14: power management events raise the SCI.
const SCI_EN: u16 = 1;
/// Edge or level for IRQ 8 to 15.
const PORT_ELCR2: u16 = 0x4d1;
/// The SCI is IRQ 9.
const ELCR2_SCI: u8 = 1 << 1;

/// Sets the chips up. Comes after PCI, which sets the trigger modes of its own interrupts. `told` is where the toolstack let RAM end, as
/// the device model has it in CMOS.
pub fn set_up(hw: &(impl Ports + PhysMem), guest: &Guest, told: u64) {
    if guest.info.low_ram_end != told {
        for (index, value) in cmos_memory(guest.info.low_ram_end, guest.info.high_ram_end) {
            hw.out8(rtc::INDEX, rtc::NMI_OFF | index);
            hw.out8(rtc::DATA, value);
        }
    }
    if guest.info.apic {
        apic::identify_ioapic(hw, IOAPIC_ID);
    }
    if guest.config.acpi {
        hw.out8(PORT_ELCR2, hw.in8(PORT_ELCR2) | ELCR2_SCI);
        // There is no SMI handler that could do it when the guest asks: the tables say that it is on already.
        hw.out16(pm_base(guest) + PM1A_CONTROL_OFFSET, SCI_EN);
    }
}

/// First port of the ACPI registers that Xen serves.
pub fn pm_base(guest: &Guest) -> u16 {
    PM1A_EVENT[usize::from(!guest.config.traditional_device_model)]
}

/// Port of the ACPI power management timer.
pub fn pm_timer(guest: &Guest) -> u16 {
    pm_base(guest) + PM_TIMER_OFFSET
}

/// The CMOS bytes for memory sizes, as PCs have them: 15h conventional, 17h and 30h KiB above 1 MiB, 34h 64 KiB above 16 MiB,
/// 5Bh 64 KiB above 4 GiB.
fn cmos_memory(low_ram_end: u64, high_ram_end: u64) -> [(u8, u8); 11] {
    let conventional = 640u16.to_le_bytes();
    let capped = |value: u64| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
    let extended = capped(low_ram_end.saturating_sub(MIB) >> 10);
    let above_16m = capped(low_ram_end.saturating_sub(16 * MIB) >> 16);
    let high = (high_ram_end.saturating_sub(FOUR_GIB) >> 16).to_le_bytes();
    [
        (0x15, conventional[0]),
        (0x16, conventional[1]),
        (0x17, extended[0]),
        (0x18, extended[1]),
        (rtc::ABOVE_1_MIB, extended[0]),
        (rtc::ABOVE_1_MIB + 1, extended[1]),
        (rtc::ABOVE_16_MIB, above_16m[0]),
        (rtc::ABOVE_16_MIB + 1, above_16m[1]),
        (rtc::ABOVE_4_GIB, high[0]),
        (rtc::ABOVE_4_GIB + 1, high[1]),
        (rtc::ABOVE_4_GIB + 2, high[2]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmos_holds_what_fits() {
        let bytes = cmos_memory(0xf000_0000, 0x1_4000_0000);
        let word = |low: u8| {
            let byte = |index| bytes.iter().find(|(at, _)| *at == index).unwrap().1;
            u16::from_le_bytes([byte(low), byte(low + 1)])
        };
        assert_eq!(word(0x15), 640);
        assert_eq!(word(0x30), 0xffff);
        assert_eq!(word(0x34), 0xef00);
        assert_eq!(word(0x5b), 0x4000);
        let bytes = cmos_memory(8 << 20, FOUR_GIB);
        assert_eq!(bytes[4..8], [(0x30, 0), (0x31, 0x1c), (0x34, 0), (0x35, 0)]);
    }
}
