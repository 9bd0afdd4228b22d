//! The guest's tables under QEMU: ACPI and SMBIOS as QEMU made them, MP and PIR made here.

use alloc::vec::Vec;

use super::fw_cfg::{Files, FwCfg};
use crate::arch::{Clock, PhysMem, Ports};
use crate::devices::chipset::{self, Routing};
use crate::devices::pci::PciDevice;
use crate::settings::Settings;
use firstlight_tables::place::Placer;
use firstlight_tables::routing::Chipset;
use firstlight_tables::{loader, mp, pir, smbios};

const SMBIOS_TABLES: &[u8] = b"etc/smbios/smbios-tables";
const SMBIOS_ANCHOR: &[u8] = b"etc/smbios/smbios-anchor";
/// A blob of ready-made structures: each after its 32-bit length.
pub const SMBIOS_BLOB: &[u8] = b"opt/firstlight/smbios";
/// The heap holds the table once; 240 CPUs and 99 strings of 900 bytes take half of this.
const SMBIOS_LIMIT: u32 = 192 << 10;
/// A blob comes on top of the table.
const BLOB_LIMIT: u32 = 48 << 10;
/// 64 KiB of commands are 512 of them; QEMU's largest machines have fewer than 100.
const SCRIPT_LIMIT: u32 = 64 << 10;

/// What the tables describe.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// QEMU's files.
    pub fw_cfg: Option<&'a FwCfg>,
    /// The chipset.
    pub chipset: chipset::Chipset,
    /// PCI functions.
    pub pci: &'a [PciDevice],
    /// Local APIC IDs of the processors, the boot processor's first.
    pub apic_ids: &'a [u32],
    /// CPUID leaf 1, EAX and EDX.
    pub cpu: (u32, u32),
    /// The user's settings.
    pub settings: &'a Settings,
}

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

/// Where tables lie that others ask for: physical addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The ACPI root pointer.
    pub rsdp: Option<u64>,
    /// Addresses that QEMU was told.
    pub told: Vec<loader::Told>,
    /// The PCI interrupt routing table.
    pub routing_table: Option<u64>,
}

/// Places all tables. What cannot be made or placed is logged and left out.
pub fn install(
    hw: &(impl Ports + PhysMem + Clock),
    input: &Input,
    placer: &mut dyn Placer,
) -> Installed {
    let routing_table = legacy(input, placer);
    let loaded = input.fw_cfg.and_then(|fw_cfg| {
        install_smbios(hw, fw_cfg, input.settings, placer);
        acpi(hw, fw_cfg, placer)
    });
    let loaded = loaded.unwrap_or_default();
    Installed {
        rsdp: loaded.rsdp,
        told: loaded.told,
        routing_table,
    }
}

fn acpi(
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

/// MP and PIR tables. Gives the PIR table's address.
fn legacy(input: &Input, placer: &mut dyn Placer) -> Option<u64> {
    let routing = match input.chipset {
        chipset::Chipset::None => return None,
        chipset::Chipset::I440fx => Chipset::Piix3,
        chipset::Chipset::Q35 => Chipset::Ich9,
    };
    let [a, b, c, d] = Routing::of(input.chipset).irqs;
    let mut pins = Vec::with_capacity(input.pci.len());
    let mut devices = Vec::with_capacity(input.pci.len());
    for function in input.pci.iter().filter(|function| function.bdf.bus() == 0) {
        let device = function.bdf.device();
        if devices.last() != Some(&device) {
            devices.push(device);
        }
        if let Some(pin) = function.pin.checked_sub(1) {
            pins.push((device, pin));
        }
    }
    firstlight_tables::sort::by_key(&mut pins, |pin| *pin);
    pins.dedup();
    let mp = mp::Input {
        apic_ids: input.apic_ids,
        cpu: input.cpu,
        ioapic_id: 0,
        chipset: routing,
        irqs: [a, b, c, d, a, b, c, d],
        pci_pins: &pins,
        timer_on_input_2: true,
    };
    let mp = mp::install(&mp, placer);
    let pir = pir::install(routing, &devices, placer);
    if mp.is_none() || pir.is_none() {
        log::error!("no MP or PIR table: no memory left for it");
    }
    pir
}
