//! Whether PCI functions were given addresses that work: the rules of PCI Local Bus 3.0 section 6.2.5 and of the
//! PCI-to-PCI Bridge Architecture 1.2 section 3.2.5.

use std::ops::Range;

use crate::report::{Function, MemoryRange};

/// Below this a 32-bit BAR may lie; above are interrupt controllers and the ROM.
const HOLE_END: u64 = 0xfec0_0000;

/// The address spaces a BAR can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Io,
    Memory,
    Prefetchable,
}

/// One base address register that its function implements.
#[derive(Clone, Debug)]
struct Bar {
    function: u16,
    index: usize,
    space: Space,
    range: Range<u64>,
}

/// What one bridge forwards.
#[derive(Debug)]
struct Bridge {
    bus: u8,
    secondary: u8,
    subordinate: u8,
    windows: [(Space, Range<u64>); 3],
}

fn dword(config: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([config[at], config[at + 1], config[at + 2], config[at + 3]])
}

fn word(config: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([config[at], config[at + 1]]))
}

fn bus(function: u16) -> u8 {
    (function >> 8) as u8
}

/// An address in the usual form, bus:device.function.
fn name(function: u16) -> String {
    format!(
        "{:02x}:{:02x}.{}",
        bus(function),
        function >> 3 & 31,
        function & 7
    )
}

fn is_bridge(function: &Function) -> bool {
    function.config[0x0e] & 0x7f == 1
}

fn bars(function: &Function) -> Vec<Bar> {
    let count = if is_bridge(function) { 2 } else { 6 };
    let mut bars = Vec::new();
    let mut index = 0;
    while index < count {
        let value = dword(&function.config, 0x10 + index * 4);
        let mask = function.masks[index];
        let mut bar = |space, start: u64, length: u64| {
            bars.push(Bar {
                function: function.address,
                index,
                space,
                range: start..start + length,
            });
        };
        if mask & 1 == 1 {
            let length = (!(mask & 0xffff_fffc) & 0xffff) + 1;
            bar(Space::Io, (value & 0xffff_fffc).into(), length.into());
        } else if mask & 0xffff_fff0 != 0 || mask & 6 == 4 {
            let space = if mask & 8 != 0 {
                Space::Prefetchable
            } else {
                Space::Memory
            };
            let mut start = u64::from(value & 0xffff_fff0);
            let mut ones = u64::from(mask & 0xffff_fff0) | 0xffff_ffff_0000_0000;
            if mask & 6 == 4 {
                start |= u64::from(dword(&function.config, 0x14 + index * 4)) << 32;
                ones = ones & 0xffff_ffff | u64::from(function.masks[index + 1]) << 32;
            }
            bar(space, start, (!ones).wrapping_add(1));
            index += usize::from(mask & 6 == 4);
        }
        index += 1;
    }
    bars
}

fn bridge(function: &Function) -> Bridge {
    let config = &function.config;
    let window = |base: u64, limit: u64| if base > limit { 0..0 } else { base..limit + 1 };
    let io_high = |at| word(config, at) << 16;
    let io = window(
        u64::from(config[0x1c] & 0xf0) << 8 | io_high(0x30),
        u64::from(config[0x1d]) << 8 | 0xfff | io_high(0x32),
    );
    let memory = window(
        (word(config, 0x20) & 0xfff0) << 16,
        word(config, 0x22) << 16 | 0xf_ffff,
    );
    let prefetchable = window(
        (word(config, 0x24) & 0xfff0) << 16 | u64::from(dword(config, 0x28)) << 32,
        word(config, 0x26) << 16 | 0xf_ffff | u64::from(dword(config, 0x2c)) << 32,
    );
    Bridge {
        bus: bus(function.address),
        secondary: config[0x19],
        subordinate: config[0x1a],
        windows: [
            (Space::Io, io),
            (Space::Memory, memory),
            (Space::Prefetchable, prefetchable),
        ],
    }
}

