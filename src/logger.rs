//! The log: the debug port 0xE9, which QEMU shows with `-debugcon` and Xen in `xl dmesg`.
//!
//! QEMU can have a debug port at 402h, where SeaBIOS logs; what goes out there as well is what a device answers that is asked
//! whether it is one. Each character is an exit to the hypervisor, so by default only warnings and errors go out.

use crate::arch::pc::Pc;
use crate::arch::{Ports, cpu};
use crate::log_tail::Tail;
use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

/// The hypervisor's debug port.
pub const PORT: u16 = 0xe9;
/// The port of QEMU's debug console that SeaBIOS uses, and what it reads as (QEMU, hw/char/debugcon.c).
pub const OTHER_PORT: u16 = 0x402;
const OTHER_PORT_ANSWER: u8 = 0xe9;

/// Whether the other port is there: asked by the first message.
static OTHER: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const PRESENT: u8 = 2;

/// The last messages.
static TAIL: Mutex<Tail> = Mutex::new(Tail::new());

fn other_port() -> bool {
    if OTHER.load(Ordering::Relaxed) == UNKNOWN {
        let present = Pc.in8(OTHER_PORT) == OTHER_PORT_ANSWER;
        OTHER.store(if present { PRESENT } else { ABSENT }, Ordering::Relaxed);
    }
    OTHER.load(Ordering::Relaxed) == PRESENT
}

/// The last messages, oldest first.
pub fn tail() -> String {
    TAIL.lock().text()
}

/// A message's way out.
struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        DebugPort.write_str(text)?;
        if other_port() {
            Pc.out8_repeated(OTHER_PORT, text.as_bytes());
        }
        // A message from an exception may come while another one is written.
        match TAIL.try_lock() {
            Some(mut tail) => tail.write_str(text),
            None => Ok(()),
        }
    }
}

struct DebugPort;

impl Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            Pc.out8(PORT, byte);
        }
        Ok(())
    }
}

impl Log for DebugPort {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            // The debug port cannot fail.
            let _ = writeln!(Out, "firstlight: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Opens the log. Until the settings say otherwise, it carries warnings and errors.
pub fn start() {
    // A second logger is refused, and then the first one serves.
    let _ = log::set_logger(&DebugPort);
    log::set_max_level(LevelFilter::Warn);
}

/// Changes how much goes out, if the user said so.
pub fn set_level(level: Option<LevelFilter>) {
    if let Some(level) = level {
        log::set_max_level(level);
    }
}

/// Whether [`step_done`] says anything.
static REPORT_STEPS: AtomicBool = AtomicBool::new(false);

/// Whether the firmware reports each step on its way to the guest, for `cargo xtask bench`.
pub fn report_steps(on: bool) {
    REPORT_STEPS.store(on, Ordering::Relaxed);
}

/// Says that the step `name` is over, with the time-stamp counter, if that was asked for.
// A function of its own is what `cargo xtask bench --xen` recognises the end of a step by.
#[inline(never)]
pub fn step_done(name: &str) {
    if REPORT_STEPS.load(Ordering::Relaxed) {
        // The debug port cannot fail.
        let _ = writeln!(DebugPort, "step {name} {}", cpu::tsc());
    }
}
