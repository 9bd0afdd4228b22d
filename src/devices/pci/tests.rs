use core::ops::Range;

use proptest::prelude::*;

use super::fake::{FakePci, Function};
use super::plan::{Windows, plan};
use super::setup::{Access, Input, restore, setup, windows};
use super::*;
use crate::devices::chipset::{Chipset, MMCONFIG};

fn pc(extra: impl IntoIterator<Item = Function>) -> FakePci {
    let mut functions = vec![
        Function::new(0, 0x8086, 0x1237, 0x06_0000),
        Function::new(1, 0x8086, 0x7000, 0x06_0100).multifunction(),
        Function::new(1, 0x8086, 0x7010, 0x01_0180)
            .function(1)
            .bar(4, 16, 1),
        Function::new(1, 0x8086, 0x7113, 0x06_8000)
            .function(3)
            .pin(1),
        Function::new(2, 0x1234, 0x1111, 0x03_0000)
            .bar(0, 16 << 20, 8)
            .bar(2, 4096, 0)
            .rom(0x1_0000),
    ];
    functions.extend(extra);
    FakePci::new(functions)
}

fn windows_of(chipset: Chipset, phys_bits: u8) -> Windows {
    windows(chipset, config(chipset), 256 << 20, 0, phys_bits)
}

fn config(chipset: Chipset) -> ConfigAccess {
    match chipset {
        Chipset::Q35 => ConfigAccess::Mmconfig(MMCONFIG.start),
        _ => ConfigAccess::Ports,
    }
}

fn input(chipset: Chipset) -> Input {
    Input {
        access: Access::of_qemu(config(chipset), chipset),
        extra_roots: 0,
        host_id: None,
        windows: windows_of(chipset, 36),
    }
}

#[test]
fn sets_up_a_plain_pc_in_few_accesses() {
    let pci = pc([]);
    let devices = setup(&pci, &input(Chipset::I440fx));
    assert_eq!(devices.len(), 5);
    let cost = pci.accesses.get();
    assert!(cost <= 160, "{cost} accesses");
    let vga = &devices[4];
    assert_eq!(vga.memory(0), Some(0x8000_0000));
    assert_eq!(pci.register(4, reg::BAR0), 0x8000_0008);
    assert_eq!(vga.bars[ROM_BAR].size, 0x1_0000);
    assert_eq!(devices[2].io(4), Some(0xc000));
    assert_eq!(pci.register(2, 0x20), 0xc001);
    assert_eq!(devices[3].irq, Some(9));
    assert_eq!(pci.register(4, reg::COMMAND) as u16, 0x103);
    assert_eq!(*pci.port_writes.borrow(), [(0x4d1, 0x0c)]);
}

#[test]
fn functions_may_use_dma_where_the_platform_says_so() {
    let pci = pc([]);
    let mut input = input(Chipset::I440fx);
    input.access.command = command::BUS_MASTER;
    let devices = setup(&pci, &input);
    assert_eq!(pci.register(4, reg::COMMAND) as u16, 0x7);
    restore(&pci, &input.access, &devices);
    assert_eq!(pci.register(4, reg::COMMAND) as u16, 0x7);
}

#[test]
fn functions_get_to_use_dma_beside_what_they_may_do() {
    let pci = pc([]);
    let devices = setup(&pci, &input(Chipset::I440fx));
    let before = pci.accesses.get();
    devices[4].enable_bus_master(&pci, ConfigAccess::Ports);
    assert_eq!(pci.register(4, reg::COMMAND) as u16, 0x107);
    assert_eq!(pci.accesses.get() - before, 2);
}

