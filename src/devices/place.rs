//! Where a device is, in the words of QEMU's `bootorder` file: OpenFirmware device paths.
//!
//! Source: QEMU, docs/system/bootindex.rst, and `qdev_get_fw_dev_path`.

use super::pci::PciDevice;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Where a device is, in the terms of QEMU's `bootorder` file: OpenFirmware device paths.
///
/// Example: `/pci@i0cf8/ide@1,1/drive@0/disk@0` is function 1 of PCI device 1, then `drive@0/disk@0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Root bus: 0 for bus 0, then counted in the order of their bus numbers (QEMU's `pxb` devices).
    pub root: u8,
    /// PCI device and function, for each bridge from the root bus on, then for the device itself.
    pub pci: Vec<(u8, u8)>,
    /// The rest of the path. A node may be `*@ADDRESS`, where its name does not matter.
    pub unit: String,
}

impl Place {
    /// The place of a unit of function `index` in the list of all PCI functions.
    pub fn of_pci(devices: &[PciDevice], index: usize, unit: String) -> Self {
        let mut pci: Vec<_> = upwards(devices, index).collect();
        pci.reverse();
        let root = devices.get(index).map_or(0, |device| device.root);
        Self { root, pci, unit }
    }

    /// The place of the option ROM in QEMU's file `genroms/name`.
    pub fn of_rom(name: &str) -> Self {
        Self {
            unit: format!("rom@genroms/{name}"),
            ..Self::default()
        }
    }

    /// Whether `path` names this place or something in it: as in SeaBIOS, the path may go on where this one ends, and what PCI
    /// functions are called in it does not matter.
    pub fn is(&self, path: &Path) -> bool {
        if self.pci.is_empty() {
            return !self.unit.is_empty() && leads_to(&path.text, &self.unit);
        }
        path.root == Some(self.root)
            && path.hops.starts_with(&self.pci)
            && leads_to(path.behind(self.pci.len()), &self.unit)
    }
}

impl fmt::Display for Place {
    /// A path that [`Place::is`] recognises.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pci.is_empty() {
            f.write_str("/pci@i0cf8")?;
            if self.root > 0 {
                write!(f, ",{:x}", self.root)?;
            }
        }
        for (device, function) in &self.pci {
            write!(f, "/*@{device:x}")?;
            if *function > 0 {
                write!(f, ",{function:x}")?;
            }
        }
        if self.unit.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.unit)
    }
}

/// A line of `bootorder`, taken apart once, since it is compared with many places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its nodes, divided by one stroke each.
    text: String,
    /// The root bus that its first node names.
    root: Option<u8>,
    /// What the nodes after it say, as far as they can be PCI addresses.
    hops: Vec<(u8, u8)>,
    /// Where in the text each of these nodes ends.
    ends: Vec<usize>,
}

impl Path {
    /// Takes any text apart.
    pub fn new(text: &str) -> Self {
        let nodes: Vec<&str> = nodes(text).collect();
        let mut path = Self {
            text: nodes.join("/"),
            root: nodes.first().and_then(|node| root_in(node)),
            hops: Vec::new(),
            ends: Vec::new(),
        };
        let mut end = nodes.first().map_or(0, |node| node.len());
        for node in nodes.iter().skip(1) {
            let Some(hop) = pci_address(node) else { break };
            end += 1 + node.len();
            path.hops.push(hop);
            path.ends.push(end);
        }
        path
    }

    /// The nodes behind so many PCI functions, of which there are as many.
    fn behind(&self, functions: usize) -> &str {
        let end = functions
            .checked_sub(1)
            .and_then(|last| self.ends.get(last));
        let rest = end.and_then(|end| self.text.get(*end..)).unwrap_or("");
        rest.strip_prefix('/').unwrap_or(rest)
    }

    /// The nodes behind function `index` in the list of all, where the path leads there.
    pub fn behind_function(&self, devices: &[PciDevice], index: usize) -> Option<&str> {
        let root = devices.get(index)?.root;
        let depth = upwards(devices, index).count();
        let here = self.root == Some(root)
            && self.hops.len() >= depth
            && upwards(devices, index).eq(self.hops[..depth].iter().rev().copied());
        here.then(|| self.behind(depth))
    }
}

/// Device and function of PCI function `index`, then those of the bridges in front of it.
fn upwards(devices: &[PciDevice], index: usize) -> impl Iterator<Item = (u8, u8)> {
    let before = |index: &usize| {
        // A bridge precedes what is behind it, so this ends.
        let parent = devices.get(*index)?.parent;
        parent.filter(|parent| parent < index)
    };
    core::iter::successors(Some(index), before)
        .filter_map(|index| devices.get(index))
        .map(|device| (device.bdf.device(), device.bdf.function()))
}

/// The nodes of a path.
fn nodes(path: &str) -> impl Iterator<Item = &str> {
    path.trim().split('/').filter(|node| !node.is_empty())
}

/// The root bus that a path's first node names: `pci@i0cf8`, or `pci@i0cf8,1` for one beside bus 0.
fn root_in(node: &str) -> Option<u8> {
    let (name, address) = node.split_once('@')?;
    if name != "pci" {
        return None;
    }
    match address.split_once(',') {
        Some((_, number)) => u8::from_str_radix(number, 16).ok(),
        None => Some(0),
    }
}

/// Device and function of a node such as `ide@1,1` or `scsi@4`.
fn pci_address(node: &str) -> Option<(u8, u8)> {
    let (_, address) = node.split_once('@')?;
    let (device, function) = address.split_once(',').unwrap_or((address, "0"));
    let number = |text| u8::from_str_radix(text, 16).ok();
    Some((number(device)?, number(function)?))
}

