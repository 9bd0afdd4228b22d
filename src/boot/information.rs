//! What the firmware knows, as the menu shows it.

use crate::arch::PhysMem;
use crate::devices::chipset::Chipset;
use crate::low_memory::F_SEGMENT;
use crate::platform::{Machine, Platform};
use crate::settings::Settings;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_tables::smbios::{self, Structure};

/// The firmware's name and version.
pub const TITLE: &str = concat!("Firstlight ", env!("CARGO_PKG_VERSION"));

/// Most bytes of an SMBIOS table that are looked at.
const TABLE_LIMIT: u32 = 64 << 10;

/// A line for each fact. `log` is the end of the log.
pub fn lines(hw: &impl PhysMem, machine: &Machine, settings: &Settings, log: &str) -> Vec<String> {
    let mut lines = vec![TITLE.into(), String::new()];
    let platform = match machine.platform {
        Platform::Qemu => "QEMU",
        Platform::Xen(_) => "Xen",
    };
    let chipset = match machine.chipset {
        Chipset::None => "no chipset that is known",
        Chipset::I440fx => "i440FX",
        Chipset::Q35 => "Q35",
    };
    let mib = (machine.low_ram_end + machine.high_ram) >> 20;
    let functions = machine.pci.len();
    lines.push(format!(
        "Machine       {platform}, {chipset}, {functions} PCI functions"
    ));
    lines.push(format!("Memory        {mib} MiB"));
    lines.push(format!("Processors    {}", machine.cpus.present));
    lines.extend(identity(hw));
    lines.push(String::new());
    lines.extend(settings_lines(settings));
    lines.push(String::new());
    if log.is_empty() {
        lines.push("The log is empty.".into());
    } else {
        lines.push("The end of the log:".into());
        lines.extend(log.lines().map(|line| format!("  {line}")));
    }
    lines
}

fn settings_lines(settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("{name:14}{value}"));
        }
    };
    let port = settings.console_port();
    add("Console", port.map(|port| format!("COM{}", port + 1)));
    let order = (!settings.order.is_empty()).then(|| settings.order.clone());
    add("Order", order);
    add("Menu", settings.menu.map(|menu| format!("{menu:?}")));
    add(
        "Menu timeout",
        settings.menu_timeout.map(|time| format!("{time:?}")),
    );
    add(
        "Fail timeout",
        settings.fail_timeout.map(|time| format!("{time:?}")),
    );
    add("Log", settings.log.map(|level| format!("{level}")));
    add("SMBIOS", Some(format!("{:?}", settings.smbios_mode)));
    lines
}

/// Who the guest is, from its SMBIOS tables.
fn identity(hw: &impl PhysMem) -> Vec<String> {
    /// Offset of the UUID in the structure on the system.
    const UUID: usize = 8;
    const SYSTEM: u8 = 1;
    let table = table(hw).unwrap_or_default();
    let Some(system) = smbios::structures(&table).find(|one| one.kind() == SYSTEM) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (name, offset) in [
        ("Manufacturer", 4),
        ("Product", 5),
        ("Version", 6),
        ("Serial", 7),
    ] {
        if let Some(text) = string(&system, offset) {
            lines.push(format!("{name:14}{text}"));
        }
    }
    let uuid = system.formatted().get(UUID..UUID + 16);
    if let Some(uuid) = uuid.and_then(|bytes| bytes.first_chunk::<16>()) {
        // The first three fields are little-endian.
        let [a, b, c, d, e, f, g, h, rest @ ..] = *uuid;
        let first = u32::from_le_bytes([a, b, c, d]);
        let (second, third) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let (fourth, last) = (hex(&rest[..2]), hex(&rest[2..]));
        lines.push(format!(
            "UUID          {first:08x}-{second:04x}-{third:04x}-{fourth}-{last}"
        ));
    }
    lines
}

/// The text whose number is at `offset` of a structure.
fn string(structure: &Structure, offset: usize) -> Option<String> {
    let number = usize::from(*structure.formatted().get(offset)?);
    let text = structure.strings().nth(number.checked_sub(1)?)?;
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

/// The SMBIOS table, by the entry point in the F segment (DSP0134, section 5.2).
fn table(hw: &impl PhysMem) -> Option<Vec<u8>> {
    const STEP: usize = 16;
    let mut entry = [0; 32];
    for at in (F_SEGMENT.start..F_SEGMENT.end - STEP as u64).step_by(STEP) {
        if hw.read32(at) != u32::from_le_bytes(*b"_SM_")
            && hw.read32(at) != u32::from_le_bytes(*b"_SM3")
        {
            continue;
        }
        hw.read(at, &mut entry);
        let word = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let (addr, size) = match entry.starts_with(b"_SM3_") {
            true => (word(16), word(12)),
            false => (word(24), word(20) >> 16),
        };
        let mut table = vec![0; size.min(TABLE_LIMIT) as usize];
        hw.read(addr.into(), &mut table);
        return Some(table);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::settings::{Menu, SerialConsole};

    #[test]
    fn all_that_is_known() {
        let hw = Fake::default();
        let mut system = vec![1, 27, 1, 0, 1, 2, 0, 3];
        system.extend(0u8..16);
        system.extend([6, 0, 0]);
        system.extend(b"Acme\0Rack Guest\0AC-0001\0\0");
        hw.write(0xf_0100, b"_SM_");
        hw.write16(0xf_0100 + 22, system.len() as u16);
        hw.write32(0xf_0100 + 24, 0x9000);
        hw.write(0x9000, &system);
        let machine = Machine {
            low_ram_end: 256 << 20,
            ..Machine::default()
        };
        let settings = Settings {
            menu: Some(Menu::On),
            serial_console: Some(SerialConsole::Port(1)),
            order: "cdrom".into(),
            ..Settings::default()
        };
        let text = lines(&hw, &machine, &settings, "firstlight: one\n").join("\n");
        for part in [
            "Memory        256 MiB",
            "Manufacturer  Acme",
            "Product       Rack Guest",
            "Serial        AC-0001",
            "UUID          03020100-0504-0706-0809-0a0b0c0d0e0f",
            "Console       COM2",
            "Order         cdrom",
            "Menu          On",
            "  firstlight: one",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        assert!(!text.contains("Version  "));
    }

    #[test]
    fn no_tables_are_no_trouble() {
        let hw = Fake::default();
        hw.write(0xf_0000, b"_SM3_");
        hw.write32(0xf_000c, u32::MAX);
        lines(&hw, &Machine::default(), &Settings::default(), "");
    }
}
