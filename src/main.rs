//! The firmware, from the first 64-bit instruction to the guest's own: each step is one call.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use firstlight::arch::pc::Pc;
use firstlight::arch::{Frame, Outcome, Ports, bridge, cpu};
use firstlight::bios::{self, Bios, Services, post};
use firstlight::logger;
use firstlight::platform::{Cpus, Machine, PlatformKind};
use firstlight::settings::Settings;
use firstlight::tables::e820::E820Map;
use spin::{Mutex, Once};
use talc::{TalcLock, source::Manual};

core::arch::global_asm!(
    include_str!("arch/entry.s"),
    include_str!("arch/kernel.s"),
    include_str!("arch/bridge.s"),
    options(att_syntax, raw)
);

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

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
    let machine = discover(start_info);
    bridge::install(dispatch);
    post::low_memory(&Pc, &bridge::entries());
    post::interrupts_and_time(&Pc);
    post::keyboard(&Pc);
    BIOS.call_once(|| {
        Mutex::new(Bios {
            machine,
            settings: Settings::default(),
            hard_disks: Vec::new(),
            services: Services {
                resident: cpu::resident(),
                ..Services::default()
            },
        })
    });
    bridge::start_guest_boot()
}

fn discover(_start_info: u32) -> Machine {
    Pc.out32(0xcf8, 0x8000_0058);
    Pc.out32(0xcfc, 0x3333_3000);
    Pc.out32(0xcf8, 0x8000_005c);
    Pc.out32(0xcfc, 0x3333_3333);
    Machine {
        platform: PlatformKind::Qemu,
        low_ram_end: cpu::resident().end,
        high_ram: 0,
        cpus: Cpus::default(),
        e820: E820Map::new(),
    }
}

fn dispatch(frame: &mut Frame) -> Outcome {
    match BIOS.get() {
        Some(bios) => bios::dispatch(bios, &Pc, frame),
        None => Outcome::Return,
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    log::error!("firmware stopped: {info}");
    cpu::halt()
}
