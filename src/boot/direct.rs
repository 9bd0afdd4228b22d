//! A kernel that the platform gives in place of a disk: QEMU's `-kernel`, `-initrd` and `-append`, by fw_cfg.
//!
//! QEMU takes the file apart and leaves three kinds (its hw/i386/x86-common.c and multiboot.c say what in which item): a Linux
//! kernel with its setup sectors, a PVH kernel that is in memory already, and a Multiboot kernel whose information structure
//! wants the memory map.

use crate::arch::{Clock, PhysMem, Ports};
use crate::low_memory::{EBDA, FIRST_FREE, VIDEO};
use crate::platform::qemu::fw_cfg::{FwCfg, FwCfgError, key};
use crate::units::{FOUR_GIB, MIB, PAGE};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_linux::bzimage::{Entry, KernelError, PLACES, Plan, Setup};
use firstlight_linux::{elf, multiboot, pvh};
use firstlight_tables::e820::{E820Map, Kind};

/// More than any setup code has: 255 sectors and the boot sector.
const SETUP_MAX: u64 = 256 * 512;
/// Where the PVH start information goes if the kernel is not there.
const PVH_INFO: u64 = PLACES.setup;
/// Bytes of what was given that are looked at together.
const PIECE: usize = 4096;

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
    /// What a PVH or Multiboot kernel is told has no place beside it.
    NoRoom {
        /// Bytes.
        size: u64,
    },
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
            DirectError::NoRoom { size } => {
                write!(
                    f,
                    "no {size} bytes of memory beside the image for what it is told"
                )
            }
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
    Real {
        /// Address of the setup sectors, below 1 MiB.
        setup: u64,
        /// Stack pointer in their segment.
        stack: u16,
    },
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

    /// Loads everything to its place. `map` is the guest's memory map, `rsdp` the ACPI root pointer or zero. With `services`, a
    /// Linux kernel is to ask the BIOS itself about screen, memory and disks.
    ///
    /// # Errors
    /// Why the kernel cannot run; memory outside free RAM is untouched then.
    pub fn load(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        fw_cfg: &FwCfg,
        map: &E820Map,
        rsdp: u64,
        services: bool,
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
        if self.setup.starts_with(elf::MAGIC) {
            return loader.load_pvh(&self.setup, map, rsdp);
        }
        let setup = Setup::parse(&self.setup)?;
        if self.setup.len() < setup.real_mode_size() {
            return Err(KernelError::Truncated.into());
        }
        let initrd_size = loader.number(key::INITRD_SIZE);
        let plan = setup.plan(kernel_size, initrd_size, map, services)?;
        loader.load_linux(&setup, &plan, map, rsdp)
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

    fn fetch(&self, key: u16, offset: u64, range: Range<u64>) -> Result<(), DirectError> {
        let (offset, size) = (offset as u32, (range.end - range.start) as u32);
        let fetched = self.fw_cfg.read_to(self.hw, key, offset, range.start, size);
        Ok(fetched?)
    }

    fn load_linux(
        &self,
        setup: &Setup,
        plan: &Plan,
        map: &E820Map,
        rsdp: u64,
    ) -> Result<Ready, DirectError> {
        self.load_cmdline(plan.places.command_line.clone())?;
        let kernel = plan.kernel..plan.kernel + self.kernel_size;
        self.fetch(key::KERNEL_DATA, 0, kernel)?;
        if let Some(initrd) = plan.initrd.clone() {
            self.fetch(key::INITRD_DATA, 0, initrd)?;
        }
        let params = plan.places.setup;
        if plan.entry == Entry::Real {
            self.hw.write(params, &setup.real_mode_part(plan));
        } else {
            self.hw.write(params, &setup.boot_params(plan, map, rsdp));
        }
        Ok(match plan.entry {
            Entry::Real => Ready::Real {
                setup: params,
                stack: plan.places.stack,
            },
            Entry::Long(entry) => Ready::Long { entry, params },
            Entry::Protected(entry) => Ready::Protected {
                entry,
                esi: params as u32,
                ebx: 0,
                eax: 0,
            },
        })
    }

    /// How long the command line is, with the zero at its end.
    fn cmdline_size(&self, room: &Range<u64>) -> Result<u64, DirectError> {
        let size = self.number(key::CMDLINE_SIZE);
        match size < room.end - room.start {
            true => Ok(size + 1),
            false => Err(KernelError::CommandLineTooLong(size as usize).into()),
        }
    }

    /// Puts the command line, which always ends with a zero, where there is `room`.
    fn load_cmdline(&self, room: Range<u64>) -> Result<(), DirectError> {
        let end = room.start + self.cmdline_size(&room)? - 1;
        self.fetch(key::CMDLINE_DATA, 0, room.start..end)?;
        self.hw.write8(end, 0);
        Ok(())
    }

    /// QEMU has put the kernel in memory, as the headers in `setup` say; the start information is ours.
    fn load_pvh(&self, setup: &[u8], map: &E820Map, rsdp: u64) -> Result<Ready, DirectError> {
        let (kernel, entry) = self.image()?;
        let parts = elf::loaded(setup).filter(|parts| !parts.is_empty());
        let parts = parts.unwrap_or_else(|| vec![kernel.clone()]);
        let allowed = allowed(map)?;
        for Range { start, end } in parts.iter().cloned() {
            let size = end - start;
            if allowed.ram_in(start..end) != size {
                return Err(DirectError::NotRam { start, size });
            }
        }
        let mut free = Free::beside(map, &parts)?;
        let cmdline_size = self.cmdline_size(&PLACES.command_line)?;
        let cmdline = free.take(PLACES.command_line.start, cmdline_size)?;
        let info = free.take(PVH_INFO, pvh::start_info_size(map) as u64)?;
        let initrd = self.load_initrd(free, kernel.end)?;
        self.load_cmdline(cmdline..cmdline + cmdline_size)?;
        self.hw
            .write(info, &pvh::start_info(info, cmdline, rsdp, initrd, map));
        Ok(Ready::Protected {
            entry,
            esi: 0,
            ebx: info as u32,
            eax: 0,
        })
    }

    /// Puts the initrd, if there is one, into RAM that is `free` above the kernel and below 4 GiB. Gives its address and size.
    fn load_initrd(&self, free: Free, above: u64) -> Result<Option<(u64, u64)>, DirectError> {
        let size = self.number(key::INITRD_SIZE);
        if size == 0 {
            return Ok(None);
        }
        let limit = FOUR_GIB;
        let no_room = KernelError::NoRoomForInitrd { size, limit };
        let mut map = free.map;
        map.remove(0..above.max(MIB)).map_err(|_| no_room)?;
        let start = map.find_ram_top(limit, size, PAGE).ok_or(no_room)?;
        self.fetch(key::INITRD_DATA, 0, start..start + size)?;
        Ok(Some((start, size)))
    }

    /// Kernel and modules come as one block; the information structure lacks the memory sizes and the map.
    fn load_multiboot(&self, map: &E820Map) -> Result<Ready, DirectError> {
        let (kernel, entry) = self.image()?;
        let parts = self.parts_of_block(&kernel, &allowed(map)?)?;
        let mut info = vec![0; self.number(key::INITRD_SIZE).min(4096) as usize];
        self.fw_cfg.read(self.hw, key::INITRD_DATA, &mut info)?;
        let size = multiboot::size_with(info.len(), map) as u64;
        let place = Free::beside(map, &parts)?.take(self.number(key::INITRD_ADDR), size)?;
        multiboot::add_memory(&mut info, place, map).map_err(|_| DirectError::BadMultibootInfo)?;
        for part in parts {
            self.fetch(key::KERNEL_DATA, part.start - kernel.start, part)?;
        }
        self.hw.write(place, &info);
        Ok(Ready::Protected {
            entry,
            esi: 0,
            ebx: place as u32,
            eax: multiboot::MAGIC,
        })
    }

    /// What of a block of parts is to be loaded: all that `allowed` has as RAM. What lies between the parts is zero in the block, and
    /// only that may be left out, below 1 MiB.
    fn parts_of_block(
        &self,
        block: &Range<u64>,
        allowed: &E820Map,
    ) -> Result<Vec<Range<u64>>, DirectError> {
        let mut parts = Vec::new();
        for (part, kind) in allowed.parts(block.clone()) {
            if kind == Some(Kind::Ram) {
                parts.push(part);
                continue;
            }
            if part.end > MIB || !self.is_blank(part.start - block.start, part.end - part.start)? {
                let (start, size) = (part.start, part.end - part.start);
                return Err(DirectError::NotRam { start, size });
            }
        }
        Ok(parts)
    }

    fn is_blank(&self, offset: u64, size: u64) -> Result<bool, DirectError> {
        let mut piece = vec![0; PIECE];
        for at in (0..size).step_by(PIECE) {
            let piece = &mut piece[..(size - at).min(PIECE as u64) as usize];
            let offset = (offset + at) as u32;
            self.fw_cfg
                .read_at(self.hw, key::KERNEL_DATA, offset, piece)?;
            if piece.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a PVH or Multiboot kernel belongs, and its first instruction.
    fn image(&self) -> Result<(Range<u64>, u32), DirectError> {
        let start = self.number(key::KERNEL_ADDR);
        let kernel = start..start + self.kernel_size;
        let entry = self.number(key::KERNEL_ENTRY);
        match kernel.contains(&entry) {
            true => Ok((kernel, entry as u32)),
            false => Err(DirectError::EntryOutside(entry)),
        }
    }
}

/// `map` with all memory as RAM that a kernel may be loaded to: besides RAM, what it harms only itself by.
fn allowed(map: &E820Map) -> Result<E820Map, DirectError> {
    let mut map = map.clone();
    let own = EBDA.start..VIDEO.end;
    let size = own.end - own.start;
    map.insert(own, Kind::Ram)
        .map_err(|_| DirectError::NoRoom { size })?;
    Ok(map)
}

/// RAM for what a kernel is told.
struct Free {
    map: E820Map,
}

impl Free {
    /// All RAM of `map` but `parts`, and what the way to the kernel uses.
    fn beside(map: &E820Map, parts: &[Range<u64>]) -> Result<Self, DirectError> {
        let mut map = map.clone();
        for part in parts.iter().cloned().chain(core::iter::once(0..FIRST_FREE)) {
            let size = part.end - part.start;
            map.remove(part).map_err(|_| DirectError::NoRoom { size })?;
        }
        Ok(Self { map })
    }

    /// Takes `size` bytes: those at `preferred` if they are free, else low ones, else others below 4 GiB.
    fn take(&mut self, preferred: u64, size: u64) -> Result<u64, DirectError> {
        let no_room = DirectError::NoRoom { size };
        let there = preferred..preferred.saturating_add(size);
        let start = match self.map.ram_in(there) == size {
            true => preferred,
            false => [EBDA.start, FOUR_GIB]
                .into_iter()
                .find_map(|below| self.map.find_ram_top(below, size, PAGE))
                .ok_or(no_room)?,
        };
        self.map.remove(start..start + size).map_err(|_| no_room)?;
        Ok(start)
    }
}

#[cfg(test)]
mod tests;
