//! The map of the first MiB: the one home of each address there. docs/memory-map.md says what the guest sees of it.

use core::ops::Range;

use crate::units::{KIB, MIB};
use firstlight_tables::e820::{E820Map, Full, Kind};

/// Interrupt vector table.
pub const VECTORS: Range<u64> = 0..0x400;
/// BIOS data area, with the print screen status behind it.
pub const BDA: Range<u64> = 0x400..0x501;
/// What a firmware module reads that Xen's toolstack gave: a page that is the guest's otherwise.
pub const MODULE_INFO: Range<u64> = 0x1000..0x2000;
/// The last instructions before a firmware module, likewise.
pub const HANDOFF: Range<u64> = 0x2000..0x3000;
/// Stack for option ROMs, in segment 0: ROMs reach 32-bit addresses by SS, as SeaBIOS lets them, and must find them there.
/// This is borrowed from whoever uses that memory.
pub const ROM_STACK: Range<u64> = 0x6000..0x7000;
/// One sector for the diskette controller, which reaches little of the memory: borrowed from whoever uses it, with interrupts off.
pub const FLOPPY_SECTOR: Range<u64> = 0x7000..0x7200;
/// Top of the stack of the code before 64-bit mode, when nothing else is in memory.
pub const EARLY_STACK_TOP: u64 = 0x7000;
/// The boot sector, and the top of its first stack.
pub const BOOT_SECTOR: u64 = 0x7c00;
/// The end of what vectors, data areas and first stacks take.
pub const FIRST_FREE: u64 = 0x8000;
/// Conventional memory that is lent to option ROMs until the boot: above what they take for granted, below the EBDA and what
/// they put there.
pub const LENT: Range<u64> = 0x3_0000..0x8_0000;
/// Xen's `hvm_info_table` (public header hvm/hvm_info_table.h), until the EBDA is made.
pub const HVM_INFO: u64 = 0x9_f800;
/// The extended BIOS data area, which option ROMs may move.
pub const EBDA: Range<u64> = 0x9_fc00..0xa_0000;
/// Video memory.
pub const VIDEO: Range<u64> = 0xa_0000..0xc_0000;
/// Characters and colours of the screen in text modes, in colour and not.
pub const COLOUR_TEXT: u64 = 0xb_8000;
pub const MONOCHROME_TEXT: u64 = 0xb_0000;
/// Option ROMs, the VGA card's first.
pub const OPTION_ROMS: Range<u64> = 0xc_0000..0xe_c000;
/// What stays writable when a guest runs, the smallest part that the chip sets know: all that follows up to the F segment.
pub const WRITABLE: Range<u64> = 0xe_c000..0xf_0000;
/// Stack for the guest's handlers that the firmware calls.
pub const HANDLER_STACK: Range<u64> = 0xe_c000..0xe_d800;
/// What is lent to option ROMs for good: little, which no guest takes for its own, and where ROMs write even after the boot. VGA
/// ROMs put a stack of 512 bytes there.
pub const LENT_FOR_GOOD: Range<u64> = 0xe_d800..0xe_f000;
/// The variables of the firmware's 16-bit code, and the stack of a machine that wakes up behind them.
pub const VARIABLES: Range<u64> = 0xe_f000..0xf_0000;
/// Segment F000h.
pub const F_SEGMENT: Range<u64> = 0xf_0000..MIB;
/// Tables that guests scan for.
pub const TABLES: Range<u64> = 0xf_0000..0xf_c000;
/// The firmware's 16-bit code.
pub const CODE: Range<u64> = 0xf_c000..MIB;
/// Where application processors start, a page that a start-up message can name.
pub const AP_START: u64 = 0xf_d000;

const _: () = {
    let parts = [HANDLER_STACK, LENT_FOR_GOOD, VARIABLES, TABLES, CODE];
    let mut at = WRITABLE.start;
    let mut index = 0;
    while index < parts.len() {
        assert!(parts[index].start == at);
        at = parts[index].end;
        index += 1;
    }
    assert!(at == F_SEGMENT.end);
    assert!(EBDA.end == VIDEO.start && VIDEO.end == OPTION_ROMS.start);
    assert!(OPTION_ROMS.end == WRITABLE.start && WRITABLE.end == F_SEGMENT.start);
    assert!(CODE.start < AP_START);
};

/// Offset in the F segment of physical address `addr` there.
pub const fn f_offset(addr: u64) -> u16 {
    assert!(addr >= F_SEGMENT.start && addr < F_SEGMENT.end);
    (addr - F_SEGMENT.start) as u16
}

/// KiB of RAM from address zero on that `map` gives the guest, as INT 12h tells.
pub fn conventional_kb(map: &E820Map) -> u16 {
    let first = map.entries().first();
    let ram = first.filter(|entry| entry.start == 0 && entry.kind == Kind::Ram);
    ram.map_or(0, |entry| (entry.end.min(VIDEO.start) / KIB) as u16)
}

/// Takes from the RAM in `map` what the guest may not have of the first MiB.
///
/// # Errors
/// The map is full.
pub fn keep(map: &mut E820Map) -> Result<(), Full> {
    map.remove(VIDEO.start..WRITABLE.end)?;
    map.insert(EBDA, Kind::Reserved)?;
    map.insert(F_SEGMENT, Kind::Reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventional_memory_ends_where_the_first_ram_does() {
        let mut map = E820Map::new();
        assert_eq!(conventional_kb(&map), 0);
        map.insert(0..64 * MIB, Kind::Ram).unwrap();
        assert_eq!(conventional_kb(&map), 640);
        keep(&mut map).unwrap();
        assert_eq!(conventional_kb(&map), 639);
        map.insert(0x1_2800..EBDA.start, Kind::Reserved).unwrap();
        assert_eq!(conventional_kb(&map), 74);
    }
}
