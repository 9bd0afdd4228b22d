//! The executor's answers as named fields.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::script::{Answer, Call, Caller, Script, View, hex};

/// Kind letters of the executor's lines that end a script or tell of trouble.
const END: char = 'E';

/// The state around a call made with [`Call::full_state`], as take_state in executor.s lays it out.
pub type State = Vec<u8>;

/// One entry of the INT 15h AX=E820h map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte's physical address.
    pub base: u64,
    /// Length in bytes.
    pub length: u64,
    /// 1 RAM, 2 reserved, 3 ACPI reclaimable, 4 ACPI NVS.
    pub kind: u32,
}

/// One CPU as the probe's start-up code saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Whether it is the one the firmware started the guest on.
    pub boot: bool,
    /// APIC ID.
    pub apic_id: u8,
    /// Hash of all fixed and variable MTRRs and the default type.
    pub mtrr_hash: u32,
    /// Low half of IA32_APIC_BASE.
    pub apic_base: u32,
}

/// One PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Bus, device and function: 8, 5 and 3 bits.
    pub address: u16,
    /// The first 64 bytes of its configuration space.
    pub config: Vec<u8>,
    /// What each BAR read after all ones were written.
    pub masks: [u32; 6],
}

/// Everything a script's run reported.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Named values, in the script's order.
    pub fields: Vec<(String, String)>,
    /// State before and after each call that asked for it, by the call's name.
    pub states: BTreeMap<String, (State, State)>,
    /// Raw bytes of each dump, by name.
    pub dumps: BTreeMap<String, Vec<u8>>,
    /// The memory maps, one for each walk.
    pub memory_maps: Vec<Vec<MemoryRange>>,
    /// All CPUs, for each time they were called.
    pub cpus: Vec<Vec<Cpu>>,
    /// All PCI functions.
    pub functions: Vec<Function>,
}

impl Report {
    /// Reads the answers to `script` from a port 0xE9 log. Lines which are not the executor's are skipped.
    ///
    /// # Errors
    /// The log does not fit the script: a line is missing, out of order or not hexadecimal.
    pub fn parse(script: &Script, log: &str) -> Result<Self> {
        let lines = lines(log)?;
        let mut lines = lines.iter().peekable();
        let mut report = Self::default();
        for answer in script.answers() {
            report
                .take(answer, &mut lines)
                .with_context(|| format!("after {:?}", report.fields.last()))?;
        }
        Ok(report)
    }

