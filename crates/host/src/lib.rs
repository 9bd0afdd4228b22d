//! What the program `firstlight` is made of: a libvirt domain's XML, read whole, and what can be done with it.
//!
//! - [`source`] reads a file that anyone may have written, [`node`] records what was asked of its elements, and [`problem`] says what
//!   is wrong with them and where;
//! - [`domain`] makes one description of a guest of it, with the fate of each element under each toolstack;
//! - [`run`] starts that under QEMU, [`xl`] makes a configuration of Xen of it, [`check`] shows the fates;
//! - [`smbios`] makes and shows SMBIOS structures;
//! - [`doctor`] looks at the machine, and [`divert`] changes which loader Xen takes.

pub mod check;
pub mod cli;
pub mod divert;
pub mod doctor;
pub mod domain;
pub mod firmware;
pub mod node;
pub mod problem;
pub mod run;
pub mod smbios;
pub mod source;
pub mod xl;
