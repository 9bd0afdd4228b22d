//! What a Linux in a guest of Xen finds out about its machine, as named facts that can be compared.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use xtask::linux::Report;

/// The shell script by which the small Linux adds what its report does not have: lines `fact NAME VALUE`, and each PCI function's
/// configuration space as `config SLOT HEX`, without the zeros at its end.
pub const JOB: &str = "\
for device in /sys/bus/pci/devices/*; do
    slot=${device##*/0000:}
    echo \"fact pci.$slot.irq\" $(cat $device/irq)
    echo config $slot $(hexdump -v -e '1/1 \"%02x\"' $device/config | sed 's/\\(00\\)*$//')
    line=0
    while read -r start end flags; do
        [ $flags = 0x0000000000000000 ] || echo \"fact pci.$slot.resource$line\" $start $end $flags
        line=$((line + 1))
    done <$device/resource
done
awk 'NR > 1 { for (i = 2; $i ~ /^[0-9]+$/; i++) $i = \"\"; gsub(/ +/, \" \"); print \"fact interrupt.\" $0 }' /proc/interrupts
echo \"fact clocksource.now\" $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo \"fact clocksource.all\" $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)
echo \"fact cpus\" $(cat /sys/devices/system/cpu/present) present, $(cat /sys/devices/system/cpu/online) online
echo facts-\"\"end
";

/// The last line of what [`JOB`] prints.
pub const JOB_END: &str = "facts-end";

/// The facts of a report, and those of the job's lines in `console`.
///
/// # Errors
/// lspci is not installed, or a line is not what the job writes.
pub fn of(report: &Report, console: &str) -> Result<Vec<(String, String)>> {
    let mut facts = Vec::new();
    let numbered = |what: &str, text: &str, facts: &mut Vec<(String, String)>| {
        facts.extend(
            text.lines()
                .enumerate()
                .map(|(number, line)| (format!("{what}.{number}"), line.trim().to_owned())),
        );
    };
    numbered("e820", &report.e820(), &mut facts);
    numbered("mtrr", &report.text("mtrr.txt"), &mut facts);
    facts.extend(smbios(&report.text("dmidecode.txt")));
    for table in report.acpi().unwrap_or_default() {
        facts.push((format!("acpi.{}", table.name), "present".to_owned()));
    }
    facts.extend(messages(&report.text("dmesg.txt")));
    let mut dump = String::new();
    for line in console.lines().map(str::trim) {
        if let Some((slot, bytes)) = after(line, "config ") {
            dump.push_str(&lspci_dump(slot, bytes)?);
        } else if let Some((name, value)) = after(line, "fact ") {
            let name = name.trim_end_matches(':');
            facts.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    facts.extend(pci(&lspci(&dump)?));
    Ok(facts)
}

/// The two parts of what follows `mark` at the start of a line.
fn after<'a>(line: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(mark)?.split_once(' ')
}

/// A function's configuration space as lspci -F reads it: a line of its address, and one for each 16 bytes.
fn lspci_dump(slot: &str, bytes: &str) -> Result<String> {
    ensure!(
        bytes.len() <= 512 && bytes.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "configuration space of {slot}: {bytes}"
    );
    let mut text = format!("{slot} function");
    for at in 0..256 {
        if at % 16 == 0 {
            text.push_str(&format!("\n{at:02x}:"));
        }
        text.extend([" ", bytes.get(2 * at..2 * at + 2).unwrap_or("00")]);
    }
    text.push_str("\n\n");
    Ok(text)
}

/// What lspci -vv makes of a dump.
fn lspci(dump: &str) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("dump");
    fs::write(&file, dump)?;
    let output = Command::new("lspci")
        .args(["-vv", "-n", "-F"])
        .arg(&file)
        .output()
        .context("cannot start lspci (package pciutils)")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "lspci: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// lspci's output: `pci.SLOT` is what the function is, `pci.SLOT.FIELD` the rest.
fn pci(text: &str) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut slot = "";
    for line in text.lines() {
        let words = line.trim();
        if words.is_empty() {
            continue;
        }
        if line.starts_with('\t') {
            let (field, value) = words.split_once(": ").unwrap_or((words, ""));
            facts.push((format!("pci.{slot}.{field}"), value.to_owned()));
        } else {
            let (address, function) = words.split_once(' ').unwrap_or((words, ""));
            slot = address;
            facts.push((format!("pci.{slot}"), function.to_owned()));
        }
    }
    facts
}

/// dmidecode's output: `smbios.TITLE.NUMBER.FIELD`, the number that of the structure among those of its title.
fn smbios(text: &str) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut title = String::new();
    for line in text.lines() {
        let words = line.trim();
        if words.is_empty() || line.starts_with('#') || line.starts_with("Handle") {
            continue;
        }
        if !line.starts_with('\t') {
            let count = seen.entry(words.to_owned()).or_default();
            title = format!("smbios.{words}.{count}");
            *count += 1;
        } else if line.starts_with("\t\t") {
            // A line of a list belongs to the field before it.
            if let Some((_, value)) = facts.last_mut() {
                value.push_str(&format!(" | {words}"));
            }
        } else {
            let (field, value) = words.split_once(':').unwrap_or((words, ""));
            // Xen measures its clock again and again, and in the test bed finds another speed each time.
            let value = match value.strip_suffix(" MHz") {
                Some(_) if field.ends_with("Speed") => "some MHz",
                _ => value.trim(),
            };
            facts.push((format!("{title}.{field}"), value.to_owned()));
        }
    }
    facts
}

