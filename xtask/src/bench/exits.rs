//! KVM's trace of a guest's exits, taken apart.
//!
//! The lines are those of Linux's trace events kvm_exit, kvm_pio, kvm_mmio, kvm_msr, kvm_cpuid, kvm_page_fault,
//! kvm_emulate_insn and kvm_userspace_exit: `qemu-system-x86-412 [001] d.... 5912: kvm_exit: vcpu 0 reason io rip 0xfe05b info1 ...`.

use super::guest;
use std::collections::BTreeMap;

/// The port on which the firmware says, when the setting `bench` is on, that a step is over.
const STEP_PORT: u16 = 0xE9;
/// The reason of an exit in which an interrupt is given to the guest that could not have it before.
const TICK: &str = "vintr";
/// How the event of a page fault begins.
const PAGE_FAULT: &str = "vcpu ";
/// The interrupt controller's command port, and the command that ends an interrupt.
const PIC: u16 = 0x20;
const END_OF_INTERRUPT: u8 = 0x20;

/// One exit of the guest's processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// KVM's name of the reason.
    pub reason: String,
    /// Where the processor was.
    pub rip: u64,
    /// What the exit was about: `pio_write at 0x70 size 1 count 1 val 0x8f`.
    pub what: String,
    /// Whether KVM emulated an instruction.
    pub emulated: bool,
    /// Whether QEMU had a part in it.
    pub to_qemu: bool,
}

impl Exit {
    /// The port that was read or written, and the byte.
    fn port_write(&self) -> Option<(u16, u8)> {
        let rest = self.what.strip_prefix("pio_write at ")?;
        let number = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let mut words = rest.split(' ');
        let port = number(words.next()?)?;
        let value = rest.split("val ").nth(1)?.split(' ').next()?;
        Some((port, number(value)? as u8))
    }

    /// Its kind in tables: the reason, without what the host's own clock causes, and the guest's, which goes by the host's.
    fn kind(&self) -> Option<&str> {
        match self.reason.as_str() {
            "interrupt" | "EXTERNAL_INTERRUPT" | "nmi" | TICK => None,
            "npf" if self.what.starts_with("mmio") => Some("mmio"),
            reason => Some(reason),
        }
    }
}

/// The exits of a trace, in order.
pub fn parse(trace: &str) -> Vec<Exit> {
    let mut exits: Vec<Exit> = Vec::new();
    for line in trace.lines() {
        let Some((event, rest)) = line
            .split_once(": kvm_")
            .and_then(|(_, rest)| rest.split_once(": "))
        else {
            continue;
        };
        if event == "exit" {
            let word = |key: &str| {
                let (_, after) = rest.split_once(key)?;
                after.split(' ').next()
            };
            let rip = word("rip 0x").and_then(|rip| u64::from_str_radix(rip, 16).ok());
            exits.push(Exit {
                reason: word("reason ").unwrap_or("unknown").to_owned(),
                rip: rip.unwrap_or(0),
                ..Exit::default()
            });
            continue;
        }
        let Some(exit) = exits.last_mut() else {
            continue;
        };
        match event {
            // Of a page that is none, more is told behind this.
            "page_fault" => exit.what = rest.to_owned(),
            "mmio" if exit.what.starts_with(PAGE_FAULT) => exit.what = rest.to_owned(),
            "pio" | "mmio" | "msr" | "cpuid" if exit.what.is_empty() => exit.what = rest.to_owned(),
            "emulate_insn" => exit.emulated = true,
            "userspace_exit" => exit.to_qemu = true,
            _ => {}
        }
    }
    exits
}

/// Exits by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By KVM's reason; `mmio` is those page faults that were accesses to a device.
    pub kinds: BTreeMap<String, u64>,
    /// Those with an emulated instruction.
    pub emulated: u64,
    /// Those that went to QEMU.
    pub to_qemu: u64,
}

impl Counts {
    fn add(&mut self, exit: &Exit) {
        if let Some(kind) = exit.kind() {
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
            self.emulated += u64::from(exit.emulated);
            self.to_qemu += u64::from(exit.to_qemu);
        }
    }

