//! Processor exceptions in real mode, whose vectors lead to the BIOS where no guest has taken them. A BIOS can do no more than
//! say what happened: the program goes on where it was, and where that makes it fault again it hangs.

use super::Bios;
use crate::arch::Frame;
use crate::arch::abi::NO_INTERRUPT;
use spin::Mutex;

/// What a spurious interrupt of the first controller comes in by.
const SPURIOUS: u16 = 0x0f;
const VECTORS: u16 = 32;

/// Which vectors were spoken of, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported(u32);

impl Reported {
    /// Whether `vector` (below 32) is here for the first time.
    fn is_new(&mut self, vector: u16) -> bool {
        let before = self.0;
        self.0 |= 1 << vector;
        before != self.0
    }
}

/// What an exception is called (AMD64 manual volume 2, 8.2), if real mode has it and its vector leads here.
fn name(vector: u16) -> Option<&'static str> {
    Some(match vector {
        0x00 => "divide error",
        0x06 => "invalid opcode",
        0x0c => "stack fault",
        0x0d => "general protection fault",
        _ => return None,
    })
}

/// Says once for each vector what came in by it and where.
pub fn report(bios: &Mutex<Bios>, frame: &Frame) {
    let vector = frame.vector - NO_INTERRUPT;
    if vector == SPURIOUS || vector >= VECTORS {
        return;
    }
    if !bios.lock().services.faults.is_new(vector) {
        return;
    }
    let (cs, ip) = (frame.cs, frame.ip);
    match name(vector) {
        Some(name) => log::error!("{name} (INT {vector:02X}h) at {cs:04X}:{ip:04X}"),
        None => log::warn!("INT {vector:02X}h without an interrupt at {cs:04X}:{ip:04X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;

    #[test]
    fn each_vector_is_spoken_of_once() {
        let mut reported = Reported::default();
        assert!(reported.is_new(13));
        assert!(reported.is_new(31));
        assert!(!reported.is_new(13));
    }

    #[test]
    fn spurious_interrupts_are_nothing_to_speak_of() {
        let (bios, hw) = (bios(), Fake::default());
        for vector in [SPURIOUS, 0x0d] {
            let mut frame = Frame {
                vector: NO_INTERRUPT + vector,
                eax: 0x1234,
                ..Frame::default()
            };
            crate::bios::dispatch(&bios, &hw, &mut frame);
            assert_eq!((frame.eax, frame.flags), (0x1234, 0));
        }
        assert_eq!(bios.lock().services.faults, Reported(1 << 13));
    }
}
