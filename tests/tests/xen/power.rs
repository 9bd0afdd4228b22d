//! Restarting, sleeping and growing, asked for by a Linux in the guest.

use super::DEBIAN;
use anyhow::{Context, Result, ensure};
use firstlight_tests::linux::{is_content, sleeping_job, slept_well};
use firstlight_tests::xen::{Bed, Guest, Version, bed, firstlight};
use xtask::linux::{Linux, REPORT_END};

/// How long dom0 may take to notice what a guest did.
const NOTICE: u32 = 120;

/// Starts the small Linux as a guest called `name`, to do the shell script `job` after its report.
fn start(
    bed: &mut Bed,
    name: &str,
    settings: impl FnOnce(Guest) -> Guest,
    job: &str,
) -> Result<Guest> {
    let linux = Linux::get()?;
    let files = tempfile::tempdir()?;
    let initrd = files.path().join("initrd");
    linux.initrd_with(job, &initrd)?;
    let guest = settings(
        linux
            .xen_guest(name, &firstlight(), &initrd)
            .set("memory", 512),
    );
    bed.create(&guest)?;
    Ok(guest)
}

/// Runs `condition`, a shell command, in dom0 every second until it succeeds.
fn until(bed: &mut Bed, condition: &str) -> Result<()> {
    bed.check(&format!(
        "for i in $(seq {NOTICE}); do {condition} && exit 0; sleep 1; done; exit 1"
    ))
    .map(drop)
}

/// The last line of what a job says.
const JOB_END: &str = "job-end";

/// What the job of `guest` has to say, all of it.
fn job(bed: &mut Bed, guest: &Guest) -> Result<String> {
    let console = bed.wait_for(guest, JOB_END, DEBIAN)?;
    let (_, job) = console.split_once(REPORT_END).context("no report")?;
    Ok(job.replace('\r', ""))
}

/// Linux restarts its machine: the toolstack makes a new domain, which comes up as well.
pub fn linux_restarts_from_inside(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let restarting = |guest: Guest| guest.string("on_reboot", "restart");
    // Only when it is told to: the second start is the last one.
    let job = "read -r line && reboot -f";
    let guest = start(&mut bed, "restarts", restarting, job)?;
    let first = bed.check("xl domid restarts")?;
    bed.wait_for(&guest, REPORT_END, DEBIAN)?;
    bed.check("echo >$(xenstore-read /local/domain/$(xl domid restarts)/console/tty)")?;
    // The new domain has the name, and another number.
    until(
        &mut bed,
        &format!(
            "now=$(xl domid restarts 2>/dev/null) && [ $now != {} ]",
            first.trim()
        ),
    )?;
    bed.follow_console(&guest)?;
    bed.wait_for(&guest, REPORT_END, DEBIAN)?;
    bed.destroy_all()
}

/// Linux goes to sleep (S3) twice, and the toolstack wakes it up.
pub fn linux_sleeps_and_is_woken_up(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let settings = |guest: Guest| guest.set("vcpus", 2);
    let sleep = format!("{}echo job-\"end\"\n", sleeping_job(30_000_000));
    let guest = start(&mut bed, "sleeps", settings, &sleep)?;
    for turn in 1..=2 {
        bed.wait_for(&guest, &format!("to-sleep {turn}"), DEBIAN)?;
        let suspended = "xl qemu-monitor-command sleeps 'info status' | grep -q suspended";
        until(&mut bed, suspended)?;
        bed.check("xl trigger sleeps s3resume")?;
        bed.wait_for(&guest, &format!("awake-again {turn}"), DEBIAN)?;
    }
    let said = job(&mut bed, &guest)?;
    slept_well(&said)?;
    bed.destroy_all()
}

/// Waits for a CPU to be plugged in, and uses it.
const PLUGGED: &str = "
dmesg -c > /dev/null
echo ready-\"to plug\"
for i in $(seq 300); do [ -e /sys/devices/system/cpu/cpu1/online ] && break; sleep 0.2; done
echo 1 > /sys/devices/system/cpu/cpu1/online
echo cpus-\"online\" $(cat /sys/devices/system/cpu/online)
dmesg
echo job-\"end\"
";

/// The toolstack plugs in a CPU, of which ACPI tells Linux.
pub fn linux_gets_another_cpu(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let settings = |guest: Guest| guest.set("vcpus", 1).set("maxvcpus", 2);
    let guest = start(&mut bed, "grows", settings, PLUGGED)?;
    bed.wait_for(&guest, "ready-to plug", DEBIAN)?;
    bed.check("xl vcpu-set grows 2")?;
    let said = job(&mut bed, &guest)?;
    ensure!(said.contains("cpus-online 0-1"), "{said}");
    is_content(&said)?;
    bed.destroy_all()
}