    /// All exits.
    pub fn total(&self) -> u64 {
        self.kinds.values().sum()
    }
}

/// What a guest's trace comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// From reset to the guest's first instruction. The firmware's reports of its steps are not counted.
    pub boot: Counts,
    /// By step of the firmware, in order, as far as it reports them.
    pub steps: Vec<(String, Counts)>,
    /// While the boot sector reads.
    pub reading: Counts,
}

/// Adds a guest's exits up. Its report goes to [`guest::PORT`].
pub fn summarize(exits: &[Exit]) -> Summary {
    let mut summary = Summary::default();
    let mut step = Counts::default();
    let mut text = String::new();
    let mut written = Vec::new();
    let mut ticks = 0;
    for exit in exits {
        ticks += u32::from(exit.reason == TICK);
        match exit.port_write() {
            // The bed is slow, and a guest there sees many more ticks than one elsewhere.
            Some((PIC, END_OF_INTERRUPT)) if ticks > 0 => ticks -= 1,
            Some((guest::PORT, byte)) => written.push(byte),
            Some((STEP_PORT, b'\n')) => {
                let name = text
                    .strip_prefix("step ")
                    .and_then(|rest| rest.rsplit_once(' '));
                if let Some((name, _)) = name {
                    summary
                        .steps
                        .push((name.to_owned(), std::mem::take(&mut step)));
                }
                text.clear();
            }
            Some((STEP_PORT, byte)) => text.push(byte.into()),
            _ if written.is_empty() => {
                summary.boot.add(exit);
                step.add(exit);
            }
            _ if written.len() == 10 && written.last() == Some(&b'B') => summary.reading.add(exit),
            _ => {}
        }
    }
    if !summary.steps.is_empty() {
        summary.steps.push(("the rest".to_owned(), step));
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_kind_and_step() {
        let exit = |reason: &str, event: &str| {
            let event = match event {
                "" => String::new(),
                event => format!(" qemu-1 [000] ..... 9: {event}\n"),
            };
            format!(
                " qemu-1 [000] d.... 8: kvm_exit: vcpu 0 reason {reason} rip 0xfe05b info1 0x0\n{event}"
            )
        };
        let out = |port: &str, byte: u8| {
            exit(
                "io",
                &format!("kvm_pio: pio_write at {port} size 1 count 1 val {byte:#x} "),
            )
        };
        let report = |text: &str| {
            text.bytes()
                .map(|byte| out("0xe9", byte))
                .collect::<String>()
        };
        let trace = [
            "# tracer: nop\n".to_owned(),
            exit("cpuid", ""),
            exit("interrupt", ""),
            exit("vintr", ""),
            out("0x20", 0x20),
            out("0x70", 0x8f),
            report("step memory 12\n"),
            exit(
                "npf",
                "kvm_page_fault: vcpu 0 rip 0x1 address 0xfee00000\n q [0] .. 9: kvm_mmio: mmio write len 4 gpa 0xfee00000 val 0x1",
            ),
            exit("npf", ""),
            b"T12345678B"
                .iter()
                .map(|byte| out("0x4e9", *byte))
                .collect(),
            out("0x1f7", 0x20),
            out("0x4e9", b'E'),
            exit("hlt", ""),
        ]
        .concat();
        let summary = summarize(&parse(&trace));
        let kinds = |counts: &Counts| format!("{:?}", counts.kinds);
        assert_eq!(
            kinds(&summary.boot),
            r#"{"cpuid": 1, "io": 1, "mmio": 1, "npf": 1}"#
        );
        assert_eq!(summary.steps.len(), 2);
        assert_eq!(summary.steps[0].0, "memory");
        assert_eq!(summary.steps[0].1.total(), 2);
        assert_eq!(summary.steps[1].1.total(), 2);
        assert_eq!(summary.reading.total(), 1);
        assert!(parse("").is_empty());
    }
}
