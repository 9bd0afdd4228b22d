//! Network boot by the option ROMs that QEMU has for its cards: iPXE asks QEMU's own DHCP and TFTP servers for a boot program.

use anyhow::{Result, ensure};
use firstlight_tests::disk::Disk;
use firstlight_tests::guest::{Config, Firmware, Log, Machine, Nic, NicBackend, Rom};
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

/// A boot program that asks for the PXE services (INT 1Ah AX=5650h leaves 564Eh in AX where they are) and says N and what it
/// found on the debug port: `mov ax, 5650h; int 1Ah; cmp ax, 564Eh; mov al, 'N'; out E9h, al; mov al, '+'; je 1f;
/// mov al, '-'; 1: out E9h, al; hlt; jmp .-1`.
const PROGRAM: [u8; 24] = [
    0xb8, 0x50, 0x56, 0xcd, 0x1a, 0x3d, 0x4e, 0x56, 0xb0, b'N', 0xe6, 0xe9, 0xb0, b'+', 0x74, 0x02,
    0xb0, b'-', 0xe6, 0xe9, 0xf4, 0xeb, 0xfd, 0x90,
];
const BOOTED: &str = "N+";

fn served() -> Result<TempDir> {
    let files = tempfile::tempdir()?;
    std::fs::write(files.path().join("program"), PROGRAM)?;
    Ok(files)
}

fn card(model: &str, files: &TempDir) -> Nic {
    let tftp = files.path().display().to_string();
    Nic {
        backend: NicBackend::User(vec![
            ("tftp".into(), tftp),
            ("bootfile".into(), "program".into()),
        ]),
        ..Nic::new(model)
    }
}

fn boots_by(machine: Machine, cards: impl IntoIterator<Item = Nic>) -> Result<String> {
    let mut config = Config::new(machine, Firmware::Firstlight).deadline_seconds(120);
    for (card, index) in cards.into_iter().zip(1..) {
        config = config.nic(Nic {
            boot_index: Some(index),
            ..card
        });
    }
    config.start()?.wait_for(Log::Debug, BOOTED)
}

fn each(machine: Machine, models: &[&str]) -> Result<()> {
    let files = served()?;
    for model in models {
        boots_by(machine, [card(model, &files)])?;
    }
    Ok(())
}

#[test]
fn pc_boots_by_e1000_and_rtl8139() -> Result<()> {
    each(Machine::Pc, &["e1000", "rtl8139"])
}

#[test]
fn pc_boots_by_virtio_and_ne2k() -> Result<()> {
    each(Machine::Pc, &["virtio-net-pci", "ne2k_pci"])
}

#[test]
fn pc_boots_by_i82550_and_vmxnet3() -> Result<()> {
    each(Machine::Pc, &["i82550", "vmxnet3"])
}

#[test]
fn q35_boots_by_e1000e_and_by_virtio_behind_a_root_port() -> Result<()> {
    let files = served()?;
    boots_by(Machine::Q35, [card("e1000e", &files)])?;
    let tftp = files.path().display();
    Config::new(Machine::Q35, Firmware::Firstlight)
        .deadline_seconds(120)
        .args(["-device", "pcie-root-port,id=rp0"])
        .args([
            "-netdev",
            &format!("user,id=behind,tftp={tftp},bootfile=program"),
        ])
        .args([
            "-device",
            "virtio-net-pci,netdev=behind,bus=rp0,bootindex=1",
        ])
        .start()?
        .wait_for(Log::Debug, BOOTED)?;
    Ok(())
}

/// The first card hears nobody, the second does; only these two are started, in their order.
#[test]
fn the_second_card_answers() -> Result<()> {
    let files = served()?;
    let deaf = Nic {
        backend: NicBackend::User(vec![("restrict".into(), "on".into())]),
        ..Nic::new("e1000")
    };
    boots_by(Machine::Pc, [deaf, card("virtio-net-pci", &files)])?;
    Ok(())
}

#[test]
fn a_card_that_cannot_boot_is_named_and_the_disk_comes_next() -> Result<()> {
    let files = served()?;
    let blind = Nic {
        rom: Rom::None,
        boot_index: Some(1),
        ..card("e1000", &files)
    };
    let disk = Disk::running(&firstlight_tests::script::Script::new(), 16 << 20)?;
    let log = Config::new(Machine::Pc, Firmware::Firstlight)
        .setting("log", "info")
        .nic(blind)
        .disk(&disk.path())
        .start()?
        .wait_for(Log::Debug, "~E\n")?;
    ensure!(log.contains("ROM cannot be used: there is none"), "{log}");
    Ok(())
}

/// Debian's installer by its own PXELINUX, which reads a dozen files by the card's UNDI and PXE services, with its menu on a
/// serial terminal as well.
#[test]
fn debians_installer_comes_to_its_menu() -> Result<()> {
    const TREE: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer";
    const SCREENS: &str = "debian-installer/amd64/boot-screens";
    let files = tempfile::tempdir()?;
    let (tree, to) = (Path::new(TREE), files.path());
    symlink(tree, to.join("debian-installer"))?;
    symlink(tree.join("amd64/pxelinux.0"), to.join("program"))?;
    let library = "ldlinux.c32";
    symlink(
        tree.join("amd64/boot-screens").join(library),
        to.join(library),
    )?;
    std::fs::create_dir(to.join("pxelinux.cfg"))?;
    std::fs::write(
        to.join("pxelinux.cfg/default"),
        format!(
            "serial 0 115200\npath {SCREENS}/\ninclude {SCREENS}/menu.cfg\n\
             default {SCREENS}/vesamenu.c32\nprompt 0\ntimeout 0\n"
        ),
    )?;
    let card = Nic {
        boot_index: Some(1),
        ..card("virtio-net-pci", &files)
    };
    Config::new(Machine::Pc, Firmware::Firstlight)
        .deadline_seconds(120)
        .nic(card)
        .start()?
        .wait_for(Log::Serial, "Debian GNU/Linux installer menu")?;
    Ok(())
}
