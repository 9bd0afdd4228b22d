//! Linux in guests of Xen: a whole Debian, and the small Linux of the reports.

use anyhow::{Result, ensure};
use firstlight_tests::differences;
use firstlight_tests::guest::workspace;
use firstlight_tests::linux::is_content;
use firstlight_tests::xen::{
    Bed, DEBIAN_DISK, Guest, Loader, Version, bed, facts, firstlight, small_linux,
};
use std::time::Duration;
use xtask::linux::{Linux, Report};

/// How long a whole Debian may take, two emulations deep.
pub(super) const DEBIAN: Duration = Duration::from_secs(900);
/// What a running small Linux says again and again.
const ALIVE: &str = "still alive";

/// Linux finds the same machine under the stock loader and under ours, but for what the table explains.
pub fn linux_finds_the_stock_loaders_machine(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let directory = workspace()
        .join("target/xen-differential")
        .join(version.number());
    let mut found = Vec::new();
    for (name, loader) in [("stock", Loader::Stock), ("ours", firstlight())] {
        let settings = |guest: Guest| {
            guest
                .set("vcpus", 2)
                .string("uuid", "3cd90213-12e3-4f46-a14e-390253fd9535")
        };
        let directory = directory.join(name);
        let (report, console) = small_linux(
            &mut bed,
            name,
            &loader,
            settings,
            facts::JOB,
            facts::JOB_END,
            &directory,
        )?;
        let facts = facts::of(&report, &console)?;
        let text: String = facts
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        std::fs::write(directory.join(format!("{name}.txt")), text)?;
        bed.destroy_all()?;
        found.push(facts);
    }
    let table = differences::parse(include_str!("../../xen-differences.toml"))?;
    let problems = differences::compare(
        version.number(),
        "the stock loader",
        &found[0],
        &found[1],
        &table,
    );
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

pub fn debian_to_login(version: Version) -> Result<()> {
    let (serial, dmesg) = debian_by(version, "builtin", |guest| guest)?;
    // The boot loader read by way of the back end, which the firmware then left as it was.
    let last =
        ["connected to its back end", "left to the guest's driver"].map(|said| dmesg.rfind(said));
    ensure!(last[0].is_some() && last[1] > last[0], "{dmesg}");
    ensure!(!dmesg.contains("only emulated"), "{dmesg}");
    // The kernel's own client takes over what the firmware's has used: the emulated disk is gone, and Xen's is there.
    for said in [
        "Hypervisor detected: Xen HVM",
        "blkfront: xvda: ",
        " login: ",
    ] {
        ensure!(serial.contains(said), "no {said:?}:\n{serial}");
    }
    Ok(())
}

pub fn debian_to_login_by_seabios(version: Version) -> Result<()> {
    // SeaBIOS reads an IDE disk word by word, which takes an hour here; an AHCI disk it reads by DMA.
    let (_, dmesg) = debian_by(version, "module", |guest| guest.string("hdtype", "ahci"))?;
    ensure!(
        dmesg.contains("SeaBIOS (version"),
        "SeaBIOS did not start:\n{dmesg}"
    );
    Ok(())
}

/// Starts the demo Debian with a setting `payload` in a guest that `settings` change, and returns what it and Xen said.
fn debian_by(
    version: Version,
    payload: &str,
    settings: impl FnOnce(Guest) -> Guest,
) -> Result<(String, String)> {
    let mut bed = bed(version)?;
    bed.give_debian_time(DEBIAN_DISK)?;
    let guest = Guest::new("debian", &firstlight())
        .set("memory", 512)
        .disk(DEBIAN_DISK);
    let guest = settings(guest);
    bed.create_paused(&guest)?;
    bed.check(&format!(
        "at=/local/domain/$(xl domid debian)/platform/firstlight\n\
         xenstore-write $at/payload {payload} $at/log debug && xl unpause debian"
    ))?;
    let serial = bed.wait_for(&guest, " login: ", DEBIAN)?;
    is_content(&serial)?;
    Ok((serial, bed.dmesg()?))
}

/// Starts a guest with the small Linux, which reports and then lives until it is destroyed. Returns its report.
fn living(bed: &mut Bed, settings: impl FnOnce(Guest) -> Guest) -> Result<String> {
    let linux = Linux::get()?;
    let files = tempfile::tempdir()?;
    let initrd = files.path().join("initrd");
    let job = format!("while :; do echo {ALIVE}; sleep 1; done\n");
    linux.initrd_with(&job, &initrd)?;
    let guest = settings(linux.xen_guest("living", &firstlight(), &initrd));
    bed.boot(&guest, ALIVE, DEBIAN)
}

/// CPUs and interrupts come from the MP table.
pub fn linux_without_acpi(version: Version) -> Result<()> {
    let messages = messages(version, |guest| guest.set("acpi", 0).set("vcpus", 2))?;
    for said in [
        "Intel MultiProcessor Specification v1.4",
        "smp: Brought up 1 node, 2 CPUs",
    ] {
        ensure!(messages.contains(said), "no {said:?}:\n{messages}");
    }
    Ok(())
}

/// Interrupts come by the PICs.
pub fn linux_without_apic(version: Version) -> Result<()> {
    let messages = messages(version, |guest| guest.set("apic", 0))?;
    ensure!(!messages.contains("IOAPIC[0]"), "{messages}");
    Ok(())
}

/// What the small Linux's kernel says.
fn messages(version: Version, settings: impl FnOnce(Guest) -> Guest) -> Result<String> {
    let mut bed = bed(version)?;
    let console = living(&mut bed, settings)?;
    let files = tempfile::tempdir()?;
    let report = Report::unpack(&console, &files.path().join("report"))?;
    Ok(report.text("dmesg.txt"))
}
