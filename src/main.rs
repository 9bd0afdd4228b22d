//! The firmware, from the first 64-bit instruction to the guest's own: each step is one call.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::ops::Range;

use firstlight::arch::pc::{self, Pc};
use firstlight::arch::place::{F_SEGMENT, RamPlacer};
use firstlight::arch::xen::Xen;
use firstlight::arch::{Frame, Outcome, bridge, cpu, handoff, kernel};
use firstlight::bios::{self, Bios, Services, int13, option_roms, post};
use firstlight::boot::bootstrap::Boot;
use firstlight::boot::direct::{self, Ready};
use firstlight::boot::find;
use firstlight::devices::pci::PciDevice;
use firstlight::devices::{apic, mtrr, reset};
use firstlight::logger;
use firstlight::platform::xen::guest::Guest;
use firstlight::platform::xen::payload;
use firstlight::platform::{self, Machine, wake};
use firstlight::settings::Settings;
use spin::{Mutex, Once};
use talc::{TalcLock, source::Manual};

core::arch::global_asm!(
    include_str!("arch/entry.s"),
    include_str!("arch/kernel.s"),
    include_str!("arch/bridge.s"),
    include_str!("arch/pci32.s"),
    include_str!(concat!(env!("OUT_DIR"), "/font.s")),
    include_str!("arch/compat.s"),
    options(att_syntax, raw)
);

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

/// CPUID leaf 1, EDX: the processor has a local APIC.
const CPUID_APIC: u32 = 1 << 9;

static BIOS: Once<Mutex<Bios<Pc>>> = Once::new();

/// Where `entry.s` goes on: long mode, the image in its final place, interrupts off.
///
/// `start_info` is the address that Xen's domain builder gave us, or zero when we came from the reset vector.
#[unsafe(no_mangle)]
extern "C" fn firstlight_main(start_info: u32) -> ! {
    let heap = cpu::heap();
    // SAFETY: the linker script sets this range aside for nothing else, and it is claimed once.
    unsafe {
        HEAP.lock()
            .claim(heap.start as *mut u8, (heap.end - heap.start) as usize)
    };
    logger::start();
    let (mut machine, settings) = discover(start_info);
    logger::set_level(settings.log);
    machine.log();
    bridge::install(dispatch);
    start_processors(&machine);
    logger::step_done("processors");
    start_given_firmware(&mut machine, &settings);
    let tables = install_tables(&mut machine, &settings);
    logger::step_done("tables");
    machine.wake = tables.wake;
    let setup_code = boot_given_kernel(&mut machine, &settings);
    logger::step_done("given kernel");
    post::low_memory(&Pc, &bridge::entries());
    post::interrupts_and_time(&Pc);
    post::keyboard(&Pc);
    post::ports(&Pc);
    logger::step_done("BIOS data and chips");
    let found = find::devices(&Pc, &machine);
    int13::init(&Pc, &found.hard_disks);
    logger::step_done("disks");
    let mut services = Services {
        routing_table: tables.routing_table,
        ..Services::default()
    };
    services.place_video_rom(&Pc, &machine, tables.pnp_header);
    logger::step_done("video ROM");
    bridge::set_last_pci_bus(machine.last_pci_bus());
    let bios = BIOS.call_once(|| {
        Mutex::new(Bios {
            machine,
            settings,
            hard_disks: found.hard_disks,
            boot: Boot::new(found.candidates),
            services,
        })
    });
    option_roms::at_post(bios, &Pc);
    logger::step_done("option ROMs");
    if setup_code {
        bridge::start_linux_setup()
    }
    bridge::start_guest_boot()
}

/// Learns what machine this is, and sets up its memory and its PCI functions.
fn discover(start_info: u32) -> (Machine, Settings) {
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
fn start_processors(machine: &Machine) {
    let msrs = mtrr::Capabilities::detect(cpuid, cpu::read_msr)
        .map(|capabilities| mtrr::plan(capabilities, machine.pci_hole.start))
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
fn start_given_firmware(machine: &mut Machine, settings: &Settings) {
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
struct Tables {
    /// What it takes to wake up from S3.
    wake: wake::Memory,
    /// The PCI interrupt routing table.
    routing_table: Option<u64>,
    /// The Plug and Play header's offset in segment F000h, zero where there was no room.
    pnp_header: u16,
}

/// Tells the guest about the machine: ACPI, SMBIOS, MP and PIR tables, and the headers of the BIOS's own entry points.
fn install_tables(machine: &mut Machine, settings: &Settings) -> Tables {
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

/// Starts the kernel that the platform gives in place of a disk. Returns when there is none or it cannot be started: false;
/// or when it has a real-mode entry, which needs the BIOS services first: true.
fn boot_given_kernel(machine: &mut Machine, settings: &Settings) -> bool {
    let Some(fw_cfg) = &machine.fw_cfg else {
        return false;
    };
    let Some(kernel) = direct::Given::find(&Pc, fw_cfg) else {
        return false;
    };
    match kernel.load(&machine.e820, machine.wake.rsdp.unwrap_or(0)) {
        Ok(Ready::Long { entry, params }) => {
            keep_for_waking(machine, settings);
            kernel::long(entry, params)
        }
        Ok(Ready::Protected {
            entry,
            esi,
            ebx,
            eax,
        }) => {
            keep_for_waking(machine, settings);
            kernel::protected(entry, esi, ebx, eax)
        }
        Ok(Ready::Real) => true,
        Err(error) => {
            log::error!("the given kernel cannot be started: {error}");
            false
        }
    }
}

/// Keeps what waking up needs of a machine whose guest never calls the BIOS.
fn keep_for_waking(machine: &mut Machine, settings: &Settings) {
    BIOS.call_once(|| {
        Mutex::new(Bios {
            machine: core::mem::take(machine),
            settings: settings.clone(),
            hard_disks: Vec::new(),
            boot: Boot::default(),
            services: Services::default(),
        })
    });
}

/// Brings a machine that wakes up from S3 back to what the guest left, and lets the guest go on. Where it cannot, the machine
/// starts anew.
fn wake(bios: &Mutex<Bios<Pc>>, frame: &mut Frame) {
    let bios = bios.try_lock();
    let waking = bios.and_then(|mut bios| {
        let vector = wake::restore(&Pc, &mut bios.machine)?;
        start_processors(&bios.machine);
        Some(vector)
    });
    match waking {
        Some(vector) => {
            frame.cs = (vector >> 4) as u16;
            frame.ip = vector as u16 & 0xf;
        }
        None => {
            log::error!("the guest did not say where it wakes up: restarting");
            reset::machine(&Pc);
        }
    }
}

fn cpuid(leaf: u32) -> [u32; 4] {
    cpu::cpuid(leaf, 0)
}

fn dispatch(frame: &mut Frame) -> Outcome {
    match BIOS.get() {
        Some(bios) if frame.vector == bridge::WAKE => wake(bios, frame),
        Some(bios) => return bios::dispatch(bios, &Pc, frame),
        None => {}
    }
    Outcome::Return
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    log::error!("firmware stopped: {info}");
    cpu::halt()
}