/// What tells the messages about what firmware sets up and describes; in small letters.
const TOLD: &[&str] = &[
    "acpi",
    "apic",
    "clock",
    "mtrr",
    "pci_bus",
    "pci: ",
    "pnp",
    "rtc",
    "system 00",
    "timer",
    "tsc",
];
/// What tells those that have times in them.
const TIMED: &[&str] = &["clock", "rtc_cmos", "timer", "tsc", "Kernel command line"];
/// How messages begin and end that only a busy host has: a quirk, or an interrupt, that took longer than usual; interrupts that
/// are lost.
const BUSY: &[(&str, &str)] = &[
    ("", " usecs"),
    ("hrtimer: interrupt took", ""),
    ("hpet: lost", ""),
];

/// What the kernel said of ACPI, interrupt controllers, clocks, PCI's windows and PNP's devices, by the message without its numbers. The value is the whole message,
/// all of them where there are several; of messages that tell times, which differ from boot to boot, it is how many there are.
fn messages(dmesg: &str) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in dmesg.lines() {
        let message = line.split_once("] ").map_or(line, |(_, message)| message);
        let lower = message.to_ascii_lowercase();
        if BUSY
            .iter()
            .any(|(start, end)| lower.starts_with(start) && lower.ends_with(end))
        {
            continue;
        }
        if TOLD.iter().any(|word| lower.contains(word)) {
            let name = format!("dmesg.{}", without_numbers(message));
            all.entry(name).or_default().push(message.trim());
        }
    }
    let timed = |name: &str| TIMED.iter().any(|word| name.contains(word));
    all.into_iter()
        .map(|(name, messages)| {
            let value = match timed(&name) {
                true => messages.len().to_string(),
                false => messages.join(" | "),
            };
            (name, value)
        })
        .collect()
}

/// Replaces each word of digits, whole or behind a sign such as `=`.
fn without_numbers(message: &str) -> String {
    let mut text = String::new();
    let mut digits = String::new();
    for character in message.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() || (character == 'x' && digits == "0") {
            digits.push(character);
            continue;
        }
        let number = digits.chars().any(|digit| digit.is_ascii_digit()) && digits.len() > 2
            || digits.chars().all(|digit| digit.is_ascii_digit());
        text.push_str(if number && !digits.is_empty() {
            "#"
        } else {
            &digits
        });
        digits.clear();
        text.push(character);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_numbers_and_lists_are_one_fact() {
        let text = "# dmidecode 3.4\n\nHandle 0x0000, DMI type 0\nBIOS Information\n\tVendor: Xen\n\tCharacteristics:\n\
                    \t\tPCI is supported\n\nHandle 0x0401\nProcessor Information\n\tMax Speed: 2606 MHz\n\nHandle 0x0402\nProcessor Information\n\tType: B\n";
        let facts = smbios(text);
        assert_eq!(
            facts[1],
            (
                "smbios.BIOS Information.0.Characteristics".into(),
                " | PCI is supported".into()
            )
        );
        assert_eq!(facts[2].1, "some MHz");
        assert_eq!(
            facts[3],
            ("smbios.Processor Information.1.Type".into(), "B".into())
        );
    }

    #[test]
    fn messages_are_named_without_their_numbers() {
        let dmesg = "[    0.1] ACPI: RSDP 0x00000000000EA020 000024 (v02 Xen   )\nother\n\
                     [    0.1] pci 0000:00:01.3: quirk_piix4_acpi+0x0/0x180 took 23437 usecs\n\
                     [    0.2] hrtimer: interrupt took 5127340 ns\n[    0.2] clocksource: hpet: 1.5 ms\n";
        let expected = [
            (
                "dmesg.ACPI: RSDP # # (v# Xen   )".into(),
                "ACPI: RSDP 0x00000000000EA020 000024 (v02 Xen   )".into(),
            ),
            ("dmesg.clocksource: hpet: #.# ms".into(), "1".into()),
        ];
        assert_eq!(messages(dmesg), expected);
    }

    #[test]
    fn configuration_space_is_what_lspci_says() -> Result<()> {
        let dump = lspci_dump("00:01.1", "8680107005000002")?;
        assert!(dump.starts_with("00:01.1 function\n00: 86 80 10 70 05 00 00 02 00 00"));
        assert_eq!(dump.lines().count(), 18);
        assert!(lspci_dump("00:01.1", "86 80").is_err());
        let text = "00:01.1 0101: 8086:7010 (prog-if 80)\n\tControl: I/O+ Mem-\n\tRegion 4: I/O ports at c200\n\n";
        assert_eq!(
            pci(text)[1..],
            [
                ("pci.00:01.1.Control".into(), "I/O+ Mem-".into()),
                ("pci.00:01.1.Region 4".into(), "I/O ports at c200".into()),
            ]
        );
        Ok(())
    }
}
