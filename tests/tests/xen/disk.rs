//! Xen's paravirtual disks, as boot loaders use them by INT 13h.

use super::DEADLINE;
use super::kept::save_and_restore;
use anyhow::{Context, Result, ensure};
use firstlight_tests::media;
use firstlight_tests::xen::{Bed, Guest, PROBE, Version, bed, firstlight, guest_lines};
use firstlight_vm::wait;
use std::fs;
use std::time::{Duration, Instant};

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/transfers.bin"));
/// What the program reads, in words: four blocks of 127 sectors from sector 64 on.
const BLOCK: usize = 127 * 256;
const FIRST: usize = 64 * 256;
/// Bytes of the disk.
const DISK: usize = 4 << 20;

/// What the log has of a connection.
const CONNECTED: &str = "connected to its back end";
const LEFT: &str = "left to the guest's driver";

/// The disk of the program that reads and writes it in rounds.
pub(super) struct Transfers {
    /// Its path in dom0, in memory there.
    pub disk: String,
    /// What the program says in each round.
    said: String,
}

/// Makes a disk with something in each sector.
pub(super) fn transfers(bed: &mut Bed) -> Result<Transfers> {
    let words: Vec<u16> = (0..DISK / 2)
        .map(|index| (index.wrapping_mul(40_503) >> 7) as u16)
        .collect();
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes[..PROGRAM.len()].copy_from_slice(PROGRAM);
    fs::write(bed.job().join("transfers.img"), bytes)?;
    bed.check("cp /job/transfers.img /tmp/transfers.img")?;
    let sum = |words: &[u16]| words.iter().map(|word| u32::from(*word)).sum::<u32>();
    let all = sum(&words[FIRST..FIRST + 4 * BLOCK]);
    let last = sum(&words[FIRST + 3 * BLOCK..FIRST + 4 * BLOCK]);
    Ok(Transfers {
        disk: "/tmp/transfers.img".into(),
        said: format!("sum {all:08x} {last:08x}\n"),
    })
}

impl Transfers {
    /// Starts a guest with `settings` for its firmware, and waits until it has done `rounds`.
    pub fn start(&self, bed: &mut Bed, guest: &Guest, settings: &str, rounds: usize) -> Result<()> {
        bed.create_paused(guest)?;
        let name = guest.name();
        bed.check(&format!(
            "at=/local/domain/$(xl domid {name})/platform/firstlight\n\
             xenstore-write $at/log debug {settings}\n\
             xl unpause {name}"
        ))?;
        self.wait(bed, guest, rounds)
    }

    /// How many rounds a guest has begun to tell of.
    pub fn rounds(&self, bed: &Bed, guest: &Guest) -> usize {
        bed.serial(guest).matches("sum ").count()
    }

    /// Waits until a guest has done `rounds`, and all that it has read is right.
    pub fn wait(&self, bed: &mut Bed, guest: &Guest, rounds: usize) -> Result<()> {
        let serial = bed.wait_until(guest, "more rounds", DEADLINE, |serial| {
            serial.matches("sum ").count() > rounds || serial.contains("error")
        })?;
        let serial = serial.replace('\r', "");
        // The last one may not be all there.
        let done = serial.matches("sum ").count() - 1;
        ensure!(
            done >= rounds && serial.matches(&self.said).count() >= done,
            "not {:?}:\n{serial}",
            self.said
        );
        Ok(())
    }
}

/// How often each of the two was said.
fn counts(dmesg: &str) -> [usize; 2] {
    [CONNECTED, LEFT].map(|said| dmesg.matches(said).count())
}

/// The vbd in xenstore: our half's state, and the other's.
fn states(bed: &mut Bed, guest: &Guest, number: u32) -> Result<String> {
    let name = guest.name();
    bed.check(&format!(
        "at=/local/domain/$(xl domid {name})/device/vbd/{number}\n\
         echo $(xenstore-read $at/state) $(xenstore-read $(xenstore-read $at/backend)/state)"
    ))
}

