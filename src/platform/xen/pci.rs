//! PCI under Xen: how large the hole below 4 GiB has to be, and moving RAM out of its way where that is allowed.

use super::guest::Guest;
use super::hvm_info;
use super::memory::RESERVED_START;
use crate::arch::hypercalls::Hypercalls;
use crate::arch::{PhysMem, Ports};
use crate::devices::pci::setup::{
    Access, Input, Routing, Windows, command, find, install, unplaced,
};
use crate::devices::pci::{Bar, BarKind, ConfigAccess, PciDevice};
use crate::platform::Machine;
use crate::units::{FOUR_GIB, GIB, PAGE};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use firstlight_tables::e820::{E820Map, Kind};

/// Where the hole may start, the usual first.
const HOLE_STARTS: [u64; 4] = [0xf000_0000, 0xe000_0000, 0xc000_0000, 0x8000_0000];
/// The register of an Intel display with the address of its OpRegion.
const ASLS: u16 = 0xfc;
/// The pages that become the OpRegion, if there is one.
const OPREGION: u64 = RESERVED_START;
/// Every function may use DMA, as with the stock loader: drivers of old, such as DOS's for disks and network cards, leave that to the
/// firmware.
pub const ACCESS: Access = Access {
    config: ConfigAccess::Ports,
    routing: Routing::XEN,
    command: command::BUS_MASTER,
};

/// Gives every PCI function its addresses and interrupt. `phys_bits` is how many bits a physical address has.
pub fn set_up<H: Ports + PhysMem, X: Hypercalls>(
    hw: &H,
    xen: &X,
    guest: &mut Guest,
    machine: &mut Machine,
    phys_bits: u8,
) {
    let mut devices = find(hw, ACCESS.config, 0, None);
    let start = hole_start(&devices, guest, &machine.e820);
    if start < guest.info.low_ram_end {
        relocate(hw, xen, guest, machine, start);
    }
    let hole = start..cached_start(&mut devices, guest, &machine.e820, start);
    let high_start = guest.info.high_ram_end.max(FOUR_GIB).next_multiple_of(GIB);
    let limit = 1u64.checked_shl(phys_bits.into()).unwrap_or(u64::MAX);
    let input = Input {
        access: ACCESS,
        extra_roots: 0,
        host_id: None,
        windows: windows(
            hole.clone(),
            &machine.e820,
            high_start..limit.max(high_start),
        ),
    };
    machine.pci_hole = hole;
    machine.config = ACCESS.config;
    machine.pci = install(hw, devices, &input);
    show_opregion(hw, &machine.pci);
}

/// Where the part of the hole ends that is not to be cached. Where the toolstack asks for it, the memory of Xen's platform device follows
/// there: guests keep grant tables in it, and on AMD's processors they are much faster if the MTRRs do not forbid caching.
fn cached_start(devices: &mut [PciDevice], guest: &Guest, map: &E820Map, start: u64) -> u64 {
    let platform = devices.iter_mut().find(|device| device.is(0x5853, 0x0001));
    let Some(platform) = platform.filter(|_| !guest.config.platform_bar_uncached) else {
        return RESERVED_START;
    };
    let Some(bar) = platform
        .bars
        .iter_mut()
        .find(|bar| bar.kind == BarKind::Memory32 && bar.size != 0)
    else {
        return RESERVED_START;
    };
    let place = RESERVED_START.saturating_sub(bar.size);
    let free = windows(start..RESERVED_START, map, 0..0).memory;
    let fits = |range: &Range<u64>| range.start <= place && range.end == RESERVED_START;
    if !free.iter().any(fits) {
        return RESERVED_START;
    }
    bar.address = Some(place);
    place
}

/// Tells the device model of a passed-through Intel display where the guest is to find the display's OpRegion (Intel's OpRegion
/// specification 0.5, section 3.3): three pages that the memory map keeps from everything else.
fn show_opregion(hw: &(impl Ports + PhysMem), devices: &[PciDevice]) {
    let intel = |device: &&PciDevice| device.vendor == 0x8086 && device.subclass() == 0x0300;
    if let Some(display) = devices.iter().find(intel) {
        let config = ACCESS.config;
        config.write32(hw, display.bdf, ASLS, OPREGION as u32);
    }
}

