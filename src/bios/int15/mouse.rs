//! INT 15h AH=C2h: the PS/2 mouse, and INT 74h, its interrupt.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 15h, AH=C2h.

use crate::arch::{Frame, Hardware, RealRegs};
use crate::bios::ebda::{self, Ebda, MOUSE_HANDLER_SET};
use crate::devices::{pic, ps2};

/// AH: a subfunction's argument is wrong.
const BAD_INPUT: u8 = 0x02;
/// AH: the mouse or its controller does not answer.
const INTERFACE: u8 = 0x03;
/// AH: no handler is installed.
const NO_HANDLER: u8 = 0x05;
/// AH: the subfunction does not exist.
const BAD_FUNCTION: u8 = 0x01;

/// Mouse command: scaling 1:1.
const SCALING_1: u8 = 0xe6;
/// Mouse command: scaling 2:1.
const SCALING_2: u8 = 0xe7;
/// Mouse command: resolution.
const RESOLUTION: u8 = 0xe8;
/// Mouse command: status.
const STATUS: u8 = 0xe9;
/// Mouse command: device ID.
const IDENTIFY: u8 = 0xf2;
/// Mouse command: reports a second.
const SAMPLE_RATE: u8 = 0xf3;
/// Mouse command: start reporting.
const ENABLE: u8 = 0xf4;
/// Mouse command: stop reporting.
const DISABLE: u8 = 0xf5;
/// Mouse command: self test.
const RESET: u8 = 0xff;

/// Reports a second by number, for AL=02h.
const RATES: [u8; 7] = [10, 20, 40, 60, 80, 100, 200];

/// What a subfunction failed with: the status for AH.
type Result<T> = core::result::Result<T, u8>;

/// Serves one call.
pub fn serve(hw: &impl Hardware, frame: &mut Frame) {
    let result = match frame.al() {
        0x00 => enable(hw, frame.bh()),
        0x01 => reset(hw, frame),
        0x02 => sample_rate(hw, frame.bh()),
        0x03 => resolution(hw, frame.bh()),
        0x04 => identify(hw, frame),
        0x05 => initialise(hw, frame),
        0x06 => extended(hw, frame),
        0x07 => {
            set_handler(hw, [frame.bx(), frame.es]);
            Ok(())
        }
        _ => Err(BAD_FUNCTION),
    };
    match result {
        Ok(()) => frame.succeed(),
        Err(status) => frame.fail(status),
    }
}

fn command<const N: usize>(hw: &impl Hardware, interrupt: bool, bytes: &[u8]) -> Result<[u8; N]> {
    ps2::with_mouse(hw, interrupt, |hw| {
        let mut answer = [0; N];
        ps2::mouse_command(hw, bytes, &mut answer)?;
        Ok(answer)
    })
    .map_err(|error| match error {
        ps2::Error::Resend => 0x04,
        _ => INTERFACE,
    })
}

/// Whether the mouse's interrupt is on: as long as a handler is installed.
fn handler_set(hw: &impl Hardware) -> bool {
    ebda::field(hw, Ebda::mouse_flags()).get(hw) & MOUSE_HANDLER_SET != 0
}

fn enable(hw: &impl Hardware, on: u8) -> Result<()> {
    match on {
        0 => command::<0>(hw, false, &[DISABLE])?,
        1 => {
            if !handler_set(hw) {
                return Err(NO_HANDLER);
            }
            ebda::field(hw, Ebda::mouse_index()).set(hw, 0);
            pic::unmask(hw, pic::irq::MOUSE);
            command::<0>(hw, true, &[ENABLE])?
        }
        _ => return Err(BAD_INPUT),
    };
    Ok(())
}

fn reset(hw: &impl Hardware, frame: &mut Frame) -> Result<()> {
    let [passed, id] = command(hw, false, &[RESET])?;
    frame.set_bl(passed);
    frame.set_bh(id);
    Ok(())
}

fn sample_rate(hw: &impl Hardware, number: u8) -> Result<()> {
    let rate = RATES.get(usize::from(number)).ok_or(BAD_INPUT)?;
    command::<0>(hw, handler_set(hw), &[SAMPLE_RATE, *rate])?;
    Ok(())
}

fn resolution(hw: &impl Hardware, value: u8) -> Result<()> {
    if value > 3 {
        return Err(BAD_INPUT);
    }
    command::<0>(hw, handler_set(hw), &[RESOLUTION, value])?;
    Ok(())
}

fn identify(hw: &impl Hardware, frame: &mut Frame) -> Result<()> {
    let [id] = command(hw, handler_set(hw), &[IDENTIFY])?;
    frame.set_bh(id);
    Ok(())
}

fn initialise(hw: &impl Hardware, frame: &mut Frame) -> Result<()> {
    let size = frame.bh();
    if !(1..=8).contains(&size) {
        return Err(BAD_INPUT);
    }
    ebda::field(hw, Ebda::mouse_index()).set(hw, 0);
    ebda::field(hw, Ebda::mouse_flags()).update(hw, |flags| flags & !7 | (size - 1));
    reset(hw, frame)
}

