//! The devices of a guest that are not disks, and what its firmware is told.

use std::path::PathBuf;

/// Where the text of a port goes to and comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chardev {
    /// QEMU's standard input and output.
    Stdio,
    /// The same, shared with QEMU's monitor: Ctrl-A C switches, Ctrl-A X ends QEMU, Ctrl-C reaches the guest.
    Terminal,
    /// A pseudo-terminal, of which QEMU tells the name.
    Pty,
    /// A file, written only.
    File(PathBuf),
    /// A socket that QEMU listens at, and a file that what comes out is written to as well.
    Socket(PathBuf, PathBuf),
    /// Nowhere.
    Null,
}

/// What a network card is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NicBackend {
    /// QEMU's user network, with more options of `-netdev user`, such as `tftp=DIRECTORY` and `bootfile=NAME`.
    User(Vec<(String, String)>),
    /// Nothing: a cable without a wire.
    None,
}

/// A card's option ROM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rom {
    /// The one that QEMU has for it.
    #[default]
    Default,
    /// None.
    None,
    /// A file.
    File(PathBuf),
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// QEMU's name of the device, such as `e1000` or `virtio-net-pci`.
    pub model: String,
    /// Its address, six hexadecimal numbers divided by colons; QEMU's choice where nothing is said.
    pub mac: Option<String>,
    /// What it is connected to.
    pub backend: NicBackend,
    /// The host's bridge that Xen connects it to; QEMU has no use for it here.
    pub bridge: Option<String>,
    /// Its place in the boot order, from 1.
    pub boot_index: Option<u32>,
    /// Its option ROM.
    pub rom: Rom,
    /// More properties of the device, `name=value`.
    pub options: Vec<String>,
}

impl Nic {
    /// A card on QEMU's user network.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.into(),
            mac: None,
            backend: NicBackend::User(Vec::new()),
            bridge: None,
            boot_index: None,
            rom: Rom::Default,
            options: Vec::new(),
        }
    }
}

/// A trusted platform module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tpm {
    /// QEMU's name of the device: `tpm-tis` or `tpm-crb`.
    pub model: String,
    /// What does its work.
    pub backend: TpmBackend,
}

/// What does a TPM's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmBackend {
    /// The program behind this control socket, such as swtpm.
    Socket(PathBuf),
    /// A device of the host.
    Device(PathBuf),
}

/// The content of a file for the firmware's configuration device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FwCfgValue {
    /// This text, without an end mark.
    Text(String),
    /// A file of the host.
    File(PathBuf),
}

/// A file for the firmware's configuration device, fw_cfg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfg {
    /// The file's name: `opt/` first, as QEMU wants the user's own.
    pub name: String,
    /// Its content.
    pub value: FwCfgValue,
}

impl FwCfg {
    /// A file with a text.
    pub fn text(name: &str, value: &str) -> Self {
        Self {
            name: name.into(),
            value: FwCfgValue::Text(value.into()),
        }
    }
}

/// Values of one SMBIOS structure. libvirt and QEMU have the same names for them.
pub type Values = Vec<(String, String)>;

/// What the user wants the SMBIOS tables to say (DMTF DSP0134). Values that are not named are the firmware's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysinfo {
    /// Type 0: vendor, version, date, release.
    pub bios: Values,
    /// Type 1: manufacturer, product, version, serial, uuid, sku, family.
    pub system: Values,
    /// Type 2, of each board: manufacturer, product, version, serial, asset, location.
    pub base_boards: Vec<Values>,
    /// Type 3: manufacturer, version, serial, asset, sku.
    pub chassis: Values,
    /// Type 11.
    pub oem_strings: Vec<String>,
}

impl Sysinfo {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
