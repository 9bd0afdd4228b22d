//! The hypervisor alone: Debian's, for tests that start it as a Multiboot kernel, and one compiled from Debian's source package,
//! for a test bed whose own has no shadow paging.

use super::dom0::Version;
use crate::bed::image::mmdebstrap;
use crate::progress::Progress;
use crate::setup::{self, Need};
use crate::{cache, command};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the package is called, as a regular expression.
const PACKAGE: &str = "^xen-hypervisor-[0-9.]+-amd64$";

/// What the compiled hypervisor is configured with, beyond the defaults: Debian's choice, and shadow paging.
const CONFIG: &str = "CONFIG_DEBUG=n\nCONFIG_SHADOW_PAGING=y\n";
/// Lets mmdebstrap read the list of source packages in place of the one of binary packages.
const SOURCES: &str = "--setup-hook=sed -i 's/^deb /deb-src /' \"$1/etc/apt/sources.list\"";
/// Lets mmdebstrap download Xen's source as its developers released it. Apt checks it as it checks packages.
const DOWNLOAD: &str = "--customize-hook=mkdir \"$1/source\" && cd \"$1/source\" && \
                        APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get source --download-only --tar-only xen";

/// Returns Xen as an ELF file, from the cache or from the newest package that apt knows.
///
/// # Errors
/// There is no such package, it cannot be downloaded, or there is no Xen in it.
pub fn file() -> Result<PathBuf> {
    cache::made("xen-hypervisor.elf", &[PACKAGE], make)
}

fn make(work: &Path, product: &Path) -> Result<()> {
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", PACKAGE])
        .output()
        .context("cannot start apt-cache")?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = names
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max()
        .context("apt knows no package of Xen's hypervisor")?;
    command::run_quietly(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(work),
    )?;
    let package = only(work, |name| name.ends_with(".deb"))?;
    let tree = work.join("tree");
    command::run_quietly(Command::new("dpkg-deb").arg("-x").args([&package, &tree]))?;
    let xen = only(&tree.join("boot"), |name| {
        name.starts_with("xen-") && name.ends_with(".gz")
    })?;
    let status = Command::new("gzip")
        .arg("-dc")
        .stdin(File::open(&xen)?)
        .stdout(Stdio::from(File::create(product)?))
        .status()
        .context("cannot start gzip")?;
    ensure!(status.success(), "{} cannot be unpacked", xen.display());
    Ok(())
}

/// Returns the hypervisor of `version` with shadow paging, as an ELF file that QEMU's `-kernel` takes. It is compiled now, in two
/// minutes, if it is not in the cache: the source that Debian's package is made of, with Debian's configuration but for this.
///
/// # Errors
/// The source cannot be downloaded or compiled: the tail of the failing program's output is part of the error.
pub fn with_shadow_paging(version: Version) -> Result<PathBuf> {
    let name = format!("xen-{}-shadow.elf", version.number());
    let recipe = [version.suite(), CONFIG, SOURCES, DOWNLOAD];
    cache::made(&name, &recipe, |work, product| {
        compile(version, work, product)
    })
}

fn compile(version: Version, work: &Path, product: &Path) -> Result<()> {
    setup::ensure(&[Need::Hypervisor], setup::Consent::Ask)?;
    let title = format!("Compiling Xen {} with shadow paging", version.number());
    let mut progress = Progress::new(&title, 2);
    progress.step(&format!("Debian {} source package", version.suite()));
    let download = work.join("download.tar");
    let options = ["--variant=custom", SOURCES, DOWNLOAD];
    command::run_quietly(&mut mmdebstrap(version.suite(), &options, &download))?;
    let unpack = |archive: &Path, options: &[&str]| {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(work)
            .args(options)
            .arg("-xf")
            .arg(archive);
        command::run_quietly(&mut tar)
    };
    unpack(&download, &["--wildcards", "./source/*"])?;
    let source = only(&work.join("source"), |name| name.contains(".orig.tar."))?;
    unpack(&source, &["--one-top-level=tree", "--strip-components=1"])?;

    progress.step("hypervisor");
    let tree = work.join("tree/xen");
    fs::write(tree.join(".config"), CONFIG)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    for goals in [&["olddefconfig"][..], &["-j", &jobs.to_string()]] {
        let mut make = Command::new("make");
        make.arg("-C").arg(&tree).args(goals);
        // Xen's build would ask programs for these, and print them at its start.
        make.args([
            "XEN_WHOAMI=firstlight",
            "XEN_DOMAIN=",
            "XEN_HOSTNAME=localhost",
        ]);
        command::run_quietly(&mut make)?;
    }
    fs::rename(tree.join("xen"), product).context("Xen is not where its build should leave it")?;
    progress.done();
    Ok(())
}

/// The one file of a directory whose name fits.
fn only(directory: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    fs::read_dir(directory)?
        .filter_map(Result::ok)
        .find(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .with_context(|| {
            format!(
                "{} does not have what the package should have",
                directory.display()
            )
        })
}
