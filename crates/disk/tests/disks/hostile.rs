//! Damaged images: nothing panics, hangs or takes memory without bound.

use crate::{exercise, make, tree};
use proptest::prelude::*;
use std::cell::RefCell;
use std::fs;

/// How often each image is damaged.
const ROUNDS: usize = 1000;

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
    (
        "mbr",
        "truncate -s 1M $2; printf 'label: dos\\nstart=16,size=100\\nstart=200,type=5\\nstart=201,size=10\\nstart=220,size=10\\n' | sfdisk -q $2",
    ),
    (
        "gpt",
        "truncate -s 1M $2; sgdisk -Z -a 1 -n 1:40:100 -n 2:200:300 $2",
    ),
];

fn image(script: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir_all(files.join("boot/grub")).expect("a directory");
    fs::create_dir_all(files.join("etc")).expect("a directory");
    fs::write(files.join("boot/grub/grub.cfg"), b"set default=0\n").expect("a file");
    fs::write(
        files.join("boot/a kernel with a long name"),
        tree::noise(30_000, 3),
    )
    .expect("a file");
    for number in 0..30 {
        fs::write(files.join(format!("etc/entry {number}")), b"").expect("a file");
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
    make::shell(script, &[&files, &image]);
    let mut image = fs::read(image).expect("the image");
    // Zeros at the end only take time, save for a GPT's backup.
    let used = image.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    image.truncate((used + 1).next_multiple_of(4096));
    image
}

/// Where an image is not zero: changes there matter.
fn places(image: &[u8]) -> Vec<usize> {
    image
        .chunks(64)
        .enumerate()
        .filter(|(_, chunk)| chunk.iter().any(|&byte| byte != 0))
        .map(|(index, _)| index * 64)
        .collect()
}

/// Changes some bytes, with a liking for the values that break sums.
fn damage(image: &mut [u8], places: &[usize], random: &mut tree::Random) {
    for _ in 0..1 + random.below(12) {
        let at = places[random.below(places.len())] + random.below(64);
        let width = [1, 2, 4, 8][random.below(4)];
        let value = match random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << random.below(64),
            3 => random.below(300) as u64,
            _ => random.next(),
        };
        let value = if random.below(2) == 0 {
            value.to_le_bytes()
        } else {
            value.rotate_right(width as u32 * 8).to_be_bytes()
        };
        for (byte, value) in image.iter_mut().skip(at).zip(value).take(width) {
            *byte = value;
        }
    }
}

#[test]
fn damaged_images_do_no_harm() {
    for (name, script) in IMAGES {
        let good = image(script);
        let places = places(&good);
        let mut bad = good.clone();
        let started = std::time::Instant::now();
        for seed in 0..ROUNDS {
            let mut random = tree::Random(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1) << 8);
            bad.copy_from_slice(&good);
            damage(&mut bad, &places, &mut random);
            exercise::disk(bad.clone());
        }
        println!("{name}: {} ms", started.elapsed().as_millis());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..16384)) {
        exercise::disk(bytes);
    }
}

/// A disk that is different each time it is read.
struct Changing {
    good: Vec<u8>,
    places: Vec<usize>,
    random: RefCell<tree::Random>,
}

impl firstlight_disk::ReadAt for Changing {
    fn size(&self) -> u64 {
        self.good.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> firstlight_disk::Result<()> {
        self.good.read_at(offset, buffer)?;
        let mut random = self.random.borrow_mut();
        if random.below(8) == 0 {
            let near: Vec<usize> = self
                .places
                .iter()
                .filter_map(|&place| place.checked_sub(offset as usize))
                .filter(|&place| place < buffer.len())
                .collect();
            if !near.is_empty() {
                damage(buffer, &near, &mut random);
            }
        }
        Ok(())
    }
}

#[test]
fn a_disk_that_changes_while_it_is_read_does_no_harm() {
    for (_, script) in IMAGES {
        let good = image(script);
        let places = places(&good);
        for seed in 1..40 {
            let disk = Changing {
                good: good.clone(),
                places: places.clone(),
                random: RefCell::new(tree::Random(seed)),
            };
            let budget = firstlight_disk::Budget::new(exercise::LIMITS);
            let source = firstlight_disk::Source::new(std::rc::Rc::new(disk), budget);
            let Ok(scan) = firstlight_disk::volume::scan(&source) else {
                continue;
            };
            for fs in scan
                .volumes
                .iter()
                .filter_map(|volume| volume.fs.as_ref().ok())
            {
                exercise::file_system(fs.as_ref());
            }
        }
    }
}
