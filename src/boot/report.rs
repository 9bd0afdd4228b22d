//! What the user sees when nothing could be booted.

use super::candidate::{Candidate, Reason};
use crate::arch::{Hardware, RealRegs};
use alloc::format;
use alloc::string::String;

/// COM1.
const SERIAL: u16 = 0x3f8;
/// Offset of the line status register.
const LINE_STATUS: u16 = 5;
/// Line status: the transmitter takes a byte.
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// A byte at 9600 baud takes about a millisecond.
const BYTE_US: u64 = 2000;

/// What was tried, why each failed, and what happens now.
pub fn text(failures: &[(Candidate, Reason)]) -> String {
    let mut text = String::from("\r\nNothing could be booted.\r\n");
    if failures.is_empty() {
        text += "This machine has no disk, CD drive or network card to boot from.\r\n";
    }
    for (candidate, reason) in failures {
        text += &format!("  {}: {reason}\r\n", candidate.name);
    }
    text += "Press a key to restart, or wait 60 seconds.\r\n";
    text
}

/// Writes `text` to the screen and to COM1, unless the console is `mirrored` there anyway.
pub fn show<H: Hardware>(hw: &H, text: &str, mirrored: bool) {
    const TELETYPE: u32 = 0x0e00;
    const LIGHT_GREY: u32 = 7;
    for byte in text.bytes() {
        let mut regs = RealRegs {
            eax: TELETYPE | u32::from(byte),
            ebx: LIGHT_GREY,
            ..RealRegs::default()
        };
        hw.call_int(0x10, &mut regs);
    }
    if !mirrored {
        write_serial(hw, text);
    }
}

/// Writes to COM1 as long as it takes bytes: a port that is not there reads as all ones or never gets ready.
fn write_serial<H: Hardware>(hw: &H, text: &str) {
    if hw.in8(SERIAL + LINE_STATUS) == 0xff {
        return;
    }
    for byte in text.bytes() {
        let ready = hw.wait_for(BYTE_US, || {
            (hw.in8(SERIAL + LINE_STATUS) & TRANSMITTER_EMPTY != 0).then_some(())
        });
        if ready.is_none() {
            return;
        }
        hw.out8(SERIAL, byte);
    }
}
