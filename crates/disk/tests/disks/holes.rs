//! The holes of pygrub's file system library that became known, each tried over all of the structure that it was in.

use crate::{exercise, make, tree, xfs};
use firstlight_disk::ReadAt;
use std::fs;
use std::rc::Rc;

/// Values that break sums, lengths and shifts.
const VALUES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

/// An image with some bytes in place of its own.
struct Changed {
    image: Rc<Vec<u8>>,
    at: usize,
    bytes: Vec<u8>,
}

impl ReadAt for Changed {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> firstlight_disk::Result<()> {
        self.image.read_at(offset, buffer)?;
        for (at, byte) in (self.at..).zip(&self.bytes) {
            let within = at.checked_sub(offset as usize);
            if let Some(place) = within.and_then(|within| buffer.get_mut(within)) {
                *place = *byte;
            }
        }
        Ok(())
    }
}

fn change(image: &Rc<Vec<u8>>, at: usize, bytes: Vec<u8>) {
    let image = image.clone();
    exercise::disk(Rc::new(Changed { image, at, bytes }));
}

/// XSA-443, CVE-2023-34325: a superblock of XFS whose sizes and logarithms were believed. Each field, of one to eight bytes.
#[test]
fn xsa_443_a_superblock_of_xfs_is_not_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("a directory");
    fs::write(files.join("file"), tree::noise(20_000, 1)).expect("a file");
    for version in ["-m crc=0", "-m crc=1"] {
        let image = directory.path().join("image");
        xfs::xfs(
            &files,
            &image,
            "20M",
            &format!("-f --unsupported {version}"),
        );
        let mut image = fs::read(image).expect("the image");
        let used = image.iter().rposition(|&byte| byte != 0).unwrap_or(0);
        image.truncate((used + 1).next_multiple_of(4096));
        let image = Rc::new(image);
        for at in 0..264 {
            for width in [1, 2, 4, 8] {
                for value in VALUES {
                    change(&image, at, vec![value; width]);
                }
            }
        }
    }
}

/// XSA-497: five holes in the reader of ISO 9660, of lengths and places in directory records and in Rock Ridge's areas that were
/// believed. Each byte of both, of the volume descriptors, and of the path to the files.
#[test]
fn xsa_497_lengths_in_iso_9660_are_not_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir_all(files.join("boot/grub")).expect("a directory");
    fs::write(files.join("boot/grub/grub.cfg"), "set default=0\n").expect("a file");
    // A name and a link that go on in an area of their own (SUSP, entry CE).
    fs::write(files.join("long".repeat(60)), "x").expect("a file");
    let target = format!("{}boot", "./".repeat(200));
    std::os::unix::fs::symlink(target, files.join("link")).expect("a link");
    let image = directory.path().join("image");
    make::shell(
        "xorriso -as mkisofs -quiet -R -J -o $2 $1",
        &[&files, &image],
    );
    let image = Rc::new(fs::read(image).expect("the image"));
    const SECTOR: usize = 2048;
    let is_directory = |sector: &[u8]| sector[0] >= 34 && sector[33] == 0 && sector[32] == 1;
    let descriptors = 16 * SECTOR..16 * SECTOR + 190;
    let sectors = image.chunks(SECTOR).enumerate().skip(18);
    let mut places: Vec<usize> = descriptors.collect();
    let mut directories = 0;
    for (number, sector) in sectors {
        // A directory begins with its own record; what it goes on with has the signature of an area or of a name.
        let area =
            sector.starts_with(b"ER") || sector.starts_with(b"NM") || sector.starts_with(b"SL");
        if is_directory(sector) || area {
            directories += usize::from(!area);
            let used = sector.iter().rposition(|&byte| byte != 0).unwrap_or(0);
            places.extend((0..=used.min(700)).map(|at| number * SECTOR + at));
        }
    }
    assert!(directories >= 3, "{directories}");
    for at in places {
        for value in VALUES {
            change(&image, at, vec![value]);
        }
        change(&image, at, vec![0xff; 4]);
    }
}
