//! What a Linux in a guest of Xen finds out about its machine, as named facts that can be compared.

use std::collections::BTreeMap;
use xtask::linux::Report;

/// The shell script by which the small Linux adds what its report does not have: lines `fact NAME VALUE`.
pub const JOB: &str = "\
for device in /sys/bus/pci/devices/*; do
    name=pci.${device##*/}
    echo \"fact $name.id\" $(cat $device/vendor $device/device $device/class $device/subsystem_vendor $device/subsystem_device)
    echo \"fact $name.irq\" $(cat $device/irq)
    echo \"fact $name.config\" $(dd if=$device/config bs=64 count=1 2>/dev/null | hexdump -v -e '1/1 \"%02x\"')
    line=0
    while read -r start end flags; do
        [ $flags = 0x0000000000000000 ] || echo \"fact $name.resource$line\" $start $end $flags
        line=$((line + 1))
    done <$device/resource
done
awk 'NR > 1 { for (i = 2; $i ~ /^[0-9]+$/; i++) $i = \"\"; gsub(/ +/, \" \"); print \"fact interrupt.\" $0 }' /proc/interrupts
echo \"fact cpus\" $(nproc)
echo \"fact clocksource.now\" $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo \"fact clocksource.all\" $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)
echo facts-\"\"end
";

/// The last line of what [`JOB`] prints.
pub const JOB_END: &str = "facts-end";

/// The facts of a report, and those of the job's lines in `console`.
pub fn of(report: &Report, console: &str) -> Vec<(String, String)> {
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
    for line in console.lines() {
        let fact = line
            .find("fact ")
            .and_then(|at| line[at + 5..].trim().split_once(' '));
        if let Some((name, value)) = fact {
            facts.push((
                name.trim_end_matches(':').to_owned(),
                value.trim().to_owned(),
            ));
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
            facts.push((format!("{title}.{field}"), value.trim().to_owned()));
        }
    }
    facts
}

/// What the kernel said of ACPI, interrupt controllers and clocks, without times and addresses; the value is how often.
fn messages(dmesg: &str) -> Vec<(String, String)> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for line in dmesg.lines() {
        let message = line.split_once("] ").map_or(line, |(_, message)| message);
        let told = ["ACPI", "APIC", "lock", "MTRR", "timer"]
            .iter()
            .any(|word| message.contains(word));
        if told {
            *counts
                .entry(format!("dmesg.{}", without_numbers(message)))
                .or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|(message, count)| (message, count.to_string()))
        .collect()
}

/// Replaces each word of digits, whole or behind a sign such as `=`, since times and addresses differ from boot to boot.
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
                    \t\tPCI is supported\n\nHandle 0x0401\nProcessor Information\n\tType: A\n\nHandle 0x0402\nProcessor Information\n\tType: B\n";
        let facts = smbios(text);
        assert_eq!(
            facts[1],
            (
                "smbios.BIOS Information.0.Characteristics".into(),
                " | PCI is supported".into()
            )
        );
        assert_eq!(
            facts[3],
            ("smbios.Processor Information.1.Type".into(), "B".into())
        );
    }

    #[test]
    fn messages_are_the_same_at_every_boot() {
        assert_eq!(
            messages("[    0.1] ACPI: RSDP 0x00000000000EA020 000024 (v02 Xen   )\nother\n"),
            [("dmesg.ACPI: RSDP # # (v# Xen   )".into(), "1".into())]
        );
    }
}
