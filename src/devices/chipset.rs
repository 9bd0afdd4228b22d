//! The two chipsets that QEMU and Xen give a PC: i440FX with PIIX3, and Q35 with ICH9.
//!
//! Sources: Intel datasheets 290549 (82441FX), 290550 (82371SB), 290562 (82371AB), 316966 (Q35), 316972 (ICH9).

use super::pci::{Bdf, ConfigAccess, PciDevice};
use crate::arch::{PhysMem, Ports};
use crate::low_memory::WRITABLE;
use firstlight_tables::routing::{Router, Routing};

/// The port of the ACPI PM timer, 0 where no function in `pci` has one: QEMU's `-machine acpi=off` leaves PIIX4's out.
pub fn pm_timer(pci: &[PciDevice]) -> u16 {
    let has_timer = |device: &PciDevice| device.is(INTEL, PIIX4_PM) || device.is(INTEL, ICH9_LPC);
    if pci.iter().any(has_timer) {
        PM_TIMER
    } else {
        0
    }
}

/// What stands between the CPU and everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chipset {
    /// None that is known: a machine without PCI.
    #[default]
    None,
    /// i440FX and PIIX3: QEMU's `pc`, and Xen's HVM guests.
    I440fx,
    /// Q35 and ICH9: QEMU's `q35`.
    Q35,
}

/// Where Q35's memory-mapped configuration space is: one MiB a bus, 256 buses.
pub const MMCONFIG: core::ops::Range<u64> = 0xb000_0000..0xc000_0000;
/// ICH9's root complex registers.
pub const ROOT_COMPLEX: core::ops::Range<u64> = 0xfed1_c000..0xfed2_0000;
/// First port of the power management block: the PM timer is 8 ports on. A guest reads it from the FADT.
pub const PM_BASE: u16 = 0x600;
/// First port of the same registers under Xen (public header hvm/ioreq.h, ACPI_PM1A_EVT_BLK_ADDRESS_V1).
pub const XEN_PM_BASE: u16 = 0xb000;
/// I/O port of the ACPI PM timer (PIIX4 datasheet, PMTMR; ICH9 datasheet, PM1_TMR).
const PM_TIMER: u16 = PM_BASE + 8;
/// First port of the SMBus controller.
pub const SMBUS_BASE: u16 = 0x700;
/// The ACPI interrupt.
pub const SCI_IRQ: u8 = 9;

/// Vendor and device IDs.
pub(super) const INTEL: u16 = 0x8086;
const PIIX3_ISA: u16 = 0x7000;
pub(super) const PIIX4_PM: u16 = 0x7113;
const ICH9_LPC: u16 = 0x2918;

/// What the host bridges' first register reads as.
pub const I440FX_ID: u32 = 0x1237_8086;
pub const Q35_ID: u32 = 0x29c0_8086;

pub(super) const HOST: Bdf = Bdf::new(0, 0, 0);
const ENABLE: u32 = 1;
/// Trigger modes of the first PIC's inputs: a set bit makes one level-triggered.
const PORT_ELCR1: u16 = 0x4d0;
/// The same of the second PIC.
const PORT_ELCR2: u16 = 0x4d1;
const NOTHING: u64 = 0xffff_ffff;

/// PAM registers, half a byte for each 16 KiB from C0000h to EFFFFh and one in front for F0000h to FFFFFh: bit 0 makes it RAM for
/// reading, bit 1 for writing.
pub const PAM_ALL_WRITABLE: [u32; 2] = [0x3333_3333; 2];
const PAM_CLOSED: [u32; 2] = [0x1111_1111, 0x3111_1111];
const _: () = assert!(WRITABLE.start == 0xe_c000 && WRITABLE.end == 0xf_0000);

