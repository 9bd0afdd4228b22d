//! Damaged images: nothing panics, hangs or takes memory without bound.

use crate::damage::{Damaged, damage, places};
use crate::{exercise, lvm, make, tree, xfs};
use firstlight_disk::ReadAt;
use proptest::prelude::*;
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Instant;

/// A small image of each kind, made by a script that has a directory of files in `$1` and the image in `$2`.
const IMAGES: &[(&str, &str)] = &[
    (
        "ext2",
        "truncate -s 1M $2; mke2fs -q -F -t ext2 -b 1024 -d $1 $2",
    ),
    (
        "ext4",
        "truncate -s 1M $2; mke2fs -q -F -t ext4 -b 1024 -O inline_data,^has_journal,^metadata_csum,^64bit -I 256 -d $1 $2",
    ),
    (
        "fat12",
        "truncate -s 1M $2; mkfs.fat -F 12 $2; mcopy -s -i $2 $1/boot $1/etc ::",
    ),
    (
        "fat32",
        "truncate -s 34M $2; mkfs.fat -F 32 -s 1 $2; mcopy -s -i $2 $1/boot $1/etc ::",
    ),
    ("rockridge", "xorriso -as mkisofs -quiet -R -o $2 $1"),
    ("joliet", "xorriso -as mkisofs -quiet --norock -J -o $2 $1"),
    ("xfs4", "-m crc=0"),
    ("xfs5", "-m crc=1"),
    ("lvm", ""),
    (
        "btrfs",
        "truncate -s 109M $2; mkfs.btrfs -q -m single --rootdir $1 $2",
    ),
    ("squashfs", "mksquashfs $1 $2 -quiet -no-progress -all-root"),
    (
        "mbr",
        "truncate -s 1M $2; printf 'label: dos\\nstart=16,size=100\\nstart=200,type=5\\nstart=201,size=10\\nstart=220,size=10\\n' | sfdisk -q $2",
    ),
    (
        "gpt",
        "truncate -s 1M $2; sgdisk -Z -a 1 -n 1:40:100 -n 2:200:300 $2",
    ),
];

fn image(name: &str, script: &str) -> Vec<u8> {
    if name == "lvm" {
        return lvm::small();
    }
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir_all(files.join("boot/grub")).expect("a directory");
    fs::create_dir_all(files.join("etc")).expect("a directory");
    fs::write(files.join("boot/grub/grub.cfg"), b"set default=0\n").expect("a file");
    fs::write(
        files.join("boot/a_kernel_with_a_long_name"),
        tree::noise(30_000, 3),
    )
    .expect("a file");
    for number in 0..100 {
        fs::write(files.join(format!("etc/entry_{number}")), b"").expect("a file");
    }
    if !script.contains("mcopy") {
        for (name, target) in [
            ("etc/link", "../boot/grub/grub.cfg"),
            ("loop", "loop"),
            ("absolute", "/boot/grub"),
        ] {
            std::os::unix::fs::symlink(target, files.join(name)).expect("a link");
        }
    }
    let image = directory.path().join("image");
    match name {
        "xfs4" | "xfs5" => xfs::xfs(&files, &image, "20M", &format!("--unsupported {script}")),
        _ => make::shell(script, &[&files, &image]),
    }
    let mut image = fs::read(image).expect("the image");
    // Zeros at the end only take time, save for a GPT's backup.
    let used = image.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    image.truncate((used + 1).next_multiple_of(4096));
    image
}

/// Damages an image of each kind, so often.
fn exercise_images(rounds: usize, changing: bool) {
    for (name, script) in IMAGES {
        let good = Rc::new(image(name, script));
        let places = Rc::new(places(&good));
        let started = Instant::now();
        for round in 1..=rounds {
            let mut random = tree::Random((round as u64) << 32 | 0x9e37_79b9);
            exercise::disk(Rc::new(Damaged {
                good: good.clone(),
                places: places.clone(),
                changes: RefCell::new(damage(&places, &mut random)),
                random: changing.then(|| RefCell::new(random)),
            }));
        }
        println!("{name}: {} ms", started.elapsed().as_millis());
    }
}

/// The form of [`exercise::Sparse`].
fn pack(image: &[u8]) -> Vec<u8> {
    let pages = image.chunks(exercise::PAGE).enumerate();
    let last = image.len().div_ceil(exercise::PAGE).saturating_sub(1);
    let mut packed = Vec::new();
    for (number, page) in pages {
        if number == last || page.iter().any(|&byte| byte != 0) {
            packed.extend((number as u32).to_le_bytes());
            packed.extend(page);
            packed.resize(packed.len() + exercise::PAGE - page.len(), 0);
        }
    }
    packed
}

/// Reads images in the form of the fuzz targets' inputs, and keeps them as a seed corpus where `FIRSTLIGHT_CORPUS` says.
#[test]
fn images_are_seeds_for_the_fuzz_targets() {
    let corpus = std::env::var_os("FIRSTLIGHT_CORPUS").map(std::path::PathBuf::from);
    for (name, script) in IMAGES {
        let image = image(name, script);
        let packed = pack(&image);
        let sparse = exercise::Sparse::new(&packed);
        let mut same = vec![0; image.len()];
        sparse.read_at(0, &mut same).expect("the image");
        assert!(same == image, "{name}");
        exercise::disk(Rc::new(sparse));
        if let Some(corpus) = &corpus {
            let keep = |target: &str, name: &str, bytes: &[u8]| {
                let directory = corpus.join(target);
                fs::create_dir_all(&directory).expect("a directory");
                fs::write(directory.join(name), bytes).expect("a seed");
            };
            keep("disk", name, &packed);
            for reader in 0..firstlight_disk::volume::READERS.len() as u8 {
                let input = [&[reader][..], &packed].concat();
                keep("file_system", &format!("{name}-{reader}"), &input);
            }
        }
    }
}

#[test]
fn damaged_images_do_no_harm() {
    exercise_images(500, false);
}

#[test]
fn disks_that_change_while_they_are_read_do_no_harm() {
    exercise_images(100, true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..16384)) {
        exercise::disk(Rc::new(bytes));
    }
}
