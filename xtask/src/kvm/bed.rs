//! The test bed at work: one QEMU that runs a Debian with KVM, in which any number of guests is started.
//!
//! QEMU's translator emulates AMD's SVM with nested paging, so that KVM works in it as on a processor of AMD, however slowly.

use crate::bed::image::{Images, Recipe};
use crate::bed::{self, Bed, Setup};
use crate::project;
use anyhow::{Context, Result};
use firstlight_vm::{Kernel, Machine};
use std::path::{Path, PathBuf};
use std::time::Duration;

const INIT: &str = include_str!("init.sh");
/// The Debian release of the bed: the newest stable one, whose C library also runs programs that were compiled here.
const SUITE: &str = "trixie";
const PACKAGES: &str = "linux-image-amd64,qemu-system-x86,seabios,ovmf,ipxe-qemu,\
                        bash,busybox-static,coreutils,e2fsprogs,grep,iproute2,kmod,libc-bin,libgcc-s1";

/// What a test bed is started with.
#[derive(Clone, Debug)]
pub struct Config {
    memory_mib: u32,
    console: bool,
    shares: Vec<PathBuf>,
    lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// A test bed of 3 GiB that ends by itself after half an hour. It has this workspace where it is here.
    pub fn new() -> Self {
        Self {
            memory_mib: 3072,
            console: false,
            shares: vec![project::root().to_owned()],
            lifetime: Duration::from_secs(1800),
        }
    }

    /// Connects this process's standard input and output to the guest that [`attach`] starts.
    pub fn console(mut self) -> Self {
        self.console = true;
        self
    }

    /// Shows a directory of the host at the same place in the bed.
    pub fn share(mut self, directory: &Path) -> Self {
        if !self
            .shares
            .iter()
            .any(|shared| directory.starts_with(shared))
        {
            self.shares.push(directory.to_owned());
        }
        self
    }

    /// When the test bed ends by itself, whatever it does.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Starts the test bed and waits until it is up.
    ///
    /// # Errors
    /// The image cannot be made, QEMU is not installed, or the bed does not come up: the end of its log is in the error.
    pub fn start(&self) -> Result<Bed> {
        let images = images()?;
        let tag = |index: usize| format!("share{index}");
        let setup = Setup {
            disks: vec![images.root.clone()],
            shares: self
                .shares
                .iter()
                .enumerate()
                .map(|(index, directory)| (tag(index), directory.clone()))
                .collect(),
            console: self.console,
            lifetime: self.lifetime,
        };
        let mut bed = Bed::start(&setup, |_| Ok(self.machine(&images)))?;
        for (index, directory) in self.shares.iter().enumerate() {
            bed.check(&format!(
                "mkdir -p {0} && mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=none {1} {0}",
                quoted(&directory.display().to_string()),
                tag(index)
            ))?;
        }
        bed.check("[ -c /dev/kvm ]")
            .context("KVM does not work in the test bed")?;
        Ok(bed)
    }

    fn machine(&self, images: &Images) -> firstlight_vm::Guest {
        let mut machine = firstlight_vm::Guest::new(Machine::Q35);
        machine.memory_mib = self.memory_mib.into();
        machine.cpus.count = 1;
        machine.cpus.model = Some("max".into());
        machine.kernel = Some(Kernel {
            file: images.kernel.clone(),
            initrd: Some(images.initrd.clone()),
            // On a busy host the kernel would find that its timer does not work.
            command_line: Some(
                "console=ttyS0 loglevel=4 panic=-1 mitigations=off audit=0 no_timer_check".into(),
            ),
        });
        machine
    }
}

/// Returns the files of the test bed. They are made now if they are not in the cache.
///
/// # Errors
/// As [`Recipe::images`].
pub fn images() -> Result<Images> {
    Recipe {
        name: "kvm.d",
        title: "a Debian with KVM",
        suite: SUITE,
        packages: PACKAGES,
        services: INIT,
    }
    .images()
}

/// Loads KVM anew, without nested paging, as processors of old are.
///
/// The kernel's own search for huge pages, which takes memory from running guests, hung a bed with two processors on QEMU 10 then. With
/// nested paging huge pages are part of what is counted.
///
/// # Errors
/// A guest still runs.
pub fn leave_out_nested_paging(bed: &mut Bed) -> Result<()> {
    bed.check("rmmod kvm_amd && modprobe kvm_amd npt=0 && echo never >/sys/kernel/mm/transparent_hugepage/enabled")
        .map(drop)
}

/// Runs a guest whose console is the terminal's: see [`Config::console`]. Returns when it ends.
///
/// # Errors
/// The bed ends first.
pub fn attach(bed: &mut Bed, guest: &str) -> Result<()> {
    let script = format!("{}{guest} <&4 >&4 2>&1", bed::OPEN_CONSOLE);
    // A person decides when this ends.
    bed.run_with(&script, Duration::from_secs(1 << 30), |_| ())?;
    Ok(())
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
