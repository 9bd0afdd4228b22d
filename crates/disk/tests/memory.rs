//! How much memory readers take, counted by the allocator: it does not grow with what a disk claims.

#[path = "disks/damage.rs"]
mod damage;
#[path = "disks/exercise.rs"]
#[allow(dead_code)]
mod exercise;
#[path = "disks/make.rs"]
#[allow(dead_code)]
mod make;
#[path = "disks/tree.rs"]
#[allow(dead_code)]
mod tree;

use damage::{Damaged, damage, places};
use peak_alloc::PeakAlloc;
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that reading a disk may take at once, beside the image in memory. It is below 1 MiB, most of it pages of the disk.
const MOST: usize = 4 << 20;
/// Damaged images of each kind.
const ROUNDS: u64 = 150;

/// An image of each kind that decompresses, maps or lists, made of the directory `$1` in `$2`.
const IMAGES: &[(&str, &str)] = &[
    (
        "ext4",
        "truncate -s 4M $2; mke2fs -q -F -t ext4 -b 1024 -d $1 $2",
    ),
    (
        "fat",
        "truncate -s 34M $2; mkfs.fat -F 32 -s 1 $2; mcopy -s -i $2 $1/boot $1/etc ::",
    ),
    ("iso", "xorriso -as mkisofs -quiet -R -J -o $2 $1"),
    (
        "btrfs",
        "truncate -s 109M $2; mkfs.btrfs -q -m single --rootdir $1 $2",
    ),
    (
        "xz",
        "mksquashfs $1 $2 -quiet -no-progress -all-root -comp xz",
    ),
    (
        "zstd",
        "mksquashfs $1 $2 -quiet -no-progress -all-root -comp zstd",
    ),
];

fn image(script: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    for name in ["boot/grub", "etc"] {
        fs::create_dir_all(files.join(name)).expect("a directory");
    }
    fs::write(
        files.join("boot/grub/grub.cfg"),
        "set default=0\n".repeat(5000),
    )
    .expect("a file");
    for number in 0..200 {
        fs::write(files.join(format!("etc/entry_{number}")), "x").expect("a file");
    }
    let image = directory.path().join("image");
    make::shell(script, &[&files, &image]);
    let mut image = fs::read(image).expect("the image");
    let used = image.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    image.truncate((used + 1).next_multiple_of(4096));
    image
}

/// The only test here: the allocator counts for the whole process.
#[test]
fn memory_does_not_grow_with_what_a_disk_claims() {
    for (name, script) in IMAGES {
        let good = Rc::new(image(script));
        let places = Rc::new(places(&good));
        let mut most = 0;
        for round in 0..=ROUNDS {
            let mut random = tree::Random(round << 32 | 0x517c_c1b7);
            let changes = match round {
                // The first is as it was made.
                0 => Vec::new(),
                _ => damage(&places, &mut random),
            };
            let disk = Rc::new(Damaged {
                good: good.clone(),
                places: places.clone(),
                changes: RefCell::new(changes),
                random: None,
            });
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            exercise::disk(disk);
            most = most.max(MEMORY.peak_usage().saturating_sub(before));
        }
        println!("{name}: {} KiB", most >> 10);
        assert!(most <= MOST, "{name}: {most} bytes");
    }
}
