//! One reader alone, which the first byte chooses: a damaged superblock then does not lead to another reader.
#![no_main]

#[expect(dead_code, reason = "each target takes a part of what they share")]
#[path = "../../crates/disk/tests/disks/exercise.rs"]
mod exercise;

use firstlight_disk::{Budget, Source, volume};
use std::rc::Rc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&choice, pages)) = data.split_first() else {
        return;
    };
    let readers = &volume::READERS;
    let reader = readers[usize::from(choice) % readers.len()];
    let source = Source::new(
        Rc::new(exercise::Sparse::new(pages)),
        Budget::new(exercise::LIMITS),
    );
    if let Ok(fs) = reader(source) {
        exercise::file_system(fs.as_ref());
    }
});
