//! Who started us, and what they told us: QEMU's fw_cfg or Xen's start_info, one [`Machine`] out.

mod legacy;
pub mod qemu;
pub mod wake;
#[cfg(feature = "xen")]
pub mod xen;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use crate::arch::{Clock, Cpuid, PhysMem, Ports};
use crate::devices::chipset::Chipset;
use crate::devices::pci::setup::Access;
use crate::devices::pci::{ConfigAccess, PciDevice};
use crate::settings::Settings;
use crate::units::MIB;
use firstlight_tables::e820::E820Map;
use firstlight_tables::loader::Told;
use firstlight_tables::place::Placer;
use qemu::fw_cfg::FwCfg;

/// Compiled for QEMU alone, the firmware never has a guest of Xen.
#[cfg(not(feature = "xen"))]
use core::convert::Infallible as Guest;
#[cfg(feature = "xen")]
use xen::guest::Guest;

/// Who started us, and what only he tells.
#[derive(Clone, Debug, Default)]
pub enum Platform {
    /// QEMU, by its ROM's reset vector.
    #[default]
    Qemu,
    /// Xen's domain builder, by the ELF entry.
    Xen(Box<Guest>),
}

impl Platform {
    /// Places all tables that tell the guest about the machine. What cannot be made or placed is logged and left out.
    pub fn install_tables(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        cpu: &impl Cpuid,
        described: &Described,
        placer: &mut dyn Placer,
    ) -> Installed {
        match self {
            Self::Qemu => qemu::tables::install(hw, cpu, described, placer),
            #[cfg(feature = "xen")]
            Self::Xen(guest) => xen::tables::install(hw, cpu, guest, described, placer),
            #[cfg(not(feature = "xen"))]
            Self::Xen(guest) => match **guest {},
        }
    }
}

/// What the guest's tables describe.
#[derive(Clone)]
pub struct Described<'a> {
    /// QEMU's files.
    pub fw_cfg: Option<&'a FwCfg>,
    /// The chipset.
    pub chipset: Chipset,
    /// PCI functions.
    pub pci: &'a [PciDevice],
    /// As in [`Machine`].
    pub pci_hole: Range<u64>,
    /// Local APIC IDs of the processors that were found, the boot processor's first.
    pub apic_ids: &'a [u32],
    /// The user's settings.
    pub settings: &'a Settings,
}

/// Physical addresses of the tables' entry points, and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// ACPI root pointer.
    pub rsdp: Option<u64>,
    /// SMBIOS 2.1 entry point, where the tables are of our making.
    pub smbios: Option<u64>,
    /// MP floating pointer.
    pub mp: Option<u64>,
    /// PCI interrupt routing table.
    pub pir: Option<u64>,
    /// Addresses that QEMU was told and forgets by a reset.
    pub told: Vec<Told>,
}

/// The virtual CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// CPUs present at start.
    pub present: u32,
}

/// Everything the platform told us that the later steps use, and the devices that were found.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Who started us.
    pub platform: Platform,
    /// RAM below 4 GiB ends here, in bytes.
    pub low_ram_end: u64,
    /// Bytes of RAM from 4 GiB up.
    pub high_ram: u64,
    /// First address above 4 GiB that neither has RAM nor is kept for memory hot-plug; 4 GiB where there is neither.
    pub high_end: u64,
    /// The CPUs.
    pub cpus: Cpus,
    /// The guest's memory map, as INT 15h AX=E820h tells it.
    pub e820: E820Map,
    /// What the firmware occupies for as long as the guest runs.
    pub resident: Range<u64>,
    /// The chipset.
    pub chipset: Chipset,
    /// The port of the ACPI power management timer; 0 where there is none.
    pub pm_timer: u16,
    /// How PCI configuration space is reached.
    pub config: ConfigAccess,
    /// Addresses below 4 GiB that are not to be cached: PCI functions, and on QEMU interrupt controllers and flash, too. Xen has
    /// pages of memory above them.
    pub pci_hole: Range<u64>,
    /// All PCI functions, a bridge before what is behind it; empty until PCI has been set up.
    pub pci: Vec<PciDevice>,
    /// QEMU's configuration device, where there is one (under Xen only with a kernel to start).
    pub fw_cfg: Option<FwCfg>,
    /// What it takes to wake up from S3.
    pub wake: wake::Kept,
    /// C0000h to FFFFFh can be written, and [`Machine::close_shadow`] changes that. Xen knows no such thing.
    pub shadow_is_open: bool,
    /// Callers in virtual-8086 and 16-bit protected mode reach the services.
    pub serves_protected: bool,
}

