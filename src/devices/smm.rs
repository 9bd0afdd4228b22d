//! The chip set's part in system management mode: memory that only this mode sees, and the port that enters it.
//!
//! That memory is not locked: the mode guards nothing here, and has to be set up again when the machine wakes up.
//! Sources: Intel datasheets 290549 (82441FX, SMRAM), 290562 (82371AB, DEVACTB), 316966 (Q35, SMRAM), 316972 (ICH9, SMI_EN).

use super::chipset::{Chipset, HOST, INTEL, PIIX4_PM, PM_BASE};
use super::pci::{ConfigAccess, PciDevice};
use crate::arch::{PhysMem, Ports};

/// SMRAM control, on both host bridges: A0000h to BFFFFh is open to system management mode alone.
const COMPATIBLE_SEGMENT: u8 = 0x02;
const ENABLE: u8 = 1 << 3;
const I440FX_SMRAM: u16 = 0x72;
const Q35_SMRAM: u16 = 0x9d;
/// The byte of DEVACTB that has APMC_EN, bit 25.
const PIIX4_APM: u16 = 0x5b;
const PIIX4_APM_ENABLE: u8 = 1 << 1;
const ICH9_SMI_ENABLE: u16 = PM_BASE + 0x30;
const GLOBAL: u32 = 1 << 0;
const ICH9_APM_ENABLE: u32 = 1 << 5;

/// Lets writes to port B2h enter system management mode. Returns whether they will: QEMU shows the bit for it as set already where
/// the machine has no such mode.
pub fn enable(
    hw: &(impl Ports + PhysMem),
    chipset: Chipset,
    config: ConfigAccess,
    pci: &[PciDevice],
) -> bool {
    let smram = match chipset {
        Chipset::None => return false,
        Chipset::I440fx => {
            let Some(power) = pci.iter().find(|device| device.is(INTEL, PIIX4_PM)) else {
                return false;
            };
            let register = config.select(hw, power.bdf, PIIX4_APM);
            let before = register.read8(hw);
            if before & PIIX4_APM_ENABLE != 0 {
                return false;
            }
            register.write8(hw, before | PIIX4_APM_ENABLE);
            I440FX_SMRAM
        }
        Chipset::Q35 => {
            let before = hw.in32(ICH9_SMI_ENABLE);
            if before & ICH9_APM_ENABLE != 0 {
                return false;
            }
            hw.out32(ICH9_SMI_ENABLE, before | ICH9_APM_ENABLE | GLOBAL);
            Q35_SMRAM
        }
    };
    config.write8(hw, HOST, smram, COMPATIBLE_SEGMENT | ENABLE);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn a_machine_without_it_is_left_alone() {
        let hw = Fake::default();
        let ports = ConfigAccess::Ports;
        assert!(!enable(&hw, Chipset::None, ports, &[]));
        assert!(!enable(&hw, Chipset::I440fx, ports, &[]));
        hw.script_port(ICH9_SMI_ENABLE, &[ICH9_APM_ENABLE]);
        assert!(!enable(&hw, Chipset::Q35, ports, &[]));
        assert!(hw.port_writes.borrow().is_empty());
    }

    #[test]
    fn ich9_raises_it_and_q35_hides_its_memory() {
        let hw = Fake::default();
        hw.script_port(ICH9_SMI_ENABLE, &[0]);
        let config = ConfigAccess::Mmconfig(0xb000_0000);
        assert!(enable(&hw, Chipset::Q35, config, &[]));
        assert_eq!(*hw.port_writes.borrow(), [(ICH9_SMI_ENABLE, 0x21)]);
        assert_eq!(hw.read8(0xb000_009d), 0x0a);
    }
}
