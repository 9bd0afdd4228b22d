//! PCI: finding every function once, giving each its addresses and interrupt, and the list that all drivers use.
//!
//! [`setup`](setup::setup) runs once, after the memory map is known. What it finds stays in
//! the machine; nothing scans the buses again.
//!
//! Sources: PCI Local Bus Specification 3.0, chapter 6; PCI-to-PCI Bridge Architecture Specification 1.2, chapter 3;
//! PCI Firmware Specification 3.1, section 3.2 (interrupt lines).

use core::fmt;

use crate::arch::{PhysMem, Ports};

mod plan;
mod scan;
pub mod setup;

/// Offsets in a function's configuration header.
pub mod reg {
    /// Vendor ID (15:0) and device ID (31:16).
    pub const ID: u16 = 0x00;
    /// Command, 16 bits.
    pub const COMMAND: u16 = 0x04;
    /// Status, 16 bits.
    pub const STATUS: u16 = 0x06;
    /// Revision (7:0) and class code (31:8).
    pub const CLASS: u16 = 0x08;
    /// Cache line size, latency timer, header type (23:16), BIST.
    pub const HEADER: u16 = 0x0c;
    /// The first base address register.
    pub const BAR0: u16 = 0x10;
    /// A bridge's primary, secondary and subordinate bus numbers.
    pub const BUSES: u16 = 0x18;
    /// A bridge's I/O base and limit, and secondary status.
    pub const IO_WINDOW: u16 = 0x1c;
    /// A bridge's memory base and limit.
    pub const MEM_WINDOW: u16 = 0x20;
    /// A bridge's prefetchable memory base and limit.
    pub const PREF_WINDOW: u16 = 0x24;
    /// Upper half of the prefetchable base.
    pub const PREF_BASE_HIGH: u16 = 0x28;
    /// Upper half of the prefetchable limit.
    pub const PREF_LIMIT_HIGH: u16 = 0x2c;
    /// Expansion ROM base address of a function that is no bridge.
    pub const ROM: u16 = 0x30;
    /// Offset of the first capability.
    pub const CAPABILITIES: u16 = 0x34;
    /// Expansion ROM base address of a bridge.
    pub const BRIDGE_ROM: u16 = 0x38;
    /// Interrupt line (7:0) and pin (15:8).
    pub const INTERRUPT: u16 = 0x3c;
    /// Bridge control, 16 bits.
    pub const BRIDGE_CONTROL: u16 = 0x3e;
}

/// Bits of the command register.
pub mod command {
    /// The function answers I/O addresses.
    pub const IO: u16 = 1 << 0;
    /// The function answers memory addresses.
    pub const MEMORY: u16 = 1 << 1;
    /// The function may use DMA.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// The function may raise SERR#.
    pub const SERR: u16 = 1 << 8;
}

/// A function's address: bus (15:8), device (7:3), function (2:0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(pub u16);

impl Bdf {
    /// The address of `function` of `device` on `bus`.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | (device as u16 & 31) << 3 | (function as u16 & 7))
    }

    /// The bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The device on the bus.
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 31
    }

    /// The function of the device.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: every drive and every card has it in its name, and the library's way takes six times the instructions.
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        let (bus, device) = (self.bus(), self.device());
        let text = [
            digit(bus >> 4),
            digit(bus),
            b':',
            digit(device >> 4),
            digit(device),
            b'.',
            digit(self.function()),
        ];
        f.write_str(core::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Port that takes the address of a register.
pub const PORT_ADDRESS: u16 = 0xcf8;
/// Port of the register.
pub const PORT_DATA: u16 = 0xcfc;
/// An address is one.
pub const ENABLE: u32 = 1 << 31;

/// How configuration space is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigAccess {
    /// Ports CF8h and CFCh: two accesses a register, 256 bytes a function.
    #[default]
    Ports,
    /// Memory-mapped from this physical address: one access a register, 4 KiB a function.
    Mmconfig(u64),
}

macro_rules! config_registers {
    ($($read:ident $write:ident $value:ty, $bits:literal;)*) => {$(
        #[doc = concat!("Reads ", $bits, " bits at `reg`, a multiple of their size.")]
        pub fn $read(self, hw: &(impl Ports + PhysMem), bdf: Bdf, reg: u16) -> $value {
            self.select(hw, bdf, reg).$read(hw)
        }

        #[doc = concat!("Writes ", $bits, " bits at `reg`, a multiple of their size.")]
        pub fn $write(self, hw: &(impl Ports + PhysMem), bdf: Bdf, reg: u16, value: $value) {
            self.select(hw, bdf, reg).$write(hw, value);
        }
    )*};
}

