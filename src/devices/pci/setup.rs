//! The whole of PCI set-up, in the order in which it happens.

use crate::units::{FOUR_GIB, GIB};
use alloc::vec::Vec;

pub use super::command;
pub use super::plan::Windows;
use super::plan::plan;
use super::{Bar, BarKind, Bridge, ConfigAccess, PciDevice, ROM_BAR, Window, reg, scan::scan};
use super::{CLOSED_IO, CLOSED_MEMORY, IDE};
use crate::arch::{PhysMem, Ports};
use crate::devices::chipset::{self, Chipset, MMCONFIG, SCI_IRQ};
pub use firstlight_tables::routing::Routing;

/// How functions are reached, and how they reach others.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The way to configuration space.
    pub config: ConfigAccess,
    /// The way of the interrupts.
    pub routing: Routing,
    /// Bits that the command register of every function gets beside its decoders: see [`command`].
    pub command: u16,
}

impl Access {
    /// That of QEMU's machines. A function may use DMA once its driver lets it.
    pub fn of_qemu(config: ConfigAccess, chipset: Chipset) -> Self {
        Self {
            config,
            routing: chipset.routing(),
            command: command::SERR,
        }
    }
}

/// What set-up has to know of the machine.
#[derive(Clone, Debug)]
pub struct Input {
    /// How functions are reached.
    pub access: Access,
    /// Root buses beside bus 0.
    pub extra_roots: u64,
    /// The host bridge's device and vendor, where they have been read.
    pub host_id: Option<u32>,
    /// The addresses that functions may have.
    pub windows: Windows,
}

/// Finds every function, gives each its addresses and its interrupt, and turns its decoders on.
pub fn setup(hw: &(impl Ports + PhysMem), input: &Input) -> Vec<PciDevice> {
    install(
        hw,
        find(hw, input.access.config, input.extra_roots, input.host_id),
        input,
    )
}

/// Finds every function, where `host_id` is what the host bridge is if that has been read; none has an address yet but those that belong at a fixed one.
pub fn find(
    hw: &(impl Ports + PhysMem),
    config: ConfigAccess,
    extra_roots: u64,
    host_id: Option<u32>,
) -> Vec<PciDevice> {
    let mut devices = scan(hw, config, extra_roots, host_id);
    for device in &mut devices {
        if let Some((index, address)) = chipset::fixed_bar(device) {
            device.bars[index].address = Some(address);
        }
    }
    devices
}

/// How many base addresses of `devices` would get no place in `windows`.
pub fn unplaced(devices: &[PciDevice], windows: &Windows) -> usize {
    plan(&mut devices.to_vec(), windows)
}

/// Gives each of the functions that [`find`] found its addresses and its interrupt, and turns its decoders on.
pub fn install(
    hw: &(impl Ports + PhysMem),
    mut devices: Vec<PciDevice>,
    input: &Input,
) -> Vec<PciDevice> {
    let unplaced = plan(&mut devices, &input.windows);
    if unplaced > 0 {
        log::warn!("PCI: no room for {unplaced} base addresses; their functions stay disabled");
    }
    route(&mut devices, &input.access.routing);
    for index in 0..devices.len() {
        place(hw, &input.access, &devices, index);
    }
    for device in devices.iter_mut().rev() {
        device.command = enable(hw, &input.access, device);
    }
    devices
}

/// Gives the functions that [`setup`] found what it gave them, after a reset. One that is no longer there, or another one in its
/// place, is left alone.
pub fn restore(hw: &(impl Ports + PhysMem), access: &Access, devices: &[PciDevice]) {
    let config = access.config;
    let mut there = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let id = u32::from(device.device) << 16 | u32::from(device.vendor);
        if config.read32(hw, device.bdf, reg::ID) != id {
            continue;
        }
        if let Some(bridge) = &device.bridge {
            let buses = [device.bdf.bus(), bridge.secondary, bridge.subordinate, 0];
            config.write32(hw, device.bdf, reg::BUSES, u32::from_le_bytes(buses));
            if bridge.has_io && bridge.io.is_none() {
                config.write32(hw, device.bdf, reg::IO_WINDOW, CLOSED_IO);
            }
        }
        place(hw, access, devices, index);
        there.push(device);
    }
    for device in there.into_iter().rev() {
        enable(hw, access, device);
    }
}

/// The addresses that functions may have on QEMU's machines. RAM below 4 GiB ends at `low_ram_end`, and what lies above, with what
/// is kept for more of it, at `high_end`; `phys_bits` is how many bits a physical address has.
pub fn windows(
    chipset: Chipset,
    config: ConfigAccess,
    low_ram_end: u64,
    high_end: u64,
    phys_bits: u8,
) -> Windows {
    const MEMORY_END: u64 = 0xfec0_0000;
    let hole = chipset.pci_hole_start(low_ram_end);
    let memory = match config {
        ConfigAccess::Mmconfig(_) => alloc::vec![MMCONFIG.end..MEMORY_END, hole..MMCONFIG.start],
        ConfigAccess::Ports => alloc::vec![hole..MEMORY_END],
    };
    // QEMU's ACPI tables tell the guest of this start (pc_pci_hole64_start in hw/i386/pc.c).
    let high = high_end.max(FOUR_GIB).checked_next_multiple_of(GIB);
    let high = high.unwrap_or(u64::MAX);
    let limit = 1u64.checked_shl(phys_bits.into()).unwrap_or(u64::MAX);
    Windows {
        // QEMU's own devices have ports below 1000h and from a000h to bfffh.
        io: alloc::vec![0xc000..0x1_0000, 0x1000..0xa000],
        memory,
        high: high..limit.max(high),
    }
}

