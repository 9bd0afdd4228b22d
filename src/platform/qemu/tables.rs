//! The guest's tables under QEMU: ACPI and SMBIOS as QEMU made them, MP and PIR made here.

use super::fw_cfg::{Files, FwCfg};
use crate::arch::{Clock, Cpuid, PhysMem, Ports, room_for};
use crate::devices::chipset::Chipset;
use crate::platform::legacy::Interrupts;
use crate::platform::{Described, Installed};
use crate::settings::Settings;
use firstlight_tables::place::Placer;
use firstlight_tables::{loader, smbios};

const SMBIOS_TABLES: &[u8] = b"etc/smbios/smbios-tables";
const SMBIOS_ANCHOR: &[u8] = b"etc/smbios/smbios-anchor";
/// A blob of ready-made structures: each after its 32-bit length.
pub const SMBIOS_BLOB: &[u8] = b"opt/firstlight/smbios";
/// The heap holds the table once; 240 CPUs and 99 strings of 900 bytes take half of this.
const SMBIOS_LIMIT: u32 = 192 << 10;
/// What completing the table takes for each of its structures beside them, while the list of them grows.
const SMBIOS_EACH: usize = 128;
/// A blob comes on top of the table.
const BLOB_LIMIT: u32 = 48 << 10;
/// 64 KiB of commands are 512 of them; QEMU's largest machines have fewer than 100.
const SCRIPT_LIMIT: u32 = 64 << 10;

/// Settings among the OEM strings that the user gave QEMU.
pub fn oem_settings(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg, settings: &mut Settings) {
    let tables = fw_cfg.read_file(hw, SMBIOS_TABLES, SMBIOS_LIMIT);
    let tables = tables.unwrap_or_default();
    for (name, value) in smbios::settings(smbios::structures(&tables)) {
        let value = core::str::from_utf8(value).unwrap_or_default();
        if let Err(error) = settings.set(name, value) {
            log::warn!("OEM string firstlight.{name}: {error}");
        }
    }
}

/// Places all tables. What cannot be made or placed is logged and left out.
pub fn install(
    hw: &(impl Ports + PhysMem + Clock),
    cpu: &impl Cpuid,
    described: &Described,
    placer: &mut dyn Placer,
) -> Installed {
    let (mp, pir) = match interrupts(described.chipset) {
        Some(interrupts) => interrupts.install(cpu, described.apic_ids, described.pci, placer),
        None => (None, None),
    };
    let loaded = described.fw_cfg.and_then(|fw_cfg| {
        install_smbios(hw, fw_cfg, described.settings, placer);
        let bridges = described.pci.iter().any(|device| device.bridge.is_some());
        let grown = bridges.then(|| grown(hw, fw_cfg)).flatten();
        load_acpi(hw, grown.as_ref().unwrap_or(fw_cfg), placer)
    });
    let loaded = loaded.unwrap_or_default();
    Installed {
        rsdp: loaded.rsdp,
        smbios: None,
        mp,
        pir,
        told: loaded.told,
    }
}

fn interrupts(chipset: Chipset) -> Option<Interrupts> {
    (chipset != Chipset::None).then(|| Interrupts {
        routing: chipset.routing(),
        ioapic_id: 0,
    })
}

/// The device after QEMU has made the ACPI tables for the buses that it has by now. Only with bridges they may be longer than they were.
fn grown(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> Option<FwCfg> {
    let script = fw_cfg.find(loader::SCRIPT_FILE)?;
    fw_cfg.number::<1>(hw, script.handle as u16);
    let reread = fw_cfg.reread(hw);
    reread
        .inspect_err(|error| log::warn!("fw_cfg: {error}; tables may be cut off"))
        .ok()
}

fn load_acpi(
    hw: &(impl Ports + PhysMem + Clock),
    fw_cfg: &FwCfg,
    placer: &mut dyn Placer,
) -> Option<loader::Loaded> {
    let script = fw_cfg.read_file(hw, loader::SCRIPT_FILE, SCRIPT_LIMIT)?;
    let mut source = Files { fw_cfg, hw };
    match loader::run(&script, &mut source, placer) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            let (command, fault) = (error.command, error.fault);
            log::error!("no ACPI tables: command {command} of etc/table-loader: {fault:?}");
            None
        }
    }
}

fn install_smbios(
    hw: &(impl Ports + PhysMem + Clock),
    fw_cfg: &FwCfg,
    settings: &Settings,
    placer: &mut dyn Placer,
) {
    let read = |name| fw_cfg.read_file(hw, name, SMBIOS_LIMIT).unwrap_or_default();
    let given = read(SMBIOS_TABLES);
    if given.is_empty() {
        return;
    }
    let structures = smbios::structures(&given).count();
    if !room_for(3 * given.len() + structures * SMBIOS_EACH) {
        log::error!("no SMBIOS tables: no memory for {structures} structures");
        return;
    }
    let entries = smbios::Entries::from_anchor(&read(SMBIOS_ANCHOR));
    let blob = fw_cfg.read_file(hw, SMBIOS_BLOB, BLOB_LIMIT);
    let blob = blob.unwrap_or_default();
    let input = smbios::Input {
        mode: settings.smbios_mode,
        blob: &blob,
        ..smbios::Input::default()
    };
    if smbios::install(&smbios::complete(&given, &input), entries, placer).is_err() {
        log::error!("no SMBIOS tables: no memory left for them");
    }
}
