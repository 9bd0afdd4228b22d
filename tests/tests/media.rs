//! Media that others make: GRUB's, ISOLINUX's, SYSLINUX's memdisk and iPXE's, as CDs and as disks.

use anyhow::{Context, Result, ensure};
use firstlight_tests::guest::{Bus, Config, Drive, Firmware, Log, Machine};
use firstlight_tests::media;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Of the packages isolinux, syslinux-common and ipxe.
const ISOLINUX: &str = "/usr/lib/ISOLINUX/isolinux.bin";
const MODULES: &str = "/usr/lib/syslinux/modules/bios";
const MEMDISK: &str = "/usr/lib/syslinux/memdisk";
const IPXE: &str = "/usr/lib/ipxe/ipxe.iso";

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{command:?}: run `cargo xtask setup`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

fn cd_bus(machine: Machine) -> Bus {
    match machine {
        Machine::Pc => Bus::Ide,
        Machine::Q35 => Bus::Sata,
    }
}

/// The CD's program shows `text`, behind IDE and behind AHCI.
fn shows(image: &Path, text: &str) -> Result<()> {
    for machine in Machine::ALL {
        Config::new(machine, Firmware::Firstlight)
            .deadline_seconds(120)
            .attach(Drive::cdrom(cd_bus(machine), Some(image)))
            .start()?
            .wait_for_screen(text)?;
    }
    Ok(())
}

/// GRUB with a configuration that shows a file and then its menu: a CD that is a disk as well.
fn grub(files: &TempDir) -> Result<PathBuf> {
    grub_with(
        files,
        "cat /hello\nsleep 3\nset timeout=-1\nmenuentry 'An entry' { true }\n",
    )
}

/// GRUB with a menu of two entries, of which the second says something.
fn grub_with_two_entries(files: &TempDir) -> Result<PathBuf> {
    grub_with(
        files,
        "set timeout=-1\nmenuentry 'An entry' { true }\nmenuentry 'Another entry' { echo the other one; sleep 60 }\n",
    )
}

fn grub_with(files: &TempDir, configuration: &str) -> Result<PathBuf> {
    let tree = files.path().join("tree");
    std::fs::create_dir_all(tree.join("boot/grub"))?;
    std::fs::write(tree.join("hello"), "read from the medium\n")?;
    std::fs::write(tree.join("boot/grub/grub.cfg"), configuration)?;
    let image = files.path().join("grub.iso");
    run(Command::new("grub-mkrescue")
        .args(["-d", "/usr/lib/grub/i386-pc", "-o"])
        .arg(&image)
        .arg(&tree))?;
    Ok(image)
}

#[test]
fn grubs_cd_reads_a_file_and_comes_to_its_menu() -> Result<()> {
    let files = tempfile::tempdir()?;
    let image = grub(&files)?;
    shows(&image, "read from the medium")?;
    shows(&image, "An entry")
}

#[test]
fn grubs_cd_boots_as_a_disk() -> Result<()> {
    let files = tempfile::tempdir()?;
    let image = grub(&files)?;
    Config::new(Machine::Pc, Firmware::Firstlight)
        .attach(Drive::new(Bus::Ide, &image))
        .start()?
        .wait_for_screen("An entry")?;
    Ok(())
}

/// A CD made by xorriso with what is in `tree`.
fn iso(files: &TempDir, tree: &Path, options: &[&str]) -> Result<PathBuf> {
    let image = files.path().join("made.iso");
    run(Command::new("xorriso")
        .args(["-as", "mkisofs", "-o"])
        .arg(&image)
        .args(options)
        .arg(tree))?;
    Ok(image)
}

fn isolinux(files: &TempDir, configuration: &str) -> Result<PathBuf> {
    let tree = files.path().join("tree");
    std::fs::create_dir(&tree)?;
    std::fs::copy(ISOLINUX, tree.join("isolinux.bin"))?;
    std::fs::copy(
        Path::new(MODULES).join("ldlinux.c32"),
        tree.join("ldlinux.c32"),
    )?;
    std::fs::copy(MEMDISK, tree.join("memdisk"))?;
    std::fs::copy(media::floppy(files.path(), 'M')?, tree.join("floppy.img"))?;
    std::fs::write(tree.join("isolinux.cfg"), configuration)?;
    let options = ["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot"];
    let more = ["-boot-load-size", "4", "-boot-info-table"];
    iso(files, &tree, &[&options[..], &more].concat())
}

#[test]
fn isolinux_comes_to_its_prompt() -> Result<()> {
    let files = tempfile::tempdir()?;
    let image = isolinux(&files, "prompt 1\ntimeout 0\ndefault x\nlabel x\nlinux x\n")?;
    shows(&image, "boot:")
}

