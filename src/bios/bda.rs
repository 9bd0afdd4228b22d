//! The BIOS data area: what BIOS and guest both read and write, at 0040:0000.
//!
//! Source: IBM PS/2 and PC BIOS Interface Technical Reference, section 3; Ralf Brown's memory list (MEMORY.LST).

use super::layout::layout;
use crate::arch::{PhysMem, linear};
use crate::low_memory::BDA;

/// Physical address of the BIOS data area.
pub const BASE: u64 = BDA.start;

layout! {
    /// The BIOS data area, with the print screen status at 0050:0000 behind it.
    Bda at BASE, 0x101 bytes;
    /// I/O ports of COM1 to COM4; 0 where there is none.
    0x00 com_ports: [u16; 4],
    /// I/O ports of LPT1 to LPT3; 0 where there is none.
    0x08 lpt_ports: [u16; 3],
    /// Segment of the extended BIOS data area.
    0x0e ebda_segment: u16,
    /// Equipment list, as INT 11h returns it; see the `EQUIPMENT_` bits.
    0x10 equipment: u16,
    /// POST status.
    0x12 post_status: u8,
    /// KiB of memory below the EBDA, as INT 12h returns it.
    0x13 memory_kb: u16,
    /// Not used.
    0x15 reserved_15: u16,
    /// Shift states; see the `SHIFT_` bits.
    0x17 shift: u8,
    /// Keys held down; see the `HELD_` bits.
    0x18 held: u8,
    /// The number typed so far with Alt and the keypad.
    0x19 alt_number: u8,
    /// Offset in segment 40h of the next key to read.
    0x1a keyboard_head: u16,
    /// Offset in segment 40h of the next free place.
    0x1c keyboard_tail: u16,
    /// The keyboard buffer's usual place.
    0x1e keyboard_buffer: [u16; 16],
    /// Diskette drives that need recalibration.
    0x3e floppy_recalibrate: u8,
    /// Diskette motors that run.
    0x3f floppy_motors: u8,
    /// Ticks until INT 08h turns the diskette motors off; 0 when they are.
    0x40 floppy_motor_ticks: u8,
    /// Status of the last diskette operation.
    0x41 floppy_status: u8,
    /// Result bytes of the diskette controller.
    0x42 floppy_result: [u8; 7],
    /// Video mode.
    0x49 video_mode: u8,
    /// Text columns.
    0x4a video_columns: u16,
    /// Bytes a video page.
    0x4c video_page_size: u16,
    /// Offset of the active page in video memory.
    0x4e video_page_start: u16,
    /// Cursor positions by page: column in the low byte, row in the high byte.
    0x50 cursor_positions: [u16; 8],
    /// Cursor shape: end line in the low byte, start line in the high byte.
    0x60 cursor_shape: u16,
    /// The active video page.
    0x62 video_page: u8,
    /// I/O port of the CRT controller.
    0x63 crtc_port: u16,
    /// CGA mode control register.
    0x65 crt_mode: u8,
    /// CGA colour select register.
    0x66 crt_palette: u8,
    /// Where to go after a reset with CMOS shutdown status 5 or Ah: offset, segment.
    0x67 restart_pointer: [u16; 2],
    /// Last unexpected interrupt.
    0x6b unexpected_interrupt: u8,
    /// Timer ticks since midnight.
    0x6c ticks: u32,
    /// Midnights passed since the ticks were last read.
    0x70 midnight: u8,
    /// Bit 7: Ctrl-Break was pressed.
    0x71 break_flag: u8,
    /// 1234h: skip the memory test at the next reset.
    0x72 reset_flag: u16,
    /// Status of the last hard disk operation.
    0x74 disk_status: u8,
    /// Number of hard disks.
    0x75 disk_count: u8,
    /// Hard disk control byte.
    0x76 disk_control: u8,
    /// Hard disk I/O port offset.
    0x77 disk_port: u8,
    /// Time-outs of LPT1 to LPT4.
    0x78 lpt_timeouts: [u8; 4],
    /// Time-outs of COM1 to COM4.
    0x7c com_timeouts: [u8; 4],
    /// Offset in segment 40h of the keyboard buffer.
    0x80 keyboard_start: u16,
    /// Offset in segment 40h of the keyboard buffer's end.
    0x82 keyboard_end: u16,
    /// Text rows minus one.
    0x84 video_rows: u8,
    /// Scan lines a character.
    0x85 character_height: u16,
    /// EGA and VGA options.
    0x87 video_options: u8,
    /// EGA and VGA feature bits and switches.
    0x88 video_switches: u8,
    /// VGA flags.
    0x89 vga_flags: u8,
    /// Index into the display combination table.
    0x8a display_combination: u8,
    /// Last diskette data rate.
    0x8b floppy_data_rate: u8,
    /// Hard disk controller status.
    0x8c disk_controller_status: u8,
    /// Hard disk error register.
    0x8d disk_error: u8,
    /// Hard disk interrupt flag; bit 7: complete.
    0x8e disk_interrupt: u8,
    /// Diskette drive information.
    0x8f floppy_info: u8,
    /// Media state of diskette drives 0 and 1, then their operation's start.
    0x90 floppy_media: [u8; 4],
    /// Current track of diskette drives 0 and 1.
    0x94 floppy_tracks: [u8; 2],
    /// Keyboard state; see the `KEYBOARD_` bits.
    0x96 keyboard_state: u8,
    /// Keyboard lamps in bits 2:0 (Scroll, Num, Caps).
    0x97 keyboard_lamps: u8,
    /// Far pointer to the byte that a timed wait sets: offset, segment.
    0x98 wait_flag: [u16; 2],
    /// Microseconds of the timed wait that are left.
    0x9c wait_left: u32,
    /// Bit 0: a timed wait runs; bit 7: it has elapsed.
    0xa0 wait_active: u8,
    /// Not used.
    0xa1 reserved_a1: [u8; 7],
    /// Far pointer to the video save pointer table.
    0xa8 video_save_pointer: u32,
    /// Not used.
    0xac reserved_ac: [u8; 84],
    /// Print screen status at 0050:0000: 0 done, 1 busy, FFh failed.
    0x100 print_screen: u8,
}

