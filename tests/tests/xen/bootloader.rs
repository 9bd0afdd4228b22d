//! The host bootloader, called by Xen's toolstack: guests whose kernel is on their own disk.

use anyhow::{Result, ensure};
use firstlight_tests::guestdisk::{Fs, Layout};
use firstlight_tests::xen::{
    Bed, DEBIAN_DISK, Guest, HOSTED_END, Loader, Version, bed, hosted_disk,
};
use std::fs;
use std::time::Duration;
use xtask::build::host::Program;

/// How long a guest may take: two emulations deep.
const SMALL: Duration = Duration::from_secs(600);
const LOGIN: Duration = Duration::from_secs(1200);

/// A guest of `kind` whose kernel the bootloader picks from the disk `disk`, a path in dom0.
fn hosted(bed: &Bed, name: &str, kind: &str, disk: &str) -> Result<Guest> {
    let bootloader = xtask::build::host::file(Program::Bootloader)?;
    fs::copy(&bootloader, bed.job().join("bootloader"))?;
    let disk = format!("format=raw,vdev=xvda,access=rw,backendtype=qdisk,target={disk}");
    Ok(Guest::new(name, &Loader::Stock)
        .string("type", kind)
        .set("memory", 512)
        .string("bootloader", "/job/bootloader")
        .disk_specification(&disk)
        .pv_console())
}

/// The demo Debian to its login prompt, with an argument of xl.cfg's.
fn debian(version: Version, kind: &str) -> Result<()> {
    let mut bed = bed(version)?;
    bed.give_debian_time(DEBIAN_DISK)?;
    let guest = hosted(&bed, &format!("debian-{kind}"), kind, DEBIAN_DISK)?;
    let guest = guest.string("extra", "console=hvc0 firstlight.hosted=yes");
    let console = bed.boot(&guest, "login: ", LOGIN)?;
    let line = console.lines().find(|line| line.contains("Command line:"));
    ensure!(
        line.is_some_and(|line| line.contains("rw console=tty0") && line.contains("hosted=yes")),
        "the kernel's command line is {line:?}"
    );
    bed.destroy_all()
}

pub fn the_bootloader_starts_debian_paravirtualised(version: Version) -> Result<()> {
    debian(version, "pv")
}

pub fn the_bootloader_starts_debian_as_pvh(version: Version) -> Result<()> {
    debian(version, "pvh")
}

/// The small Linux from each kind of disk: its initial RAM disk is in two files, which have to be joined.
pub fn the_bootloader_reads_each_file_system(version: Version) -> Result<()> {
    let kinds = [
        ("ext4", Layout::Logical, Fs::Ext4),
        ("xfs", Layout::Gpt, Fs::Xfs),
        ("btrfs", Layout::Mbr, Fs::Btrfs),
        ("fat", Layout::Gpt, Fs::Fat),
        ("lvm", Layout::Lvm, Fs::Ext4),
        ("iso", Layout::Whole, Fs::Iso),
    ];
    for (index, (name, layout, fs)) in kinds.into_iter().enumerate() {
        let mut bed = bed(version)?;
        let kind = if index % 2 == 0 { "pv" } else { "pvh" };
        let directory = tempfile::tempdir()?;
        let image = hosted_disk(directory.path(), layout, fs, name)?;
        let file = format!("{name}.img");
        std::fs::copy(&image, bed.job().join(&file))?;
        let guest = hosted(&bed, name, kind, &format!("/job/{file}"))?;
        let console = bed.boot(&guest, HOSTED_END, SMALL)?;
        ensure!(console.contains(&format!("on={name}")), "{console}");
        bed.destroy_all()?;
        std::fs::remove_file(bed.job().join(&file))?;
    }
    Ok(())
}
