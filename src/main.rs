//! The firmware, from the first 64-bit instruction to the guest's own: each step is one call.
#![no_std]
#![no_main]

extern crate alloc;

mod assembly;

use alloc::sync::Arc;
use firstlight::arch::pc::{self, Pc};
use firstlight::arch::{Frame, Outcome, abi, bridge, cpu, exception, heap};
use firstlight::bios::{Bios, console, int10, option_roms, post};
use firstlight::boot::bootstrap::Boot;
use firstlight::boot::direct::Given;
use firstlight::boot::{self, find};
use firstlight::devices::chipset::Chipset;
use firstlight::devices::reset;
use firstlight::{logger, steps};
use spin::{Mutex, Once};

/// What the services work on, and the boot.
static STATE: Once<(Mutex<Bios>, Mutex<Boot>)> = Once::new();

/// Where `entry.s` goes on: long mode, the image in its final place, interrupts off.
///
/// `start_info` is the address that Xen's domain builder gave us, or zero when we came from the reset vector.
#[unsafe(no_mangle)]
extern "C" fn firstlight_main(start_info: u32) -> ! {
    logger::start();
    exception::load();
    heap::claim();
    let (mut machine, settings) = steps::discover(&Pc, start_info);
    pc::set_pm_timer(machine.pm_timer);
    logger::report_steps(settings.bench);
    logger::step_done("machine, memory and PCI");
    logger::set_level(settings.log);
    machine.log();
    if machine.chipset == Chipset::None {
        // There the F segment, which is written from here on, may be the ROM.
        cpu::read_image();
    }
    bridge::install(dispatch);
    steps::start_processors(&Pc, &machine);
    logger::step_done("processors");
    #[cfg(feature = "xen")]
    if steps::install_given_firmware(&Pc, &mut machine, &settings) {
        firstlight::arch::handoff::enter_firmware()
    }
    let tables = steps::install_tables(&Pc, &mut machine, &settings, &bridge::entries());
    logger::step_done("tables");
    machine.wake = tables.wake;
    // A kernel that does without the BIOS's services does without what comes for them. What waking up needs is kept.
    let mut early = steps::given_kernel(&Pc, &machine);
    let late =
        early.take_if(|kernel| kernel.needs_services() || option_roms::has_screen(&Pc, &machine));
    let mut bios = Bios::new(machine, settings);
    if let Some(kernel) = early {
        steps::give_back(&Pc, &mut bios.machine);
        if let Some(ready) = steps::load_kernel(&Pc, &kernel, &bios.machine, false) {
            keep(bios, Boot::default());
            steps::enter_kernel(ready)
        }
    }
    logger::step_done("given kernel");
    bios.services.routing_table = tables.routing_table;
    serve_and_boot(bios, tables.pnp_header, late)
}

/// The way of all guests that need a BIOS. `pnp_header` is the offset in segment F000h of the Plug and Play header, zero without one;
/// `late` is the kernel that was given, if it needs a BIOS.
///
/// A function of its own, so that a kernel that does without has not to fetch its pages from the ROM.
#[inline(never)]
fn serve_and_boot(mut bios: Bios, pnp_header: u16, late: Option<Given>) -> ! {
    post::low_memory(&Pc, &bios.machine.e820, &bridge::entries());
    if bios.settings.console_port().is_some() {
        console::begin(&Pc, bridge::entries().int08_console);
    }
    post::keyboard(&Pc);
    post::interrupts_and_time(&Pc);
    post::ports(&Pc);
    logger::step_done("BIOS data and chips");
    let found = find::devices(&Pc, &bios.machine, &bios.settings);
    found.drives.announce(&Pc);
    bios.drives = Arc::new(Mutex::new(found.drives));
    let boot = Boot::new(found.candidates, found.order);
    logger::step_done("disks");
    bios.services
        .place_video_rom(&Pc, &bios.machine, pnp_header);
    logger::step_done("video ROM");
    bridge::set_last_pci_bus(bios.machine.last_pci_bus());
    bridge::set_pm1_control(reset::pm1_control(bios.machine.pm_timer).unwrap_or(0));
    bios.services.entries = bridge::entries();
    steps::serve_protected_callers(&Pc, &mut bios.machine, false);
    let (bios, boot) = keep(bios, boot);
    let first = option_roms::at_post(bios, &Pc);
    find::join_roms(boot, bios, &Pc, first);
    steps::give_back(&Pc, &mut bios.lock().machine);
    logger::step_done("option ROMs");
    let load = |kernel: Given| steps::load_kernel(&Pc, &kernel, &bios.lock().machine, true);
    if let Some(ready) = late.and_then(load) {
        int10::show_text(bios, &Pc);
        bios.lock().drives.lock().quiesce();
        steps::enter_kernel(ready)
    }
    bridge::mark_booted();
    match boot::at_once(boot, bios, &Pc) {
        Some(program) => bridge::start_boot_program(&program),
        None => bridge::start_guest_boot(),
    }
}

/// Puts the state where [`dispatch`] finds it.
fn keep(bios: Bios, boot: Boot) -> &'static (Mutex<Bios>, Mutex<Boot>) {
    STATE.call_once(|| (Mutex::new(bios), Mutex::new(boot)))
}

/// Brings a machine that wakes up from S3 back to what the guest left, and lets the guest go on. Where it cannot, the machine
/// starts anew.
fn wake(bios: &Mutex<Bios>, frame: &mut Frame) {
    let vector = bios
        .try_lock()
        .and_then(|mut bios| steps::wake(&Pc, &mut bios.machine));
    match vector {
        Some(vector) => {
            int10::start_again(bios, &Pc);
            bridge::go_on_awake(frame, vector);
        }
        None => {
            log::error!("the guest did not say where it wakes up: restarting");
            reset::machine(&Pc);
        }
    }
}

fn dispatch(frame: &mut Frame) -> Outcome {
    match STATE.get() {
        Some((bios, _)) if frame.vector == abi::WAKE => wake(bios, frame),
        Some((bios, boot)) => return boot::dispatch(boot, bios, &Pc, frame),
        None => {}
    }
    Outcome::Return
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    log::error!("firmware stopped: {info}");
    cpu::halt()
}
