//! The demo guest's disk: a real Debian with GRUB 2 in its master boot record.
//!
//! Root logs in without a password, on the first serial port or on the screen. The disk is made from packages of the machine's own
//! Debian release (bookworm on other distributions) into a file: no loop device, no mount, and no root where user namespaces are
//! allowed.

pub mod boot_sector;

use crate::command::{as_if_root, run_quietly};
use crate::progress::Progress;
use crate::{cache, setup};
use anyhow::{Context, Result};
use boot_sector::{PARTITION_START, SECTOR};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const BEFORE_PACKAGES: &str = include_str!("image/before-packages.sh");
const CUSTOMIZE: &str = include_str!("image/customize.sh");

/// The file system's identity, by which the kernel finds it on whatever disk it is on.
const UUID: &str = "f1257116-0000-4000-8000-000000000001";
/// The disk's signature in the master boot record.
const SIGNATURE: u32 = 0xF125_7116;
/// The disk's size in MiB. The file is sparse.
const SIZE_MIB: u32 = 1024;

const PACKAGES: &str = "linux-image-amd64,initramfs-tools,systemd-sysv,udev,dbus,kmod,login,passwd,iproute2,pciutils,dmidecode";

/// What the guest's packages bring along that it has no use for: documentation, and drivers for hardware that no virtual machine
/// has, which take time to look through at every boot.
const LEFT_OUT: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/hwmon/*",
    "/lib/modules/*/kernel/drivers/iio/*",
    "/lib/modules/*/kernel/drivers/infiniband/*",
    "/lib/modules/*/kernel/drivers/isdn/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/mtd/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/drivers/staging/*",
    "/lib/modules/*/kernel/sound/*",
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
    "/usr/lib/modules/*/kernel/sound/*",
];

/// How mmdebstrap makes the guest. Its last step, which is skipped, would undo the machine id.
const OPTIONS: [&str; 3] = [
    "--variant=minbase",
    "--format=tar",
    "--skip=cleanup/reproducible",
];

/// The modules in GRUB's core image for a BIOS: all that the menu needs, so that none is loaded from the disk.
const GRUB_MODULES: &[&str] = &[
    BIOS_DISK,
    "part_msdos",
    "ext2",
    "normal",
    "linux",
    "serial",
    "terminal",
    "echo",
    "ls",
    "reboot",
    "halt",
];
/// The module that EFI takes no counterpart of.
const BIOS_DISK: &str = "biosdisk";
/// Where GRUB finds its configuration: the first partition of the disk that it was started from.
const GRUB_PREFIX: &str = "(,msdos1)/boot/grub";

/// The file system's features, spelled out since the defaults of newer mkfs versions are not known to every GRUB.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,\
                        dir_nlink,extra_isize";

/// Where the guest's packages come from.
struct Source {
    suite: String,
    /// The mirror's address; without one, mmdebstrap has its own default.
    mirror: Option<String>,
}

/// Returns the demo disk, a raw image: the file that `FIRSTLIGHT_DEBIAN` names, as for the tests that `cargo xtask test` starts, or
/// that of the cache, which is made now if it is not there. Nobody may write to it: start guests with a snapshot.
///
/// # Errors
/// The packages cannot be downloaded or unpacked, or there is no room: the tail of the failing program's output is part of the error.
pub fn demo_disk() -> Result<PathBuf> {
    if let Some(file) = std::env::var_os("FIRSTLIGHT_DEBIAN") {
        return Ok(file.into());
    }
    let source = match setup::debian_archive() {
        Some(archive) => Source {
            suite: archive.codename,
            mirror: Some(archive.uri),
        },
        None => Source {
            suite: "bookworm".to_owned(),
            mirror: None,
        },
    };
    let size = SIZE_MIB.to_string();
    let left_out = LEFT_OUT.join(" ");
    let modules = GRUB_MODULES.join(" ");
    let recipe = [
        BEFORE_PACKAGES,
        CUSTOMIZE,
        UUID,
        &size,
        PACKAGES,
        &left_out,
        &OPTIONS.join(" "),
        &modules,
        GRUB_PREFIX,
        FEATURES,
        &source.suite,
    ];
    cache::made("debian.img", &recipe, |work, disk| {
        make(&source, work, disk)
    })
}

/// Copies the file `path` of the demo disk, or the one that it is a link to, to `to`.
///
/// # Errors
/// debugfs is not installed, or there is no such file.
pub fn copy_out(disk: &Path, path: &str, to: &Path) -> Result<()> {
    let debugfs = |request: String| -> Result<String> {
        let output = Command::new("debugfs")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-R", &request])
            .arg(format!(
                "{}?offset={}",
                disk.display(),
                PARTITION_START as usize * SECTOR
            ))
            .output()
            .context("cannot start debugfs (package e2fsprogs)")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let stat = debugfs(format!("stat {path}"))?;
    let link = stat.split_once("Fast link dest: \"");
    let target = link.and_then(|(_, rest)| rest.split('"').next());
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let file = target.map_or_else(|| path.to_owned(), |target| format!("{directory}/{target}"));
    debugfs(format!("dump {file} {}", to.display()))?;
    let size = fs::metadata(to).map_or(0, |file| file.len());
    anyhow::ensure!(size > 0, "{file} of the demo disk cannot be read");
    Ok(())
}

/// Makes `product` a GRUB for `platform`, in grub-mkimage's words, that finds its configuration on the demo disk.
///
/// # Errors
/// GRUB for that platform is not installed (Debian packages grub-pc-bin, grub-efi-amd64-bin).
pub fn grub(platform: &str, product: &Path) -> Result<()> {
    let bios = platform.ends_with("-pc");
    let modules = GRUB_MODULES
        .iter()
        .filter(|&&name| bios || name != BIOS_DISK);
    let mut command = Command::new("grub-mkimage");
    command.args(["-O", platform, "-p", GRUB_PREFIX, "-o"]);
    run_quietly(command.arg(product).args(modules))
}

fn make(source: &Source, work: &Path, disk: &Path) -> Result<()> {
    let mut progress = Progress::new("Making the demo guest's Debian disk", 3);
    progress.step(&format!(
        "Debian {} from its packages, which takes minutes",
        source.suite
    ));
    let tree = work.join("root.tar");
    bootstrap(source, work, &tree)?;
    progress.step("file system");
    make_file_system(work, &tree, disk)?;
    progress.step("GRUB");
    install_grub(work, disk)?;
    progress.done();
    Ok(())
}

/// Unpacks and configures the guest's packages and packs the result into the archive `tree`.
fn bootstrap(source: &Source, work: &Path, tree: &Path) -> Result<()> {
    let before = script(work, "before-packages.sh", BEFORE_PACKAGES)?;
    let customize = script(work, "customize.sh", CUSTOMIZE)?;
    let mut command = Command::new("mmdebstrap");
    command.args(OPTIONS).arg(format!("--include={PACKAGES}"));
    command.args(
        LEFT_OUT
            .iter()
            .map(|pattern| format!("--dpkgopt=path-exclude={pattern}")),
    );
    // A configuration file that is there before its package is kept, without a question.
    command.arg("--dpkgopt=force-confold");
    command
        .arg(format!("--essential-hook={}", before.display()))
        .arg(format!("--customize-hook={}", customize.display()));
    command.arg(&source.suite).arg(tree).args(&source.mirror);
    run_quietly(&mut command)
}

/// Writes a hook that mmdebstrap can start, as whichever user it does so.
fn script(work: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = work.join(name);
    fs::write(&path, text.replace("@UUID@", UUID))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Makes `disk` with the content of the archive `tree` in its partition.
fn make_file_system(work: &Path, tree: &Path, disk: &Path) -> Result<()> {
    File::create(disk)?.set_len(u64::from(SIZE_MIB) << 20)?;
    let directory = work.join("root");
    fs::create_dir(&directory)?;
    let offset = PARTITION_START as usize * SECTOR;
    let kilobytes = (u64::from(SIZE_MIB) << 10) - offset as u64 / 1024;
    let unpack_and_fill = "set -e; tar -C \"$1\" -xf \"$2\"; mkfs.ext4 -q -F -m 0 -U \"$3\" -O \"$4\" -E \"offset=$5\" -d \"$1\" \"$6\" \"$7k\"";
    // As root, or with a library that makes it seem so: the files have to belong to root on the disk.
    let mut command = as_if_root("sh")?;
    command
        .args(["-c", unpack_and_fill, "sh"])
        .args([&directory, tree])
        .args([UUID, FEATURES, &offset.to_string()]);
    command.arg(disk).arg(kilobytes.to_string());
    // mkfs is outside a user's search path on Debian.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    run_quietly(&mut command)
}

/// Writes GRUB and the partition table in front of the partition.
fn install_grub(work: &Path, disk: &Path) -> Result<()> {
    let core = work.join("core.img");
    grub("i386-pc", &core)?;
    let boot_image =
        fs::read("/usr/lib/grub/i386-pc/boot.img").context("cannot read GRUB's boot.img")?;
    let sectors = SIZE_MIB * 2048 - PARTITION_START;
    let area = boot_sector::boot_area(&boot_image, &fs::read(&core)?, SIGNATURE, sectors)?;
    OpenOptions::new()
        .write(true)
        .open(disk)?
        .write_all(&area)?;
    Ok(())
}