fn route(devices: &mut [PciDevice], routing: &Routing) {
    for index in 0..devices.len() {
        if devices[index].pin == 0 {
            continue;
        }
        let mut at = &devices[index];
        let mut pin = at.pin - 1;
        // Each bridge rotates the pins by the device number (PCI-to-PCI bridge specification, section 9.1).
        while let Some(parent) = at.parent {
            pin = (pin + at.bdf.device()) & 3;
            at = &devices[parent];
        }
        let irq = match devices[index].is(0x8086, 0x7113) {
            true => SCI_IRQ,
            false => routing.irq(at.bdf.device(), pin),
        };
        devices[index].irq = Some(irq);
    }
}

/// Writes what the function is given. Nothing is decoded by that yet: QEMU builds its memory map anew with each change of what is.
fn place(hw: &(impl Ports + PhysMem), access: &Access, devices: &[PciDevice], index: usize) {
    let device = &devices[index];
    let config = access.config;
    let bdf = device.bdf;
    for (number, bar) in device.bars.iter().enumerate() {
        write_bar(hw, config, device, number, bar);
    }
    if let Some(bridge) = &device.bridge {
        write_bridge(hw, config, device, bridge);
        if has_vga_behind(devices, index) {
            // Legacy VGA ranges go through, with all 16 bits of the port decoded.
            config.write16(hw, bdf, reg::BRIDGE_CONTROL, 1 << 3 | 1 << 4);
        }
    }
    if let Some(irq) = device.irq {
        config.write8(hw, bdf, reg::INTERRUPT, irq);
    }
    chipset::init_device(hw, config, device, &access.routing);
}

/// Turns the function's decoders on, and returns what its command register has then. A bridge comes after what is behind it, so that
/// the memory map changes with the bridge alone.
fn enable(hw: &(impl Ports + PhysMem), access: &Access, device: &PciDevice) -> u16 {
    if decodes_nothing(device) {
        return 0;
    }
    let command = access.command | command_bits(device);
    access.config.write16(hw, device.bdf, reg::COMMAND, command);
    command
}

/// Host and ISA bridges do their work whatever their command register says.
fn decodes_nothing(device: &PciDevice) -> bool {
    const HOST_BRIDGE: u16 = 0x0600;
    const ISA_BRIDGE: u16 = 0x0601;
    matches!(device.subclass(), HOST_BRIDGE | ISA_BRIDGE)
}

/// A kind of address is decoded only if every BAR of that kind has one.
fn command_bits(device: &PciDevice) -> u16 {
    let missing = |io: bool| {
        device.bars[..ROM_BAR]
            .iter()
            .any(|bar| bar.size != 0 && bar.address.is_none() && (bar.kind == BarKind::Io) == io)
    };
    let mut bits = 0;
    if !missing(true) {
        bits |= command::IO;
    }
    if !missing(false) {
        bits |= command::MEMORY;
    }
    // An IDE controller's driver would otherwise be the second to write to that register, which is two exits to a hypervisor.
    if device.bridge.is_some() || device.subclass() == IDE {
        bits |= command::BUS_MASTER;
    }
    bits
}

fn write_bar(
    hw: &(impl Ports + PhysMem),
    config: ConfigAccess,
    device: &PciDevice,
    number: usize,
    bar: &Bar,
) {
    if bar.size == 0 {
        return;
    }
    let at = match number {
        ROM_BAR if device.bridge.is_some() => reg::BRIDGE_ROM,
        ROM_BAR => reg::ROM,
        _ => reg::BAR0 + 4 * number as u16,
    };
    let address = bar.address.unwrap_or(0);
    config.write32(hw, device.bdf, at, address as u32);
    if bar.kind == BarKind::Memory64 {
        config.write32(hw, device.bdf, at + 4, (address >> 32) as u32);
    }
}

fn write_bridge(
    hw: &(impl Ports + PhysMem),
    config: ConfigAccess,
    device: &PciDevice,
    bridge: &Bridge,
) {
    let bdf = device.bdf;
    if let Some((base, limit)) = bridge.io {
        let value = (base >> 8 & 0xf0 | limit & 0xf000) as u32;
        config.write32(hw, bdf, reg::IO_WINDOW, value);
    }
    config.write32(hw, bdf, reg::MEM_WINDOW, memory_window(bridge.memory));
    if !bridge.has_pref {
        return;
    }
    config.write32(hw, bdf, reg::PREF_WINDOW, memory_window(bridge.pref));
    // Upper halves are zero after reset.
    for (at, address) in bridge
        .pref
        .iter()
        .flat_map(|(base, limit)| [(reg::PREF_BASE_HIGH, base), (reg::PREF_LIMIT_HIGH, limit)])
    {
        let high = (address >> 32) as u32;
        if high != 0 {
            config.write32(hw, bdf, at, high);
        }
    }
}

/// Bits 31:20 of base and limit, in bits 15:4 and 31:20.
fn memory_window(window: Window) -> u32 {
    window.map_or(CLOSED_MEMORY, |(base, limit)| {
        (base as u32 >> 16 & 0xfff0) | (limit as u32 & 0xfff0_0000)
    })
}

fn has_vga_behind(devices: &[PciDevice], bridge: usize) -> bool {
    const CLASS_VGA: u16 = 0x0300;
    // Only the first VGA adapter gets the legacy ranges.
    let Some(vga) = devices.iter().find(|device| device.subclass() == CLASS_VGA) else {
        return false;
    };
    let mut at = vga.parent;
    while let Some(parent) = at {
        if parent == bridge {
            return true;
        }
        at = devices[parent].parent;
    }
    false
}