impl ConfigAccess {
    config_registers! {
        read8 write8 u8, "8";
        read16 write16 u16, "16";
        read32 write32 u32, "32";
    }

    /// Reads the 32 bits at `reg`, a multiple of eight, and the next 32 behind them: one access where the space is memory-mapped, which
    /// QEMU takes as two.
    pub fn read_pair(self, hw: &(impl Ports + PhysMem), bdf: Bdf, reg: u16) -> u64 {
        match self {
            Self::Ports => {
                let low = self.read32(hw, bdf, reg);
                u64::from(low) | u64::from(self.read32(hw, bdf, reg + 4)) << 32
            }
            Self::Mmconfig(base) => hw.read64(mmconfig_address(base, bdf, reg)),
        }
    }

    /// Writes 32 bits at `reg` and reads back what the function made of them.
    pub fn write_and_read32(
        self,
        hw: &(impl Ports + PhysMem),
        bdf: Bdf,
        reg: u16,
        value: u32,
    ) -> u32 {
        let register = self.select(hw, bdf, reg);
        register.write32(hw, value);
        register.read32(hw)
    }

    /// Sends the address of a register that is used several times in a row, with nothing else in configuration space in between.
    #[inline]
    pub fn select(self, hw: &impl Ports, bdf: Bdf, reg: u16) -> Selected {
        match self {
            Self::Ports => {
                hw.out32(PORT_ADDRESS, port_address(bdf, reg));
                Selected::Port(PORT_DATA + (reg & 3))
            }
            Self::Mmconfig(base) => Selected::Memory(mmconfig_address(base, bdf, reg)),
        }
    }
}

/// A register of configuration space that is in reach by one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// At this port.
    Port(u16),
    /// At this physical address.
    Memory(u64),
}

macro_rules! selected_register {
    ($($read:ident $write:ident $inp:ident $out:ident $value:ty, $bits:literal;)*) => {$(
        #[doc = concat!("Reads its ", $bits, " bits.")]
        #[inline]
        pub fn $read(self, hw: &(impl Ports + PhysMem)) -> $value {
            match self {
                Self::Port(port) => hw.$inp(port),
                Self::Memory(at) => hw.$read(at),
            }
        }

        #[doc = concat!("Writes its ", $bits, " bits.")]
        #[inline]
        pub fn $write(self, hw: &(impl Ports + PhysMem), value: $value) {
            match self {
                Self::Port(port) => hw.$out(port, value),
                Self::Memory(at) => hw.$write(at, value),
            }
        }
    )*};
}

impl Selected {
    selected_register! {
        read8 write8 in8 out8 u8, "8";
        read16 write16 in16 out16 u16, "16";
        read32 write32 in32 out32 u32, "32";
    }
}

fn port_address(bdf: Bdf, reg: u16) -> u32 {
    ENABLE | u32::from(bdf.0) << 8 | u32::from(reg & 0xfc)
}

fn mmconfig_address(base: u64, bdf: Bdf, reg: u16) -> u64 {
    base + (u64::from(bdf.0) << 12) + u64::from(reg & 0xfff)
}

/// What a base address register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere. Takes the next register as well.
    Memory64,
}

/// A base address register, or the expansion ROM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What it asks for.
    pub kind: BarKind,
    /// Memory without side effects on reads.
    pub prefetchable: bool,
    /// Bytes, a power of two; 0 where there is no such register.
    pub size: u64,
    /// Where it is: port or physical address. `None` where there was no room.
    pub address: Option<u64>,
}

impl Bar {
    /// No such register.
    pub const NONE: Self = Self {
        kind: BarKind::Memory32,
        prefetchable: false,
        size: 0,
        address: None,
    };
}

/// Class and subclass of IDE controllers.
pub const IDE: u16 = 0x0101;

/// Index of the expansion ROM in [`PciDevice::bars`].
pub const ROM_BAR: usize = 6;

