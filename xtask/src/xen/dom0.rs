//! Makes what the test bed starts: Xen and a Debian whose only purpose is to be its dom0.
//!
//! The packages are unpacked and not configured, so this takes half a minute, and needs no root, loop device or mount.

use crate::progress::Progress;
use crate::setup::{self, Need};
use crate::{cache, command};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNPACK: &str = include_str!("dom0/unpack.sh");
const INITRD: &str = include_str!("dom0/initrd.sh");
const INIT: &str = include_str!("dom0/init.sh");

/// A version of Xen, in the Debian release that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// Of Debian 12, bookworm.
    #[value(name = "4.17")]
    V4_17,
    /// Of Debian 13, trixie.
    #[value(name = "4.20")]
    V4_20,
}

impl Version {
    /// The number as Debian's package names have it.
    pub fn number(self) -> &'static str {
        match self {
            Version::V4_17 => "4.17",
            Version::V4_20 => "4.20",
        }
    }

    /// The Debian release that has it.
    pub(super) fn suite(self) -> &'static str {
        match self {
            Version::V4_17 => "bookworm",
            Version::V4_20 => "trixie",
        }
    }

    /// Whether Debian's hypervisor can do without nested paging. From 4.20 on, shadow paging is off unless it is asked for.
    pub(super) fn has_shadow_paging(self) -> bool {
        match self {
            Version::V4_17 => true,
            Version::V4_20 => false,
        }
    }

    /// mmdebstrap for packages of this Debian release, from the machine's own archive where that is Debian's, with the archive of
    /// what `options` name as its product.
    pub(super) fn mmdebstrap(self, options: &[&str], product: &Path) -> Command {
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--format=tar", "--skip=chroot/mount"]);
        bootstrap.args([
            "--aptopt=APT::Install-Recommends \"false\"",
            "--aptopt=Acquire::Check-Valid-Until \"false\"",
        ]);
        bootstrap.args(options).arg(self.suite()).arg(product);
        if let Some(archive) = setup::debian_archive() {
            bootstrap.arg(archive.uri);
        }
        bootstrap
    }

    fn packages(self) -> String {
        let number = self.number();
        format!(
            "linux-image-amd64,xen-hypervisor-{number}-amd64,xen-utils-{number},xenstore-utils,qemu-system-xen,seabios,ovmf,\
             bash,busybox-static,coreutils,grep,iproute2,kmod,libc-bin"
        )
    }
}

/// The files of a test bed that QEMU needs.
#[derive(Clone, Debug)]
pub struct Images {
    /// Debian's hypervisor, as QEMU's `-kernel` takes it.
    pub xen: PathBuf,
    /// dom0's Linux kernel.
    pub kernel: PathBuf,
    /// dom0's initial RAM disk.
    pub initrd: PathBuf,
    /// dom0's root disk, a raw image. Nobody may write to it.
    pub root: PathBuf,
}

/// Returns the files of a test bed. They are made now if they are not in the cache.
///
/// # Errors
/// The packages cannot be downloaded or unpacked: the tail of the failing program's output is part of the error.
pub fn images(version: Version) -> Result<Images> {
    let packages = version.packages();
    let name = format!("xen-{}.d", version.number());
    let recipe = [UNPACK, INITRD, INIT, version.suite(), &packages];
    let directory = cache::made(&name, &recipe, |work, product| make(version, work, product))?;
    Ok(Images {
        xen: directory.join("xen"),
        kernel: directory.join("vmlinuz"),
        initrd: directory.join("initrd"),
        root: directory.join("root.img"),
    })
}

fn make(version: Version, work: &Path, product: &Path) -> Result<()> {
    setup::ensure(&[Need::Qemu, Need::XenBed], setup::Consent::Ask)?;
    let title = format!("Making the test bed: Xen {} and its dom0", version.number());
    let mut progress = Progress::new(&title, 2);
    progress.step(&format!("Debian {} packages", version.suite()));
    let packages = work.join("packages.tar");
    let include = format!("--include={}", version.packages());
    command::run_quietly(&mut version.mmdebstrap(&["--variant=extract", &include], &packages))?;

    progress.step("file system");
    fs::create_dir(product)?;
    for (name, text) in [
        ("unpack.sh", UNPACK),
        ("initrd.sh", INITRD),
        ("init.sh", INIT),
    ] {
        fs::write(work.join(name), text)?;
    }
    let mut unpack = command::as_if_root("sh")?;
    unpack
        .arg(work.join("unpack.sh"))
        .arg(&packages)
        .arg(product)
        .arg(work);
    command::run_quietly(&mut unpack)?;
    progress.done();
    Ok(())
}
