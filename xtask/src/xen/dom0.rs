//! What the test bed starts: Xen and a Debian whose only purpose is to be its dom0.

use crate::bed::image::{Images, Recipe};
use anyhow::Result;

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

/// What manages guests in dom0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Toolstack {
    /// Xen's own alone.
    #[default]
    Xl,
    /// libvirt as well, with its Xen driver.
    Libvirt,
}

impl Toolstack {
    /// What the name of its images has.
    fn suffix(self) -> &'static str {
        match self {
            Toolstack::Xl => "",
            Toolstack::Libvirt => "-libvirt",
        }
    }

    /// Its packages, beside those that every dom0 has.
    fn packages(self) -> &'static str {
        match self {
            Toolstack::Xl => "",
            Toolstack::Libvirt => ",libvirt-daemon,libvirt-daemon-driver-xen,libvirt-clients",
        }
    }
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

    fn packages(self) -> String {
        let number = self.number();
        format!(
            "linux-image-amd64,xen-hypervisor-{number}-amd64,xen-utils-{number},xenstore-utils,qemu-system-xen,seabios,ovmf,\
             bash,busybox-static,coreutils,grep,iproute2,kmod,libc-bin"
        )
    }
}

/// Returns the files of a test bed. They are made now if they are not in the cache.
///
/// # Errors
/// As [`Recipe::images`].
pub fn images(version: Version, toolstack: Toolstack) -> Result<Images> {
    let (number, suffix) = (version.number(), toolstack.suffix());
    Recipe {
        name: &format!("xen-{number}{suffix}.d"),
        title: &format!("Xen {number} and its dom0"),
        suite: version.suite(),
        packages: &(version.packages() + toolstack.packages()),
        services: INIT,
    }
    .images()
}
