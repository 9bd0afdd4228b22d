//! The disks of a guest.

use std::path::{Path, PathBuf};

/// How a disk is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// IDE: the machine's own controller on `pc`, a PIIX3 one in a slot on `q35`.
    Ide,
    /// AHCI: the machine's own controller on `q35`, one in a slot on `pc`.
    Sata,
    /// A SCSI controller of the guest's: see [`crate::Guest::scsi_controllers`].
    Scsi,
    /// A virtio disk, each a PCI function of its own.
    Virtio,
    /// A USB stick or drive: see [`crate::Guest::usb_controllers`].
    Usb,
    /// NVMe, each disk a controller of its own.
    Nvme,
    /// The floppy controller.
    Floppy,
}

/// What is in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A hard disk.
    Disk,
    /// A CD or DVD, or an empty drive for them.
    Cdrom,
    /// A floppy disk, or an empty drive for them.
    Floppy,
}

/// The format of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes.
    #[default]
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl Format {
    /// QEMU's and xl's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    /// The format that the first bytes of an image tell: what is not qcow2 is raw.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn detect(image: &Path) -> std::io::Result<Self> {
        use std::io::Read;
        let mut start = Vec::new();
        std::fs::File::open(image)?
            .take(4)
            .read_to_end(&mut start)?;
        Ok(match &*start {
            b"QFI\xFB" => Self::Qcow2,
            _ => Self::Raw,
        })
    }
}

/// A disk drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The image or block device, or nothing for a drive without a medium.
    pub source: Option<PathBuf>,
    /// The image's format.
    pub format: Format,
    /// What is in the drive.
    pub medium: Medium,
    /// How it is connected.
    pub bus: Bus,
    /// Which SCSI or USB controller it is on.
    pub controller: u32,
    /// Its number on the bus, from 0; the next one where nothing is said.
    pub unit: Option<u32>,
    /// The name that a paravirtual guest knows it by, such as `xvda1`.
    pub name: Option<String>,
    /// Its place in the boot order, from 1.
    pub boot_index: Option<u32>,
    /// The guest may only read it.
    pub read_only: bool,
    /// What the guest writes is thrown away when QEMU ends.
    pub snapshot: bool,
    /// Its serial number.
    pub serial: Option<String>,
    /// More options of QEMU's `-drive`, `name=value`, such as `throttling.iops-total=100`.
    pub drive_options: Vec<String>,
    /// More properties of QEMU's device, `name=value`, such as `logical_block_size=4096`.
    pub device_options: Vec<String>,
}

impl Disk {
    /// A hard disk with a raw image.
    pub fn new(bus: Bus, image: &Path) -> Self {
        Self {
            source: Some(image.to_owned()),
            format: Format::Raw,
            medium: Medium::Disk,
            bus,
            controller: 0,
            unit: None,
            name: None,
            boot_index: None,
            read_only: false,
            snapshot: false,
            serial: None,
            drive_options: Vec::new(),
            device_options: Vec::new(),
        }
    }

    /// A CD drive with a medium, or without.
    pub fn cdrom(bus: Bus, image: Option<&Path>) -> Self {
        Self {
            source: image.map(Path::to_owned),
            medium: Medium::Cdrom,
            read_only: true,
            ..Self::new(bus, Path::new(""))
        }
    }

    /// A floppy drive with a medium, or without.
    pub fn floppy(image: Option<&Path>) -> Self {
        Self {
            source: image.map(Path::to_owned),
            medium: Medium::Floppy,
            ..Self::new(Bus::Floppy, Path::new(""))
        }
    }

    /// The same disk with a format.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The same disk at a place in the boot order, from 1.
    pub fn boot_index(mut self, index: u32) -> Self {
        self.boot_index = Some(index);
        self
    }

    /// The same disk, to which nothing is written for good.
    pub fn snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }

    /// The same disk with another property of QEMU's device, `name=value`.
    pub fn device_option(mut self, option: &str) -> Self {
        self.device_options.push(option.into());
        self
    }

    /// The same disk with another option of QEMU's `-drive`, `name=value`.
    pub fn drive_option(mut self, option: &str) -> Self {
        self.drive_options.push(option.into());
        self
    }
}
