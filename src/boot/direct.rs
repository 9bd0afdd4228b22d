//! A kernel that the platform gives in place of a disk: QEMU's `-kernel`, `-initrd` and `-append`, by fw_cfg.
//!
//! QEMU takes the file apart and leaves three kinds (its hw/i386/x86-common.c and multiboot.c say what in which item): a Linux
//! kernel with its setup sectors, a PVH kernel that is in memory already, and a Multiboot kernel whose information structure
//! wants the memory map.

use crate::arch::{Clock, PhysMem, Ports};
use crate::low_memory::LINUX_SETUP;
use crate::platform::qemu::fw_cfg::{FwCfg, FwCfgError, key};
use crate::units::{FOUR_GIB, MIB, PAGE};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_linux::bzimage::{self, Entry, KernelError, Setup};
use firstlight_linux::{ELF_MAGIC, multiboot, pvh};
use firstlight_tables::e820::{E820Map, Kind};

/// More than any setup code has: 255 sectors and the boot sector.
const SETUP_MAX: u64 = 256 * 512;
/// Where the PVH start information goes: low memory, beside the command line.
const PVH_INFO: u64 = LINUX_SETUP;

/// Why a given kernel cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectError {
    /// The Linux kernel itself is at fault, or memory is too small for it.
    Kernel(KernelError),
    /// fw_cfg did not give what it announced.
    FwCfg(FwCfgError),
    /// A PVH or Multiboot kernel wants memory that is not RAM, or that the firmware occupies.
    NotRam {
        /// First byte.
        start: u64,
        /// Bytes.
        size: u64,
    },
    /// A PVH or Multiboot kernel is to be entered at an address outside it.
    EntryOutside(u64),
    /// The Multiboot information structure is too short.
    BadMultibootInfo,
}

impl fmt::Display for DirectError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            DirectError::Kernel(error) => error.fmt(f),
            DirectError::FwCfg(error) => error.fmt(f),
            DirectError::NotRam { start, size } => {
                write!(
                    f,
                    "the image wants {size} bytes at {start:#x}, which is not free RAM"
                )
            }
            DirectError::EntryOutside(entry) => {
                write!(f, "its entry point {entry:#x} lies outside the image")
            }
            DirectError::BadMultibootInfo => write!(f, "the Multiboot information is too short"),
        }
    }
}

impl From<KernelError> for DirectError {
    fn from(error: KernelError) -> Self {
        DirectError::Kernel(error)
    }
}

impl From<FwCfgError> for DirectError {
    fn from(error: FwCfgError) -> Self {
        DirectError::FwCfg(error)
    }
}

/// A kernel in memory, and how to enter it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// 64-bit code, RSI = `boot_params`.
    Long {
        /// Address of the first instruction.
        entry: u64,
        /// RSI.
        params: u64,
    },
    /// 32-bit code, paging off.
    Protected {
        /// Address of the first instruction.
        entry: u32,
        /// ESI.
        esi: u32,
        /// EBX.
        ebx: u32,
        /// EAX.
        eax: u32,
    },
    /// Linux setup code in real mode; it needs the BIOS services.
    Real,
}

/// The given kernel, once it is known that there is one.
pub struct Given {
    kernel_size: u64,
    /// The kernel's first sectors; empty for a Multiboot kernel.
    setup: Vec<u8>,
}

impl Given {
    /// The kernel that the platform gives, if it gives one.
    pub fn find(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<Self> {
        let kernel_size = fw_cfg.number::<4>(hw, key::KERNEL_SIZE);
        if kernel_size == 0 {
            return None;
        }
        let setup_size = fw_cfg.number::<4>(hw, key::SETUP_SIZE).min(SETUP_MAX);
        let mut setup = vec![0; setup_size as usize];
        if !setup.is_empty() && fw_cfg.read(hw, key::SETUP_DATA, &mut setup).is_err() {
            return None;
        }
        Some(Given { kernel_size, setup })
    }

    /// Whether it takes for granted that a BIOS started it: Linux by its real-mode entry, and Multiboot kernels (Xen looks into
    /// the BIOS data area for memory, and asks INT 10h and INT 13h from real mode).
    pub fn needs_services(&self) -> bool {
        self.setup.is_empty() || Setup::parse(&self.setup).is_ok_and(|setup| setup.is_real_mode())
    }

    /// Loads everything to its place. `map` is the guest's memory map, `rsdp` the ACPI root pointer or zero.
    ///
    /// # Errors
    /// Why the kernel cannot run; memory outside free RAM is untouched then.
    pub fn load(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        fw_cfg: &FwCfg,
        map: &E820Map,
        rsdp: u64,
    ) -> Result<Ready, DirectError> {
        let kernel_size = self.kernel_size;
        let loader = Loader {
            hw,
            fw_cfg,
            kernel_size,
        };
        if self.setup.is_empty() {
            return loader.load_multiboot(map);
        }
        if self.setup.starts_with(ELF_MAGIC) {
            return loader.load_pvh(map, rsdp);
        }
        loader.load_linux(&self.setup, map, rsdp)
    }
}

/// What loading works on.
struct Loader<'a, H> {
    hw: &'a H,
    fw_cfg: &'a FwCfg,
    kernel_size: u64,
}

