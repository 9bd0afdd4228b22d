//! How PCI interrupt pins reach the interrupt controllers of each machine.
//!
//! Sources: the PIIX3 and ICH9 data sheets (PIRQ routing registers), the `_PRT` packages of QEMU's own DSDT, and for Xen
//! the formulas that its `_PRT` packages follow.

/// What routes the interrupts of PCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// QEMU's pc: PIIX3, whose four PIRQs reach ISA interrupts only.
    Piix3,
    /// QEMU's q35: ICH9, whose eight PIRQs reach ISA interrupts and I/O APIC inputs 16 to 23.
    Ich9,
    /// Xen HVM: a PIIX3 for the PIC, and I/O APIC inputs 16 to 47 of the hypervisor's own.
    XenPiix3,
}

/// ISA interrupts that a PIRQ may be routed to, one bit each: 5, 10 and 11, as the machines' firmware has always used.
pub const PCI_IRQS: u16 = 1 << 5 | 1 << 10 | 1 << 11;

impl Router {
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

    /// The register of the router's configuration space that routes a PIRQ.
    pub fn register(self, pirq: u8) -> u8 {
        match pirq & 7 {
            low @ 0..=3 => 0x60 + low,
            high => 0x68 + high - 4,
        }
    }

    /// Device and function of the router on bus 0, as in a PCI address.
    pub fn address(self) -> u8 {
        match self {
            Self::Piix3 | Self::XenPiix3 => 1 << 3,
            Self::Ich9 => 31 << 3,
        }
    }

    /// Vendor (low half) and device ID (high half) of a router that old systems know and this one works like.
    pub fn compatible(self) -> u32 {
        match self {
            Self::Piix3 | Self::XenPiix3 => 0x7000_8086,
            Self::Ich9 => 0x2918_8086,
        }
    }
}

/// The way of PCI interrupts to the interrupt controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    /// From pins to PIRQs.
    pub router: Router,
    /// ISA interrupts that PIRQA# to PIRQD# reach, and on ICH9 PIRQE# to PIRQH# in the same order.
    pub irqs: [u8; 4],
}

impl Routing {
    /// As the stock loader of Xen has it: guests know these interrupts from its tables.
    pub const XEN: Self = Self {
        router: Router::XenPiix3,
        irqs: [5, 10, 11, 5],
    };

    /// The ISA interrupt that pin `pin` (0 is INTA#) of `device` on bus 0 reaches.
    pub fn irq(&self, device: u8, pin: u8) -> u8 {
        self.irqs[usize::from(self.router.pirq(device, pin) & 3)]
    }

    /// The I/O APIC input that the pin drives.
    pub fn ioapic_input(&self, device: u8, pin: u8) -> u8 {
        match self.router {
            Router::Piix3 => self.irq(device, pin),
            Router::Ich9 => 16 + self.router.pirq(device, pin),
            Router::XenPiix3 => {
                let (device, pin) = (device & 31, pin & 3);
                16 + (((device << 2) + (device >> 3) + pin) & 31)
            }
        }
    }

    /// The ISA interrupts that PCI uses, one bit each: those that are level-triggered.
    pub fn level_triggered(&self) -> u16 {
        let bit = |irq: &u8| 1u16 << (irq & 15);
        self.irqs.iter().fold(0, |mask, irq| mask | bit(irq))
    }
}
