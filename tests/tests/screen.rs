//! What a guest draws without the BIOS looks as it does under SeaBIOS: the VGA ROM may not have been started by then.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine, workspace};
use firstlight_tests::script::{Call, Script};

const SCREEN: u32 = 0xb_8000;
const CRTC: u16 = 0x3d4;

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
    // The display is redrawn now and then.
    std::thread::sleep(std::time::Duration::from_millis(500));
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