fn extended(hw: &impl Hardware, frame: &mut Frame) -> Result<()> {
    match frame.bh() {
        0 => {
            let [status, resolution, rate] = command(hw, handler_set(hw), &[STATUS])?;
            frame.set_bl(status);
            frame.set_cl(resolution);
            frame.set_dl(rate);
            Ok(())
        }
        1 => command::<0>(hw, handler_set(hw), &[SCALING_1]).map(drop),
        2 => command::<0>(hw, handler_set(hw), &[SCALING_2]).map(drop),
        _ => Err(BAD_INPUT),
    }
}

fn set_handler(hw: &impl Hardware, handler: [u16; 2]) {
    ebda::field(hw, Ebda::mouse_handler()).set(hw, handler);
    let set = if handler == [0, 0] {
        0
    } else {
        MOUSE_HANDLER_SET
    };
    ebda::field(hw, Ebda::mouse_flags()).update(hw, |flags| flags & !MOUSE_HANDLER_SET | set);
}

/// INT 74h: takes one byte of a packet, and gives a whole packet to the guest's handler.
pub fn interrupt(hw: &impl Hardware) {
    if let Some(status) = ps2::status(hw)
        && status & (ps2::OUTPUT_FULL | ps2::FROM_MOUSE) == ps2::OUTPUT_FULL | ps2::FROM_MOUSE
    {
        let byte = ps2::data(hw);
        if let Some((handler, packet)) = collect(hw, byte) {
            // The handler may take long and enables interrupts, so this one has to be over first.
            pic::end_of_interrupt(hw, pic::irq::MOUSE);
            let mut regs = RealRegs {
                ip: handler[0],
                cs: handler[1],
                ..RealRegs::default()
            };
            hw.call_far_with(&mut regs, &packet);
            return;
        }
    }
    pic::end_of_interrupt(hw, pic::irq::MOUSE);
}

/// Adds `byte` to the packet; the handler and its four stack words (status, X, Y, Z) when the packet is complete.
fn collect(hw: &impl Hardware, byte: u8) -> Option<([u16; 2], [u16; 4])> {
    let flags = ebda::field(hw, Ebda::mouse_flags()).get(hw);
    if flags & MOUSE_HANDLER_SET == 0 {
        return None;
    }
    let index_field = ebda::field(hw, Ebda::mouse_index());
    let index = index_field.get(hw) & 7;
    let data = ebda::field(hw, Ebda::mouse_data());
    data.element(index.into())?.set(hw, byte);
    if index < flags & 7 {
        index_field.update(hw, |old| old & !7 | (index + 1));
        return None;
    }
    index_field.update(hw, |old| old & !7);
    let data = data.get(hw);
    let handler = ebda::field(hw, Ebda::mouse_handler()).get(hw);
    // The handler finds status at the highest address: it is pushed first.
    let words = if flags & 7 == 7 {
        // Eight-byte packets carry a word each.
        [0, 2, 4, 6].map(|at| u16::from_le_bytes([data[at], data[at + 1]]))
    } else {
        let sized = [0, 1, 2, 3].map(|at| {
            if at <= flags & 7 {
                data[usize::from(at)]
            } else {
                0
            }
        });
        sized.map(u16::from)
    };
    Some((handler, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::bda::Bda;

    fn machine() -> Fake {
        let hw = Fake::default();
        Bda::ebda_segment().set(&hw, ebda::SEGMENT);
        hw
    }

    #[test]
    fn a_packet_reaches_the_handler() {
        let hw = machine();
        set_handler(&hw, [0x10, 0x2000]);
        ebda::field(&hw, Ebda::mouse_flags()).update(&hw, |flags| flags | 2);
        assert_eq!(collect(&hw, 0x08), None);
        assert_eq!(collect(&hw, 5), None);
        assert_eq!(
            collect(&hw, 0xfb),
            Some(([0x10, 0x2000], [0x08, 5, 0xfb, 0]))
        );
        assert_eq!(collect(&hw, 1), None);
    }

    #[test]
    fn wrong_arguments_touch_no_device() {
        let hw = machine();
        for (ax, bx, status) in [
            (0xc200, 0x200, BAD_INPUT),
            (0xc200, 0x100, NO_HANDLER),
            (0xc202, 0x700, BAD_INPUT),
            (0xc203, 0x400, BAD_INPUT),
            (0xc205, 0x900, BAD_INPUT),
            (0xc209, 0, BAD_FUNCTION),
        ] {
            let mut frame = Frame {
                eax: ax,
                ebx: bx,
                ..Frame::default()
            };
            serve(&hw, &mut frame);
            assert_eq!(frame.ah(), status, "AX={ax:04x}");
        }
        assert!(hw.port_writes.borrow().is_empty());
    }

    #[test]
    fn without_a_controller_the_interface_fails() {
        let hw = machine();
        let mut frame = Frame {
            eax: 0xc201,
            ..Frame::default()
        };
        serve(&hw, &mut frame);
        assert_eq!(frame.ah(), INTERFACE);
    }
}
