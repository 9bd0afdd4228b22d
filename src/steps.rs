//! The steps of the start that need more than one part of the firmware, in their order.

use alloc::vec::Vec;
use core::ops::Range;

#[cfg(feature = "xen")]
use crate::arch::hypercalls::Hypercalls;
use crate::arch::{Entries, Hardware};
use crate::bios::post;
use crate::boot::direct::{Given, Ready};
use crate::devices::{apic, feature_control, mtrr, smm};
use crate::low_memory::TABLES;
#[cfg(feature = "xen")]
use crate::platform::xen::{self, payload};
use crate::platform::{Described, Installed, Machine, Platform, qemu, wake};
use crate::settings::Settings;
use firstlight_tables::e820::{E820Map, Kind};
use firstlight_tables::place::Placer;

/// CPUID leaf 1, EDX: the processor has a local APIC.
const CPUID_APIC: u32 = 1 << 9;

/// The machine: its devices, its processors, its hypervisor and its memory.
pub trait Board {
    /// What its devices are reached through.
    type Hw: Hardware;

    /// Its devices.
    fn hw(&self) -> &Self::Hw;
    /// Xen, if it is what runs this machine. Asking costs many VM exits.
    #[cfg(feature = "xen")]
    fn xen(&self) -> Option<impl Hypercalls>;
    /// Hands out RAM from `map` that ends at or below `limit`, and of the F segment what is in `f_segment`. To be asked once a
    /// boot for the F segment.
    fn placer<'a>(
        &self,
        map: &'a mut E820Map,
        limit: u64,
        f_segment: Range<u64>,
    ) -> impl Placer + 'a;
    /// Physical addresses that the firmware occupies while it starts.
    fn resident(&self) -> Range<u64>;
    /// Gives up those at their end that it needs no more, and says which. Once.
    fn give_back(&self) -> Range<u64>;
    /// CPUID: EAX, EBX, ECX, EDX of `leaf`, subleaf 0.
    fn cpuid(&self, leaf: u32) -> [u32; 4];
    /// Reads a model specific register that this processor has.
    fn read_msr(&self, msr: u32) -> u64;
    /// Writes one.
    fn write_msr(&self, msr: u32, value: u64);
    /// Starts `expected` other processors once, loads `msrs` on each, and parks them.
    fn start_others(&self, expected: u32, msrs: &[(u32, u64)]);
    /// Gets ready to serve callers by system management mode, which the chip set lets us enter once it is `open`. Returns whether it is
    /// so. What that uses of memory is as before if it is to be `keep`t.
    fn enter_smm(&self, keep: bool, open: impl FnOnce() -> bool) -> bool;
    /// Local APIC IDs of this processor and of those that were started, this one's first.
    fn apic_ids(&self) -> Vec<u32>;
}

/// Learns what machine this is, and sets up its memory and its PCI functions. `start_info` is what Xen's domain builder gave us,
/// or zero, as it always is where the firmware is compiled without what only Xen runs.
#[cfg_attr(not(feature = "xen"), expect(unused_variables))]
pub fn discover(board: &impl Board, start_info: u32) -> (Machine, Settings) {
    let phys_bits = mtrr::phys_bits(|leaf| board.cpuid(leaf));
    #[cfg(feature = "xen")]
    if start_info != 0
        && let Some(xen) = board.xen()
    {
        let start_info = start_info.into();
        return xen::start(board.hw(), &xen, start_info, board.resident(), phys_bits);
    }
    qemu::start(board.hw(), board.resident(), phys_bits)
}

