//! A whole disk: partition tables, LVM, and the file systems in them.
#![no_main]

#[path = "../../crates/disk/tests/disks/exercise.rs"]
mod exercise;

use std::rc::Rc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::disk(Rc::new(exercise::Sparse::new(data))));
