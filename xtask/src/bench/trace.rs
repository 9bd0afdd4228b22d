//! QEMU's log of accesses to emulated devices, counted.
//!
//! The lines are those of QEMU's trace events memory_region_ops_read and memory_region_ops_write:
//! `memory_region_ops_write cpu 0 mr 0x555b5d8910a0 addr 0x70 value 0x8f size 1 name 'rtc-index'`.

use super::guest;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The port on which the firmware says, when the setting `bench` is on, that a step of its way to the boot sector is over.
const STEP_PORT: u64 = 0xE9;
/// What such a line begins with; the step's name and the time-stamp counter in decimal follow.
const STEP: &str = "step ";

/// Accesses by the guest's processors.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// From reset to the guest's first access, by device. The firmware's reports of its steps are not counted.
    pub boot: BTreeMap<String, u64>,
    /// While the boot sector reads its disk.
    pub reading: BTreeMap<String, u64>,
    /// What the firmware reported of its steps, in order.
    pub steps: Vec<Step>,
}

/// A step on the firmware's way to the boot sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The step's name.
    pub name: String,
    /// The time-stamp counter at its end.
    pub end: u64,
    /// The device accesses made in it.
    pub accesses: u64,
}

/// An access as a line of the log tells it.
struct Access<'a> {
    write: bool,
    address: u64,
    value: u64,
    device: &'a str,
}

impl<'a> Access<'a> {
    /// An access that a processor made; nothing for every other line.
    fn parse(line: &'a str) -> Option<Self> {
        let (event, rest) = line.split_once(" cpu ")?;
        let write = event.ends_with("memory_region_ops_write");
        if !write && !event.ends_with("memory_region_ops_read") || rest.starts_with('-') {
            return None;
        }
        let number = |key: &str| {
            let text = rest.split_once(key)?.1.split(' ').next()?;
            u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        let device = rest.split_once(" name '")?.1.strip_suffix('\'')?;
        Some(Self {
            write,
            address: number(" addr ")?,
            value: number(" value ")?,
            device,
        })
    }
}

/// Reads a log to its end.
///
/// # Errors
/// The file cannot be read.
pub fn count(log: &Path) -> Result<Accesses> {
    let file = File::open(log).with_context(|| format!("cannot open {}", log.display()))?;
    count_lines(BufReader::new(file).split(b'\n'))
}

fn count_lines(lines: impl Iterator<Item = std::io::Result<Vec<u8>>>) -> Result<Accesses> {
    let mut accesses = Accesses::default();
    let mut written = Vec::new();
    let mut text = Vec::new();
    let mut in_step = 0;
    for line in lines {
        let line = line?;
        let Some(access) = std::str::from_utf8(&line).ok().and_then(Access::parse) else {
            continue;
        };
        if access.write && access.address == u64::from(guest::PORT) {
            written.push(access.value as u8);
        } else if access.write && access.address == STEP_PORT {
            text.push(access.value as u8);
            if access.value == u64::from(b'\n') {
                if let Some((name, end)) = parse_step(&text) {
                    accesses.steps.push(Step {
                        name,
                        end,
                        accesses: in_step,
                    });
                    in_step = 0;
                }
                text.clear();
            }
        } else if written.is_empty() {
            *accesses.boot.entry(access.device.to_owned()).or_default() += 1;
            in_step += 1;
        } else if written.last() == Some(&b'B') && written.len() == 10 {
            *accesses
                .reading
                .entry(access.device.to_owned())
                .or_default() += 1;
        }
    }
    Ok(accesses)
}

/// The instructions that the step `name` took.
pub fn cost(steps: &[Step], name: &str) -> Option<u64> {
    let at = steps.iter().position(|step| step.name == name)?;
    let start = at.checked_sub(1).map_or(0, |before| steps[before].end);
    Some(steps[at].end.saturating_sub(start))
}

/// The name and the end of a step, from a line that reports one.
fn parse_step(line: &[u8]) -> Option<(String, u64)> {
    let (name, end) = std::str::from_utf8(line)
        .ok()?
        .trim_end()
        .strip_prefix(STEP)?
        .rsplit_once(' ')?;
    Some((name.to_owned(), end.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(port: u64, device: &str, bytes: &[u8]) -> String {
        let line = |byte: &u8| {
            format!(
                "memory_region_ops_write cpu 0 mr 0x1 addr {port:#x} value {byte:#x} size 1 name '{device}'\n"
            )
        };
        bytes.iter().map(line).collect()
    }

    #[test]
    fn accesses_are_counted_by_phase_and_step() {
        let log = [
            "memory_region_ops_write cpu -1 mr 0x1 addr 0xfee00000 value 0x0 size 4 name 'apic-msi'\n",
            "memory_region_ops_write cpu 0 mr 0x1 addr 0x70 value 0x8f size 1 name 'rtc-index'\n",
            "memory_region_ops_read cpu 0 mr 0x1 addr 0x71 value 0x0 size 1 name 'rtc'\nnoise\n",
            &writes(0xE9, "isa-debugcon", b"step cmos 120\n"),
            &writes(0x70, "rtc-index", b"\x0F"),
            &writes(0x4E9, "isa-debugcon", b"T12345678"),
            &writes(0x20, "pic", b"\x20"),
            &writes(0x4E9, "isa-debugcon", b"B"),
            &writes(0x1F7, "ide", b"\x20\x20"),
            &writes(0x4E9, "isa-debugcon", b"E"),
            &writes(0xF4, "isa-debug-exit", b"\0"),
        ]
        .concat();
        let accesses = count_lines(
            log.as_bytes()
                .split(|&byte| byte == b'\n')
                .map(|line| Ok(line.to_vec())),
        )
        .expect("counted");
        let boot = [("rtc-index", 2), ("rtc", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(accesses.boot, BTreeMap::from(boot));
        assert_eq!(accesses.reading, BTreeMap::from([("ide".to_owned(), 2)]));
        assert_eq!(
            accesses.steps,
            [Step {
                name: "cmos".to_owned(),
                end: 120,
                accesses: 2
            }]
        );
        assert_eq!(cost(&accesses.steps, "cmos"), Some(120));
        assert_eq!(cost(&accesses.steps, "tables"), None);
    }
}
