//! What of a guest's accesses reaches the QEMU in dom0, counted by device.
//!
//! The lines are those of QEMU's trace event handle_ioreq: `handle_ioreq I/O=0x7f… type=0 dir=0 df=0 ptr=0 port=0x70 data=0x8f count=1
//! size=1`, one for each request of Xen's (public header hvm/ioreq.h), which a string instruction makes only one of.

use super::guest;
use std::collections::BTreeMap;

/// The requests up to the boot sector's first write, by device. `None` where there is no such write.
pub fn count(trace: &str) -> Option<BTreeMap<&'static str, u64>> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        let Some((_, request)) = line.split_once("handle_ioreq ") else {
            continue;
        };
        let number = |name: &str| {
            let word = request
                .split(' ')
                .find_map(|word| word.strip_prefix(name))?;
            match word.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => word.parse().ok(),
            }
        };
        let (Some(kind), Some(address)) = (number("type="), number("port=")) else {
            continue;
        };
        if kind == PORT && address == u64::from(guest::PORT) {
            return Some(counts);
        }
        if let Some(device) = device(kind, address) {
            *counts.entry(device).or_default() += 1;
        }
    }
    None
}

const PORT: u64 = 0;
const MEMORY: u64 = 1;
const CONFIGURATION: u64 = 2;

/// Whose the request is; `None` for those that no access of the guest's is behind.
fn device(kind: u64, address: u64) -> Option<&'static str> {
    Some(match (kind, address) {
        (CONFIGURATION, _) => "PCI registers",
        (PORT, 0xcf8) => "addresses of PCI registers",
        (PORT, 0x1ce..=0x1d0 | 0x3b4..=0x3b5 | 0x3ba | 0x3c0..=0x3df) => "VGA registers",
        (MEMORY, 0xa_0000..=0xb_ffff) => "VGA memory",
        (MEMORY, _) => "other memory",
        (PORT, 0x70..=0x71) => "CMOS",
        (PORT, 0x170..=0x177 | 0x1f0..=0x1f7 | 0x376 | 0x3f6 | 0xc000..) => "IDE",
        (PORT, 0x60 | 0x64) => "keyboard",
        (
            PORT,
            0x278..=0x27f | 0x2e8..=0x2ff | 0x378..=0x37f | 0x3bc..=0x3bf | 0x3e8..=0x3ef | 0x3f8..,
        ) if address < 0x400 => "serial and parallel ports",
        (PORT, 0x3f0..=0x3f5 | 0x3f7) => "floppy disk controller",
        (PORT, 0x510..=0x51b) => "fw_cfg",
        (PORT, _) => "other ports",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_up_to_the_boot_sector() {
        let line = |kind: u64, port: u64| {
            format!(
                "1@2.3:handle_ioreq I/O=0x7f00 type={kind} dir=0 df=0 ptr=0 port={port:#x} data=0x1 count=1 size=1\n"
            )
        };
        let boot = [
            (0, 0x70),
            (2, 0x8000_0800),
            (0, 0x71),
            (1, 0xb_8000),
            (8, 0),
        ];
        let mut trace: String = boot.map(|(kind, port)| line(kind, port)).concat();
        assert_eq!(count(&trace), None);
        trace.push_str("noise\n");
        trace.push_str(&line(0, guest::PORT.into()));
        trace.push_str(&line(0, 0x70));
        let expected = [("CMOS", 2), ("PCI registers", 1), ("VGA memory", 1)];
        assert_eq!(count(&trace), Some(BTreeMap::from(expected)));
    }
}
