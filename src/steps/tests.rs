use super::*;
use crate::arch::PhysMem;
use crate::arch::fake::Fake;
use crate::arch::fake_xen::FakeXen;
use crate::platform::xen::hvm_info;
use firstlight_tables::place::{Block, Space, Zone};
use std::cell::{Cell, RefCell};

/// A machine with two processors. Its hypervisor is made anew each time that somebody asks for it.
#[derive(Default)]
struct TestBoard {
    hw: Fake,
    /// What xenstore holds, where there is a Xen.
    store: Option<Vec<(&'static str, &'static str)>>,
    asked_for_xen: Cell<u32>,
    msrs: RefCell<Vec<u32>>,
    started: Cell<u32>,
}

const RESIDENT: Range<u64> = 0xff0_0000..0x1000_0000;

struct TestPlacer<'a>(Space<'a>);

impl Placer for TestPlacer<'_> {
    fn allocate(&mut self, zone: Zone, size: usize, align: usize) -> Option<Block> {
        let addr = self.0.find(zone, size as u64, align as u64)?;
        let bytes = vec![0; size].leak();
        Some(Block { addr, bytes })
    }
}

impl Board for TestBoard {
    type Hw = Fake;

    fn hw(&self) -> &Fake {
        &self.hw
    }
    fn xen(&self) -> Option<impl Hypercalls> {
        self.asked_for_xen.set(self.asked_for_xen.get() + 1);
        let xen = FakeXen::new(&self.hw);
        for (key, value) in self.store.as_ref()? {
            xen.set(key, value);
        }
        Some(xen)
    }
    fn placer<'a>(
        &self,
        map: &'a mut E820Map,
        limit: u64,
        f_segment: Range<u64>,
    ) -> impl Placer + 'a {
        TestPlacer(Space::new(map, limit, f_segment))
    }
    fn resident(&self) -> Range<u64> {
        RESIDENT
    }
    fn give_back(&self) -> Range<u64> {
        RESIDENT.end - 0x4_0000..RESIDENT.end
    }
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        const APIC_AND_MTRR: u32 = CPUID_APIC | 1 << 12;
        [0, 0, 0, if leaf == 1 { APIC_AND_MTRR } else { 0 }]
    }
    fn read_msr(&self, _: u32) -> u64 {
        8
    }
    fn write_msr(&self, msr: u32, _: u64) {
        self.msrs.borrow_mut().push(msr);
    }
    fn start_others(&self, expected: u32, msrs: &[(u32, u64)]) {
        assert_eq!(msrs.len(), self.msrs.borrow().len());
        self.started.set(expected);
    }
    fn enter_smm(&self, _: bool, open: impl FnOnce() -> bool) -> bool {
        open()
    }
    fn apic_ids(&self) -> Vec<u32> {
        vec![0, 1]
    }
}

fn xen(store: &[(&'static str, &'static str)]) -> TestBoard {
    let board = TestBoard {
        store: Some(store.to_vec()),
        ..TestBoard::default()
    };
    hvm_info::tests::install(&board.hw, 0x1000_0000, 0, 2);
    board
}

#[test]
fn from_the_reset_vector_nobody_looks_for_xen() {
    let board = TestBoard::default();
    let (mut machine, settings) = discover(&board, 0);
    assert!(matches!(machine.platform, Platform::Qemu));
    assert_eq!(board.asked_for_xen.get(), 0);
    machine.cpus.present = 2;
    start_processors(&board, &machine);
    assert_eq!(board.started.get(), 1);
    assert!(!install_given_firmware(&board, &mut machine, &settings));
    assert!(given_kernel(&board, &machine).is_none());
}

#[test]
fn the_guest_gets_what_the_firmware_needs_no_more() {
    let board = TestBoard::default();
    let (mut machine, _) = discover(&board, 0);
    let before = machine.e820.ram_in(0..1 << 32);
    give_back(&board, &mut machine);
    assert_eq!(machine.e820.ram_in(0..1 << 32) - before, 0x4_0000);
    assert_eq!(machine.resident, RESIDENT.start..RESIDENT.end - 0x4_0000);
}

#[test]
fn without_xen_an_elf_start_is_a_start_under_qemu() {
    let board = TestBoard::default();
    let (machine, _) = discover(&board, 0x1000);
    assert!(matches!(machine.platform, Platform::Qemu));
    assert_eq!(board.asked_for_xen.get(), 1);
}

#[test]
fn xen_gets_tables_of_our_making() {
    let board = xen(&[("platform/firstlight", ""), ("platform/acpi", "1")]);
    let (mut machine, settings) = discover(&board, 0x1000);
    assert!(matches!(machine.platform, Platform::Xen(_)));
    assert!(!install_given_firmware(&board, &mut machine, &settings));
    let tables = install_tables(&board, &mut machine, &settings, &Entries::default());
    let f_segment = |address: Option<u64>| address.is_some_and(|at| TABLES.contains(&at));
    assert!(f_segment(tables.wake.rsdp) && f_segment(tables.routing_table));
    assert!(TABLES.contains(&(TABLES.start + u64::from(tables.pnp_header))));
    assert!(tables.wake.told.is_empty());
}

#[test]
fn a_module_that_the_user_wants_takes_our_place() {
    let board = xen(&[
        ("hvmloader", ""),
        ("hvmloader/bios", "seabios"),
        ("platform/firstlight", ""),
        ("platform/firstlight/payload", "module"),
    ]);
    // hvm_start_info with one module (public header arch-x86/hvm/start_info.h): 64 KiB whose last bytes are a jump.
    let (info, list, name, module) = (0x1000, 0x1100, 0x1200, 0x20_0000);
    board.hw.write(
        info,
        &[firstlight_linux::pvh::MAGIC, 1, 0, 1]
            .map(u32::to_le_bytes)
            .concat(),
    );
    board.hw.write64(info + 16, list);
    for (at, value) in (list..).step_by(8).zip([module, 0x1_0000, name, 0]) {
        board.hw.write64(at, value);
    }
    board.hw.write(name, b"firmware\0");
    let reset = [0xea, 0x5b, 0xe0, 0, 0xf0];
    board.hw.write(module + 0xfff0, &reset);
    let (mut machine, settings) = discover(&board, info as u32);
    assert!(install_given_firmware(&board, &mut machine, &settings));
    let mut vector = [0; 5];
    board.hw.read(0xf_fff0, &mut vector);
    assert_eq!(vector, reset);
}
