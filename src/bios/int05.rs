//! INT 05h: print screen.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 05h.

use super::bda::Bda;
use crate::arch::{Hardware, RealRegs, frame};

const BUSY: u8 = 1;
const DONE: u8 = 0;
const FAILED: u8 = 0xff;
/// INT 17h status: out of paper, error, or time over.
const PRINTER_TROUBLE: u8 = 0x29;
/// The most columns and rows a text screen has; what the data area says beyond that is nonsense.
const MOST: u16 = 255;

/// Prints the text screen on LPT1, and says at 0050:0000 how that went.
///
/// Characters and printer are reached through INT 10h and INT 17h, so that a guest's own handlers are used.
pub fn serve(hw: &impl Hardware) {
    let status = Bda::print_screen();
    if status.get(hw) == BUSY {
        return;
    }
    status.set(hw, BUSY);
    status.set(hw, if print_screen(hw) { DONE } else { FAILED });
}

fn print_screen(hw: &impl Hardware) -> bool {
    if Bda::lpt_ports().get(hw)[0] == 0 {
        return false;
    }
    let columns = Bda::video_columns().get(hw).min(MOST);
    let rows = u16::from(Bda::video_rows().get(hw)) + 1;
    let page = u32::from(Bda::video_page().get(hw)) << 8;
    let cursor = Bda::cursor_positions().get(hw)[usize::from(Bda::video_page().get(hw) & 7)];
    let mut printed = true;
    'screen: for row in 0..rows {
        for column in 0..columns {
            video(hw, 0x0200, page, row << 8 | column);
            let character = match video(hw, 0x0800, page, 0) as u8 {
                0 => b' ',
                other => other,
            };
            printed = print(hw, character);
            if !printed {
                break 'screen;
            }
        }
        printed = print(hw, b'\r') && print(hw, b'\n');
        if !printed {
            break;
        }
    }
    video(hw, 0x0200, page, cursor);
    printed
}

fn video(hw: &impl Hardware, ax: u32, page: u32, position: u16) -> u32 {
    let mut regs = RealRegs {
        eax: ax,
        ebx: page,
        edx: position.into(),
        flags: frame::INTERRUPT,
        ..RealRegs::default()
    };
    hw.call_int(0x10, &mut regs);
    regs.eax
}

fn print(hw: &impl Hardware, character: u8) -> bool {
    let mut regs = RealRegs {
        eax: character.into(),
        flags: frame::INTERRUPT,
        ..RealRegs::default()
    };
    hw.call_int(0x17, &mut regs);
    (regs.eax >> 8) as u8 & PRINTER_TROUBLE == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn prints_every_character_and_row() {
        let hw = Fake::default();
        Bda::lpt_ports().set(&hw, [0x378, 0, 0]);
        Bda::video_columns().set(&hw, 3);
        Bda::video_rows().set(&hw, 1);
        serve(&hw);
        let calls = hw.real_calls.borrow();
        assert_eq!(calls.iter().filter(|c| c.0 == Some(0x17)).count(), 2 * 5);
        assert_eq!(Bda::print_screen().get(&hw), DONE);
    }

    #[test]
    fn no_printer_is_a_failure_at_once() {
        let hw = Fake::default();
        serve(&hw);
        assert_eq!(Bda::print_screen().get(&hw), FAILED);
        assert!(hw.real_calls.borrow().is_empty());
    }
}