#[test]
fn the_usual_network_card_of_xen_is_not_asked_for_what_is_known() {
    let card = || {
        let card = Function::new(4, 0x10ec, 0x8139, 0x02_0000).pin(1);
        card.bar(0, 256, 1).bar(1, 256, 0).rom(1 << 18)
    };
    let mut other = card();
    other.set(reg::ID, &0x1234_10ec_u32.to_le_bytes());
    let [known, asked] = [card(), other].map(|card| {
        let pci = pc([card]);
        let mut found = setup(&pci, &input(Chipset::I440fx)).remove(5);
        found.device = 0;
        (found, pci.accesses.get())
    });
    assert_eq!(known.0, asked.0);
    assert!(known.1 + 20 < asked.1, "{} and {}", known.1, asked.1);
}

#[test]
fn an_empty_mmconfig_bus_takes_one_access_a_slot() {
    let pci = FakePci::new(vec![Function::new(0, 0x8086, 0x29c0, 0x06_0000)]);
    setup(&pci, &input(Chipset::Q35));
    assert!(pci.accesses.get() < 40);
}

#[test]
fn routes_interrupts_through_bridges() {
    // Bridges at 3 and, behind it, at 5; a function with INTB# in slot 7 behind both.
    let pci = pc([
        Function::bridge(3),
        Function::bridge(5).behind(5),
        Function::new(7, 1, 1, 0x02_0000).behind(6).pin(2),
        Function::new(4, 1, 2, 0x02_0000).pin(1),
    ]);
    let devices = setup(&pci, &input(Chipset::I440fx));
    assert_eq!(devices[7].bdf, Bdf::new(2, 7, 0));
    // INTB# (1) + 7 + 5 arrives as INTB#; on slot 3 that is PIRQ (1 + 3 - 1) & 3.
    assert_eq!(devices[7].irq, Some(11));
    assert_eq!(devices[8].bdf, Bdf::new(0, 4, 0));
    assert_eq!(devices[8].irq, Some(11));
    assert_eq!(pci.register(7, reg::INTERRUPT) & 0xff, 11);
    assert_eq!(pci.register(5, reg::BUSES) & 0xff_ffff, 0x02_0100);
    assert_eq!(pci.register(6, reg::BUSES) & 0xff_ffff, 0x02_0201);
}

#[test]
fn thirty_devices_behind_bridges_all_work() {
    let mut extra = vec![
        Function::bridge(3),
        Function::bridge(4),
        Function::bridge(1).behind(5),
    ];
    for i in 0..30u8 {
        let parent = 5 + usize::from(i % 3);
        extra.push(
            Function::new(2 + i / 3, 0x1af4, 0x1000, 0x02_0000)
                .behind(parent)
                .bar(0, 32, 1)
                .bar(1, 4096, 0)
                .bar(4, 16384, 0xc)
                .rom(0x4_0000)
                .pin(1),
        );
    }
    let pci = pc(extra);
    let devices = setup(&pci, &input(Chipset::I440fx));
    assert_eq!(devices.len(), 38);
    check(&devices, &windows_of(Chipset::I440fx, 36)).unwrap();
    for device in &devices {
        let left = device
            .bars
            .iter()
            .filter(|b| b.size != 0 && b.address.is_none());
        assert_eq!(left.count(), 0, "{device:?}");
    }
}

#[test]
fn what_cannot_fit_is_left_disabled() {
    let pci = pc([
        Function::new(5, 1, 1, 0x02_0000)
            .bar(0, 1 << 31, 0)
            .bar(1, 64, 1),
        Function::new(6, 1, 1, 0x02_0000).bar(0, 1 << 38, 4),
        Function::new(7, 1, 1, 0x02_0000).bar(0, 1 << 33, 0xc),
    ]);
    let devices = setup(&pci, &input(Chipset::I440fx));
    assert_eq!(devices[5].memory(0), None);
    assert_eq!(pci.register(5, reg::COMMAND) as u16, 0x101);
    assert_eq!(pci.register(5, reg::BAR0), 0);
    assert_eq!(pci.register(6, reg::COMMAND) as u16, 0x101);
    assert_eq!(devices[7].memory(0), Some(1 << 33));
    assert_eq!(pci.register(7, reg::BAR0 + 4), 2);
}

