//! A guest's exits to Xen, counted by their reason.
//!
//! xentrace(8) writes a row of records: a 32-bit head of event (27:0), number of further words (30:28) and whether a 64-bit time comes
//! before them (31), as Xen's public header trace.h has it.

use super::guest;
use std::collections::BTreeMap;

/// The events that xentrace is told to write: entries and exits, and what Xen does about them.
pub const EVENTS: &str = "0x8f000";

const VMEXIT: u32 = 0x8_1002;
const VMEXIT64: u32 = 0x8_1102;
const PORT_WRITE: u32 = 0x8_2216;

/// The exits up to the boot sector's first write, by reason. `None` where there is no such write.
pub fn count(trace: &[u8]) -> Option<BTreeMap<&'static str, u64>> {
    let words: Vec<u32> = trace
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let mut counts = BTreeMap::new();
    let mut rest = &words[..];
    while let Some((head, more)) = rest.split_first() {
        let time = 2 * (head >> 31) as usize;
        let extra = (head >> 28 & 7) as usize;
        let fields = more.get(time..time + extra)?;
        rest = &more[time + extra..];
        match (head & 0x0fff_ffff, fields) {
            (VMEXIT | VMEXIT64, [code, ..]) => *counts.entry(reason(*code)).or_default() += 1,
            (PORT_WRITE, [port, ..]) if *port == u32::from(guest::PORT) => return Some(counts),
            _ => {}
        }
    }
    None
}

/// What an exit code of SVM stands for (AMD64 Architecture Programmer's Manual, volume 2, appendix C).
fn reason(code: u32) -> &'static str {
    match code {
        0x00..=0x1f => "control registers",
        0x60 => "interrupts",
        0x64 => "waits for an interrupt to be let in",
        0x72 => "CPUID",
        0x77 | 0x78 => "PAUSE and HLT",
        0x7b => "ports",
        0x7c => "MSRs",
        0x81 => "hypercalls",
        0x400 => "memory",
        _ => "others",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_up_to_the_boot_sector() {
        let exit = |code: u32| vec![1 << 31 | 2 << 28 | VMEXIT, 1, 2, code, 0x1234];
        let entry = vec![0x8_1001];
        let write = |port: u32| vec![2 << 28 | PORT_WRITE, port, 0];
        let boot = [exit(0x7b), write(0x70), entry, exit(0x72), exit(0x7b)].concat();
        let bytes = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        assert_eq!(count(&bytes(&boot)), None);
        let all = [boot, write(guest::PORT.into()), exit(0x60)].concat();
        let expected = BTreeMap::from([("CPUID", 1), ("ports", 2)]);
        assert_eq!(count(&bytes(&all)), Some(expected));
        assert_eq!(count(&bytes(&[7 << 28])), None);
    }
}
