//! Restarting, sleeping and growing, asked for by a Linux in the guest.

use super::kept::{save_and_restore, without_clock_warning};
use super::linux::DEBIAN;
use super::{END, beside_stock, with_fast_disk};
use anyhow::{Context, Result, ensure};
use firstlight_tests::linux::{is_content, sleeping_job, slept_well};
use firstlight_tests::xen::{
    Bed, Guest, Loader, Then, Version, bed, firstlight, guest_lines, linux_disk, probe_disk,
};
use firstlight_vm::wait;
use std::time::{Duration, Instant};
use xtask::linux::{Linux, REPORT_END};

/// How long dom0 may take to notice what a guest did.
const NOTICE: u32 = 120;

/// Starts the small Linux as a guest called `name`, to do the shell script `job` after its report.
fn start(
    bed: &mut Bed,
    name: &str,
    loader: &Loader,
    settings: impl FnOnce(Guest) -> Guest,
    job: &str,
) -> Result<Guest> {
    let linux = Linux::get()?;
    let files = tempfile::tempdir()?;
    let initrd = files.path().join("initrd");
    linux.initrd_with(job, &initrd)?;
    let guest = settings(linux.xen_guest(name, loader, &initrd).set("memory", 512));
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

/// How often a guest restarts itself.
const RESTARTS: usize = 100;
/// And how often under the stock loader, which takes its time.
const STOCK_RESTARTS: usize = 5;
/// How long one start after the other may take.
const RESTART: Duration = Duration::from_secs(60);

/// A boot sector restarts its machine, again and again: each time the toolstack makes a new domain, and takes away all of the old one.
pub fn a_hundred_restarts_from_inside(version: Version) -> Result<()> {
    beside_stock(version, "a_hundred_restarts_from_inside", |bed, loader| {
        let restarts = match loader {
            Loader::Stock => STOCK_RESTARTS,
            Loader::File(_) => RESTARTS,
        };
        let disk = probe_disk(bed, Then::Restart)?;
        let guest = Guest::new("restart", loader)
            .disk(&disk)
            .string("on_reboot", "restart");
        bed.create(&guest)?;
        let mut ends = 0;
        let mut last = Instant::now();
        while ends <= restarts {
            let dmesg = bed.dmesg()?;
            let lines = guest_lines(&dmesg);
            let new = lines.iter().filter(|line| line.contains(END)).count();
            if new > 0 {
                last = Instant::now();
            }
            ends += new;
            ensure!(
                last.elapsed() < RESTART * wait::scale(),
                "{ends} starts, then nothing:\n{dmesg}\n{}",
                bed.tails()
            );
            std::thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    })
}

/// Linux restarts its machine: the toolstack makes a new domain, which comes up as well.
pub fn linux_restarts_from_inside(version: Version) -> Result<()> {
    let mut bed = bed(version)?;
    let restarting = |guest: Guest| guest.string("on_reboot", "restart");
    // Only when it is told to: the second start is the last one.
    let job = "read -r line && reboot -f";
    let guest = start(&mut bed, "restarts", &firstlight(), restarting, job)?;
    let first = bed.check("xl domid restarts")?;
    bed.wait_for(&guest, REPORT_END, DEBIAN)?;
    bed.check(&enter("restarts"))?;
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
    let sleep = format!("{}echo job-\"end\"\n", sleeping_job(30_000_000, ":"));
    let guest = start(&mut bed, "sleeps", &firstlight(), settings, &sleep)?;
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

/// Linux goes to sleep (S3) and is woken up, is saved and restored, and sleeps once more. It boots from a disk: libxl cannot restore a
/// guest whose kernel it was given.
pub fn linux_sleeps_is_woken_up_and_kept(version: Version) -> Result<()> {
    let wait = "[ $turn = 2 ] || read -r line";
    let sleep = format!("{}echo job-\"end\"\n", sleeping_job(30_000_000, wait));
    beside_stock(
        version,
        "linux_sleeps_is_woken_up_and_kept",
        |bed, loader| {
            let disk = linux_disk(bed, &sleep)?;
            let guest = Guest::new("sleeps", loader)
                .disk(disk)
                .set("vcpus", 2)
                .pv_console();
            let guest = with_fast_disk(guest, loader);
            bed.create(&guest)?;
            let turn = |bed: &mut Bed, number: u32| {
                bed.wait_for(&guest, &format!("to-sleep {number}"), DEBIAN)?;
                let suspended = "xl qemu-monitor-command sleeps 'info status' | grep -q suspended";
                until(bed, suspended)?;
                bed.check("xl trigger sleeps s3resume")?;
                bed.wait_for(&guest, &format!("awake-again {number}"), DEBIAN)
            };
            turn(bed, 1)?;
            save_and_restore(bed, &guest)?;
            bed.check(&enter("sleeps"))?;
            turn(bed, 2)?;
            let said = bed.wait_for(&guest, JOB_END, DEBIAN)?.replace('\r', "");
            slept_well(&without_clock_warning(&said))
        },
    )
}

/// The shell command that types a line on a guest's paravirtual console.
fn enter(name: &str) -> String {
    format!("echo >$(xenstore-read /local/domain/$(xl domid {name})/console/tty)")
}

/// Most CPUs that a guest is grown to.
const MOST_CPUS: u32 = 32;

/// Waits for one CPU after the other to be plugged in, and uses it.
const PLUGGED: &str = "
dmesg -c > /dev/null
echo ready-\"to plug\"
for cpu in $(seq CPUS); do
    file=/sys/devices/system/cpu/cpu$cpu/online
    for i in $(seq 600); do [ -e $file ] && break; sleep 0.2; done
    [ \"$(cat $file)\" = 1 ] || echo 1 > $file
    echo plugged-\"$cpu\" $(cat /sys/devices/system/cpu/online) .
done
dmesg
echo job-\"end\"
";

/// The toolstack plugs in one CPU after the other, of which ACPI tells Linux.
pub fn linux_gets_cpus_up_to_32(version: Version) -> Result<()> {
    beside_stock(version, "linux_gets_cpus_up_to_32", |bed, loader| {
        let settings = |guest: Guest| guest.set("vcpus", 1).set("maxvcpus", MOST_CPUS);
        let plugged = PLUGGED.replace("CPUS", &(MOST_CPUS - 1).to_string());
        let guest = start(bed, "grows", loader, settings, &plugged)?;
        bed.wait_for(&guest, "ready-to plug", DEBIAN)?;
        for cpu in 1..MOST_CPUS {
            // The host has fewer, of which the toolstack warns.
            bed.check(&format!("xl vcpu-set --ignore-host grows {}", cpu + 1))?;
            bed.wait_for(&guest, &format!("plugged-{cpu} 0-{cpu} ."), DEBIAN)?;
        }
        is_content(&job(bed, &guest)?)
    })
}