/// Whether `nodes`, part of a [`Path`], lead to `unit`, as in a [`Place`], or to something in it.
pub fn leads_to(nodes: &str, unit: &str) -> bool {
    if let Some(rest) = nodes.strip_prefix(unit)
        && (rest.is_empty() || rest.starts_with('/') || unit.is_empty())
    {
        return true;
    }
    // It may be the same in other words.
    if !unit.as_bytes().contains(&b'*') {
        return false;
    }
    let mut nodes = self::nodes(nodes);
    self::nodes(unit).all(|ours| nodes.next().is_some_and(|node| same_node(ours, node)))
}

/// Whether `node` is what `ours` says, whose name may be `*`.
fn same_node(ours: &str, node: &str) -> bool {
    match ours.strip_prefix("*@") {
        Some(address) => node.split_once('@').is_some_and(|(_, at)| at == address),
        None => ours == node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: u8, pci: &[(u8, u8)], unit: &str) -> Place {
        Place {
            root,
            pci: pci.into(),
            unit: unit.into(),
        }
    }

    #[test]
    fn paths_as_qemu_writes_them() {
        let ide = place(0, &[(1, 1)], "drive@0/disk@1");
        assert!(ide.is(&Path::new("/pci@i0cf8/ide@1,1/drive@0/disk@1")));
        assert!(ide.is(&Path::new("/pci@i0cf8/ide@1,1/drive@0/disk@1/more@0")));
        assert!(!ide.is(&Path::new("/pci@i0cf8/ide@1,1/drive@0/disk@0")));
        assert!(!ide.is(&Path::new("/pci@i0cf8/ide@1,1/drive@0/disk@11")));
        assert!(!ide.is(&Path::new("/pci@i0cf8/ide@1,1/drive@0")));
        assert!(!ide.is(&Path::new("/pci@i0cf8,1/ide@1,1/drive@0/disk@1")));
        assert!(!ide.is(&Path::new("/pci@i0cf8/ide@1/drive@0/disk@1")));
        assert!(!ide.is(&Path::new("/rom@genroms/linuxboot_dma.bin")));
        assert!(!ide.is(&Path::new("")));
        let behind = place(0, &[(0x1e, 0), (3, 0)], "drive@0/disk@0");
        assert!(behind.is(&Path::new(
            "/pci@i0cf8/pci-bridge@1e/pci8086,2922@3/drive@0/disk@0\n"
        )));
        let card = place(0, &[(3, 0)], "ethernet-phy@0");
        assert!(card.is(&Path::new("/pci@i0cf8/ethernet@3/ethernet-phy@0")));
        let rom = Place::of_rom("a.rom");
        assert!(rom.is(&Path::new("/rom@genroms/a.rom")));
        assert!(!rom.is(&Path::new("/rom@genroms/b.rom")) && !rom.is(&Path::new("")));
        assert!(!Place::default().is(&Path::new("/pci@i0cf8/ide@1,1")));
    }

    /// The paths of QEMU 10 for devices of every bus, from a machine that had them all.
    #[test]
    fn every_bus_has_its_paths() {
        for (place, path) in [
            (
                place(0, &[(4, 0)], "disk@0,0"),
                "/pci@i0cf8/scsi@4/disk@0,0",
            ),
            (
                place(0, &[(5, 0)], "channel@0/disk@3,1"),
                "/pci@i0cf8/scsi@5/channel@0/disk@3,1",
            ),
            (
                place(0, &[(6, 0)], "namespace@1,0"),
                "/pci@i0cf8/pci1b36,0010@6/namespace@1,0",
            ),
            (
                place(0, &[(1, 2)], "hub@1/storage@2/*@0/*@0,0"),
                "/pci@i0cf8/usb@1,2/hub@1/storage@2/channel@0/disk@0,0",
            ),
            (
                place(0, &[(1, 0)], "fdc@03f0/floppy@0"),
                "/pci@i0cf8/isa@1/fdc@03f0/floppy@0",
            ),
            (
                place(0, &[(0x1f, 2)], "drive@2/disk@0"),
                "/pci@i0cf8/pci8086,2922@1f,2/drive@2/disk@0",
            ),
            (
                place(2, &[(0, 0), (3, 0)], "disk@0,0"),
                "/pci@i0cf8,2/pci-bridge@0/scsi@3/disk@0,0",
            ),
        ] {
            assert!(place.is(&Path::new(path)), "{path}");
            assert!(place.is(&Path::new(&place.to_string())), "{place}");
        }
        let controller = place(1, &[(0, 0), (4, 0)], "");
        assert!(controller.is(&Path::new(
            "/pci@i0cf8,1/pci-bridge@0/scsi@4/channel@0/disk@0,0"
        )));
        assert!(!controller.is(&Path::new(
            "/pci@i0cf8,1/pci-bridge@0/scsi@5/channel@0/disk@0,0"
        )));
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_answered(path in ".*") {
            place(0, &[(1, 1)], "drive@0/disk@1").is(&Path::new(&path));
        }

        #[test]
        fn a_place_is_found_by_its_own_path(
            root in 0u8..3,
            hops in proptest::collection::vec((0u8..32, 0u8..8), 1..4),
            unit in "([a-z]{1,4}@[0-9a-f]{1,2}(/[a-z]{1,4}@[0-9]{1,2})?)?",
        ) {
            let this = place(root, &hops, &unit);
            proptest::prop_assert!(this.is(&Path::new(&this.to_string())));
            let longer = format!("{this}/more@0");
            proptest::prop_assert!(this.is(&Path::new(&longer)));
            let other = Place { root: root + 1, ..this.clone() };
            proptest::prop_assert!(!other.is(&Path::new(&this.to_string())));
        }
    }
}