/// What closes a bridge's window of ports, or of memory: a base above the limit.
const CLOSED_IO: u32 = 0x00f0;
const CLOSED_MEMORY: u32 = 0xfff0;

/// A range that a bridge forwards to its secondary bus: first and last address.
pub type Window = Option<(u64, u64)>;

/// What only a PCI-to-PCI bridge has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// The bus behind it.
    pub secondary: u8,
    /// The last bus behind it.
    pub subordinate: u8,
    /// It can forward I/O.
    pub has_io: bool,
    /// It can forward prefetchable memory.
    pub has_pref: bool,
    /// Its prefetchable window may lie above 4 GiB.
    pub pref64: bool,
    /// A PCI Express port, with only device 0 behind it.
    pub express_port: bool,
    /// What it keeps free for devices that are plugged in later.
    pub spare: Spare,
    /// The I/O that it forwards.
    pub io: Window,
    /// The memory that it forwards.
    pub memory: Window,
    /// The prefetchable memory that it forwards.
    pub pref: Window,
}

/// The least a bridge's windows hold, in bytes, and the buses it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spare {
    /// Buses beyond its secondary.
    pub buses: u8,
    /// I/O ports.
    pub io: u64,
    /// Memory.
    pub memory: u64,
    /// Prefetchable memory.
    pub pref: u64,
}

/// A PCI function, as [`setup`](setup::setup) left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciDevice {
    /// Its address.
    pub bdf: Bdf,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class (23:16), subclass (15:8), programming interface (7:0).
    pub class: u32,
    /// Base address registers 0 to 5 and the expansion ROM.
    pub bars: [Bar; 7],
    /// Interrupt pin: 1 for INTA# to 4 for INTD#, 0 for none.
    pub pin: u8,
    /// The PIC input that its interrupt reaches, where it has one.
    pub irq: Option<u8>,
    /// What its command register has had since set-up.
    pub command: u16,
    /// The bridge's part, where this is a PCI-to-PCI bridge.
    pub bridge: Option<Bridge>,
    /// Index in the device list of the bridge in front of it; `None` on a root bus.
    pub parent: Option<usize>,
    /// Its root bus: 0 for bus 0, then counted in the order of their bus numbers (QEMU's `pxb` devices).
    pub root: u8,
}

impl PciDevice {
    /// A function of which only address, vendor and device ID are known.
    pub const fn new(bdf: Bdf, vendor: u16, device: u16) -> Self {
        Self {
            bdf,
            vendor,
            device,
            class: 0,
            bars: [Bar::NONE; 7],
            pin: 0,
            irq: None,
            command: 0,
            bridge: None,
            parent: None,
            root: 0,
        }
    }

    /// The same with base address register `index`.
    #[cfg(test)]
    pub fn with_bar(mut self, index: usize, bar: Bar) -> Self {
        self.bars[index] = bar;
        self
    }

    /// Class and subclass.
    pub fn subclass(&self) -> u16 {
        (self.class >> 8) as u16
    }

    /// Physical address of memory BAR `index`, or nothing where it has none.
    pub fn memory(&self, index: usize) -> Option<u64> {
        let bar = self.bars.get(index).filter(|bar| bar.kind != BarKind::Io)?;
        bar.address
    }

    /// Port of I/O BAR `index`, or nothing where it has none.
    pub fn io(&self, index: usize) -> Option<u16> {
        let bar = self.bars.get(index).filter(|bar| bar.kind == BarKind::Io)?;
        u16::try_from(bar.address?).ok()
    }

    /// Whether it is the function with these IDs.
    pub fn is(&self, vendor: u16, device: u16) -> bool {
        self.vendor == vendor && self.device == device
    }

    /// Lets the function use DMA, beside what set-up lets it do: it comes before anybody else writes to that register.
    pub fn enable_bus_master(&self, hw: &(impl Ports + PhysMem), config: ConfigAccess) {
        let enabled = self.command | command::BUS_MASTER;
        if enabled != self.command {
            config.write16(hw, self.bdf, reg::COMMAND, enabled);
        }
    }

    /// Offset of its first capability with `id`, where it has one.
    pub fn capability(
        &self,
        hw: &(impl Ports + PhysMem),
        config: ConfigAccess,
        id: u8,
    ) -> Option<u16> {
        scan::capability(hw, config, self.bdf, |found, _| found == id)
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