/// The smallest hole in which everything has a place but what is too large for any; failing that, the largest that may be.
fn hole_start(devices: &[PciDevice], guest: &Guest, map: &E820Map) -> u64 {
    let mut devices = devices.to_vec();
    for bar in devices.iter_mut().flat_map(|device| &mut device.bars) {
        if bar.size >= FOUR_GIB - HOLE_STARTS[3] {
            *bar = Bar::NONE;
        }
    }
    let wanted = match guest.config.mmio_hole_size {
        0 => HOLE_STARTS[0],
        size => FOUR_GIB.saturating_sub(size),
    };
    let low_ram_end = guest.info.low_ram_end;
    let may_move = guest.config.allow_memory_relocate;
    let allowed = |start: u64| start >= low_ram_end || may_move;
    let mut best = low_ram_end.max(HOLE_STARTS[0]);
    for start in HOLE_STARTS {
        if start > wanted.max(HOLE_STARTS[3]) {
            continue;
        }
        if !allowed(start) {
            break;
        }
        best = start;
        if unplaced(&devices, &windows(start..RESERVED_START, map, 0..0)) == 0 {
            break;
        }
    }
    best
}

/// What functions may have: `hole` without what the toolstack reserved in it, and `high`.
fn windows(hole: Range<u64>, map: &E820Map, high: Range<u64>) -> Windows {
    let mut memory = Vec::new();
    let mut from = hole.start;
    let reserved = map
        .entries()
        .iter()
        .filter(|entry| entry.kind != Kind::Ram && entry.end > hole.start);
    for entry in reserved {
        let end = entry.start.min(hole.end);
        if end > from {
            memory.push(from..end);
        }
        from = from.max(entry.end);
    }
    if from < hole.end {
        memory.push(from..hole.end);
    }
    Windows {
        // Ports of Xen's and the device model's own are at 1f40h to 1f70h and from ae00h to bfffh.
        io: vec![0xc000..0x1_0000, 0x2000..0xa000],
        memory,
        high,
    }
}

/// Moves RAM from `start` up to behind the RAM above 4 GiB.
fn relocate<H: PhysMem, X: Hypercalls>(
    hw: &H,
    xen: &X,
    guest: &mut Guest,
    machine: &mut Machine,
    start: u64,
) {
    let info = &mut guest.info;
    let old_end = info.low_ram_end;
    let mut to = info.high_ram_end;
    while info.low_ram_end > start {
        let from = info.low_ram_end - PAGE;
        // Only RAM moves: reserved ranges stay where devices expect them.
        if machine.e820.kind_at(from) == Some(Kind::Ram) {
            if let Err(errno) = xen.move_page(from / PAGE, to / PAGE) {
                log::error!("Xen: RAM at {from:#x} cannot be moved (error {})", errno.0);
                break;
            }
            to += PAGE;
        }
        info.low_ram_end = from;
    }
    let removed = info.low_ram_end..old_end;
    let kept: Vec<_> = machine
        .e820
        .entries()
        .iter()
        .filter(|entry| entry.kind != Kind::Ram && removed.contains(&entry.start))
        .copied()
        .collect();
    let added = info.high_ram_end..to;
    let mut change = || {
        machine.e820.remove(removed.clone())?;
        for entry in &kept {
            machine.e820.insert(entry.start..entry.end, entry.kind)?;
        }
        machine.e820.insert(added.clone(), Kind::Ram)
    };
    if change().is_err() {
        log::error!("Xen: no room in the memory map for moved RAM");
    }
    info.high_ram_end = to;
    machine.low_ram_end = info.low_ram_end;
    machine.high_ram = to - FOUR_GIB;
    machine.high_end = to;
    hvm_info::update(hw, info);
}

#[cfg(test)]
mod tests {
    use super::super::guest::discover;
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::fake_xen::FakeXen;
    use crate::devices::pci::Bdf;

    fn device(size: u64, kind: BarKind) -> PciDevice {
        let device = PciDevice {
            class: 0x02_0000,
            pin: 1,
            ..PciDevice::new(Bdf::new(0, 4, 0), 1, 2)
        };
        device.with_bar(
            0,
            Bar {
                kind,
                size,
                ..Bar::NONE
            },
        )
    }

