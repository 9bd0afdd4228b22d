//! A small Linux in a guest of QEMU, which reports what the firmware told it and then does a job.

use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use firstlight_tables::smbios::{END_OF_TABLE, Structure};
use tempfile::TempDir;
use xtask::linux::{COMMAND_LINE, Linux, Report};

use crate::guest::{Accelerator, Config, Guest, Log, accelerator};

/// What the kernel says of firmware that it does not like, and at its own end.
const COMPLAINTS: [&str; 10] = [
    "Kernel panic",
    "Oops",
    "ACPI Error",
    "ACPI BIOS Error",
    "ACPI Exception",
    "Firmware Bug",
    "Firmware Warn",
    "BIOS bug",
    "WARNING: CPU",
    "Call Trace",
];

/// A guest in which the small Linux runs.
pub struct Running {
    /// The guest.
    pub guest: Guest,
    _files: TempDir,
}

/// What a small Linux left that turned its machine off.
pub struct Ended {
    /// What it found.
    pub report: Report,
    /// What its job wrote to the console.
    pub job: String,
    /// What the firmware had to say.
    pub firmware: String,
    _files: TempDir,
}

/// Starts a guest with the small Linux, whose kernel also gets `command_line`. After its report it runs the shell script `job`.
///
/// # Errors
/// A file cannot be made, or QEMU does not start.
pub fn start(config: Config, command_line: &str, job: &str) -> Result<Running> {
    let linux = Linux::get()?;
    let files = tempfile::tempdir()?;
    let initrd = files.path().join("initrd");
    linux.initrd_with(job, &initrd)?;
    let guest = config
        .args(["-kernel".as_ref(), linux.kernel().as_os_str()])
        .args(["-initrd".as_ref(), initrd.as_os_str()])
        .arg("-append")
        .arg(format!("{COMMAND_LINE} {command_line}"))
        .start()?;
    Ok(Running {
        guest,
        _files: files,
    })
}

/// Starts a guest with the small Linux, and waits until it has reported and turned the machine off.
///
/// Without KVM the guest's time is counted in instructions: however busy the host is, the kernel sees its timers tick in time, and has no
/// cause to complain of their wiring.
///
/// # Errors
/// It does not, or it starts a second time.
pub fn report(config: Config) -> Result<Ended> {
    let config = match accelerator() {
        Accelerator::Tcg => config.args(["-icount", "shift=1,sleep=off"]),
        Accelerator::Kvm => config,
    };
    start(config, "", "")?.end()
}

impl Running {
    /// Waits until the guest has turned its machine off, which by then has started once.
    ///
    /// # Errors
    /// It does not, in time.
    pub fn end(mut self) -> Result<Ended> {
        self.guest.wait_for_end()?;
        let console = self.guest.log(Log::Serial);
        let reports = console.matches("report-begin").count();
        ensure!(reports == 1, "{reports} starts:\n{}", self.guest.tails());
        let files = tempfile::tempdir()?;
        let report = Report::unpack(&console, &files.path().join("report"))
            .with_context(|| self.guest.tails())?;
        let (_, job) = console.split_once("report-end").context("no end")?;
        Ok(Ended {
            report,
            job: job.replace('\r', ""),
            firmware: self.guest.log(Log::Debug),
            _files: files,
        })
    }
}

/// The lines of kernel messages that complain of the firmware, or tell of a kernel that failed.
pub fn complaints(messages: &str) -> Vec<&str> {
    let complains = |line: &&str| COMPLAINTS.iter().any(|complaint| line.contains(complaint));
    messages.lines().filter(complains).collect()
}

/// The kernel complains of nothing.
///
/// # Errors
/// It does: the lines are in the error, and then all messages.
pub fn is_content(messages: &str) -> Result<()> {
    let complaints = complaints(messages);
    ensure!(
        complaints.is_empty(),
        "the kernel reported: {}\n{messages}",
        complaints.join("\n")
    );
    Ok(())
}

/// A job that sleeps twice, does the shell command `then` after each time, whose number is in `$turn`, and tells whether anything is
/// different after that. `bytes` of memory have a pattern meanwhile.
pub fn sleeping_job(bytes: u32, then: &str) -> String {
    format!(
        "
dmesg -c > /dev/null
head -c {bytes} /dev/zero | tr '\\0' 'x' > /tmp/memory
look() {{ cat /proc/mtrr /tmp/memory | md5sum; grep -c ^processor /proc/cpuinfo; cat /sys/bus/pci/devices/*/resource; }}
look > /tmp/before
for turn in 1 2; do
    echo to-\"sleep $turn\"
    echo mem > /sys/power/state || echo not-\"asleep\"
    echo awake-\"again $turn\"
    {then}
done
look > /tmp/after
cmp /tmp/before /tmp/after && echo all-\"as before\"
dmesg
"
    )
}

/// What [`sleeping_job`] told is that nothing is different, and the kernel complains of nothing.
///
/// # Errors
/// Something is, or the kernel did not sleep, or it complains.
pub fn slept_well(told: &str) -> Result<()> {
    ensure!(
        told.contains("all-as before") && !told.contains("not-asleep"),
        "{told}"
    );
    is_content(told)
}

/// The strings of all structures of type `kind`, in order.
///
/// # Errors
/// There is no whole table.
pub fn strings(report: &Report, kind: u8) -> Result<Vec<Vec<u8>>> {
    let table = fs::read(report.directory().join("dmi/DMI")).context("no SMBIOS table")?;
    let all = structures(&table)?;
    let wanted = all.iter().filter(|structure| structure.kind() == kind);
    let strings = wanted.flat_map(Structure::strings);
    Ok(strings.map(<[u8]>::to_vec).collect())
}

/// dmidecode has nothing to complain of, and says each of `lines`. It is given as `section: line`.
///
/// # Errors
/// It has, or it does not.
pub fn dmidecode_says(report: &Report, lines: &[&str]) -> Result<()> {
    let text = report.text("dmidecode.txt");
    for trouble in [
        "Invalid",
        "invalid",
        "broken",
        "Wrong",
        "BAD INDEX",
        "OUT OF SPEC",
        "truncated",
        "overflow",
    ] {
        ensure!(!text.contains(trouble), "dmidecode: {trouble}\n{text}");
    }
    for line in lines {
        let (section, line) = line.split_once(": ").context("a section")?;
        let found = text
            .split("\n\n")
            .filter(|part| part.lines().nth(1) == Some(section))
            .any(|part| part.lines().any(|own| own.trim() == line));
        ensure!(found, "dmidecode does not say {section}: {line}\n{text}");
    }
    Ok(())
}

/// The structures of an SMBIOS table, the one that ends it included.
///
/// # Errors
/// Something in it is no structure, or it does not end with an end-of-table structure.
fn structures(mut table: &[u8]) -> Result<Vec<Structure<'_>>> {
    let mut all = Vec::new();
    loop {
        let structure = Structure::parse(table);
        let (structure, rest) = structure.map_err(|error| anyhow!("SMBIOS: {error:?}"))?;
        all.push(structure);
        if structure.kind() == END_OF_TABLE {
            return Ok(all);
        }
        table = rest;
    }
}
