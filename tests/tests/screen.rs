//! What a guest draws without the BIOS looks as it does under SeaBIOS: the VGA ROM may not have been started by then.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine, workspace};
use firstlight_tests::script::{Call, Script};

const SCREEN: u32 = 0xb_8000;
const CRTC: u16 = 0x3d4;
/// The display is redrawn now and then.
const REDRAWN: Duration = Duration::from_millis(500);

/// Every character and most colours, straight into video memory, with the blinking cursor off.
fn draw(script: &mut Script) {
    const CURSOR_OFF: u32 = 0x20 << 8 | 0x0a;
    let cells: Vec<u8> = (0..2000u32)
        .flat_map(|cell| [cell as u8, (cell * 7 / 16 % 128) as u8])
        .collect();
    for (row, cells) in cells.chunks(160).enumerate() {
        script.poke(SCREEN + row as u32 * 160, cells);
    }
    script.write_port(CRTC, 2, CURSOR_OFF);
}

fn picture(machine: Machine, card: &str, firmware: Firmware, script: &Script) -> Result<Vec<u8>> {
    let disk = Disk::running(script, 16 << 20)?;
    let mut guest = Config::new(machine, firmware)
        .video(card)
        .disk(&disk.path())
        .start()?;
    guest.wait_for(Log::Debug, "~H")?;
    std::thread::sleep(REDRAWN);
    guest.picture()
}

fn keep(name: &str, picture: &[u8]) -> Result<String> {
    let directory = workspace().join("target/screens");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    std::fs::write(&path, picture)?;
    Ok(Path::display(&path).to_string())
}

/// Draws under both firmwares; with us also with an INT 10h after it, which starts the ROM and has to leave the picture.
fn drawn(machine: Machine, card: &str) -> Result<()> {
    let mut plain = Script::new();
    draw(&mut plain);
    plain.halt();
    let mut with_call = Script::new();
    draw(&mut with_call);
    with_call.call("cursor", Call::new(0x10, 0x0300).bx(0));
    with_call.halt();
    let expected = picture(machine, card, Firmware::SeaBios, &plain)?;
    for (how, script) in [("plain", &plain), ("call", &with_call)] {
        let ours = picture(machine, card, Firmware::Firstlight, script)
            .with_context(|| format!("{card}, {how}"))?;
        if ours != expected {
            let seabios = keep(&format!("{machine}-{card}-seabios.ppm"), &expected)?;
            let firstlight = keep(&format!("{machine}-{card}-{how}.ppm"), &ours)?;
            ensure!(false, "{card}, {how}: compare {seabios} and {firstlight}");
        }
    }
    Ok(())
}

#[test]
fn text_is_drawn_without_the_bios() -> Result<()> {
    for card in ["VGA", "cirrus-vga", "vmware-svga"] {
        drawn(Machine::Pc, card)?;
    }
    for card in ["VGA", "virtio-vga"] {
        drawn(Machine::Q35, card)?;
    }
    Ok(())
}

/// A card that is not known has to be started by its ROM before the boot.
#[test]
fn text_is_drawn_on_a_card_without_pci() -> Result<()> {
    drawn(Machine::Pc, "isa-vga")
}

/// A boot sector that fills the screen and hides the cursor, and calls no service at all.
#[test]
fn a_boot_sector_draws_without_any_service() -> Result<()> {
    const SECTOR: [u8; 28] = [
        0xfc, // cld
        0xb8, 0x00, 0xb8, 0x8e, 0xc0, // mov ax, 0xb800; mov es, ax
        0x31, 0xff, 0xb8, 0x41, 0x1f, // xor di, di; mov ax, 0x1f41
        0xb9, 0xd0, 0x07, 0xf3, 0xab, // mov cx, 2000; rep stosw
        0xba, 0xd4, 0x03, 0xb8, 0x0a, 0x20, 0xef, // mov dx, 0x3d4; mov ax, 0x200a; out dx, ax
        0xe6, 0xe9, // out 0xe9, al
        0xf4, 0xeb, 0xfd, // hlt; jmp -3
    ];
    let mut disk = vec![0; 1 << 20];
    disk[..SECTOR.len()].copy_from_slice(&SECTOR);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let files = tempfile::tempdir()?;
    let file = files.path().join("disk");
    std::fs::write(&file, disk)?;
    let picture = |firmware| -> Result<Vec<u8>> {
        let mut guest = Config::new(Machine::Pc, firmware)
            .video("VGA")
            .disk(&file)
            .start()?;
        guest.wait_for(Log::Debug, "\n")?;
        std::thread::sleep(REDRAWN);
        guest.picture()
    };
    let (ours, expected) = (picture(Firmware::Firstlight)?, picture(Firmware::SeaBios)?);
    if ours != expected {
        let ours = keep("sector-firstlight.ppm", &ours)?;
        let expected = keep("sector-seabios.ppm", &expected)?;
        ensure!(false, "compare {ours} and {expected}");
    }
    Ok(())
}