/// Equipment: diskette drives are there; how many more than one, and the lowest bit of that.
pub const EQUIPMENT_FLOPPY: u16 = 1 << 0;
pub const EQUIPMENT_FLOPPIES: u16 = 3 << 6;
pub const EQUIPMENT_FLOPPIES_SHIFT: u16 = 6;
/// Equipment: an x87 is there.
pub const EQUIPMENT_FPU: u16 = 1 << 1;
/// Equipment: a PS/2 mouse port is there.
pub const EQUIPMENT_MOUSE: u16 = 1 << 2;
/// Equipment: the video mode at start is 80 × 25 in colour.
pub const EQUIPMENT_COLOUR_80: u16 = 2 << 4;

/// Equipment: lowest bit of the number of serial ports.
pub const EQUIPMENT_SERIAL_SHIFT: u16 = 9;
/// Equipment: lowest bit of the number of parallel ports.
pub const EQUIPMENT_PARALLEL_SHIFT: u16 = 14;

/// Shift state: right Shift is down.
pub const SHIFT_RIGHT: u8 = 1 << 0;
/// Shift state: left Shift is down.
pub const SHIFT_LEFT: u8 = 1 << 1;
/// Shift state: a Ctrl key is down.
pub const SHIFT_CTRL: u8 = 1 << 2;
/// Shift state: an Alt key is down.
pub const SHIFT_ALT: u8 = 1 << 3;
/// Shift state: Scroll Lock is on.
pub const SHIFT_SCROLL: u8 = 1 << 4;
/// Shift state: Num Lock is on.
pub const SHIFT_NUM: u8 = 1 << 5;
/// Shift state: Caps Lock is on.
pub const SHIFT_CAPS: u8 = 1 << 6;
/// Shift state: insert mode is on.
pub const SHIFT_INSERT: u8 = 1 << 7;

/// Held: left Ctrl.
pub const HELD_LEFT_CTRL: u8 = 1 << 0;
/// Held: left Alt.
pub const HELD_LEFT_ALT: u8 = 1 << 1;
/// Held: SysReq.
pub const HELD_SYSREQ: u8 = 1 << 2;
/// Pause is on.
pub const HELD_PAUSE: u8 = 1 << 3;
/// Held: Scroll Lock.
pub const HELD_SCROLL: u8 = 1 << 4;
/// Held: Num Lock.
pub const HELD_NUM: u8 = 1 << 5;
/// Held: Caps Lock.
pub const HELD_CAPS: u8 = 1 << 6;
/// Held: Insert.
pub const HELD_INSERT: u8 = 1 << 7;

