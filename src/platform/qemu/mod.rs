//! QEMU: what its configuration device and CMOS tell.

pub mod fw_cfg;
pub(super) mod memory;
pub mod tables;
pub mod wishes;

use core::ops::Range;

use super::{Cpus, Machine, Platform};
use crate::arch::{Clock, PhysMem, Ports};
use crate::devices::chipset::{Chipset, pm_timer};
use crate::devices::pci::ConfigAccess;
use crate::devices::pci::setup::{Input, setup, windows};
use crate::settings::Settings;
use fw_cfg::{Files, FwCfg, key};

/// Where user's settings are, by fw_cfg file name.
const SETTINGS_PREFIX: &[u8] = b"opt/firstlight/";
/// The most bytes that a setting can have: an order may name many devices. As much as Xen's store has room for in a value.
const SETTING_LIMIT: u32 = 4096;

/// Learns what machine this is, and sets up its memory and its PCI functions. `resident` is the firmware's own place,
/// `phys_bits` how many bits a physical address has.
pub fn start(
    hw: &(impl Ports + PhysMem + Clock),
    resident: Range<u64>,
    phys_bits: u8,
) -> (Machine, Settings) {
    let chipset = Chipset::detect(hw);
    chipset.unlock_shadow(hw, ConfigAccess::Ports);
    let (mut machine, settings) = discover(hw, chipset, resident);
    set_up_pci(hw, &mut machine, phys_bits);
    machine.pm_timer = pm_timer(&machine.pci);
    machine.shadow_is_open = true;
    machine.pci_hole = chipset.pci_hole_start(machine.low_ram_end)..1 << 32;
    (machine, settings)
}

/// Asks QEMU for everything that does not lie on a PCI bus. `resident` is the firmware's own place.
///
/// What QEMU does not tell is taken from CMOS or assumed, and logged.
pub fn discover(
    hw: &(impl Ports + PhysMem + Clock),
    chipset: Chipset,
    resident: Range<u64>,
) -> (Machine, Settings) {
    let fw_cfg = FwCfg::open(hw)
        .inspect_err(|error| log::warn!("fw_cfg: {error}; memory size from CMOS, one CPU"))
        .ok();
    let memory = memory::discover(hw, fw_cfg.as_ref(), chipset, &resident);
    let mut settings = Settings::default();
    let mut cpus = Cpus { present: 1 };
    if let Some(fw_cfg) = &fw_cfg {
        tables::oem_settings(hw, fw_cfg, &mut settings);
        read_settings(hw, fw_cfg, &mut settings);
        wishes::serial_console(hw, fw_cfg, &mut settings);
        cpus.present = cpus_present(hw, fw_cfg);
    }
    let machine = Machine {
        platform: Platform::Qemu,
        low_ram_end: memory.low_ram_end,
        high_ram: memory.high_ram,
        high_end: memory.high_end,
        cpus,
        e820: memory.map,
        resident,
        chipset,
        fw_cfg,
        ..Machine::default()
    };
    (machine, settings)
}

/// Sets up the PCI functions and keeps them in `machine`. `phys_bits` is how many bits a physical address has.
pub fn set_up_pci(hw: &(impl Ports + PhysMem + Clock), machine: &mut Machine, phys_bits: u8) {
    machine.config = machine.chipset.config_access(hw, machine.low_ram_end);
    let extra_roots = machine
        .fw_cfg
        .as_ref()
        .and_then(|fw_cfg| fw_cfg.number_file(hw, b"etc/extra-pci-roots"));
    let input = Input {
        access: machine.pci_access(),
        extra_roots: extra_roots.unwrap_or(0),
        host_id: machine.chipset.host_id(),
        windows: windows(
            machine.chipset,
            machine.config,
            machine.low_ram_end,
            machine.high_end,
            phys_bits,
        ),
    };
    if machine.chipset != Chipset::None {
        machine.pci = setup(hw, &input);
    }
}

fn cpus_present(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg) -> u32 {
    (fw_cfg.number::<2>(hw, key::NB_CPUS) as u32).max(1)
}

/// Tells QEMU again what it forgot by the reset with which the machine woke up, and asks for the CPUs anew, which may have come
/// and gone.
pub fn restore(hw: &(impl Ports + PhysMem + Clock), machine: &mut Machine) {
    let Some(fw_cfg) = &machine.fw_cfg else {
        return;
    };
    machine.cpus.present = cpus_present(hw, fw_cfg);
    let mut source = Files { fw_cfg, hw };
    if !machine.wake.told.iter().all(|told| told.tell(&mut source)) {
        log::error!("QEMU could not be told an address again");
    }
}

fn read_settings(hw: &(impl Ports + PhysMem + Clock), fw_cfg: &FwCfg, settings: &mut Settings) {
    for (_, file) in fw_cfg.files() {
        let Some(name) = file.strip_prefix(SETTINGS_PREFIX) else {
            continue;
        };
        if file == tables::SMBIOS_BLOB {
            continue;
        }
        let Some(value) = fw_cfg.read_file(hw, file, SETTING_LIMIT) else {
            continue;
        };
        let (name, value) = (name.utf8_chunks(), value.utf8_chunks());
        let text = |chunks: core::str::Utf8Chunks| {
            chunks
                .map(|chunk| chunk.valid())
                .collect::<alloc::string::String>()
        };
        let (name, value) = (text(name), text(value));
        let value = value.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if let Err(error) = settings.set(&name, value) {
            log::warn!("opt/firstlight/{name}: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
