//! The guests of the Xen tests, and the test bed that all tests of one program share.

pub mod facts;
pub mod libvirt;

use crate::guestdisk::{self, Content, Fs, Layout, Part};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use xtask::linux::{Linux, REPORT_END, Report, XEN_COMMAND_LINE};
pub use xtask::xen::bed::Bed;
use xtask::xen::bed::Config;
pub use xtask::xen::dom0::{Toolstack, Version};
pub use xtask::xen::guest::{Guest, Loader};

/// How long a probe guest may take to say what it was given: two emulations deep, on a machine that does other things too.
pub const PROBE: Duration = Duration::from_secs(120);

/// How long all tests of one version may take.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// Memory of the test bed in MiB: a guest of 5 GiB, dom0, and what Xen needs for both.
const BED_MIB: u32 = 7168;
/// Size of the probe's disk in bytes.
const DISK: u64 = 1 << 20;
/// Where the probe's boot sector has the word that makes it restart.
const RESTART: u64 = 0x1b6;

static PROBE_SECTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/xen.bin"));

/// The block device of dom0 with the demo Debian.
pub const DEBIAN_DISK: &str = "/dev/vdb";
/// Another one with the same content, whose GRUB [`linux_disk`] gives another kernel.
const LINUX_DISK: &str = "/dev/vdc";

/// The running test bed with its two disks, in the one boot that the tests of a program share.
pub fn bed(version: Version) -> Result<MutexGuard<'static, Bed>> {
    bed_with(version, Toolstack::Xl)
}

/// As [`bed`], with a dom0 that has `toolstack`. All tests of a program want the same.
fn bed_with(version: Version, toolstack: Toolstack) -> Result<MutexGuard<'static, Bed>> {
    static BED: OnceLock<Mutex<Bed>> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if BED.get().is_none() {
        let debian = debian()?;
        let bed = Config::new(version)
            .toolstack(toolstack)
            .memory_mib(BED_MIB)
            .disk(&debian)
            .disk(&debian)
            .lifetime(LIFETIME)
            .start()?;
        ensure!(
            BED.set(Mutex::new(bed)).is_ok(),
            "the test bed is started once"
        );
    }
    drop(starting);
    let mut bed = BED
        .get()
        .context("a test bed")?
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    // A test that failed may have left its guest behind, and messages.
    bed.destroy_all()?;
    bed.dmesg()?;
    Ok(bed)
}

/// The demo Debian disk.
///
/// # Errors
/// It cannot be made.
pub fn debian() -> Result<PathBuf> {
    match std::env::var_os("FIRSTLIGHT_DEBIAN") {
        Some(path) => Ok(path.into()),
        None => xtask::image::demo_disk(),
    }
}

/// The loader under test: the file that `FIRSTLIGHT_HVMLOADER` names, or target/firmware/hvmloader of this workspace.
pub fn firstlight() -> Loader {
    Loader::File(std::env::var_os("FIRSTLIGHT_HVMLOADER").map_or_else(
        || crate::guest::workspace().join("target/firmware/hvmloader"),
        PathBuf::from,
    ))
}

/// What a probe does after it has told what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Say "tick" about once a second.
    Tick,
    /// Restart the machine.
    Restart,
}

/// Makes a probe's disk and returns its path in dom0.
///
/// # Errors
/// The file cannot be made.
pub fn probe_disk(bed: &Bed, then: Then) -> Result<String> {
    let name = match then {
        Then::Tick => "tick.img",
        Then::Restart => "restart.img",
    };
    disk(&bed.job(), name, PROBE_SECTOR)?
        .write_all_at(&u16::from(then == Then::Restart).to_le_bytes(), RESTART)?;
    Ok(format!("/job/{name}"))
}

/// How long the small Linux may take to report, two emulations deep.
const LINUX: Duration = Duration::from_secs(900);

/// Starts a guest called `name` with the small Linux as its given kernel, and waits until it has reported and done the shell script `job`, of
/// whose output `end` is the last line. `settings` change the guest. Returns the report, which `directory` has then, and all of the
/// console, which is in a file beside it.
///
/// # Errors
/// A file cannot be made, the guest does not start, or it does not get to the end.
pub fn small_linux(
    bed: &mut Bed,
    name: &str,
    loader: &Loader,
    settings: impl FnOnce(Guest) -> Guest,
    job: &str,
    end: &str,
    directory: &Path,
) -> Result<(Report, String)> {
    let linux = Linux::get()?;
    let files = tempfile::tempdir()?;
    let initrd = files.path().join("initrd");
    linux.initrd_with(job, &initrd)?;
    let guest = settings(linux.xen_guest(name, loader, &initrd).set("memory", 512));
    fs::create_dir_all(directory)?;
    let last = if job.is_empty() { REPORT_END } else { end };
    let console = bed.boot(&guest, last, LINUX)?;
    fs::write(directory.with_extension("console"), &console)?;
    Ok((Report::unpack(&console, directory)?, console))
}