/// By the emulated disk first, then by the back end, which is left before each kernel would start, also after a restore.
pub fn pv_disk_is_read_and_written_also_after_a_restore(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let transfers = transfers(&mut bed)?;
    let guest = Guest::new("transfers", &firstlight()).disk(&transfers.disk);
    transfers.start(&mut bed, &guest, "", 3)?;
    let dmesg = bed.dmesg()?;
    let [connected, left] = counts(&dmesg);
    ensure!(
        connected >= 3 && left >= 3,
        "{connected} and {left}:\n{dmesg}"
    );
    save_and_restore(&mut bed, &guest)?;
    transfers.wait(&mut bed, &guest, 3)?;
    let dmesg = bed.dmesg()?;
    ensure!(counts(&dmesg)[0] >= 3, "{dmesg}");
    ensure!(!dmesg.contains("only emulated"), "{dmesg}");
    Ok(())
}

/// The kernel's back end, which keeps the pages mapped and takes requests whose segments are in a page of their own.
pub fn pv_disk_by_the_kernels_back_end(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let transfers = transfers(&mut bed)?;
    let device = bed.check(&format!(
        "modprobe loop && device=$(losetup -f) && losetup $device {} && echo $device",
        transfers.disk
    ))?;
    let device = device.trim();
    let disk = bed.kernels_disk(device)?;
    let guest = Guest::new("blkback", &firstlight()).disk_specification(&disk);
    transfers.start(&mut bed, &guest, "", 3)?;
    let dmesg = bed.dmesg()?;
    ensure!(dmesg.contains("booting Xen disk hda"), "{dmesg}");
    bed.destroy_all()?;
    bed.check(&format!("losetup -d {device}"))?;
    Ok(())
}

pub fn without_pv_disk_the_emulated_one_is_used(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let transfers = transfers(&mut bed)?;
    let guest = Guest::new("emulated", &firstlight()).disk(&transfers.disk);
    transfers.start(&mut bed, &guest, "$at/pv-disk no", 1)?;
    let dmesg = bed.dmesg()?;
    ensure!(counts(&dmesg) == [0, 0], "{dmesg}");
    let states = states(&mut bed, &guest, 768)?;
    ensure!(states.trim() == "1 2", "{states}");
    Ok(())
}

/// A CD boots from an IDE drive of dom0's QEMU.
pub fn a_cd_boots(version: Version) -> Result<()> {
    const TEXT: &str = "from the CD\n";
    let mut bed = bed(version)?;
    // `mov al, C; out E9h, al` for each character, then `jmp .`.
    let says = TEXT.bytes().flat_map(|byte| [0xb0, byte, 0xe6, 0xe9]);
    let program: Vec<u8> = says.chain([0xeb, 0xfe]).collect();
    media::cdrom_of(&bed.job(), "boots", &program)?;
    let guest = Guest::new("cd", &firstlight())
        .disk_specification("format=raw,vdev=hdc,devtype=cdrom,access=ro,target=/job/boots.iso")
        .string("boot", "d");
    bed.create(&guest)?;
    let start = Instant::now();
    let mut said = String::new();
    while !guest_lines(&said)
        .iter()
        .any(|line| line.contains(TEXT.trim_end()))
    {
        ensure!(
            start.elapsed() < PROBE * wait::scale(),
            "{said}\n{}",
            bed.tails()
        );
        std::thread::sleep(Duration::from_secs(1));
        said.push_str(&bed.dmesg()?);
    }
    bed.destroy_all()
}

/// The fifth disk has no emulated twin, and boots.
pub fn a_disk_that_is_only_a_vbd_boots(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let transfers = transfers(&mut bed)?;
    let guest = Guest::new("fifth", &firstlight()).disk_specification(&format!(
        "format=raw,vdev=xvde,access=rw,backendtype=qdisk,target={}",
        transfers.disk
    ));
    transfers.start(&mut bed, &guest, "", 3)?;
    let dmesg = bed.dmesg()?;
    let booted = dmesg.contains("booting Xen disk xvde");
    ensure!(booted, "{dmesg}");
    Ok(())
}

/// A back end that is gone costs a few seconds, and the emulated disk goes on.
pub fn without_a_back_end_the_emulated_disk_boots(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let transfers = transfers(&mut bed)?;
    let guest = Guest::new("orphan", &firstlight()).disk(&transfers.disk);
    let damage =
        "&& at=/local/domain/$(xl domid orphan)/device/vbd/768 && xenstore-write $at/backend-id 77";
    transfers.start(&mut bed, &guest, damage, 1)?;
    let dmesg = bed.dmesg()?;
    let line = dmesg
        .lines()
        .find(|line| line.contains("only emulated"))
        .context("no word of it")?;
    ensure!(line.contains("QEMU HARDDISK"), "{line}");
    Ok(())
}
