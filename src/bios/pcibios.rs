//! INT 1Ah AH=B1h: the PCI BIOS in real mode.
//!
//! Registers are reached by ports CF8h and CFCh even where there is a memory-mapped way, since the guest may move that.
//!
//! Source: PCI BIOS Specification 2.1.

use super::Bios;
use crate::arch::{Frame, Hardware, PhysMem, linear};
use crate::devices::pci::{Bdf, ConfigAccess, PciDevice};
use alloc::vec::Vec;
use spin::Mutex;

/// Status: no such function.
pub const UNSUPPORTED: u8 = 0x81;
/// Status: no vendor has that number.
pub const BAD_VENDOR: u8 = 0x83;
/// Status: no such PCI function.
pub const NOT_FOUND: u8 = 0x86;
/// Status: no such register.
pub const BAD_REGISTER: u8 = 0x87;
const BUFFER_TOO_SMALL: u8 = 0x89;

/// What is served, in BCD: 2.1.
pub const VERSION: u16 = 0x0210;
/// How configuration space is reached: by ports CF8h and CFCh.
pub const MECHANISM: u8 = 1 << 0;
/// "PCI ".
pub const SIGNATURE: u32 = 0x2049_4350;
/// Bytes a slot takes in the interrupt routing table.
const SLOT_SIZE: u64 = 16;
/// Offset of the slots in the interrupt routing table.
const SLOTS: u64 = 32;

/// Serves one call.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) {
    let bios = bios.lock();
    let machine = &bios.machine;
    let result = match frame.al() {
        0x01 => {
            frame.set_al(MECHANISM);
            frame.set_bx(VERSION);
            frame.set_cl(machine.last_pci_bus());
            frame.edx = SIGNATURE;
            Ok(())
        }
        0x02 if frame.dx() == 0xffff => Err(BAD_VENDOR),
        0x02 => {
            let (vendor, device) = (frame.dx(), frame.cx());
            find(&machine.pci, frame, |found| found.is(vendor, device))
        }
        0x03 => {
            let class = frame.ecx & 0xff_ffff;
            find(&machine.pci, frame, |found| found.class == class)
        }
        0x08..=0x0d => access(hw, frame),
        0x0e => routing_options(hw, frame, bios.services.routing_table),
        _ => Err(UNSUPPORTED),
    };
    match result {
        Ok(()) => frame.succeed(),
        Err(status) => frame.fail(status),
    }
}

/// Puts the address of the SI-th function that `matches`, in the order of addresses, into BX.
fn find(
    devices: &[PciDevice],
    frame: &mut Frame,
    matches: impl Fn(&PciDevice) -> bool,
) -> Result<(), u8> {
    let mut found: Vec<Bdf> = devices
        .iter()
        .filter(|device| matches(device))
        .map(|device| device.bdf)
        .collect();
    firstlight_tables::sort::by_key(&mut found, |bdf| *bdf);
    let bdf = found.get(usize::from(frame.si())).ok_or(NOT_FOUND)?;
    frame.set_bx(bdf.0);
    Ok(())
}

fn access(hw: &impl Hardware, frame: &mut Frame) -> Result<(), u8> {
    let (bdf, register) = (Bdf(frame.bx()), frame.di());
    let width = 1 << ((frame.al() - 0x08) % 3);
    if register > 0xff || register % width != 0 {
        return Err(BAD_REGISTER);
    }
    let config = ConfigAccess::Ports;
    match frame.al() {
        0x08 => frame.set_cl(config.read8(hw, bdf, register)),
        0x09 => frame.set_cx(config.read16(hw, bdf, register)),
        0x0a => frame.ecx = config.read32(hw, bdf, register),
        0x0b => config.write8(hw, bdf, register, frame.cl()),
        0x0c => config.write16(hw, bdf, register, frame.cx()),
        _ => config.write32(hw, bdf, register, frame.ecx),
    }
    Ok(())
}

/// Copies the routing table's slots to the caller's buffer, which ES:DI describes: size, then offset and segment.
fn routing_options(hw: &impl PhysMem, frame: &mut Frame, routing: Option<u64>) -> Result<(), u8> {
    let table = routing.ok_or(UNSUPPORTED)?;
    let description = linear(frame.es, frame.di());
    let room = hw.read16(description);
    let size = hw.read16(table + 6).saturating_sub(SLOTS as u16);
    hw.write16(description, size);
    if room < size {
        return Err(BUFFER_TOO_SMALL);
    }
    let target = linear(hw.read16(description + 4), hw.read16(description + 2));
    for slot in 0..u64::from(size) / SLOT_SIZE {
        let bytes: [u8; SLOT_SIZE as usize] = hw.read_as(table + SLOTS + slot * SLOT_SIZE);
        hw.write(target + slot * SLOT_SIZE, &bytes);
    }
    frame.set_bx(hw.read16(table + 10));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::frame::CARRY;
    use crate::bios::tests::bios;

    fn call(hw: &Fake, frame: &mut Frame) {
        serve(&bios(), hw, frame);
    }

    #[test]
    fn says_that_it_is_there() {
        let mut frame = Frame {
            eax: 0xb101,
            ..Frame::default()
        };
        call(&Fake::default(), &mut frame);
        assert_eq!((frame.ax(), frame.bx(), frame.edx), (1, 0x210, SIGNATURE));
        assert_eq!(frame.flags & CARRY, 0);
    }

    #[test]
    fn misaligned_and_unknown_are_errors() {
        let hw = Fake::default();
        for (ax, di, status) in [
            (0xb109, 1, BAD_REGISTER),
            (0xb10a, 2, BAD_REGISTER),
            (0xb108, 0x100, BAD_REGISTER),
            (0xb177, 0, UNSUPPORTED),
            (0xb103, 0, NOT_FOUND),
        ] {
            let mut frame = Frame {
                eax: ax,
                edi: di,
                ..Frame::default()
            };
            call(&hw, &mut frame);
            assert_eq!((frame.ah(), frame.flags & CARRY), (status, CARRY));
        }
    }

    #[test]
    fn reads_go_to_the_right_byte() {
        let hw = Fake::default();
        hw.script_port(0xcfe, &[0x5a]);
        let mut frame = Frame {
            eax: 0xb108,
            ebx: 0x0108,
            edi: 0x3e,
            ..Frame::default()
        };
        call(&hw, &mut frame);
        assert_eq!(frame.cl(), 0x5a);
        assert_eq!(*hw.port_writes.borrow(), [(0xcf8, 0x8001_083c)]);
    }

    #[test]
    fn routing_table_is_copied_when_it_fits() {
        let hw = Fake::default();
        hw.write16(0xf5506, 64);
        hw.write16(0xf550a, 0x0e00);
        hw.write(0xf5520, b"0123456789abcdefghijklmnopqrstuv");
        let mut frame = Frame {
            es: 0x1000,
            ..Frame::default()
        };
        assert_eq!(
            routing_options(&hw, &mut frame, Some(0xf5500)),
            Err(BUFFER_TOO_SMALL)
        );
        assert_eq!(hw.read16(0x10000), 32);
        hw.write16(0x10004, 0x2000);
        assert_eq!(routing_options(&hw, &mut frame, Some(0xf5500)), Ok(()));
        assert_eq!(hw.read8(0x2001f), b'v');
        assert_eq!(frame.bx(), 0x0e00);
    }
}
