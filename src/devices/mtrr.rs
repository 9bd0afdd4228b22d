//! Which memory is cached how: the MTRRs that every processor gets.
//!
//! Source: Intel SDM volume 3, section 12.11. Everything is write-back but video memory and the range below 4 GiB where devices
//! are. Memory above 4 GiB that devices get is made uncacheable by the guest, by PAT.

use alloc::vec::Vec;
use core::ops::Range;

const CAPABILITIES: u32 = 0xfe;
const PHYS_BASE0: u32 = 0x200;
const FIX_64K: u32 = 0x250;
/// 80000h to 9FFFFh. The next register is for video memory, and a reset has left it at what that should be: uncacheable.
const FIX_16K: u32 = 0x258;
const FIX_4K: core::ops::RangeInclusive<u32> = 0x268..=0x26f;
const DEFAULT_TYPE: u32 = 0x2ff;

const WRITE_BACK: u64 = 6;
const UNCACHEABLE: u64 = 0;
const WRITE_BACK_ALL: u64 = 0x0606_0606_0606_0606;
const MASK_VALID: u64 = 1 << 11;
const ENABLE: u64 = 1 << 11;
const ENABLE_FIXED: u64 = 1 << 10;

/// What the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Variable ranges.
    pub variable: u8,
    /// Fixed ranges.
    pub fixed: bool,
    /// Bits of a physical address.
    pub phys_bits: u8,
}

impl Capabilities {
    /// Asks the processor, by CPUID and RDMSR. `None` where it has no MTRRs.
    pub fn detect(cpuid: impl Fn(u32) -> [u32; 4], read_msr: impl Fn(u32) -> u64) -> Option<Self> {
        if cpuid(1)[3] & 1 << 12 == 0 {
            return None;
        }
        let bits = read_msr(CAPABILITIES);
        Some(Self {
            variable: bits as u8,
            fixed: bits & 1 << 8 != 0,
            phys_bits: phys_bits(cpuid),
        })
    }
}

/// Bits of a physical address, by CPUID leaf 80000008h; 36 where the processor does not say.
///
/// Every processor with long mode has that leaf, so leaf 80000000h, which is one more exit to a hypervisor, is not asked whether it
/// is there. Where a model was given too low a level, another leaf's answer comes, or none (Intel SDM volume 2, CPUID).
pub fn phys_bits(cpuid: impl Fn(u32) -> [u32; 4]) -> u8 {
    match cpuid(0x8000_0008)[0] as u8 {
        bits @ 32..=52 => bits,
        _ => 36,
    }
}

/// The registers to write, in this order, on every processor: number and value.
///
/// `devices` are the addresses of devices below 4 GiB.
pub fn plan(capabilities: Capabilities, devices: Range<u64>) -> Vec<(u32, u64)> {
    let mut registers = Vec::new();
    if capabilities.fixed {
        registers.push((FIX_64K, WRITE_BACK_ALL));
        registers.push((FIX_16K, WRITE_BACK_ALL));
        registers.extend(FIX_4K.map(|register| (register, WRITE_BACK_ALL)));
    }
    let address_mask = (1u64 << capabilities.phys_bits.clamp(32, 52)) - 1;
    let Range { mut start, end } = devices;
    for range in 0..u32::from(capabilities.variable) {
        if start == 0 || start >= end {
            break;
        }
        // The largest block that is aligned to its size and does not go beyond the end.
        let size = (start & start.wrapping_neg()).min(1 << (end - start).ilog2());
        registers.push((PHYS_BASE0 + 2 * range, start | UNCACHEABLE));
        let mask = !(size - 1) & address_mask | MASK_VALID;
        registers.push((PHYS_BASE0 + 2 * range + 1, mask));
        start += size;
    }
    if start < end {
        log::warn!("MTRRs: too few to cover the devices from {start:#x}");
    }
    let fixed = if capabilities.fixed { ENABLE_FIXED } else { 0 };
    registers.push((DEFAULT_TYPE, ENABLE | fixed | WRITE_BACK));
    registers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::FOUR_GIB;
    use proptest::prelude::*;

    const USUAL: Capabilities = Capabilities {
        variable: 8,
        fixed: true,
        phys_bits: 40,
    };

    #[test]
    fn covers_the_hole_with_one_range() {
        let registers = plan(USUAL, 0x8000_0000..FOUR_GIB);
        assert_eq!(registers.len(), 13);
        assert_eq!(
            registers[10..],
            [
                (0x200, 0x8000_0000),
                (0x201, 0xff_8000_0800),
                (0x2ff, 0xc06)
            ]
        );
        assert_eq!(plan(USUAL, 0xb000_0000..FOUR_GIB).len(), 15);
    }

    #[test]
    fn the_width_of_an_address_is_what_the_processor_says() {
        let bits = |eax| phys_bits(|_| [eax, 0, 0, 0]);
        assert_eq!([bits(0x3028), bits(0x3930), bits(52)], [40, 48, 52]);
        assert_eq!([bits(0), bits(7), bits(0xbb8)], [36; 3]);
    }

    proptest! {
        #[test]
        fn exactly_the_devices_are_uncacheable(first in 1u64..256, blocks in 1u64..256) {
            let end = (first + blocks).min(256);
            let registers = plan(Capabilities { variable: 16, ..USUAL }, first << 24..end << 24);
            let pairs: Vec<_> = registers[10..registers.len() - 1]
                .chunks(2)
                .map(|pair| (pair[0].1, pair[1].1 & !0xfff))
                .collect();
            for block in 0..256u64 {
                let addr = block << 24;
                let hit = pairs.iter().any(|(base, mask)| addr & mask == base & mask);
                prop_assert_eq!(hit, (first..end).contains(&block));
            }
        }
    }
}
