//! Finding functions: bus numbers depth first, then what each function asks for.

use alloc::vec::Vec;

use super::{Bar, BarKind, Bdf, Bridge, ConfigAccess, PciDevice, ROM_BAR, Spare, reg};
use super::{CLOSED_IO, CLOSED_MEMORY};
use crate::arch::{PhysMem, Ports, room_for};

const CLASS_HOST_BRIDGE: u16 = 0x0600;
const CLASS_ISA_BRIDGE: u16 = 0x0601;
const CLASS_PCI_BRIDGE: u16 = 0x0604;

const MULTIFUNCTION: u32 = 1 << 23;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAP_VENDOR: u8 = 0x09;
const CAP_SHPC: u8 = 0x0c;
const CAP_EXPRESS: u8 = 0x10;

/// I/O a hot-plug bridge keeps free: the least a window can hold.
const SPARE_IO: u64 = 0x1000;
/// Memory a hot-plug bridge keeps free, in each of its windows; what Linux keeps by default.
const SPARE_MEMORY: u64 = 2 << 20;

/// Which BARs QEMU's standard VGA has, as a mask: no other is worth asking (QEMU's docs/specs/standard-vga.rst).
const STANDARD_VGA: (u16, u16) = (0x1234, 0x1111);
const STANDARD_VGA_BARS: u8 = 1 << 0 | 1 << 2 | 1 << ROM_BAR;

/// A function of QEMU's, of which all is known but where its BARs are: each register that need not be read is two exits to a
/// hypervisor.
struct Known {
    vendor: u16,
    device: u16,
    class: u32,
    multifunction: bool,
    bars: &'static [(usize, Bar)],
    /// Whether it may have a ROM, of any size.
    rom: bool,
    pin: u8,
}

const fn io(size: u64) -> Bar {
    Bar {
        kind: BarKind::Io,
        size,
        ..Bar::NONE
    }
}

const fn memory(size: u64) -> Bar {
    Bar { size, ..Bar::NONE }
}

const fn known(
    device: u16,
    class: u32,
    multifunction: bool,
    bars: &'static [(usize, Bar)],
    pin: u8,
) -> Known {
    Known {
        vendor: 0x8086,
        device,
        class,
        multifunction,
        bars,
        rom: false,
        pin,
    }
}

const fn prefetchable(size: u64) -> Bar {
    Bar {
        prefetchable: true,
        ..memory(size)
    }
}

/// Intel datasheets 290549 (82441FX), 290550 (82371SB), 290562 (82371AB), 316966 (Q35), 316972 (ICH9), as QEMU has these chips; Xen's
/// platform device; the display and the network card that xl gives a guest by default, the latter by Realtek's RTL8139C+ data sheet: a real
/// one that is passed through is the same here.
const KNOWN: [Known; 11] = [
    known(0x1237, 0x06_0000, false, &[], 0),
    known(0x29c0, 0x06_0000, false, &[], 0),
    known(0x7000, 0x06_0100, true, &[], 0),
    known(0x2918, 0x06_0100, true, &[], 0),
    known(0x7010, 0x01_0180, false, &[(4, io(16))], 0),
    known(0x7113, 0x06_8000, false, &[], 1),
    known(
        0x2922,
        0x01_0601,
        false,
        &[(4, io(32)), (5, memory(4096))],
        1,
    ),
    known(0x2930, 0x0c_0500, false, &[(4, io(64))], 1),
    Known {
        vendor: 0x5853,
        ..known(
            0x0001,
            0xff_8000,
            false,
            &[(0, io(256)), (1, prefetchable(16 << 20))],
            1,
        )
    },
    Known {
        vendor: 0x1013,
        rom: true,
        ..known(
            0x00b8,
            0x03_0000,
            false,
            &[(0, prefetchable(32 << 20)), (1, memory(4096))],
            0,
        )
    },
    Known {
        vendor: 0x10ec,
        rom: true,
        ..known(
            0x8139,
            0x02_0000,
            false,
            &[(0, io(256)), (1, memory(256))],
            1,
        )
    },
];