impl Machine {
    /// What every processor's feature control register is to hold, where QEMU says so.
    pub fn feature_control(&self, hw: &(impl Ports + PhysMem + Clock)) -> Option<u64> {
        qemu::wishes::feature_control(hw, self.fw_cfg.as_ref()?)
    }

    /// Whether there is no memory but the first MiB, with the firmware in it.
    pub fn is_small(&self) -> bool {
        !self.resident.is_empty() && self.resident.start < MIB
    }

    /// Lets option ROMs and the F segment be written. Returns whether they could not be before.
    pub fn open_shadow(&mut self, hw: &(impl Ports + PhysMem)) -> bool {
        let was_closed = !self.shadow_is_open && matches!(self.platform, Platform::Qemu);
        if was_closed {
            self.chipset.unlock_shadow(hw, self.config);
            self.shadow_is_open = true;
        }
        was_closed
    }

    /// Keeps a guest from writing to option ROMs and the F segment.
    pub fn close_shadow(&mut self, hw: &(impl Ports + PhysMem)) {
        if core::mem::take(&mut self.shadow_is_open) {
            self.chipset.lock_shadow(hw, self.config);
        }
    }

    /// All PCI functions with this class and subclass.
    pub fn pci_class(&self, subclass: u16) -> impl Iterator<Item = &PciDevice> {
        self.pci
            .iter()
            .filter(move |device| device.subclass() == subclass)
    }

    /// CPUs that start up when they are told to. Under Xen this includes those that are plugged in later.
    pub fn startable_cpus(&self) -> u32 {
        match self.platform {
            Platform::Qemu => self.cpus.present,
            #[cfg(feature = "xen")]
            Platform::Xen(ref guest) => guest.info.vcpus,
            #[cfg(not(feature = "xen"))]
            Platform::Xen(ref guest) => match **guest {},
        }
    }

    /// How PCI functions are reached, and what each is given.
    pub fn pci_access(&self) -> Access {
        match self.platform {
            Platform::Qemu => Access::of_qemu(self.config, self.chipset),
            #[cfg(feature = "xen")]
            Platform::Xen(_) => xen::pci::ACCESS,
            #[cfg(not(feature = "xen"))]
            Platform::Xen(ref guest) => match **guest {},
        }
    }

    /// Writes the memory map and the PCI functions to the log, at level debug.
    pub fn log(&self) {
        if log::max_level() < log::LevelFilter::Debug {
            return;
        }
        for entry in self.e820.entries() {
            let (start, end, kind) = (entry.start, entry.end, entry.kind);
            log::debug!("memory {start:#012x} to {end:#012x} {kind:?}");
        }
        for device in &self.pci {
            let (bdf, vendor, id) = (device.bdf, device.vendor, device.device);
            let class = device.class;
            log::debug!("PCI {bdf} {vendor:04x}:{id:04x} class {class:06x}");
            if let Some(irq) = device.irq {
                log::debug!("  pin {} IRQ {irq}", device.pin);
            }
            for (index, bar) in device.bars.iter().enumerate() {
                match bar.address {
                    Some(address) => {
                        let (kind, size) = (bar.kind, bar.size);
                        log::debug!("  BAR {index} {kind:?} at {address:#x}, {size:#x} bytes");
                    }
                    None if bar.size != 0 => log::debug!("  BAR {index} has no address"),
                    None => {}
                }
            }
        }
    }

    /// The highest PCI bus number that is in use.
    pub fn last_pci_bus(&self) -> u8 {
        self.pci
            .iter()
            .map(|device| match device.bridge {
                Some(bridge) => bridge.subordinate,
                None => device.bdf.bus(),
            })
            .max()
            .unwrap_or(0)
    }
}