    fn guest(low_ram_end: u64, relocate: &str, hole: &str) -> (Guest, Machine) {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        xen.set("hvmloader/allow-memory-relocate", relocate);
        xen.set("platform/mmio_hole_size", hole);
        hvm_info::tests::install(&hw, low_ram_end, 0, 1);
        let (guest, machine, _) = discover(&hw, &xen, 0, 0x7ff_0000..0x800_0000);
        (guest, machine)
    }

    #[test]
    fn the_hole_grows_as_far_as_it_may() {
        let big = [device(512 << 20, BarKind::Memory32)];
        let small = [device(16 << 20, BarKind::Memory32)];
        let start = |devices: &[PciDevice], low, relocate, hole| {
            let (guest, machine) = guest(low, relocate, hole);
            hole_start(devices, &guest, &machine.e820)
        };
        assert_eq!(start(&small, 0x1000_0000, "0", "0"), 0xf000_0000);
        assert_eq!(start(&big, 0x1000_0000, "0", "0"), 0xc000_0000);
        assert_eq!(start(&big, 0xf000_0000, "0", "0"), 0xf000_0000);
        assert_eq!(start(&big, 0xf000_0000, "1", "0"), 0xc000_0000);
        assert_eq!(start(&small, 0x1000_0000, "0", "2147483648"), 0x8000_0000);
        assert_eq!(start(&small, 0x1000_0000, "0", "1"), 0xf000_0000);
    }

    #[test]
    fn what_no_hole_has_room_for_makes_none_larger() {
        let (guest, machine) = guest(0x1000_0000, "0", "0");
        let big = [device(2 << 30, BarKind::Memory64)];
        assert_eq!(hole_start(&big, &guest, &machine.e820), 0xf000_0000);
    }

    #[test]
    fn the_platform_devices_memory_may_be_cached() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        hvm_info::tests::install(&hw, 0x1000_0000, 0, 1);
        let mut platform = device(16 << 20, BarKind::Memory32);
        (platform.vendor, platform.device) = (0x5853, 1);
        let end = |guest: &Guest, map: &E820Map| {
            let mut devices = [platform];
            let end = cached_start(&mut devices, guest, map, 0xf000_0000);
            (end, devices[0].bars[0].address)
        };
        let (guest, mut machine, _) = discover(&hw, &xen, 0, 0x7ff_0000..0x800_0000);
        assert_eq!(end(&guest, &machine.e820), (RESERVED_START, None));
        xen.set("hvmloader/pci", "");
        xen.set("hvmloader/pci/xen-platform-pci-bar-uc", "0");
        let (guest, ..) = discover(&hw, &xen, 0, 0x7ff_0000..0x800_0000);
        let top = 0xfb00_0000;
        assert_eq!(end(&guest, &machine.e820), (top, Some(top)));
        let taken = 0xfb80_0000..0xfb80_1000;
        machine.e820.insert(taken, Kind::Reserved).unwrap();
        assert_eq!(end(&guest, &machine.e820), (RESERVED_START, None));
    }

    #[test]
    fn reserved_ranges_are_not_for_devices() {
        let (_, mut machine) = guest(0x1000_0000, "0", "0");
        machine
            .e820
            .insert(0xf100_0000..0xf200_0000, Kind::Reserved)
            .unwrap();
        assert_eq!(
            windows(0xf000_0000..RESERVED_START, &machine.e820, 0..0).memory,
            [0xf000_0000..0xf100_0000, 0xf200_0000..RESERVED_START]
        );
    }

    #[test]
    fn moved_ram_is_above_four_gib() {
        let (mut guest, mut machine) = guest(0xf000_0000, "1", "0");
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        hvm_info::tests::install(&hw, 0xf000_0000, 0, 1);
        relocate(&hw, &xen, &mut guest, &mut machine, 0xeff0_0000);
        assert_eq!(xen.moved.borrow().len(), 0x100);
        assert_eq!(xen.moved.borrow()[0], (0xeffff, 0x10_0000));
        assert_eq!(guest.info.high_ram_end, FOUR_GIB + 0x10_0000);
        assert_eq!(machine.e820.kind_at(0xeff0_0000), None);
        assert_eq!(machine.e820.kind_at(FOUR_GIB), Some(Kind::Ram));
        assert_eq!(hvm_info::read(&hw), Ok(guest.info));
    }
}