impl Known {
    /// What is known of `device`, where that is a function of bus 0: cards elsewhere may be passed through.
    fn find(device: &PciDevice) -> Option<&'static Self> {
        let is = |known: &&Known| device.is(known.vendor, known.device);
        KNOWN.iter().find(is).filter(|_| device.bdf.bus() == 0)
    }
}

/// Finds all functions and numbers all buses. `extra_roots` is how many root buses there are beside bus 0.
///
/// A bridge comes before the functions behind it.
pub fn scan(
    hw: &(impl Ports + PhysMem),
    config: ConfigAccess,
    extra_roots: u64,
    host_id: Option<u32>,
) -> Vec<PciDevice> {
    let mut scan = Scan {
        hw,
        config,
        host_id,
        devices: Vec::new(),
        last_bus: 0,
        root: 0,
        full: false,
    };
    scan.bus(0, None, 32);
    scan.root = 1;
    while u64::from(scan.root) <= extra_roots && scan.last_bus < 0xff {
        scan.last_bus += 1;
        let before = scan.devices.len();
        scan.bus(scan.last_bus, None, 32);
        scan.root += u8::from(scan.devices.len() > before);
    }
    scan.devices
}

struct Scan<'a, H> {
    hw: &'a H,
    config: ConfigAccess,
    /// What function 00:00.0 is, until it has been looked at.
    host_id: Option<u32>,
    devices: Vec<PciDevice>,
    last_bus: u8,
    /// The root bus that is looked at, counted from 0.
    root: u8,
    /// There is no memory for more functions.
    full: bool,
}