/// Makes a disk from which GRUB starts the small Linux, which does the shell script `job`, and returns the disk's device in dom0.
///
/// # Errors
/// A file cannot be made, or dom0 cannot write to the disk.
pub fn linux_disk(bed: &mut Bed, job: &str) -> Result<&'static str> {
    let linux = Linux::get()?;
    fs::copy(linux.kernel(), bed.job().join("kernel"))?;
    linux.initrd_with(job, &bed.job().join("initrd"))?;
    let configuration =
        format!("linux /boot/kernel {XEN_COMMAND_LINE}\ninitrd /boot/initrd\nboot\n");
    fs::write(bed.job().join("grub.cfg"), configuration)?;
    bed.check(&format!(
        "mkdir -p /tmp/disk && mount -t ext4 {LINUX_DISK}1 /tmp/disk &&\n\
         cp /job/kernel /job/initrd /tmp/disk/boot && cp /job/grub.cfg /tmp/disk/boot/grub && umount /tmp/disk && sync"
    ))?;
    Ok(LINUX_DISK)
}

/// What the small Linux of [`hosted_disk`] says at its end.
pub const HOSTED_END: &str = "hosted-end";

/// Makes the image of a disk in `directory` whose GRUB configuration starts the small Linux, with `on=NAME` on its command line, which
/// it shows.
///
/// # Errors
/// A file cannot be made.
pub fn hosted_disk(directory: &Path, layout: Layout, fs: Fs, name: &str) -> Result<PathBuf> {
    let linux = Linux::get()?;
    let (kernel, initrd) = (linux.kernel(), directory.join("initrd"));
    linux.initrd_with(&format!("cat /proc/cmdline; echo {HOSTED_END}"), &initrd)?;
    let config = format!(
        "set default=second\nset timeout=1\nmenuentry first {{ linux /missing; }}\n\
         menuentry second {{ linux /kernel {XEN_COMMAND_LINE} on={name}; initrd /initrd; }}\n"
    );
    let part = Part {
        fs,
        files: vec![
            ("/boot/grub/grub.cfg", Content::Text(&config)),
            ("/kernel", Content::Copy(&kernel)),
            ("/initrd", Content::Copy(&initrd)),
        ],
    };
    guestdisk::disk(directory, layout, &[part])
}

/// Makes a disk with nothing on it and returns its path in dom0.
///
/// # Errors
/// The file cannot be made.
pub fn empty_disk(bed: &Bed) -> Result<String> {
    disk(&bed.job(), "empty.img", &[])?;
    Ok("/job/empty.img".to_owned())
}

fn disk(directory: &Path, name: &str, contents: &[u8]) -> Result<fs::File> {
    let file = fs::File::create(directory.join(name))?;
    file.write_all_at(contents, 0)?;
    file.set_len(DISK)?;
    Ok(file)
}

/// RAM in bytes below and from 4 GiB, as a probe was told by INT 15h AX=E820h.
///
/// # Errors
/// A line of the report is not understood.
pub fn ram(report: &str) -> Result<(u64, u64)> {
    let mut ram = (0, 0);
    for line in report
        .lines()
        .filter_map(|line| line.trim().strip_prefix("e820 "))
    {
        let fields: Vec<u64> = line
            .split_whitespace()
            .map(|field| u64::from_str_radix(field, 16))
            .collect::<Result<_, _>>()?;
        let [base, length, kind] = fields[..] else {
            anyhow::bail!("the probe said {line:?}")
        };
        if kind == 1 {
            *(if base < 1 << 32 {
                &mut ram.0
            } else {
                &mut ram.1
            }) += length;
        }
    }
    Ok(ram)
}

/// The lines of a guest's own in Xen's console.
pub fn guest_lines(dmesg: &str) -> Vec<&str> {
    dmesg
        .lines()
        .filter(|line| line.starts_with("(d") && !line.starts_with("(d0"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_told_from_what_is_reserved() {
        let report = "probe start\r\ne820 0000000000000000 000000000009fc00 00000001\r\n\
                      e820 00000000000f0000 0000000000010000 00000002\r\ne820 0000000100000000 0000000040000000 00000001\r\n";
        assert_eq!(ram(report).expect("a report"), (0x9fc00, 0x4000_0000));
        assert!(ram("e820 0 1\n").is_err());
    }
}
