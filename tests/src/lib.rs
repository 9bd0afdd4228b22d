//! What the integration tests share: starting guests with a deadline and reading what they say.
//!
//! - [`guest`] starts one QEMU and waits for what it prints;
//! - [`disk`] makes the disks it boots from, [`grub`] those that start GRUB;
//! - [`libvirt`] starts domains by a libvirt of its own;
//! - [`xen`] starts guests of Xen in a test bed that a program's tests share;
//! - [`linux`] starts a small Linux that reports what it finds;
//! - [`media`] makes disks and CDs that say which one was booted;
//! - [`script`] describes calls of BIOS services, which `guest/executor.s` makes inside the guest;
//! - [`report`] turns the executor's answers into named fields;
//! - [`services`] is the list of all calls the differential probe makes;
//! - [`pci`] judges the addresses PCI functions were given;
//! - [`guestdisk`] makes the disks that the host bootloader reads;
//! - [`differences`] compares two reports under a table of intended differences.

pub mod differences;
pub mod disk;
pub mod grub;
pub mod guest;
pub mod guestdisk;
pub mod libvirt;
pub mod linux;
pub mod media;
pub mod pci;
pub mod report;
pub mod script;
pub mod services;
pub mod xen;