/// Gives every processor its memory types, lets legacy interrupts through to this one, and parks the others.
pub fn start_processors(board: &impl Board, machine: &Machine) {
    let cpuid = |leaf| board.cpuid(leaf);
    let mut msrs = mtrr::Capabilities::detect(cpuid, |msr| board.read_msr(msr))
        .map(|capabilities| mtrr::plan(capabilities, machine.pci_hole.clone()))
        .unwrap_or_default();
    let wanted = machine.feature_control(board.hw());
    msrs.extend(feature_control::plan(wanted, cpuid, |msr| {
        board.read_msr(msr)
    }));
    for (msr, value) in &msrs {
        board.write_msr(*msr, *value);
    }
    if cpuid(1)[3] & CPUID_APIC == 0 {
        return;
    }
    apic::virtual_wire(board.hw());
    board.start_others(machine.startable_cpus() - 1, &msrs);
}

/// Opens the way for callers in virtual-8086 and 16-bit protected mode, where there is one. `keep`: memory is a guest's already.
pub fn serve_protected_callers(board: &impl Board, machine: &mut Machine, keep: bool) {
    let by_qemu = matches!(machine.platform, Platform::Qemu);
    let open = || smm::enable(board.hw(), machine.chipset, machine.config, &machine.pci);
    machine.serves_protected = by_qemu
        // What such a caller's page tables show of the first MiB would hide the firmware.
        && !machine.is_small()
        && board.enter_smm(keep, open);
}

/// Puts the firmware that the toolstack gave and asked for in place of the built-in BIOS. Returns whether it is there, and then
/// nothing but the jump to it may follow; where there is none, or it cannot be started, the machine is as it was.
#[cfg(feature = "xen")]
pub fn install_given_firmware(
    board: &impl Board,
    machine: &mut Machine,
    settings: &Settings,
) -> bool {
    let Platform::Xen(guest) = &machine.platform else {
        return false;
    };
    let Some(payload) = payload::choose(board.hw(), guest, settings) else {
        return false;
    };
    let Some(xen) = board.xen() else {
        return false;
    };
    if let Err(error) = payload.make_room(&xen, &mut machine.e820) {
        log::error!("Xen: {error}; the built-in BIOS starts instead");
        return false;
    }
    // The F segment is the payload's own.
    let installed = place_tables(board, machine, settings, 0..0, |_| ()).0;
    give_back(board, machine);
    payload.install(board.hw(), &installed, &machine.e820);
    true
}

/// Where the tables lie that later steps ask for.
pub struct Tables {
    /// What it takes to wake up from S3.
    pub wake: wake::Kept,
    /// The PCI interrupt routing table.
    pub routing_table: Option<u64>,
    /// The Plug and Play header's offset in segment F000h, zero where there was no room.
    pub pnp_header: u16,
}

/// Tells the guest about the machine: ACPI, SMBIOS, MP and PIR tables, and the headers of the BIOS's own `entries`.
pub fn install_tables(
    board: &impl Board,
    machine: &mut Machine,
    settings: &Settings,
    entries: &Entries,
) -> Tables {
    let headers = |placer: &mut dyn Placer| post::entry_points(placer, entries);
    let (installed, pnp_header) = place_tables(board, machine, settings, TABLES, headers);
    Tables {
        routing_table: installed.pir,
        wake: installed.into(),
        pnp_header,
    }
}

/// Places the platform's tables, in `f_segment` where they belong there, and then what `more` places.
fn place_tables<B: Board, R>(
    board: &B,
    machine: &mut Machine,
    settings: &Settings,
    f_segment: Range<u64>,
    more: impl FnOnce(&mut dyn Placer) -> R,
) -> (Installed, R) {
    let described = Described {
        fw_cfg: machine.fw_cfg.as_ref(),
        chipset: machine.chipset,
        pci: &machine.pci,
        pci_hole: machine.pci_hole.clone(),
        apic_ids: &board.apic_ids(),
        settings,
    };
    let mut placer = board.placer(&mut machine.e820, machine.low_ram_end, f_segment);
    let cpuid = |leaf| board.cpuid(leaf);
    let platform = &machine.platform;
    let installed = platform.install_tables(board.hw(), &cpuid, &described, &mut placer);
    (installed, more(&mut placer))
}

