//! The steps of the start that need more than one part of the firmware, in their order.

use core::ops::Range;

use firstlight::arch::pc::{self, Pc};
use firstlight::arch::place::{F_SEGMENT, RamPlacer};
use firstlight::arch::xen::Xen;
use firstlight::arch::{bridge, cpu, handoff, kernel};
use firstlight::bios::post;
use firstlight::boot::direct::{Given, Ready};
use firstlight::devices::pci::PciDevice;
use firstlight::devices::{apic, mtrr};
use firstlight::logger;
use firstlight::platform::xen::guest::Guest;
use firstlight::platform::xen::payload;
use firstlight::platform::{self, Machine, wake};
use firstlight::settings::Settings;

/// CPUID leaf 1, EDX: the processor has a local APIC.
const CPUID_APIC: u32 = 1 << 9;

/// Learns what machine this is, and sets up its memory and its PCI functions.
pub fn discover(start_info: u32) -> (Machine, Settings) {
    let phys_bits = mtrr::phys_bits(cpuid);
    // Looking for Xen takes hundreds of CPUIDs, each of them a VM exit.
    let xen = (start_info != 0).then(Xen::find).flatten();
    let (machine, settings) = match xen {
        Some(xen) => platform::xen::start(&Pc, &xen, start_info.into(), cpu::resident(), phys_bits),
        None => platform::qemu::start(&Pc, cpu::resident(), phys_bits),
    };
    pc::set_pm_timer(machine.pm_timer);
    logger::report_steps(settings.bench);
    logger::step_done("machine, memory and PCI");
    (machine, settings)
}

/// Gives every processor its memory types, lets legacy interrupts through to this one, and parks the others.
pub fn start_processors(machine: &Machine) {
    let msrs = mtrr::Capabilities::detect(cpuid, cpu::read_msr)
        .map(|capabilities| mtrr::plan(capabilities, machine.pci_hole.clone()))
        .unwrap_or_default();
    for (msr, value) in &msrs {
        cpu::write_msr(*msr, *value);
    }
    if cpuid(1)[3] & CPUID_APIC == 0 {
        return;
    }
    apic::virtual_wire(&Pc);
    cpu::start_others(machine.cpus.present - 1, &msrs);
}

/// Starts the firmware that the toolstack gave and asked for, in place of the built-in BIOS. Returns where there is none, or
/// it cannot be started.
pub fn start_given_firmware(machine: &mut Machine, settings: &Settings) {
    let Some(guest) = &machine.xen else {
        return;
    };
    let Some(xen) = Xen::find() else {
        return;
    };
    let Some(payload) = payload::choose(&Pc, guest, settings) else {
        return;
    };
    if let Err(error) = payload.make_room(&xen, &mut machine.e820) {
        log::error!("Xen: {error}; the built-in BIOS starts instead");
        return;
    }
    let mut placer = RamPlacer::new(&mut machine.e820, machine.low_ram_end, 0..0);
    let input = xen_tables(guest, &machine.pci, machine.pci_hole.clone(), settings);
    let mut placer = payload::AboveBios(&mut placer);
    let entries = platform::xen::tables::install(&Pc, &cpuid, &input, &mut placer);
    payload.install(&Pc, &entries, &machine.e820);
    handoff::enter_firmware()
}

/// Where the tables lie that later steps ask for.
pub struct Tables {
    /// What it takes to wake up from S3.
    pub wake: wake::Memory,
    /// The PCI interrupt routing table.
    pub routing_table: Option<u64>,
    /// The Plug and Play header's offset in segment F000h, zero where there was no room.
    pub pnp_header: u16,
}

/// Tells the guest about the machine: ACPI, SMBIOS, MP and PIR tables, and the headers of the BIOS's own entry points.
pub fn install_tables(machine: &mut Machine, settings: &Settings) -> Tables {
    let mut placer = RamPlacer::new(&mut machine.e820, machine.low_ram_end, F_SEGMENT);
    let (wake, routing_table) = match &machine.xen {
        Some(guest) => {
            let input = xen_tables(guest, &machine.pci, machine.pci_hole.clone(), settings);
            let installed = platform::xen::tables::install(&Pc, &cpuid, &input, &mut placer);
            let wake = wake::Memory {
                rsdp: installed.rsdp,
                ..wake::Memory::default()
            };
            (wake, installed.pir)
        }
        None => {
            let [signature, _, _, features] = cpuid(1);
            let input = platform::qemu::tables::Input {
                fw_cfg: machine.fw_cfg.as_ref(),
                chipset: machine.chipset,
                pci: &machine.pci,
                apic_ids: &cpu::apic_ids(),
                cpu: (signature, features),
                settings,
            };
            let installed = platform::qemu::tables::install(&Pc, &input, &mut placer);
            let wake = wake::Memory {
                rsdp: installed.rsdp,
                told: installed.told,
            };
            (wake, installed.routing_table)
        }
    };
    let pnp_header = post::entry_points(&mut placer, &bridge::entries());
    Tables {
        wake,
        routing_table,
        pnp_header,
    }
}

fn xen_tables<'a>(
    guest: &'a Guest,
    pci: &'a [PciDevice],
    pci_hole: Range<u64>,
    settings: &'a Settings,
) -> platform::xen::tables::Input<'a> {
    platform::xen::tables::Input {
        guest,
        pci,
        pci_hole,
        high_end: guest.info.high_ram_end,
        phys_bits: mtrr::phys_bits(cpuid),
        apic_ids: &guest.apic_ids,
        settings,
    }
}

/// The kernel that the platform gives in place of a disk, if there is one.
pub fn given_kernel(machine: &Machine) -> Option<Given> {
    Given::find(&Pc, machine.fw_cfg.as_ref()?)
}

/// Puts a given kernel in its place in memory, or says why it cannot be started.
pub fn load_kernel(kernel: &Given, machine: &Machine) -> Option<Ready> {
    let rsdp = machine.wake.rsdp.unwrap_or(0);
    kernel
        .load(&Pc, machine.fw_cfg.as_ref()?, &machine.e820, rsdp)
        .inspect_err(|error| log::error!("the given kernel cannot be started: {error}"))
        .ok()
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
        Ready::Real => bridge::start_linux_setup(),
    }
}

fn cpuid(leaf: u32) -> [u32; 4] {
    cpu::cpuid(leaf, 0)
}