/// A diskette in memory, which takes over INT 13h.
#[test]
fn memdisk_boots_its_diskette() -> Result<()> {
    let files = tempfile::tempdir()?;
    let configuration = "default m\nprompt 0\nlabel m\nlinux memdisk\ninitrd floppy.img\n";
    let image = isolinux(&files, configuration)?;
    Config::new(Machine::Pc, Firmware::Firstlight)
        .attach(Drive::cdrom(Bus::Ide, Some(&image)))
        .start()?
        .wait_for(Log::Debug, "M")?;
    Ok(())
}

#[test]
fn emulated_diskettes_and_disks_of_xorrisos_cds_boot() -> Result<()> {
    for (size, options) in [
        (1_474_560, &["-b", "image", "-c", "cat"][..]),
        (2_949_120, &["-b", "image", "-c", "cat"]),
        (4 << 20, &["-b", "image", "-c", "cat", "-hard-disk-boot"]),
    ] {
        let files = tempfile::tempdir()?;
        let tree = files.path().join("tree");
        std::fs::create_dir(&tree)?;
        let mut bytes = media::program('E');
        // A partition of all sectors: 16 heads, 63 sectors a track.
        bytes[446..462].copy_from_slice(&[0x80, 1, 1, 0, 6, 15, 63, 7, 63, 0, 0, 0, 0, 30, 0, 0]);
        bytes.resize(size, 0);
        std::fs::write(tree.join("image"), bytes)?;
        let image = iso(&files, &tree, options)?;
        for machine in Machine::ALL {
            Config::new(machine, Firmware::Firstlight)
                .attach(Drive::cdrom(cd_bus(machine), Some(&image)))
                .start()?
                .wait_for(Log::Debug, "E")?;
        }
    }
    Ok(())
}

#[test]
fn ipxes_own_cd_starts() -> Result<()> {
    shows(Path::new(IPXE), "iPXE")
}

/// A drive that was empty when the machine started, then has a CD, and after it another one.
#[test]
fn cds_come_and_go() -> Result<()> {
    let files = tempfile::tempdir()?;
    let first = media::cdrom(files.path(), '1')?;
    for machine in Machine::ALL {
        let mut guest = Config::new(machine, Firmware::Firstlight)
            .attach(Drive::cdrom(cd_bus(machine), None))
            .start()?;
        let report = guest.wait_for(Log::Serial, "no medium in the drive")?;
        ensure!(report.contains("Nothing could be booted"), "{report}");
        let blocks = guest.monitor("info block")?;
        let line = blocks.lines().find(|line| line.starts_with("disk0"));
        let name = line.and_then(|line| line.split([' ', ':']).next());
        let name = name.with_context(|| format!("no drive in {blocks}"))?;
        guest.monitor(&format!("change {name} {} raw", first.display()))?;
        guest.send_key("ret")?;
        guest.wait_for(Log::Debug, "1")?;
    }
    Ok(())
}

/// A guest whose text is on a terminal, with a video card that nobody looks at, or with none.
fn headless(video: &str, image: &Path) -> Config {
    Config::new(Machine::Pc, Firmware::Firstlight)
        .deadline_seconds(120)
        .video(video)
        .setting("serial-console", "yes")
        .attach(Drive::cdrom(Bus::Ide, Some(image)))
}

/// Menus and prompts are used on a terminal as on a screen: by cursor keys, words and control characters.
#[test]
fn boot_programs_are_used_on_a_terminal() -> Result<()> {
    for video in ["VGA", "none"] {
        let files = tempfile::tempdir()?;
        let mut guest = headless(video, &grub_with_two_entries(&files)?).start()?;
        guest.wait_for(Log::Serial, "Another entry")?;
        guest.type_serial("\x1b[B\r")?;
        guest.wait_for(Log::Serial, "the other one")?;

        let files = tempfile::tempdir()?;
        let configuration = "prompt 1\ntimeout 0\nlabel other\nlinux memdisk\ninitrd floppy.img\n";
        let mut guest = headless(video, &isolinux(&files, configuration)?).start()?;
        guest.wait_for(Log::Serial, "boot:")?;
        guest.type_serial("nothing\r")?;
        guest.wait_for(Log::Serial, "No such file or directory")?;
        guest.type_serial("other\r")?;
        guest.wait_for(Log::Debug, "M")?;

        let mut guest = headless(video, Path::new(IPXE)).start()?;
        guest.wait_for(Log::Serial, "Ctrl-B")?;
        guest.type_serial("\x02")?;
        guest.wait_for(Log::Serial, "iPXE>")?;
        guest.type_serial("echo $((6*7)) on a ${platform}\r")?;
        guest.wait_for(Log::Serial, "on a pcbios")?;
    }
    Ok(())
}