impl<H: Ports + PhysMem> Scan<'_, H> {
    fn bus(&mut self, bus: u8, parent: Option<usize>, slots: u8) {
        for slot in 0..slots {
            let bdf = Bdf::new(bus, slot, 0);
            let Some(multifunction) = self.function(bdf, parent) else {
                continue;
            };
            if multifunction {
                for function in 1..8 {
                    self.function(Bdf::new(bus, slot, function), parent);
                }
            }
        }
    }

    /// Looks at one function; tells whether it has siblings, where it is there at all.
    fn function(&mut self, bdf: Bdf, parent: Option<usize>) -> Option<bool> {
        // The host bridge comes first.
        let read = || self.config.read32(self.hw, bdf, reg::ID);
        let id = self.host_id.take().unwrap_or_else(read);
        if matches!(id as u16, 0 | 0xffff) || !self.has_room() {
            return None;
        }
        let mut device = PciDevice {
            parent,
            root: self.root,
            ..PciDevice::new(bdf, id as u16, (id >> 16) as u16)
        };
        if let Some(known) = Known::find(&device) {
            device.class = known.class;
            device.pin = known.pin;
            for (index, bar) in known.bars {
                device.bars[*index] = *bar;
            }
            if known.rom {
                device.bars[ROM_BAR].size = self.size_rom(bdf, reg::ROM);
            }
            self.devices.push(device);
            return Some(known.multifunction && bdf.function() == 0);
        }
        let (class, header) = self.class_and_header(bdf);
        device.class = class >> 8;
        let multifunction = bdf.function() == 0 && header & MULTIFUNCTION != 0;
        let class = device.subclass();
        if !matches!(class, CLASS_HOST_BRIDGE | CLASS_ISA_BRIDGE) {
            self.size_bars(&mut device);
            device.pin = self.pin(&device);
        }
        self.devices.push(device);
        if class == CLASS_PCI_BRIDGE {
            self.bridge(self.devices.len() - 1);
        }
        Some(multifunction)
    }

    /// Whether there is memory for one more function, and then for all that giving addresses takes.
    fn has_room(&mut self) -> bool {
        const FIRST: usize = 16;
        let known = self.devices.len();
        if known == self.devices.capacity() && !self.full {
            // The list grows to twice its length, and the old one is still there then. What is planned takes as much again.
            let more = 4 * known.max(FIRST) * size_of::<PciDevice>();
            self.full = !room_for(more);
            if self.full {
                log::warn!("PCI: no memory for more than {known} functions: the rest is left out");
            }
        }
        !self.full
    }

    /// The interrupt pin, which QEMU's standard VGA has none of.
    fn pin(&self, device: &PciDevice) -> u8 {
        if device.is(STANDARD_VGA.0, STANDARD_VGA.1) {
            return 0;
        }
        let interrupt = self.config.read16(self.hw, device.bdf, reg::INTERRUPT);
        match interrupt >> 8 {
            pin @ 1..=4 => pin as u8,
            _ => 0,
        }
    }

    /// The registers [`reg::CLASS`] and [`reg::HEADER`]; the latter is only asked for where it costs nothing or counts.
    fn class_and_header(&self, bdf: Bdf) -> (u32, u32) {
        if let ConfigAccess::Mmconfig(_) = self.config {
            let both = self.config.read_pair(self.hw, bdf, reg::CLASS);
            return (both as u32, (both >> 32) as u32);
        }
        let read = |reg| self.config.read32(self.hw, bdf, reg);
        let header = if bdf.function() == 0 {
            read(reg::HEADER)
        } else {
            0
        };
        (read(reg::CLASS), header)
    }

    fn bridge(&mut self, index: usize) {
        let bdf = self.devices[index].bdf;
        let Some(secondary) = self.last_bus.checked_add(1) else {
            log::warn!("PCI {bdf}: no bus number left for what is behind this bridge");
            return;
        };
        self.last_bus = secondary;
        let mut bridge = self.bridge_abilities(bdf);
        bridge.secondary = secondary;
        self.write_buses(bdf, secondary, 0xff);
        self.devices[index].bridge = Some(bridge);
        self.bus(
            secondary,
            Some(index),
            if bridge.express_port { 1 } else { 32 },
        );
        self.last_bus = self
            .last_bus
            .max(secondary.saturating_add(bridge.spare.buses));
        bridge.subordinate = self.last_bus;
        self.write_buses(bdf, secondary, bridge.subordinate);
        self.devices[index].bridge = Some(bridge);
    }

    fn write_buses(&self, bdf: Bdf, secondary: u8, subordinate: u8) {
        let buses = u32::from_le_bytes([bdf.bus(), secondary, subordinate, 0]);
        self.config.write32(self.hw, bdf, reg::BUSES, buses);
    }

    fn bridge_abilities(&self, bdf: Bdf) -> Bridge {
        let (hw, config) = (self.hw, self.config);
        // A window that the bridge lacks reads as zero, whatever is written. A window for memory above 4 GiB says that it is there.
        let io = config.write_and_read32(hw, bdf, reg::IO_WINDOW, CLOSED_IO);
        let pref = match config.read32(hw, bdf, reg::PREF_WINDOW) {
            0 => config.write_and_read32(hw, bdf, reg::PREF_WINDOW, CLOSED_MEMORY),
            says => says,
        };
        let express = capability(hw, config, bdf, |id, _| id == CAP_EXPRESS)
            .map(|at| config.read16(hw, bdf, at + 2));
        // Root ports are type 4, downstream ports of a switch 6; bit 8 says that there is a slot.
        let port = express.is_some_and(|flags| matches!(flags >> 4 & 0xf, 4 | 6));
        let express_slot = port && express.is_some_and(|flags| flags & 1 << 8 != 0);
        let mut spare = Spare::default();
        if express_slot || capability(hw, config, bdf, |id, _| id == CAP_SHPC).is_some() {
            // PCI Express devices work without I/O, of which there is little.
            spare.io = if express_slot { 0 } else { SPARE_IO };
            spare.memory = SPARE_MEMORY;
            spare.pref = SPARE_MEMORY;
        }
        self.requested_spare(bdf, &mut spare);
        Bridge {
            has_io: io & 0xf0 != 0,
            has_pref: pref & 0xffff != 0,
            pref64: pref & 0xf == 1,
            express_port: port,
            spare,
            ..Bridge::default()
        }
    }

    /// Takes over what QEMU's user asked for (QEMU's docs/pcie_pci_bridge.txt: a vendor capability of type 1).
    fn requested_spare(&self, bdf: Bdf, spare: &mut Spare) {
        const UNSET: u32 = u32::MAX;
        let (hw, config) = (self.hw, self.config);
        // The capability has 32 bytes: header, bus count, I/O, memory, then prefetchable of either kind.
        let is_reserve =
            |id, at| id == CAP_VENDOR && config.read16(hw, bdf, at + 2) == 0x0100 | RESERVE_SIZE;
        if config.read16(hw, bdf, reg::ID) != RED_HAT {
            return;
        }
        let Some(at) = capability(hw, config, bdf, is_reserve).filter(|at| *at <= 0xe0) else {
            return;
        };
        let word = |offset| config.read32(hw, bdf, at + offset);
        let known = |value: u32| (value != UNSET).then_some(u64::from(value));
        spare.buses = known(word(4)).map_or(spare.buses, |buses| buses.min(0xff) as u8);
        spare.io = known(word(8)).unwrap_or(spare.io).min(0x8000);
        spare.memory = known(word(16)).unwrap_or(spare.memory);
        let pref = known(word(20)).or_else(|| {
            let low = known(word(24))?;
            Some(low | u64::from(word(28)) << 32)
        });
        spare.pref = pref.unwrap_or(spare.pref).min(1 << 40);
    }

    fn size_bars(&self, device: &mut PciDevice) {
        let is_bridge = device.subclass() == CLASS_PCI_BRIDGE;
        let standard_vga = device.is(STANDARD_VGA.0, STANDARD_VGA.1);
        let mask = if standard_vga {
            STANDARD_VGA_BARS
        } else {
            0x7f
        };
        let count = if is_bridge { 2 } else { 6 };
        let mut index = 0;
        while index < count {
            if mask & 1 << index != 0 {
                let at = reg::BAR0 + 4 * index as u16;
                device.bars[index] = self.size_bar(device.bdf, at, index + 1 < count);
            }
            index += match device.bars[index].kind {
                BarKind::Memory64 => 2,
                _ => 1,
            };
        }
        if mask & 1 << ROM_BAR != 0 {
            let at = if is_bridge { reg::BRIDGE_ROM } else { reg::ROM };
            device.bars[ROM_BAR].size = self.size_rom(device.bdf, at);
        }
    }

    fn size_rom(&self, bdf: Bdf, at: u16) -> u64 {
        let bits = self.config.write_and_read32(self.hw, bdf, at, 0xffff_f800);
        lowest_bit(u64::from(bits & 0xffff_f800))
    }

    fn size_bar(&self, bdf: Bdf, at: u16, has_next: bool) -> Bar {
        let bits = self.config.write_and_read32(self.hw, bdf, at, u32::MAX);
        if bits & 1 != 0 {
            return Bar {
                kind: BarKind::Io,
                size: lowest_bit(u64::from(bits & 0xfffc)),
                ..Bar::NONE
            };
        }
        let mut bar = Bar {
            prefetchable: bits & 8 != 0,
            size: lowest_bit(u64::from(bits & !0xf)),
            ..Bar::NONE
        };
        if bits & 6 == 4 && has_next {
            bar.kind = BarKind::Memory64;
            if bar.size == 0 {
                let high = self.config.write_and_read32(self.hw, bdf, at + 4, u32::MAX);
                bar.size = lowest_bit(u64::from(high) << 32);
            }
        }
        bar
    }
}

const RED_HAT: u16 = 0x1b36;
const RESERVE_SIZE: u16 = 32;

fn lowest_bit(bits: u64) -> u64 {
    bits & bits.wrapping_neg()
}

/// Offset of the first capability for which `wanted(id, offset)` holds. A list that never ends is given up.
pub fn capability(
    hw: &(impl Ports + PhysMem),
    config: ConfigAccess,
    bdf: Bdf,
    wanted: impl Fn(u8, u16) -> bool,
) -> Option<u16> {
    if config.read16(hw, bdf, reg::STATUS) & STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = u16::from(config.read8(hw, bdf, reg::CAPABILITIES) & 0xfc);
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let head = config.read16(hw, bdf, at);
        if wanted(head as u8, at) {
            return Some(at);
        }
        at = head >> 8 & 0xfc;
    }
    None
}
