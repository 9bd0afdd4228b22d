//! Firstlight's host bootloader: picks the kernel of a Xen guest from the guest's own disk, as pygrub does, in a sandbox.
//!
//! [`volumes`] is what configurations may ask of a disk. [`grub`], [`bls`], [`uki`], [`syslinux`] and [`legacy`] read configurations, each
//! to a [`menu::Menu`]; [`find`] knows where they are.

#![forbid(unsafe_code)]

pub mod bls;
pub mod copy;
pub mod disk;
pub mod exercise;
pub mod find;
pub mod grub;
pub mod kernel;
pub mod legacy;
pub mod menu;
pub mod newc;
pub mod notes;
pub mod options;
pub mod output;
pub mod sandbox;
pub mod supervisor;
pub mod syslinux;
pub mod terminal;
pub mod tree;
pub mod ui;
pub mod uki;
pub mod volumes;
pub mod worker;
