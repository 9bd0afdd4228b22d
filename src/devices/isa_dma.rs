//! The first 8237A DMA controller, which moves the diskette controller's data.
//!
//! Source: Intel 8237A data sheet; IBM AT technical reference (ports, page registers, the second controller's channel 4 as cascade).

use crate::arch::Ports;
use core::ops::Range;

/// Memory that it reaches: addresses of 24 bits.
pub const REACH: Range<u64> = 0..1 << 24;
/// A transfer crosses no multiple of this: the page register does not count.
pub const BOUNDARY: u64 = 0x1_0000;

/// The diskette controller's channel, and its ports.
const CHANNEL: u8 = 2;
const ADDRESS: u16 = 0x04;
const COUNT: u16 = 0x05;
const PAGE: u16 = 0x81;
/// Ports of the whole controller: a channel's mask, modes, the flip-flop between low and high bytes.
const MASK: u16 = 0x0a;
const MODE: u16 = 0x0b;
const FLIP_FLOP: u16 = 0x0c;
/// Ports of the second controller: masks, modes.
const SECOND_MASK: u16 = 0xd4;
const SECOND_MODE: u16 = 0xd6;
const MASKED: u8 = 1 << 2;
/// Mode of channel 4, behind which the first controller is.
const CASCADE: u8 = 0xc0;
/// Single transfers, addresses that go up.
const SINGLE: u8 = 0x40;
const TO_MEMORY: u8 = 0x04;
const FROM_MEMORY: u8 = 0x08;

/// Lets the first controller work by way of the second.
pub fn init(hw: &impl Ports) {
    hw.out8(SECOND_MODE, CASCADE);
    hw.out8(SECOND_MASK, 0);
}

/// Prepares a transfer of `len` bytes at `addr`, which is in [`REACH`] and crosses no [`BOUNDARY`].
pub fn start(hw: &impl Ports, addr: u64, len: u32, to_memory: bool) {
    let direction = if to_memory { TO_MEMORY } else { FROM_MEMORY };
    let [low, high, page, ..] = addr.to_le_bytes();
    let [count_low, count_high, ..] = len.wrapping_sub(1).to_le_bytes();
    stop(hw);
    hw.out8(MODE, SINGLE | direction | CHANNEL);
    hw.out8(FLIP_FLOP, 0);
    hw.out8(ADDRESS, low);
    hw.out8(ADDRESS, high);
    hw.out8(COUNT, count_low);
    hw.out8(COUNT, count_high);
    hw.out8(PAGE, page);
    hw.out8(MASK, CHANNEL);
}

/// Lets the device move nothing any more.
pub fn stop(hw: &impl Ports) {
    hw.out8(MASK, MASKED | CHANNEL);
}