impl Chipset {
    /// What [`Chipset::detect`] has read of the host bridge: device and vendor.
    pub fn host_id(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::I440fx => Some(I440FX_ID),
            Self::Q35 => Some(Q35_ID),
        }
    }

    /// Asks the host bridge what it is.
    pub fn detect(hw: &(impl Ports + PhysMem)) -> Self {
        match ConfigAccess::Ports.read32(hw, HOST, 0) {
            I440FX_ID => Self::I440fx,
            Q35_ID => Self::Q35,
            id => {
                if u64::from(id) != NOTHING {
                    log::warn!("PCI host bridge {id:08x} is not known: its memory stays as it is");
                }
                Self::None
            }
        }
    }

    /// The routing that QEMU's ACPI tables and other firmware have.
    pub fn routing(self) -> Routing {
        Routing {
            router: match self {
                Self::Q35 => Router::Ich9,
                Self::None | Self::I440fx => Router::Piix3,
            },
            irqs: [10, 10, 11, 11],
        }
    }

    /// Makes C0000h to FFFFFh RAM that can be read and written. What the ROM showed there is gone.
    pub fn unlock_shadow(self, hw: &(impl Ports + PhysMem), config: ConfigAccess) {
        self.write_pam(hw, config, PAM_ALL_WRITABLE);
    }

    /// Makes the same memory readable only, but for [`WRITABLE`].
    pub fn lock_shadow(self, hw: &(impl Ports + PhysMem), config: ConfigAccess) {
        self.write_pam(hw, config, PAM_CLOSED);
    }

    /// Writes the PAM registers. Each of the two writes has QEMU rebuild its map of memory.
    fn write_pam(self, hw: &(impl Ports + PhysMem), config: ConfigAccess, pam: [u32; 2]) {
        if let Some((register, values)) = self.pam(pam) {
            config.write32(hw, HOST, register, values[0]);
            config.write32(hw, HOST, register + 4, values[1]);
        }
    }

    /// The seven PAM registers as two values for two registers in a row, and the first of these. `pam` has the first four and the
    /// last four bytes, a spare one in front. Registers beside them keep their reset value of zero.
    pub const fn pam(self, pam: [u32; 2]) -> Option<(u16, [u32; 2])> {
        // The first register's lower half is reserved.
        const RESERVED: u32 = 0xf;
        match self {
            Self::None => None,
            Self::I440fx => Some((0x58, [pam[0] & !0xff & !(RESERVED << 8), pam[1]])),
            Self::Q35 => {
                let first = pam[0] >> 8 & !RESERVED | pam[1] << 24;
                Some((0x90, [first, pam[1] >> 8]))
            }
        }
    }

    /// The fastest way to configuration space: on Q35 this enables the memory-mapped one, if it does not hide RAM.
    pub fn config_access(self, hw: &(impl Ports + PhysMem), low_ram_end: u64) -> ConfigAccess {
        if self != Self::Q35 || low_ram_end > MMCONFIG.start {
            return ConfigAccess::Ports;
        }
        // PCIEXBAR with 256 MiB; the high half is zero after reset.
        ConfigAccess::Ports.write32(hw, HOST, 0x60, MMCONFIG.start as u32 | ENABLE);
        ConfigAccess::Mmconfig(MMCONFIG.start)
    }

    /// Where memory below 4 GiB stops being RAM and starts being PCI's, for the MTRRs and the windows.
    pub fn pci_hole_start(self, low_ram_end: u64) -> u64 {
        let usual: &[u64] = match self {
            Self::Q35 => &[0x8000_0000, MMCONFIG.start],
            _ => &[0x8000_0000, 0xc000_0000, 0xe000_0000],
        };
        let start = usual.iter().copied().find(|start| low_ram_end <= *start);
        start.unwrap_or(low_ram_end.next_multiple_of(16 << 20))
    }
}

/// Sets up what is special about `device`, once its BARs have their addresses. Most functions have nothing special.
pub fn init_device(
    hw: &(impl Ports + PhysMem),
    config: ConfigAccess,
    device: &PciDevice,
    routing: &Routing,
) {
    if device.vendor != INTEL {
        return;
    }
    let bdf = device.bdf;
    match device.device {
        PIIX3_ISA => {
            config.write32(hw, bdf, 0x60, u32::from_le_bytes(routing.irqs));
            set_level_triggered(hw, routing);
        }
        // PIIX3 and PIIX4 IDE: decode both channels at their legacy ports.
        0x7010 | 0x7111 => config.write32(hw, bdf, 0x40, 0x8000_8000),
        // PIIX4 power management. Under Xen the hypervisor serves events and the timer, at an address of its own; QEMU has to
        // be told that, since it serves the control register between them, by which a guest switches itself off.
        PIIX4_PM if routing.router == Router::XenPiix3 => {
            config.write32(hw, bdf, 0x40, u32::from(XEN_PM_BASE) | ENABLE);
            config.write8(hw, bdf, 0x80, 1);
        }
        // The same with SMBus.
        PIIX4_PM => {
            config.write32(hw, bdf, 0x40, u32::from(PM_BASE) | ENABLE);
            config.write8(hw, bdf, 0x80, 1);
            config.write32(hw, bdf, 0x90, u32::from(SMBUS_BASE) | ENABLE);
            // Host enabled, interrupts by IRQ 9.
            config.write8(hw, bdf, 0xd2, 0x09);
        }
        ICH9_LPC => {
            config.write32(hw, bdf, 0x60, u32::from_le_bytes(routing.irqs));
            config.write32(hw, bdf, 0x68, u32::from_le_bytes(routing.irqs));
            set_level_triggered(hw, routing);
            config.write32(hw, bdf, 0x40, u32::from(PM_BASE) | ENABLE);
            // ACPI on, its interrupt on IRQ 9.
            config.write8(hw, bdf, 0x44, 0x80);
            config.write32(hw, bdf, 0xf0, ROOT_COMPLEX.start as u32 | ENABLE);
        }
        // ICH9 SMBus: host enabled.
        0x2930 => config.write8(hw, bdf, 0x40, 1),
        _ => {}
    }
}

/// PCI interrupts are level-triggered: tells both PICs, of which the reset value is edge for all.
fn set_level_triggered(hw: &impl Ports, routing: &Routing) {
    let bits = routing.level_triggered().to_le_bytes();
    for (port, bits) in [PORT_ELCR1, PORT_ELCR2].into_iter().zip(bits) {
        if bits != 0 {
            hw.out8(port, bits);
        }
    }
}

/// BARs that belong at a fixed address: the index and the address.
pub fn fixed_bar(device: &PciDevice) -> Option<(usize, u64)> {
    device.is(0x8086, 0x2930).then_some((4, SMBUS_BASE.into()))
}