    /// The value of a field.
    ///
    /// # Errors
    /// No such field was reported.
    pub fn value(&self, name: &str) -> Result<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .with_context(|| format!("no field {name}"))
    }

    fn field(&mut self, name: &str, field: &str, value: impl Into<String>) {
        self.fields.push((format!("{name}.{field}"), value.into()));
    }

    fn take(&mut self, answer: &Answer, lines: &mut Lines<'_>) -> Result<()> {
        match answer {
            Answer::Call { name, call } => self.take_call(name, call, lines),
            Answer::Dump { name, view } => {
                let bytes = next(lines, 'D')?;
                self.dump(name, bytes, *view);
                self.dumps.insert(name.clone(), bytes.to_vec());
                Ok(())
            }
            Answer::Sum { name } => {
                let bytes = next(lines, 'S')?;
                self.field(name, "sum", number(bytes));
                Ok(())
            }
            Answer::In { name, size } => {
                let bytes = next(lines, 'I')?;
                let value = bytes
                    .get(..usize::from(*size))
                    .context("short port value")?;
                if !name.is_empty() {
                    self.field(name, "in", number(value));
                }
                Ok(())
            }
            Answer::Wait { name } => {
                let ticked = next(lines, 'T')? == [1];
                self.field(name, "ticked", ticked.to_string());
                Ok(())
            }
            Answer::Scan { name } => {
                let found = next(lines, 'A')?.iter().any(|&byte| byte != 0);
                self.field(name, "found", found.to_string());
                Ok(())
            }
            Answer::Hook { name, exact } => {
                let bytes = next(lines, 'K')?;
                if *exact {
                    self.field(name, "hook-calls", number(bytes));
                } else {
                    let called = bytes.iter().any(|&byte| byte != 0);
                    self.field(name, "hook-called", called.to_string());
                }
                Ok(())
            }
            Answer::MemoryMap => self.take_memory_map(lines),
            Answer::Cpus => self.take_cpus(lines),
            Answer::Functions => self.take_functions(lines),
            Answer::Reboots => {
                next(lines, 'R')?;
                Ok(())
            }
        }
    }

    fn take_call(&mut self, name: &str, call: &Call, lines: &mut Lines<'_>) -> Result<()> {
        if call.caller != Caller::Real {
            let vector = next(lines, 'V')?;
            let how = if vector == [0x30] {
                "returned".to_owned()
            } else {
                format!("fault {}", hex(vector))
            };
            self.field(name, "call", how);
        }
        if let Some(('F', before)) = lines.peek() {
            lines.next();
            let after = next(lines, 'G')?;
            self.states
                .insert(name.to_owned(), (before.clone(), after.to_vec()));
        }
        let out = next(lines, 'C')?;
        ensure!(out.len() == 48, "a call's answer has {} bytes", out.len());
        if call.hidden.contains(&"*") {
            return Ok(());
        }
        self.registers(name, call, out);
        Ok(())
    }

    /// Reports each register that changed, and CF and ZF always.
    fn registers(&mut self, name: &str, call: &Call, out: &[u8]) {
        let dword =
            |at: usize| u32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
        let word = |at: usize| u16::from_le_bytes([out[at], out[at + 1]]);
        let mut changed = |field: &str, before: u32, after: u32, digits: usize| {
            if call.hidden.contains(&field) {
                self.field(name, field, "*");
            } else if before != after {
                self.field(name, field, format!("{after:0digits$x}"));
            }
        };
        let names = ["ax", "bx", "cx", "dx", "si", "di", "bp"];
        for (index, (register, before)) in names.iter().zip(call.general).enumerate() {
            let after = dword(index * 4);
            changed(register, before & 0xffff, after & 0xffff, 4);
            changed(&format!("high-e{register}"), before >> 16, after >> 16, 4);
        }
        let eflags = dword(32);
        if call.caller == Caller::Real {
            changed("esp", call.esp, dword(28), 8);
            for (index, segment) in ["ds", "es", "fs", "gs"].iter().enumerate() {
                changed(
                    segment,
                    call.segments[index].into(),
                    word(36 + index * 2).into(),
                    4,
                );
            }
            changed(
                "ss",
                crate::script::STACK_SEGMENT.into(),
                word(44).into(),
                4,
            );
            changed("df", call.eflags >> 10 & 1, eflags >> 10 & 1, 1);
            changed("if", call.eflags >> 9 & 1, eflags >> 9 & 1, 1);
            let wanted = u8::from(!call.a20_is_off());
            changed("a20-before", wanted.into(), out[47].into(), 1);
            changed("a20", out[47].into(), out[46].into(), 1);
        }
        for (flag, bit) in [("cf", 0), ("zf", 6)] {
            let value = if call.hidden.contains(&flag) {
                "*".to_owned()
            } else {
                (eflags >> bit & 1).to_string()
            };
            self.field(name, flag, value);
        }
    }

    fn dump(&mut self, name: &str, bytes: &[u8], view: View) {
        match view {
            View::Bytes => self.fields.push((name.to_owned(), hex(bytes))),
            View::Fields(layout) => {
                let mut rest = bytes;
                for &(field, length) in layout {
                    let (value, tail) = rest.split_at(length.min(rest.len()));
                    rest = tail;
                    if let Some(field) = field.strip_suffix('*') {
                        self.field(name, field, "*");
                    } else if !field.starts_with('_') {
                        let value = if length <= 8 {
                            number(value)
                        } else {
                            hex(value)
                        };
                        self.field(name, field, value);
                    }
                }
            }
            View::Vectors => {
                for (index, vector) in bytes.chunks_exact(4).enumerate() {
                    let segment = u16::from_le_bytes([vector[2], vector[3]]);
                    let offset = u16::from_le_bytes([vector[0], vector[1]]);
                    self.field(name, &format!("{index:02x}"), vector_kind(segment, offset));
                }
            }
        }
    }

    fn take_memory_map(&mut self, lines: &mut Lines<'_>) -> Result<()> {
        let mut map = Vec::new();
        while let Some(('M', bytes)) = lines.peek() {
            ensure!(bytes.len() >= 20, "a short memory map entry");
            map.push(MemoryRange {
                base: u64::from_le_bytes(bytes[0..8].try_into()?),
                length: u64::from_le_bytes(bytes[8..16].try_into()?),
                kind: u32::from_le_bytes(bytes[16..20].try_into()?),
            });
            lines.next();
        }
        next(lines, 'N')?;
        for range in &map {
            let value = format!("{:x} kind {}", range.length, range.kind);
            self.field("e820", &format!("{:08x}", range.base), value);
        }
        self.memory_maps.push(map);
        Ok(())
    }

    fn take_cpus(&mut self, lines: &mut Lines<'_>) -> Result<()> {
        let mut cpus = Vec::new();
        while let Some(('P', bytes)) = lines.peek() {
            ensure!(bytes.len() >= 12, "a short CPU line");
            cpus.push(Cpu {
                boot: bytes[0] == 1,
                apic_id: bytes[1],
                mtrr_hash: u32::from_le_bytes(bytes[4..8].try_into()?),
                apic_base: u32::from_le_bytes(bytes[8..12].try_into()?),
            });
            lines.next();
        }
        self.cpus.push(cpus);
        next(lines, 'N').map(drop)
    }

    fn take_functions(&mut self, lines: &mut Lines<'_>) -> Result<()> {
        while let Some(('Q', bytes)) = lines.peek() {
            ensure!(
                bytes.len() == 4 + 64 + 24,
                "a PCI line of {} bytes",
                bytes.len()
            );
            let mut masks = [0; 6];
            for (mask, bytes) in masks.iter_mut().zip(bytes[68..].chunks_exact(4)) {
                *mask = u32::from_le_bytes(bytes.try_into()?);
            }
            self.functions.push(Function {
                address: u16::from_le_bytes([bytes[0], bytes[1]]),
                config: bytes[4..68].to_vec(),
                masks,
            });
            lines.next();
        }
        Ok(())
    }
}