/// Keyboard state: the last byte was E1h.
pub const KEYBOARD_LAST_E1: u8 = 1 << 0;
/// Keyboard state: the last byte was E0h.
pub const KEYBOARD_LAST_E0: u8 = 1 << 1;
/// Keyboard state: right Ctrl is down.
pub const KEYBOARD_RIGHT_CTRL: u8 = 1 << 2;
/// Keyboard state: right Alt is down.
pub const KEYBOARD_RIGHT_ALT: u8 = 1 << 3;
/// Keyboard state: it is an enhanced keyboard with 101 or 102 keys.
pub const KEYBOARD_ENHANCED: u8 = 1 << 4;

/// Offset of the keyboard buffer in segment 40h.
pub const KEYBOARD_BUFFER: u16 = 0x1e;
/// Offset of the end of the keyboard buffer in segment 40h.
pub const KEYBOARD_BUFFER_END: u16 = 0x3e;

/// Writes the data area as it is before any device is known: `ebda_segment`, `memory_kb` and the keyboard buffer set, a
/// restart's reset flag kept, everything else zero.
pub fn init(hw: &impl PhysMem, ebda_segment: u16, memory_kb: u16) {
    let reset_flag = Bda::reset_flag().get(hw);
    hw.fill(BASE, size_of::<Bda>() as u64, 0);
    Bda::reset_flag().set(hw, reset_flag);
    Bda::ebda_segment().set(hw, ebda_segment);
    Bda::memory_kb().set(hw, memory_kb);
    Bda::equipment().set(hw, EQUIPMENT_FPU | EQUIPMENT_MOUSE | EQUIPMENT_COLOUR_80);
    Bda::keyboard_head().set(hw, KEYBOARD_BUFFER);
    Bda::keyboard_tail().set(hw, KEYBOARD_BUFFER);
    Bda::keyboard_start().set(hw, KEYBOARD_BUFFER);
    Bda::keyboard_end().set(hw, KEYBOARD_BUFFER_END);
    Bda::keyboard_state().set(hw, KEYBOARD_ENHANCED);
}

/// Fills the video fields in as a VGA ROM leaves them after its start in mode 3, for guests that read them before the first
/// INT 10h starts that ROM.
pub fn video_at_start(hw: &impl PhysMem) {
    Bda::video_mode().set(hw, 3);
    Bda::video_columns().set(hw, 80);
    Bda::video_page_size().set(hw, 0x1000);
    Bda::cursor_shape().set(hw, 0x0607);
    Bda::crtc_port().set(hw, 0x3d4);
    Bda::video_rows().set(hw, 24);
    Bda::character_height().set(hw, 16);
    Bda::video_options().set(hw, 0x60);
    Bda::video_switches().set(hw, 0xf9);
    Bda::vga_flags().set(hw, 0x51);
    Bda::display_combination().set(hw, 8);
}

/// The fields in which a VGA ROM keeps the state of the screen.
pub struct VideoState([u8; 0x1e], [u8; 7]);

impl VideoState {
    /// Mode, size, cursors, page, port and colours.
    const SCREEN: u64 = BASE + 0x49;
    /// Rows, character height, options, switches.
    const CARD: u64 = BASE + 0x84;

    /// Takes a copy.
    pub fn read(hw: &impl PhysMem) -> Self {
        Self(hw.read_as(Self::SCREEN), hw.read_as(Self::CARD))
    }

    /// Puts the copy back.
    pub fn write(&self, hw: &impl PhysMem) {
        hw.write_as(Self::SCREEN, &self.0);
        hw.write_as(Self::CARD, &self.1);
    }
}

/// Physical address that a far pointer in guest memory (offset, segment) points at.
pub fn far_pointer(pointer: [u16; 2]) -> u64 {
    linear(pointer[1], pointer[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;

    #[test]
    fn starts_with_an_empty_keyboard_buffer() {
        let hw = Fake::default();
        hw.write16(0x472, 0x1234);
        init(&hw, 0x9fc0, 639);
        assert_eq!(hw.read16(0x40e), 0x9fc0);
        assert_eq!(hw.read16(0x413), 639);
        assert_eq!(hw.read16(0x41a), 0x1e);
        assert_eq!(hw.read16(0x482), 0x3e);
        assert_eq!(hw.read16(0x472), 0x1234);
        assert_eq!(hw.read16(0x410), 0x26);
    }

    #[test]
    fn fields_have_elements() {
        assert_eq!(Bda::com_ports().element(3).map(|f| f.addr()), Some(0x406));
        assert!(Bda::com_ports().element(4).is_none());
    }
}