fn inside(inner: &Range<u64>, outer: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Whether a range of a space on `bus` reaches it through every bridge above it.
fn is_forwarded(bus: u8, space: Space, range: &Range<u64>, bridges: &[Bridge]) -> bool {
    if bus == 0 {
        return true;
    }
    let Some(bridge) = bridges.iter().find(|bridge| bridge.secondary == bus) else {
        return false;
    };
    let fits = bridge.windows.iter().any(|(kind, window)| {
        (*kind == Space::Io) == (space == Space::Io)
            && !(*kind == Space::Prefetchable && space == Space::Memory)
            && inside(range, window)
    });
    fits && is_forwarded(bridge.bus, space, range, bridges)
}

/// Lists what is wrong with the functions' addresses, given the memory map. Empty when all is well.
pub fn problems(functions: &[Function], map: &[MemoryRange]) -> Vec<String> {
    let bridges: Vec<Bridge> = functions
        .iter()
        .filter(|f| is_bridge(f))
        .map(bridge)
        .collect();
    let bars: Vec<Bar> = functions.iter().flat_map(bars).collect();
    let mut problems = Vec::new();
    for bar in &bars {
        problems.extend(bar_problems(bar, &bridges, map));
    }
    for (at, a) in bars.iter().enumerate() {
        for b in &bars[at + 1..] {
            if (a.space == Space::Io) == (b.space == Space::Io) && overlap(&a.range, &b.range) {
                problems.push(format!("{} and {} overlap", describe(a), describe(b)));
            }
        }
    }
    for function in functions {
        let used = bars.iter().filter(|bar| bar.function == function.address);
        let needed = used.fold(0, |bits, bar| {
            bits | if bar.space == Space::Io { 1 } else { 2 }
        });
        let command = word(&function.config, 4);
        if command & needed != needed {
            problems.push(format!(
                "{}: command register {command:04x} decodes too little",
                name(function.address)
            ));
        }
    }
    for bridge in &bridges {
        if bridge.secondary <= bridge.bus || bridge.subordinate < bridge.secondary {
            problems.push(format!("bus numbers out of order: {bridge:?}"));
        }
    }
    problems
}

fn describe(bar: &Bar) -> String {
    format!(
        "{} BAR {} ({:?} {:#x?})",
        name(bar.function),
        bar.index,
        bar.space,
        bar.range
    )
}

fn bar_problems(bar: &Bar, bridges: &[Bridge], map: &[MemoryRange]) -> Vec<String> {
    let mut problems = Vec::new();
    let length = bar.range.end - bar.range.start;
    if bar.range.start == 0 {
        return vec![format!("{} has no address", describe(bar))];
    }
    if !bar.range.start.is_multiple_of(length) {
        problems.push(format!("{} is not aligned", describe(bar)));
    }
    if !is_forwarded(bus(bar.function), bar.space, &bar.range, bridges) {
        problems.push(format!("{} is outside a bridge's windows", describe(bar)));
    }
    if bar.space == Space::Io {
        return problems;
    }
    if bar.range.start < 1 << 32 && bar.range.end > HOLE_END {
        problems.push(format!(
            "{} lies over interrupt controllers or the ROM",
            describe(bar)
        ));
    }
    let on_ram = |range: &MemoryRange| {
        range.kind == 1 && overlap(&bar.range, &(range.base..range.base + range.length))
    };
    if map.iter().any(on_ram) {
        problems.push(format!("{} lies over RAM", describe(bar)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(address: u16, header: u8, bar: u32, mask: u32) -> Function {
        let mut config = vec![0; 64];
        config[4] = 3;
        config[0x0e] = header;
        config[0x10..0x14].copy_from_slice(&bar.to_le_bytes());
        Function {
            address,
            config,
            masks: [mask, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn overlapping_and_missing_addresses_are_found() {
        let a = function(0x10, 0, 0xe000_0000, 0xffff_f000);
        let b = function(0x18, 0, 0xe000_0000, 0xffff_0000);
        let c = function(0x20, 0, 0, 0xffff_f000);
        assert_eq!(
            problems(std::slice::from_ref(&a), &[]),
            Vec::<String>::new()
        );
        assert_eq!(problems(&[a, b, c], &[]).len(), 2);
    }

    #[test]
    fn a_bar_has_to_lie_in_its_bridge_window() {
        let mut bridge = function(0x08, 1, 0, 0);
        bridge.config[0x19] = 1;
        bridge.config[0x1a] = 1;
        bridge.config[0x1c] = 0xf0;
        bridge.config[0x20..0x24].copy_from_slice(&[0, 0xe0, 0, 0xe0]);
        bridge.config[0x24..0x28].copy_from_slice(&[0xf0, 0xff, 0, 0]);
        let inside = function(0x100, 0, 0xe000_1000, 0xffff_f000);
        let outside = function(0x108, 0, 0xe010_0000, 0xffff_f000);
        assert_eq!(
            problems(&[bridge.clone(), inside], &[]),
            Vec::<String>::new()
        );
        assert_eq!(problems(&[bridge, outside], &[]).len(), 1);
    }
}
