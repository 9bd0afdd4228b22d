//! Guests that are saved and restored, migrated or paused at some moment of their life, each beside the stock loader.

use super::disk::transfers;
use super::linux::DEBIAN;
use super::{DEADLINE, IN_FIRMWARE, PROBE, beside_stock, with_fast_disk};
use anyhow::{Context, Result, ensure};
use firstlight_tests::grub;
use firstlight_tests::linux::is_content;
use firstlight_tests::xen::{
    Bed, Guest, Loader, Then, Version, bed, empty_disk, firstlight, linux_disk, probe_disk,
};
use std::fs;
use xtask::linux::REPORT_END;

/// Saves a guest, and restores it at once. What it says begins anew.
pub(super) fn save_and_restore(bed: &mut Bed, guest: &Guest) -> Result<()> {
    let name = guest.name();
    // dom0 has the file in memory. The toolstack's own deadlines are short here: a domain that has no device model in time is gone again.
    bed.check(&format!(
        "trap 'rm -f /tmp/kept' EXIT; xl save {name} /tmp/kept && >/job/{name}.serial || exit 1\n\
         for i in 1 2 3 4; do xl restore /tmp/kept && exit 0; xl destroy {name}; done; exit 1"
    ))?;
    bed.follow_console(guest)
}

/// What happens to a guest, which goes on afterwards.
type Turn = fn(&mut Bed, &Guest) -> Result<()>;

/// Migrates a running guest to the same host. What it says begins anew.
fn migrate(bed: &mut Bed, guest: &Guest) -> Result<()> {
    bed.check(&format!(
        "xl migrate -s '' {} 'exec xl migrate-receive'",
        guest.name()
    ))?;
    bed.follow_console(guest)
}

/// In a boot sector, which goes on.
pub fn kept_in_a_boot_sector(version: Version) -> Result<()> {
    beside_stock(version, "kept_in_a_boot_sector", |bed, loader| {
        let guest = Guest::new("kept", loader).disk(&probe_disk(bed, Then::Tick)?);
        bed.boot(&guest, "tick", PROBE)?;
        save_and_restore(bed, &guest)?;
        bed.wait_for(&guest, "tick", PROBE)?;
        migrate(bed, &guest)?;
        bed.wait_for(&guest, "tick", PROBE)?;
        Ok(())
    })
}

/// In the firmware, which waits for a key, then restarts, and says so again. The stock loader's BIOS says nothing where this could be
/// seen.
pub fn kept_in_the_firmware(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let guest = Guest::new("waiting", &firstlight())
        .disk(&empty_disk(&bed)?)
        .string("on_reboot", "restart");
    bed.boot(&guest, IN_FIRMWARE, PROBE)?;
    save_and_restore(&mut bed, &guest)?;
    bed.wait_for(&guest, IN_FIRMWARE, PROBE)?;
    Ok(())
}

/// What GRUB says of each round.
const ROUND: &str = "round ";

/// In GRUB, which writes to its disk and reads again and again by INT 13h.
pub fn kept_in_grub(version: Version) -> Result<()> {
    const FILE: &str = "(hd0,msdos1)/grubenv";
    let files = tempfile::tempdir()?;
    let round = |number| {
        format!(
            "set x={number}\nsave_env -f {FILE} x\nset x=\nload_env -f {FILE}\necho {ROUND}$x.\nsleep 1\n"
        )
    };
    let commands: String = (1..=200).map(round).collect();
    let disk = grub::disk(files.path(), &commands)?;
    beside_stock(version, "kept_in_grub", |bed, loader| {
        fs::copy(&disk, bed.job().join("grub.img"))?;
        bed.check("mv /job/grub.img /tmp/grub.img")?;
        let guest = Guest::new("grub", loader).disk("/tmp/grub.img");
        bed.boot(&guest, "round 2.", DEADLINE)?;
        for turn in [save_and_restore as Turn, migrate] {
            turn(bed, &guest)?;
            let rounds = |text: &str| text.matches(ROUND).count() > 3 || text.contains("error");
            let said = bed.wait_until(&guest, "more rounds", DEADLINE, rounds)?;
            ensure!(
                !["error", "round .", "round 1."]
                    .iter()
                    .any(|bad| said.contains(bad)),
                "{said}"
            );
        }
        Ok(())
    })
}

/// What a kernel says without the warning that Linux 6.1 has for its second CPU's timer when it is restored: it has stopped that before
/// (kernel/time/clockevents.c).
pub(super) fn without_clock_warning(said: &str) -> String {
    const BEGIN: &str = "[ cut here ]";
    const END: &str = "[ end trace";
    let mut parts = said.split(BEGIN);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(END) {
            Some((warning, after)) if warning.contains("clockevents_switch_state") => {
                rest.push_str(after);
            }
            _ => rest.extend([BEGIN, part]),
        }
    }
    rest
}

/// Works on memory all the time, says what the kernel says, and counts.
const LOAD: &str = "
head -c 8000000 /dev/urandom > /tmp/data
md5sum /tmp/data > /tmp/sum
(while :; do md5sum -c -s /tmp/sum || echo data-\"lost\"; done) &
(while :; do cp /tmp/data /tmp/copy && cmp /tmp/data /tmp/copy || echo data-\"lost\"; done) &
n=0
while :; do
    dmesg -c
    n=$((n + 1))
    echo counted-\"to\" $n.
    sleep 1
done
";

/// Under load in Linux, which goes on where it was, and has no complaint. It boots from a disk: libxl cannot restore a guest whose
/// kernel it was given.
pub fn kept_under_load_in_linux(version: Version) -> Result<()> {
    beside_stock(version, "kept_under_load_in_linux", |bed, loader| {
        let disk = linux_disk(bed, LOAD)?;
        let guest = Guest::new("busy", loader)
            .disk(disk)
            .set("vcpus", 2)
            .pv_console();
        let guest = with_fast_disk(guest, loader);
        let before = bed.boot(&guest, "counted-to 5.", DEBIAN)?;
        let (_, before) = before.split_once(REPORT_END).context("no report")?;
        is_content(before)?;
        let turns: [(Turn, u32); 2] = [(save_and_restore, 20), (migrate, 40)];
        for (turn, counted) in turns {
            turn(bed, &guest)?;
            let said = bed.wait_for(&guest, &format!("counted-to {counted}."), DEBIAN)?;
            ensure!(
                !said.contains("counted-to 1.") && !said.contains("data-lost"),
                "it did not go on where it was:\n{said}"
            );
            is_content(&without_clock_warning(&said))?;
        }
        Ok(())
    })
}

/// Paused and let go on in the middle of transfers, by the paravirtual disk, by the emulated one, and by the stock loader's BIOS.
pub fn paused_in_mid_transfer(version: Version) -> Result<()> {
    beside_stock(version, "paused_in_mid_transfer", |bed, loader| {
        for settings in ["", "$at/pv-disk no"] {
            let transfers = transfers(bed)?;
            let guest = with_fast_disk(Guest::new("paused", loader).disk(&transfers.disk), loader);
            transfers.start(bed, &guest, settings, 1)?;
            // Each time at another moment of a round.
            bed.check(
                "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; xl pause paused; sleep 0.$i; xl unpause paused || exit 1; done",
            )?;
            let rounds = transfers.rounds(bed, &guest);
            transfers.wait(bed, &guest, rounds + 2)?;
            bed.destroy_all()?;
            // The stock loader does not know the setting.
            if *loader == Loader::Stock {
                break;
            }
        }
        Ok(())
    })
}