#[test]
fn bus_numbers_run_out_gracefully() {
    let mut extra = vec![Function::bridge(3)];
    for i in 1..300 {
        extra.push(Function::bridge(1).behind(4 + i));
    }
    let devices = setup(&pc(extra), &input(Chipset::I440fx));
    assert_eq!(devices.iter().filter(|d| d.bridge.is_some()).count(), 255);
}

fn bar_strategy() -> impl Strategy<Value = Bar> {
    (0..3u8, any::<bool>(), 0..34u32).prop_map(|(kind, prefetchable, log)| match kind {
        0 => Bar {
            kind: BarKind::Io,
            size: 4 << (log % 7),
            ..Bar::NONE
        },
        1 => Bar {
            size: 16 << (log % 24),
            prefetchable,
            ..Bar::NONE
        },
        _ => Bar {
            kind: BarKind::Memory64,
            size: 16 << log,
            prefetchable,
            address: None,
        },
    })
}

fn machine_strategy() -> impl Strategy<Value = Vec<PciDevice>> {
    let device = (
        any::<prop::sample::Index>(),
        prop::collection::vec(bar_strategy(), 0..4),
        prop::option::weighted(0.3, (any::<[bool; 3]>(), any::<bool>())),
    );
    prop::collection::vec(device, 0..60).prop_map(|list| {
        let mut devices: Vec<PciDevice> = Vec::new();
        for (parent, bars, bridge) in list {
            let bridges: Vec<usize> = (0..devices.len())
                .filter(|i| devices[*i].bridge.is_some())
                .collect();
            let choice = parent.index(bridges.len() + 1);
            let mut all = [Bar::NONE; 7];
            all[..bars.len()].copy_from_slice(&bars);
            devices.push(PciDevice {
                bdf: Bdf(devices.len() as u16),
                vendor: 1,
                device: 1,
                class: 0,
                bars: all,
                pin: 0,
                irq: None,
                command: 0,
                bridge: bridge.map(|([has_io, has_pref, pref64], spare)| Bridge {
                    has_io,
                    has_pref,
                    pref64,
                    spare: Spare {
                        buses: 0,
                        io: if spare { 0x1000 } else { 0 },
                        memory: if spare { 0x20_0000 } else { 0 },
                        pref: if spare { 0x20_0000 } else { 0 },
                    },
                    ..Bridge::default()
                }),
                parent: bridges.get(choice).copied(),
                root: 0,
            });
        }
        devices
    })
}

/// Where a BAR or a bridge's window is.
#[derive(Debug)]
struct Placed {
    io: bool,
    range: Range<u64>,
    /// The device whose it is.
    device: usize,
    /// Whether it is a bridge's window, in which other ranges may be.
    window: bool,
}

/// Everything that has an address is aligned, inside every bridge above it and the machine's windows, and alone there.
fn check(devices: &[PciDevice], windows: &Windows) -> Result<(), TestCaseError> {
    let mut placed = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        for bar in device.bars.iter().filter(|bar| bar.size != 0) {
            let Some(start) = bar.address else { continue };
            let range = start..start + bar.size;
            let io = bar.kind == BarKind::Io;
            prop_assert_eq!(start % bar.size, 0);
            prop_assert!(start >> 32 == 0 || bar.kind == BarKind::Memory64);
            check_bridges_above(devices, device, bar, &range)?;
            let mut allowed = match io {
                true => windows.io.clone(),
                false => windows.memory.clone(),
            };
            allowed.extend((!io).then(|| windows.high.clone()));
            let inside = |window: &Range<u64>| window.start <= start && range.end <= window.end;
            prop_assert!(allowed.iter().any(inside));
            placed.push(Placed {
                io,
                range,
                device: index,
                window: false,
            });
        }
        if let Some(bridge) = device.bridge {
            placed.extend(check_windows(index, &bridge)?);
        }
    }
    check_apart(devices, &placed)
}

