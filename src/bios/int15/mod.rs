//! INT 15h: system services.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 15h; Ralf Brown's interrupt list.

pub mod block_move;
pub mod memory;
pub mod mouse;
pub mod wait;

use super::{Bios, ebda, ivt};
use crate::arch::{Frame, Hardware, Outcome, linear};
use crate::devices::pic;
use crate::low_memory::F_SEGMENT;
use spin::Mutex;

/// AH: the function is not supported.
pub const UNSUPPORTED: u8 = 0x86;

/// Serves one call.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    match frame.ah() {
        0x24 => a20(frame),
        // The keyboard's intercept: the key goes on unchanged.
        0x4f => frame.set_carry(true),
        // A medium may be removed: nobody here objects.
        0x52 => frame.succeed(),
        0x53 => return super::apm::serve(bios, hw, frame),
        0x83 => wait::event(hw, frame),
        0x86 => return wait::wait(bios, hw, frame),
        0x87 => block_move::serve(bios, hw, frame),
        0x88 => memory::below_64m(bios, frame),
        0x89 => return protected_mode(bios, hw, frame),
        // Device busy, and interrupt complete: hooks for multitaskers, which need no work of ours.
        0x85 | 0x90 | 0x91 => frame.succeed(),
        0xc0 => {
            frame.es = ivt::SEGMENT;
            frame.set_bx(ivt::entry::CONFIG_TABLE);
            frame.succeed();
        }
        0xc1 => {
            frame.es = ebda::segment(hw);
            frame.set_carry(false);
        }
        0xc2 => mouse::serve(hw, frame),
        0xe8 => memory::serve(bios, hw, frame),
        _ => frame.fail(UNSUPPORTED),
    }
    Outcome::Return
}

/// Leaves for protected mode with the caller's descriptors at ES:SI, of which the eighth is ours to fill, and the interrupt
/// controllers' vectors from BH and BL on, all lines held back (IBM AT technical reference, system BIOS).
fn protected_mode<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) -> Outcome {
    const OUR_CODE: u64 = 7 * 8;
    /// 16-bit code of 64 KiB, accessed, readable.
    const CODE_AT_0: u64 = 0x0000_9b00_0000_ffff;
    let descriptor = CODE_AT_0 | F_SEGMENT.start << 16;
    hw.write64(linear(frame.es, frame.si()) + OUR_CODE, descriptor);
    pic::init_at(hw, [frame.bh(), frame.bl()], 0);
    frame.a20_off = 0;
    Outcome::Chain {
        segment: ivt::SEGMENT,
        offset: bios.lock().services.entries.to_protected_mode,
    }
}

/// The gate itself is the bridge's: with A20 closed, 64-bit code would not even find its own memory.
fn a20(frame: &mut Frame) {
    match frame.al() {
        0x00 => frame.a20_off = 1,
        0x01 => frame.a20_off = 0,
        0x02 => frame.set_al(u8::from(frame.a20_off == 0)),
        // Both the keyboard controller and port 92h switch the gate.
        0x03 => frame.set_bx(0x0003),
        _ => return frame.fail(UNSUPPORTED),
    }
    frame.succeed();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::frame;
    use crate::bios::tests::bios;

    fn call(ax: u32) -> Frame {
        let hw = Fake::default();
        let mut frame = Frame {
            eax: ax,
            ..Frame::default()
        };
        assert_eq!(serve(&bios(), &hw, &mut frame), Outcome::Return);
        frame
    }

    #[test]
    fn unknown_functions_say_so() {
        let frame = call(0x7700);
        assert_eq!((frame.ah(), frame.flags & frame::CARRY), (0x86, 1));
        assert_eq!(call(0x2477).ah(), 0x86);
    }

    #[test]
    fn the_keyboard_intercept_passes_the_key_on() {
        let frame = call(0x4f1e);
        assert_eq!((frame.ax(), frame.flags & frame::CARRY), (0x4f1e, 1));
    }

    #[test]
    fn the_configuration_table_is_where_programs_look() {
        let frame = call(0xc000);
        assert_eq!((frame.es, frame.bx(), frame.ah()), (0xf000, 0xe6f5, 0));
    }
}