impl<H: Ports + PhysMem + Clock> Loader<'_, H> {
    fn number(&self, key: u16) -> u64 {
        self.fw_cfg.number::<4>(self.hw, key)
    }

    fn fetch(&self, key: u16, range: Range<u64>) -> Result<(), DirectError> {
        let size = (range.end - range.start) as u32;
        Ok(self.fw_cfg.read_to(self.hw, key, 0, range.start, size)?)
    }

    fn load_linux(&self, setup: &[u8], map: &E820Map, rsdp: u64) -> Result<Ready, DirectError> {
        let header = Setup::parse(setup)?;
        if setup.len() < header.real_mode_size() {
            return Err(KernelError::Truncated.into());
        }
        let plan = header.plan(self.kernel_size, self.number(key::INITRD_SIZE), map)?;
        self.load_cmdline()?;
        self.fetch(
            key::KERNEL_DATA,
            plan.kernel..plan.kernel + self.kernel_size,
        )?;
        if let Some(initrd) = plan.initrd.clone() {
            self.fetch(key::INITRD_DATA, initrd)?;
        }
        let params = bzimage::SETUP_ADDRESS;
        Ok(match plan.entry {
            Entry::Real => {
                self.hw.write(params, &header.real_mode_part(&plan));
                Ready::Real
            }
            Entry::Long(entry) => {
                self.hw.write(params, &header.boot_params(&plan, map, rsdp));
                Ready::Long { entry, params }
            }
            Entry::Protected(entry) => {
                self.hw.write(params, &header.boot_params(&plan, map, rsdp));
                Ready::Protected {
                    entry,
                    esi: params as u32,
                    ebx: 0,
                    eax: 0,
                }
            }
        })
    }

    /// Puts the command line, which always ends with a zero, at [`bzimage::CMDLINE_ADDRESS`].
    fn load_cmdline(&self) -> Result<(), DirectError> {
        let size = self.number(key::CMDLINE_SIZE);
        if size >= bzimage::CMDLINE_MAX as u64 {
            return Err(KernelError::CommandLineTooLong(size as usize).into());
        }
        let end = bzimage::CMDLINE_ADDRESS + size;
        self.fetch(key::CMDLINE_DATA, bzimage::CMDLINE_ADDRESS..end)?;
        self.hw.write8(end, 0);
        Ok(())
    }

    /// QEMU has put the kernel in memory; the start information is ours.
    fn load_pvh(&self, map: &E820Map, rsdp: u64) -> Result<Ready, DirectError> {
        let (kernel, entry) = self.image(map)?;
        if kernel.start < bzimage::CMDLINE_ADDRESS + bzimage::CMDLINE_MAX as u64
            && kernel.end > PVH_INFO
        {
            return Err(DirectError::NotRam {
                start: kernel.start,
                size: self.kernel_size,
            });
        }
        self.load_cmdline()?;
        let initrd_size = self.number(key::INITRD_SIZE);
        let initrd = match initrd_size {
            0 => None,
            size => {
                let limit = FOUR_GIB;
                let no_room = KernelError::NoRoomForInitrd { size, limit };
                let mut free = map.clone();
                free.insert(0..kernel.end.max(MIB), Kind::Reserved)
                    .map_err(|_| no_room)?;
                let start = free.find_ram_top(limit, size, PAGE).ok_or(no_room)?;
                self.fetch(key::INITRD_DATA, start..start + size)?;
                Some(start)
            }
        };
        let (cmdline, initrd) = (
            bzimage::CMDLINE_ADDRESS,
            initrd.map(|start| (start, initrd_size)),
        );
        let info = pvh::start_info(PVH_INFO, cmdline, rsdp, initrd, map);
        self.hw.write(PVH_INFO, &info);
        Ok(Ready::Protected {
            entry,
            esi: 0,
            ebx: PVH_INFO as u32,
            eax: 0,
        })
    }

    /// Kernel and modules come as one block; the information structure lacks the memory sizes and the map.
    fn load_multiboot(&self, map: &E820Map) -> Result<Ready, DirectError> {
        let (kernel, entry) = self.image(map)?;
        let address = self.number(key::INITRD_ADDR);
        let mut info = vec![0; self.number(key::INITRD_SIZE).min(4096) as usize];
        self.fw_cfg.read(self.hw, key::INITRD_DATA, &mut info)?;
        multiboot::add_memory(&mut info, address, map)
            .map_err(|_| DirectError::BadMultibootInfo)?;
        let place = self.free_ram(map, address, info.len() as u64)?;
        self.fetch(key::KERNEL_DATA, kernel)?;
        self.hw.write(place.start, &info);
        Ok(Ready::Protected {
            entry,
            esi: 0,
            ebx: address as u32,
            eax: multiboot::MAGIC,
        })
    }

    /// Where a PVH or Multiboot kernel belongs, and its first instruction.
    fn image(&self, map: &E820Map) -> Result<(Range<u64>, u32), DirectError> {
        let kernel = self.free_ram(map, self.number(key::KERNEL_ADDR), self.kernel_size)?;
        let entry = self.number(key::KERNEL_ENTRY);
        match kernel.contains(&entry) {
            true => Ok((kernel, entry as u32)),
            false => Err(DirectError::EntryOutside(entry)),
        }
    }

    /// The range, if all of it is RAM that the guest may use.
    fn free_ram(&self, map: &E820Map, start: u64, size: u64) -> Result<Range<u64>, DirectError> {
        let end = start.saturating_add(size);
        match map.ram_in(start..end) == size {
            true => Ok(start..end),
            false => Err(DirectError::NotRam { start, size }),
        }
    }
}

#[cfg(test)]
mod tests;
