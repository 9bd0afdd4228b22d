//! INT 15h AH=87h: copy a block between any two places below 4 GiB.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, interrupt 15h, AH=87h.

use crate::arch::{Frame, Hardware, PhysMem, linear};
use crate::bios::Bios;
use crate::bios::buffer::Buffers;
use spin::Mutex;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// AH: an exception happened, as a real copy in protected mode would give for a block outside its segment.
const EXCEPTION: u8 = 0x02;

/// A segment descriptor (Intel SDM volume 3A, section 3.4.5).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Descriptor {
    limit_low: u16,
    base_low: u16,
    base_middle: u8,
    access: u8,
    limit_high_and_flags: u8,
    base_high: u8,
}

impl Descriptor {
    fn base(&self) -> u64 {
        u32::from_le_bytes([
            self.base_low as u8,
            (self.base_low >> 8) as u8,
            self.base_middle,
            self.base_high,
        ])
        .into()
    }

    /// Bytes in the segment.
    fn size(&self) -> u64 {
        let limit = u64::from(self.limit_low) | u64::from(self.limit_high_and_flags & 0x0f) << 16;
        if self.limit_high_and_flags & 0x80 == 0 {
            limit + 1
        } else {
            (limit + 1) << 12
        }
    }
}

/// Copies CX words from the segment of descriptor 2 to that of descriptor 3 in the table at ES:SI.
pub fn serve<H: Hardware>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame) {
    let table = linear(frame.es, frame.si());
    let [source, target]: [Descriptor; 2] = hw.read_as(table + 0x10);
    let len = u64::from(frame.cx()) * 2;
    let buffers = Buffers::of(&bios.lock().machine);
    let allowed = buffers.outside_firmware(target.base(), len).is_some();
    if len > source.size() || len > target.size() || !allowed {
        frame.fail(EXCEPTION);
        return;
    }
    move_words(hw, source.base(), target.base(), len);
    frame.succeed();
}

/// Copies forwards as `rep movsw` does: where the target begins inside the source, its bytes repeat.
fn move_words(hw: &impl PhysMem, source: u64, target: u64, len: u64) {
    let distance = target.wrapping_sub(source);
    if distance == 0 || len == 0 {
        return;
    }
    if distance >= len && source.wrapping_sub(target) >= len {
        hw.copy(target, source, len);
        return;
    }
    for offset in (0..len).step_by(2) {
        hw.write16(target + offset, hw.read16(source + offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::frame::CARRY;
    use crate::bios::tests::bios;

    fn call(hw: &Fake, limit: u16, source: u32, target: u32, words: u16) -> Frame {
        for (at, base) in [(0x1010, source), (0x1018, target)] {
            let base = base.to_le_bytes();
            hw.write16(at, limit);
            hw.write(at + 2, &[base[0], base[1], base[2], 0x93, 0, base[3]]);
        }
        let bios = bios();
        bios.lock().machine.resident = 0x700_0000..0x800_0000;
        let mut frame = Frame {
            eax: 0x8700,
            ecx: words.into(),
            es: 0x100,
            ..Frame::default()
        };
        serve(&bios, hw, &mut frame);
        frame
    }

    #[test]
    fn copies_above_one_megabyte() {
        let hw = Fake::default();
        hw.write(0x8000, b"firstlight");
        let frame = call(&hw, 0xffff, 0x8000, 0x1234_5678, 5);
        assert_eq!((frame.ah(), frame.flags & CARRY), (0, 0));
        let mut copy = [0; 10];
        hw.read(0x1234_5678, &mut copy);
        assert_eq!(&copy, b"firstlight");
    }

    #[test]
    fn overlapping_blocks_move_as_words_do() {
        let hw = Fake::default();
        hw.write(0x8000, b"abcdef");
        call(&hw, 0xffff, 0x8000, 0x8002, 3);
        assert_eq!(hw.read32(0x8004).to_le_bytes(), *b"abab");
        hw.write(0x8000, b"abcdef");
        call(&hw, 0xffff, 0x8002, 0x8000, 2);
        assert_eq!(hw.read32(0x8000).to_le_bytes(), *b"cdef");
    }

    #[test]
    fn short_segments_and_our_memory_are_refused() {
        let hw = Fake::default();
        assert_eq!(call(&hw, 7, 0x8000, 0x9000, 5).ah(), EXCEPTION);
        assert_eq!(call(&hw, 0xffff, 0x8000, 0x6ff_fffe, 2).ah(), EXCEPTION);
        assert_eq!(call(&hw, 0xffff, 0x8000, 0x6ff_fffc, 2).ah(), 0);
    }
}
