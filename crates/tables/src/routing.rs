//! How PCI interrupt pins reach the interrupt controllers of each machine.
//!
//! Sources: the PIIX3 and ICH9 data sheets (PIRQ routing registers), the `_PRT` packages of QEMU's own DSDT, and for Xen
//! the formulas that its `_PRT` packages follow.

/// The chipset, as far as interrupt routing differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    /// QEMU's pc: PIIX3, whose four PIRQs reach ISA interrupts only.
    Piix3,
    /// QEMU's q35: ICH9, whose eight PIRQs reach ISA interrupts and I/O APIC inputs 16 to 23.
    Ich9,
    /// Xen HVM: a PIIX3 for the PIC, and I/O APIC inputs 16 to 47 of the hypervisor's own.
    XenPiix3,
}

/// ISA interrupts that a PIRQ may be routed to, one bit each: 5, 10 and 11, as the machines' firmware has always used.
pub const PCI_IRQS: u16 = 1 << 5 | 1 << 10 | 1 << 11;

impl Chipset {
    /// The PIRQ (0 is A) that pin `pin` (0 is INTA#) of `device` on bus 0 drives.
    pub fn pirq(self, device: u8, pin: u8) -> u8 {
        let (device, pin) = (device & 31, pin & 3);
        let ring = device.wrapping_add(pin) & 3;
        match self {
            // QEMU counts from the PIIX3, which is device 1.
            Self::Piix3 => device.wrapping_add(pin).wrapping_sub(1) & 3,
            Self::XenPiix3 => ring,
            Self::Ich9 => match device {
                30 => 4 + pin,
                25.. => pin,
                _ => 4 + ring,
            },
        }
    }

    /// The I/O APIC input that the pin drives, where `irqs` has the ISA interrupt of each PIRQ.
    pub fn ioapic_input(self, device: u8, pin: u8, irqs: &[u8; 8]) -> u8 {
        let pirq = self.pirq(device, pin);
        match self {
            Self::Piix3 => irqs[usize::from(pirq)],
            Self::Ich9 => 16 + pirq,
            Self::XenPiix3 => {
                let (device, pin) = (device & 31, pin & 3);
                16 + (((device << 2) + (device >> 3) + pin) & 31)
            }
        }
    }

    /// The register of the router's configuration space that routes a PIRQ.
    pub fn router_register(self, pirq: u8) -> u8 {
        match pirq & 7 {
            low @ 0..=3 => 0x60 + low,
            high => 0x68 + high - 4,
        }
    }

    /// Device and function of the interrupt router on bus 0, as in a PCI address.
    pub fn router(self) -> u8 {
        match self {
            Self::Piix3 | Self::XenPiix3 => 1 << 3,
            Self::Ich9 => 31 << 3,
        }
    }

    /// Vendor (low half) and device ID (high half) of a router that old systems know and this one works like.
    pub fn compatible_router(self) -> u32 {
        match self {
            Self::Piix3 | Self::XenPiix3 => 0x7000_8086,
            Self::Ich9 => 0x2918_8086,
        }
    }
}
