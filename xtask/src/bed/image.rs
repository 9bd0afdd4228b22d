//! Makes what a test bed starts: a Debian whose only purpose is to run one script.
//!
//! The packages are unpacked and not configured, so this takes half a minute, and needs no root, loop device or mount.

use crate::progress::Progress;
use crate::setup::{self, KEYRING, Need};
use crate::{cache, command};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNPACK: &str = include_str!("unpack.sh");
const INITRD: &str = include_str!("initrd.sh");
const START: &str = include_str!("start.sh");
const AGENT: &str = include_str!("agent.sh");

/// How a test bed's Debian is made.
#[derive(Clone, Debug)]
pub struct Recipe<'a> {
    /// Its name in the cache.
    pub name: &'a str,
    /// What it is, for the user.
    pub title: &'a str,
    /// The Debian release.
    pub suite: &'a str,
    /// The packages, divided by commas.
    pub packages: &'a str,
    /// A shell script that starts what runs there, before commands are served.
    pub services: &'a str,
}

/// The files that QEMU needs.
#[derive(Clone, Debug)]
pub struct Images {
    /// Debian's hypervisor, as QEMU's `-kernel` takes it, where the packages have it.
    pub xen: PathBuf,
    /// The Linux kernel.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: PathBuf,
    /// The root disk, a raw image. Nobody may write to it.
    pub root: PathBuf,
}

/// Debian's own archive, for a machine that is installed from another distribution's.
const ARCHIVE: &str = "http://deb.debian.org/debian";

/// mmdebstrap for packages of Debian suites, a release first, from the machine's own archive where that is Debian's, with the archive
/// of what `options` name as its product.
pub fn mmdebstrap(suites: &[&str], options: &[&str], product: &Path) -> Command {
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(["--format=tar", "--skip=chroot/mount"]);
    bootstrap.args([
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
    ]);
    bootstrap.args(options).args(suites.first()).arg(product);
    let archive = setup::debian_archive().map_or(ARCHIVE.to_owned(), |archive| archive.uri);
    bootstrap.arg(&archive);
    let source = |suite| format!("deb [signed-by={KEYRING}] {archive} {suite} main");
    bootstrap.args(suites.iter().skip(1).map(source));
    bootstrap
}

impl Recipe<'_> {
    /// Returns the files of the test bed. They are made now if they are not in the cache.
    ///
    /// # Errors
    /// The packages cannot be downloaded or unpacked: the tail of the failing program's output is part of the error.
    pub fn images(&self) -> Result<Images> {
        let recipe = [
            UNPACK,
            INITRD,
            START,
            self.services,
            AGENT,
            self.suite,
            self.packages,
        ];
        let directory = cache::made(self.name, &recipe, |work, product| self.make(work, product))?;
        Ok(Images {
            xen: directory.join("xen"),
            kernel: directory.join("vmlinuz"),
            initrd: directory.join("initrd"),
            root: directory.join("root.img"),
        })
    }

    fn make(&self, work: &Path, product: &Path) -> Result<()> {
        setup::ensure(&[Need::Qemu, Need::Bed], setup::Consent::Ask)?;
        let title = format!("Making the test bed: {}", self.title);
        let mut progress = Progress::new(&title, 2);
        progress.step(&format!("Debian {} packages", self.suite));
        let packages = work.join("packages.tar");
        let include = format!("--include={}", self.packages);
        let options = ["--variant=extract", &include];
        command::run_quietly(&mut mmdebstrap(&[self.suite], &options, &packages))?;

        progress.step("file system");
        fs::create_dir(product)?;
        let init = [START, self.services, AGENT].concat();
        for (name, text) in [
            ("unpack.sh", UNPACK),
            ("initrd.sh", INITRD),
            ("init.sh", &init),
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
}