/// Gives the guest the memory that only the way to it needed.
pub fn give_back(board: &impl Board, machine: &mut Machine) {
    let memory = board.give_back();
    if machine.e820.insert(memory.clone(), Kind::Ram).is_err() {
        log::warn!("the memory map is full: the guest does not get {memory:x?}");
    } else if memory.end == machine.resident.end {
        machine.resident.end = memory.start;
    }
}

/// The kernel that the platform gives in place of a disk, if there is one.
pub fn given_kernel(board: &impl Board, machine: &Machine) -> Option<Given> {
    Given::find(board.hw(), machine.fw_cfg.as_ref()?)
}

/// Puts a given kernel in its place in memory, or says why it cannot be started. `services`: the BIOS's are there, for a Linux
/// kernel to ask.
pub fn load_kernel(
    board: &impl Board,
    kernel: &Given,
    machine: &Machine,
    services: bool,
) -> Option<Ready> {
    let rsdp = machine.wake.rsdp.unwrap_or(0);
    let fw_cfg = machine.fw_cfg.as_ref()?;
    kernel
        .load(board.hw(), fw_cfg, &machine.e820, rsdp, services)
        .inspect_err(|error| log::error!("the given kernel cannot be started: {error}"))
        .ok()
}

/// Brings a machine that wakes up from S3 back to what the guest left. Gives the address below 1 MiB at which the guest goes on
/// in real mode; `None` where it did not say, and nothing was done.
pub fn wake(board: &impl Board, machine: &mut Machine) -> Option<u32> {
    let vector = wake::restore(board.hw(), machine)?;
    start_processors(board, machine);
    if machine.serves_protected {
        serve_protected_callers(board, machine, true);
    }
    // The way here has opened it, whatever it was.
    let was_open = core::mem::replace(&mut machine.shadow_is_open, true);
    if !was_open {
        machine.close_shadow(board.hw());
    }
    Some(vector)
}

#[cfg(not(test))]
mod pc {
    use super::*;
    use crate::arch::pc::Pc;
    use crate::arch::place::RamPlacer;
    use crate::arch::{bridge, cpu, heap, kernel, smi};

    impl Board for Pc {
        type Hw = Pc;

        fn hw(&self) -> &Pc {
            self
        }

        #[cfg(feature = "xen")]
        fn xen(&self) -> Option<impl Hypercalls> {
            crate::arch::xen::Xen::find()
        }
        fn placer<'a>(
            &self,
            map: &'a mut E820Map,
            limit: u64,
            f_segment: Range<u64>,
        ) -> impl Placer + 'a {
            RamPlacer::new(map, limit, f_segment)
        }
        fn resident(&self) -> Range<u64> {
            cpu::resident()
        }
        fn give_back(&self) -> Range<u64> {
            heap::give_back()
        }
        fn cpuid(&self, leaf: u32) -> [u32; 4] {
            cpu::cpuid(leaf, 0)
        }
        fn read_msr(&self, msr: u32) -> u64 {
            cpu::read_msr(msr)
        }
        fn write_msr(&self, msr: u32, value: u64) {
            cpu::write_msr(msr, value);
        }
        fn start_others(&self, expected: u32, msrs: &[(u32, u64)]) {
            cpu::start_others(expected, msrs);
        }
        fn enter_smm(&self, keep: bool, open: impl FnOnce() -> bool) -> bool {
            smi::install(keep, open)
        }
        fn apic_ids(&self) -> Vec<u32> {
            cpu::apic_ids()
        }
    }

    /// Leaves for a kernel that is in its place.
    pub fn enter_kernel(ready: Ready) -> ! {
        match ready {
            Ready::Long { entry, params } => kernel::long(entry, params),
            Ready::Protected {
                entry,
                esi,
                ebx,
                eax,
            } => kernel::protected(entry, esi, ebx, eax),
            Ready::Real { setup, stack } => bridge::start_linux_setup(setup, stack),
        }
    }
}
#[cfg(not(test))]
pub use pc::enter_kernel;

#[cfg(test)]
mod tests;
