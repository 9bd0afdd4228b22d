//! Headers of kernel images, and what a boot loader tells a kernel: Linux's boot protocol, PVH and Multiboot.
//!
//! Pure, over slices of bytes: nothing here loads or enters anything.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bzimage;
pub mod elf;
pub mod multiboot;
pub mod pvh;