type Line = (char, Vec<u8>);
type Lines<'a> = std::iter::Peekable<std::slice::Iter<'a, Line>>;

/// All the executor's lines except names and the greeting.
fn lines(log: &str) -> Result<Vec<Line>> {
    let mut found = Vec::new();
    for line in log.lines() {
        let Some((_, line)) = line.rsplit_once('~') else {
            continue;
        };
        let mut characters = line.chars();
        match characters.next() {
            None | Some('X' | 'B' | 'H' | END) => {}
            Some('!') => bail!("the executor gave up: {line}"),
            Some(kind) => found.push((kind, unhex(characters.as_str())?)),
        }
    }
    Ok(found)
}

fn next<'a>(lines: &mut Lines<'a>, kind: char) -> Result<&'a [u8]> {
    match lines.next() {
        Some((found, bytes)) if *found == kind => Ok(bytes),
        Some((found, bytes)) => bail!("expected a line {kind}, found {found} {}", hex(bytes)),
        None => bail!("the log ends before a line {kind}"),
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure!(
        text.is_ascii() && text.len().is_multiple_of(2),
        "not hexadecimal: {text:?}"
    );
    (0..text.len())
        .step_by(2)
        .map(|at| {
            u8::from_str_radix(&text[at..at + 2], 16)
                .with_context(|| format!("not hexadecimal: {text:?}"))
        })
        .collect()
}

/// Little-endian bytes as one hexadecimal number.
fn number(bytes: &[u8]) -> String {
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    hex(&reversed)
}

/// A vector by what it points to: addresses differ between firmwares, but not whose code a vector names.
fn vector_kind(segment: u16, offset: u16) -> &'static str {
    match (segment, offset) {
        (0, 0) => "none",
        (0xf000.., _) => "bios",
        (0xc000..0xc800, _) => "vga",
        (0x40..0xa000, _) => "ram",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_call_between_other_output() -> Result<()> {
        let mut script = Script::new();
        script.call("int12", Call::new(0x12, 0));
        let mut out = Vec::new();
        for value in [
            0x27f,
            0xb1b2_b3b4,
            0xc1c2_c3c4,
            0xd1d2_d3d4,
            0x5152_5354,
            0x6162_6364,
            0x7172_7374u32,
        ] {
            out.extend(value.to_le_bytes());
        }
        out.extend(0x8000u32.to_le_bytes());
        out.extend(0x203u32.to_le_bytes());
        for value in [0x4000, 0x4000, 0xf5f5, 0x6565, 0x6000u16] {
            out.extend(value.to_le_bytes());
        }
        out.extend([1, 1]);
        let log = format!("a firmware line\n~B80\n~Xint12\nnoise~C{}\n~E\n", hex(&out));
        let report = Report::parse(&script, &log)?;
        let fields: Vec<_> = report
            .fields
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            fields,
            [
                ("int12.ax", "027f"),
                ("int12.high-eax", "0000"),
                ("int12.cf", "1"),
                ("int12.zf", "0")
            ]
        );
        Ok(())
    }

    #[test]
    fn a_cut_log_is_an_error() {
        let mut script = Script::new();
        script.call("int12", Call::new(0x12, 0));
        assert!(Report::parse(&script, "~B80\n~Xint12\n").is_err());
        assert!(Report::parse(&script, "~B80\n~C0g\n").is_err());
    }
}
