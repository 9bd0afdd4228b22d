//! The hypervisor alone: Debian's, for tests that start it as a Multiboot kernel, and as the test bed needs it.

use crate::{cache, command};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the package is called, as a regular expression.
const PACKAGE: &str = "^xen-hypervisor-[0-9.]+-amd64$";

/// The control registers of a guest with nested paging whose reads (bits 0 to 15) and writes (bits 16 to 31) Xen wants to be told of:
/// all but CR2 and CR8 (APM volume 2, appendix B, VMCB offset 0).
const CR_INTERCEPTS: u32 = !(1 << 2 | 1 << 8 | 1 << 18 | 1 << 24);
const CR0_READ: u32 = 1;

/// The bits of a page-directory-pointer entry that are reserved in 32-bit PAE paging (APM volume 2, section 5.2.3), and bit 5 among
/// them, which other entries have as accessed.
const PDPTE_RESERVED: u64 = 0xfff0_0000_0000_01e6;
const ACCESSED: u64 = 1 << 5;

/// A constant in Xen's code that is another one in the test bed.
struct Change {
    what: &'static str,
    from: &'static [u8],
    to: &'static [u8],
}

/// What QEMU's emulation of SVM does otherwise than processors do, and Xen lets pass when it is changed so.
const CHANGES: [Change; 2] = [
    // QEMU reports each read of a control register as one of CR0, and Xen answers a read of CR2 with a value that it has not kept up to
    // date. A guest that Xen does not ask to be told of such reads has them right.
    Change {
        what: "intercepts",
        from: &CR_INTERCEPTS.to_le_bytes(),
        to: &(CR_INTERCEPTS & !CR0_READ).to_le_bytes(),
    },
    // QEMU sets a bit in these entries of a guest that is reserved there. Where Xen then reads an instruction of the guest's, it finds its
    // page tables broken, and tries again for ever: OVMF for 32 bits gets no further than its first CPUID.
    Change {
        what: "reserved bits of page tables",
        from: &PDPTE_RESERVED.to_le_bytes(),
        to: &(PDPTE_RESERVED & !ACCESSED).to_le_bytes(),
    },
];

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

/// Writes Debian's hypervisor `xen` to `product`, changed in two bits so that it runs all guests under QEMU.
///
/// # Errors
/// A file cannot be read or written, or the hypervisor does not have what is to be changed where it is expected, once.
pub fn for_qemu(xen: &Path, product: &Path) -> Result<()> {
    let mut image = fs::read(xen)?;
    for Change { what, from, to } in CHANGES {
        let mut places = (0..image.len()).filter(|at| image[*at..].starts_with(from));
        let (Some(at), None) = (places.next(), places.next()) else {
            bail!(
                "{} has other {what} than this test bed knows how to change",
                xen.display()
            );
        };
        image[at..][..to.len()].copy_from_slice(to);
    }
    fs::write(product, image)?;
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
