use proptest::prelude::*;

use super::*;
use crate::arch::fake::Fake;
use crate::devices::pci::{Bar, BarKind};
use firstlight_tables::place::checksum as fix;

const ROM_AT: u64 = 0xfeb0_0000;

fn card(class: u32, rom: u64) -> PciDevice {
    let card = PciDevice {
        class,
        ..PciDevice::new(Bdf::new(0, 3, 0), 1, 1)
    };
    card.with_bar(
        ROM_BAR,
        Bar {
            kind: BarKind::Memory32,
            prefetchable: false,
            size: rom,
            address: Some(ROM_AT),
        },
    )
}

/// A ROM of `blocks` × 512 bytes with a PCI data structure and one expansion header with a BEV and a BCV.
fn rom(blocks: u8, code_type: u8, last: bool) -> Vec<u8> {
    let mut rom = vec![0u8; usize::from(blocks) * 512];
    rom[..3].copy_from_slice(&[0x55, 0xaa, blocks]);
    rom[0x18..0x1c].copy_from_slice(&[0x20, 0, 0x40, 0]);
    rom[0x20..0x24].copy_from_slice(b"PCIR");
    rom[0x30] = blocks;
    rom[0x34] = code_type;
    rom[0x35] = if last { 0x80 } else { 0 };
    rom[0x40..0x44].copy_from_slice(b"$PnP");
    rom[0x50] = 0x80;
    rom[0x56] = 0x99;
    rom[0x5a] = 0x77;
    rom[0x80..0x88].copy_from_slice(b"A\x01 card\0");
    let end = rom.len() - 1;
    rom[end] = fix(&rom);
    rom
}

/// Places and runs the ROM of `card`, unless it has run.
fn run(roms: &mut OptionRoms, hw: &Fake, card: &PciDevice) {
    if roms.has_run(card.bdf) {
        return;
    }
    let source = Source::Card(Box::new(*card));
    if let Ok(rom) = roms.place(hw, &Machine::default(), &source) {
        roms.run(hw, rom, &source);
    }
}

#[test]
fn runs_the_pc_image_and_records_what_it_offers() {
    let hw = Fake::default();
    let mut bytes = rom(2, 3, false);
    bytes.extend(rom(3, 0, true));
    hw.write(ROM_AT, &bytes);
    let mut roms = OptionRoms::new(0x1234);
    let card = card(0x01_0000, 4096);
    run(&mut roms, &hw, &card);
    run(&mut roms, &hw, &card);
    assert_eq!(roms.end(), 0xc0800);
    let calls = hw.real_calls.borrow();
    assert_eq!(calls.len(), 1);
    let (vector, regs) = calls[0];
    assert_eq!((vector, regs.cs, regs.ip), (None, 0xc000, 3));
    assert_eq!((regs.eax, regs.ebx, regs.edx), (0x18, 0xffff, 0xffff));
    assert_eq!((regs.es, regs.edi), (0xf000, 0x1234));
    let offered: Vec<_> = roms
        .vectors
        .iter()
        .map(|v| (v.kind, v.segment, v.offset, v.name.as_str(), v.bdf))
        .collect();
    assert_eq!(
        offered,
        [
            (
                VectorKind::Connection,
                0xc000,
                0x99,
                "A card",
                Some(card.bdf)
            ),
            (
                VectorKind::Bootstrap,
                0xc000,
                0x77,
                "A card",
                Some(card.bdf)
            ),
        ]
    );
    assert_eq!(
        hw.port_writes.borrow().last(),
        Some(&(0xcfc, ROM_AT as u32))
    );
}

#[test]
fn vga_is_placed_first_and_not_run() {
    let hw = Fake::default();
    hw.write(ROM_AT, &rom(5, 0, true));
    let machine = Machine {
        pci: vec![card(0x03_0000, 4096)],
        ..Machine::default()
    };
    let mut roms = OptionRoms::new(0);
    let vga = roms.place_vga(&hw, &machine, &mut |_| ()).unwrap();
    assert_eq!((vga.segment, vga.size), (0xc000, 2560));
    assert_eq!(roms.end(), 0xc1000);
    assert!(OptionRoms::at_post(&machine).is_empty());
    assert!(hw.real_calls.borrow().is_empty());
}

#[test]
fn network_cards_wait() {
    let machine = Machine {
        pci: vec![
            card(0x02_0000, 4096),
            card(0x01_0000, 4096),
            card(0x01_0000, 0),
        ],
        ..Machine::default()
    };
    let at_post = OptionRoms::at_post(&machine);
    assert_eq!(at_post, [Source::Card(Box::new(machine.pci[1]))]);
}

#[test]
fn bad_roms_leave_nothing_behind() {
    let cases = [
        (0usize, 0u8, RomError::NoSignature),
        (2, 0xff, RomError::TooLong),
        (0x34, 1, RomError::NoPcImage),
        (0x100, 1, RomError::BadChecksum),
    ];
    for (at, byte, error) in cases {
        let hw = Fake::default();
        let mut bytes = rom(4, 0, true);
        bytes[at] = byte;
        hw.write(ROM_AT, &bytes);
        let roms = OptionRoms::new(0);
        let placed = roms.place_pci(&hw, ConfigAccess::Ports, &card(0x01_0000, 4096), None);
        assert_eq!(placed, Err(error));
        assert_eq!(hw.read16(OPTION_ROMS.start), 0);
    }
    let mut full = OptionRoms::new(0);
    full.next = OPTION_ROMS.end - 1024;
    let hw = Fake::default();
    hw.write(ROM_AT, &rom(4, 0, true));
    let placed = full.place_pci(&hw, ConfigAccess::Ports, &card(0x01_0000, 4096), None);
    assert_eq!(placed, Err(RomError::NoRoom));
}

proptest! {
    #[test]
    fn survives_any_rom(
        mut bytes in prop::collection::vec(any::<u8>(), 3072),
        valid in any::<bool>(),
        pointer in any::<u16>(),
    ) {
        let hw = Fake::default();
        if valid {
            let good = rom(6, 0, true);
            bytes[..0x58].copy_from_slice(&good[..0x58]);
            bytes[0x1a..0x1c].copy_from_slice(&pointer.to_le_bytes());
            bytes[3071] = 0;
            bytes[3071] = fix(&bytes);
        }
        hw.write(ROM_AT, &bytes);
        let mut roms = OptionRoms::new(0);
        run(&mut roms, &hw, &card(0x01_0000, 4096));
        prop_assert!(roms.end() <= OPTION_ROMS.end);
    }
}