/// A BAR is in a window for its kind of every bridge above its device.
fn check_bridges_above(
    devices: &[PciDevice],
    device: &PciDevice,
    bar: &Bar,
    range: &Range<u64>,
) -> Result<(), TestCaseError> {
    let io = bar.kind == BarKind::Io;
    let mut at = device.parent;
    while let Some(parent) = at {
        let bridge = devices[parent].bridge.unwrap();
        let of_kind = if io {
            [bridge.io, None]
        } else {
            [bridge.memory, bridge.pref]
        };
        let inside = |w: &Window| w.is_some_and(|(a, b)| a <= range.start && range.end - 1 <= b);
        prop_assert!(of_kind.iter().any(inside), "{device:?} in {bridge:?}");
        let starts_in = |(a, b)| (a..=b).contains(&range.start);
        if bridge.pref.is_some_and(starts_in) && !io {
            prop_assert!(bar.prefetchable);
        }
        at = devices[parent].parent;
    }
    Ok(())
}

/// The windows of a bridge are such as its registers can hold (PCI-to-PCI Bridge Architecture Specification 1.2, section 3.2.5).
fn check_windows(device: usize, bridge: &Bridge) -> Result<Vec<Placed>, TestCaseError> {
    let mut placed = Vec::new();
    for (io, window) in [
        (true, bridge.io),
        (false, bridge.memory),
        (false, bridge.pref),
    ] {
        let Some((start, last)) = window else {
            continue;
        };
        prop_assert!(start <= last);
        prop_assert_eq!(start & if io { 0xfff } else { 0xf_ffff }, 0);
        prop_assert!(io || bridge.pref64 || last >> 32 == 0);
        placed.push(Placed {
            io,
            range: start..last + 1,
            device,
            window: true,
        });
    }
    Ok(placed)
}

/// Only what is behind a bridge is in the bridge's window, and nothing else overlaps.
fn check_apart(devices: &[PciDevice], placed: &[Placed]) -> Result<(), TestCaseError> {
    let behind = |mut index: usize, bridge: usize| loop {
        match devices[index].parent {
            Some(parent) if parent == bridge => return true,
            Some(parent) => index = parent,
            None => return false,
        }
    };
    for (n, a) in placed.iter().enumerate() {
        for b in &placed[n + 1..] {
            let nested =
                a.window && behind(b.device, a.device) || b.window && behind(a.device, b.device);
            let apart = a.range.end <= b.range.start || b.range.end <= a.range.start;
            prop_assert!(a.io != b.io || nested || apart, "{a:?} {b:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn plans_are_sound(mut devices in machine_strategy(), high in any::<bool>()) {
        let windows = windows_of(Chipset::Q35, if high { 40 } else { 32 });
        let unplaced = plan(&mut devices, &windows);
        check(&devices, &windows)?;
        let small = devices.iter().flat_map(|d| &d.bars).all(|b| b.kind != BarKind::Io && b.size <= 1 << 20);
        if small && devices.len() < 40 {
            prop_assert_eq!(unplaced, 0);
        }
    }

    #[test]
    fn any_registers_are_survived(
        registers in prop::collection::vec(prop::collection::vec(any::<u8>(), 256), 1..8)
    ) {
        let functions = registers.iter().enumerate().map(|(slot, bytes)| {
            let mut function = Function::new(slot as u8, 1, 1, 0);
            function.registers.copy_from_slice(bytes);
            function.writable.copy_from_slice(&bytes.iter().map(|b| !b).collect::<Vec<_>>());
            function
        });
        let pci = FakePci::new(functions.collect());
        setup(&pci, &input(Chipset::I440fx));
    }
}

#[test]
fn addresses_are_shown_as_lspci_shows_them() {
    for (bdf, text) in [
        (Bdf::new(0, 0x1f, 2), "00:1f.2"),
        (Bdf::new(0xab, 0, 7), "ab:00.7"),
        (Bdf(0xffff), "ff:1f.7"),
    ] {
        assert_eq!(bdf.to_string(), text);
    }
}
