//! The log: the debug port 0xE9, which QEMU shows with `-debugcon` and Xen in `xl dmesg`.
//!
//! Each character is an exit to the hypervisor, so by default only warnings and errors go out.

use crate::arch::pc::Pc;
use crate::arch::{Ports, cpu};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use log::{LevelFilter, Log, Metadata, Record};

/// The hypervisor's debug port.
const PORT: u16 = 0xe9;

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
            let _ = writeln!(DebugPort, "firstlight: {}", record.args());
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
