//! Structures that lead back to themselves.

use crate::{make, tree};
use firstlight_disk::{
    Error, FileSystem, btrfs::Btrfs, ext::Ext, fat::Fat, iso::Iso, path, read_file, xfs::Xfs,
};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// An image made by `script`, with the directory of files in `$1` and the image in `$2`.
fn image(script: &str, fill: impl FnOnce(&Path)) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("a directory");
    fill(&files);
    let image = directory.path().join("image");
    make::shell(script, &[&files, &image]);
    fs::read(image).expect("the image")
}

#[test]
fn a_chain_of_fat_in_a_circle_is_an_error() {
    let mut image = image(
        "truncate -s 8M $2; mkfs.fat -F 16 -s 1 -f 1 -R 1 $2; mcopy -i $2 $1/* ::",
        |files| {
            fs::write(files.join("file"), tree::noise(100_000, 5)).expect("a file");
        },
    );
    let fs = Fat::open(make::bytes(image.clone())).expect("a file system");
    let file = path::open(&fs, b"/file").expect("a file");
    assert_eq!(
        read_file(&fs, file, 1 << 20).map(|content| content.len()),
        Ok(100_000)
    );
    // The file begins in cluster 2: its third cluster leads back to its second. A size above all that fits makes the reader go on.
    image[512 + 4 * 2..][..2].copy_from_slice(&3u16.to_le_bytes());
    let entry = image
        .windows(11)
        .position(|name| name == b"FILE       ")
        .expect("the entry");
    image[entry + 28..][..4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    let fs = Fat::open(make::bytes(image)).expect("a file system");
    let mut end = [0; 16];
    assert_eq!(
        fs.read(file, 0x7000_0000, &mut end),
        Err(Error::Corrupt("a chain of clusters goes in a circle"))
    );
}

#[test]
fn an_extent_tree_of_ext4_that_contains_itself_is_an_error() {
    let script =
        "truncate -s 4M $2; mke2fs -q -F -t ext4 -b 1024 -O ^metadata_csum,^has_journal -d $1 $2";
    let mut image = image(script, |files| {
        let mut file = fs::File::create(files.join("file")).expect("a file");
        for block in 0..100 {
            file.seek(SeekFrom::Start(block * 8192)).expect("a seek");
            file.write_all(&[1; 1024]).expect("a write");
        }
    });
    let fs = Ext::open(make::bytes(image.clone())).expect("a file system");
    let file = path::open(&fs, b"/file").expect("a file");
    assert!(read_file(&fs, file, 1 << 20).is_ok());
    let leaf = image
        .chunks(1024)
        .position(|block| block.starts_with(&[0x0a, 0xf3]))
        .expect("a leaf");
    let node = &mut image[leaf * 1024..][..24];
    // One entry, of a level above the leaves, that names this block.
    node[2..4].copy_from_slice(&1u16.to_le_bytes());
    node[6..8].copy_from_slice(&1u16.to_le_bytes());
    node[12..].copy_from_slice(&[0; 12]);
    node[16..20].copy_from_slice(&(leaf as u32).to_le_bytes());
    let fs = Ext::open(make::bytes(image)).expect("a file system");
    assert_eq!(
        read_file(&fs, file, 1 << 20),
        Err(Error::Corrupt("a node of an extent tree"))
    );
}

#[test]
fn a_tree_of_btrfs_that_contains_itself_is_an_error() {
    let script = "truncate -s 109M $2; mkfs.btrfs -q -m single --rootdir $1 $2";
    let mut image = image(script, |_| {});
    const SUPERBLOCK: usize = 64 << 10;
    let number = |image: &[u8], at: usize| {
        u64::from_le_bytes(image[at..][..8].try_into().expect("eight bytes"))
    };
    let root = number(&image, SUPERBLOCK + 80);
    let node = image
        .chunks(4096)
        .position(|page| number(page, 48) == root && number(page, 88) == 1)
        .expect("the root of roots")
        * 4096;
    // A level above the leaves, with one key, zero, that leads here.
    image[SUPERBLOCK + 198] = 1;
    image[node + 96..][..5].copy_from_slice(&[1, 0, 0, 0, 1]);
    image[node + 101..][..17].fill(0);
    image[node + 118..][..8].copy_from_slice(&root.to_le_bytes());
    let error = Btrfs::open(make::bytes(image)).err();
    assert_eq!(error, Some(Error::Corrupt("a node of a btrfs tree")));
}

#[test]
fn an_extent_tree_of_xfs_that_contains_itself_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let (files, image) = (
        directory.path().join("files"),
        directory.path().join("image"),
    );
    fs::create_dir(&files).expect("a directory");
    let content = tree::noise(8192, 9);
    fs::write(files.join("file"), &content).expect("a file");
    crate::xfs::xfs(&files, &image, "300M", "");
    let fs = Xfs::open(make::image(&image)).expect("a file system");
    let file = path::open(&fs, b"/file").expect("a file");
    assert_eq!(read_file(&fs, file, 1 << 20), Ok(content.clone()));

    let mut bytes = fs::read(&image).expect("the image");
    // The file's first block becomes a node of the level above the leaves, with one key, zero, that leads here.
    let place = bytes
        .chunks(4096)
        .position(|block| *block == content[..4096]);
    let place = place.expect("the content");
    let group_blocks = u32::from_be_bytes(bytes[84..88].try_into().expect("four bytes"));
    let (group, within) = (place / group_blocks as usize, place % group_blocks as usize);
    let pointer = ((group << bytes[124] | within) as u64).to_be_bytes();
    let node = &mut bytes[place * 4096..][..4096];
    node.fill(0);
    node[..4].copy_from_slice(b"BMA3");
    node[4..8].copy_from_slice(&[0, 1, 0, 1]);
    let most = (4096 - 72) / 16;
    node[72 + most * 8..][..8].copy_from_slice(&pointer);
    // The inode's root, a level above, leads there.
    let size = 8192u64.to_be_bytes();
    let inode = bytes
        .chunks_mut(512)
        .find(|inode| inode.starts_with(b"IN") && inode[56..64] == size);
    let inode = inode.expect("the inode");
    inode[5] = 3;
    let fork = &mut inode[176..];
    fork[..4].copy_from_slice(&[0, 2, 0, 1]);
    let most = (fork.len() - 4) / 16;
    fork[4..12].fill(0);
    fork[4 + most * 8..][..8].copy_from_slice(&pointer);
    let fs = Xfs::open(make::bytes(bytes)).expect("a file system");
    assert_eq!(
        read_file(&fs, file, 1 << 20),
        Err(Error::Corrupt("the extents of an XFS file"))
    );
}

/// Where one directory leads to itself, each path ends with its last name, and a walk with its depth.
#[test]
fn a_directory_that_contains_itself_is_as_long_as_the_path() {
    fn fill(files: &Path) {
        fs::create_dir_all(files.join("outer/inner")).expect("directories");
        fs::write(files.join("outer/file"), "found").expect("a file");
    }
    fn check(fs: &dyn FileSystem) {
        let file = path::open(fs, b"/outer/file");
        assert!(file.is_ok(), "{}: {file:?}", fs.kind());
        assert_eq!(path::open(fs, b"/outer/inner/inner/inner/file"), file);
        let deep = format!("/outer{}/file", "/inner".repeat(600));
        assert_eq!(path::open(fs, deep.as_bytes()), file);
        let deep = format!("/outer{}/file", "/inner".repeat(700));
        assert_eq!(path::open(fs, deep.as_bytes()), Err(Error::TooLong));
        crate::exercise::file_system(fs);
    }

    let mut fat = image(
        "truncate -s 32M $2; mkfs.fat -F 16 $2; mcopy -s -i $2 $1/* ::",
        fill,
    );
    let entry = |image: &[u8], name: &[u8]| {
        let found = image.windows(11).position(|entry| entry == name);
        found.expect("an entry")
    };
    let (outer, inner) = (entry(&fat, b"OUTER      "), entry(&fat, b"INNER      "));
    let cluster = [fat[outer + 26], fat[outer + 27]];
    fat[inner + 26..][..2].copy_from_slice(&cluster);
    check(&Fat::open(make::bytes(fat)).expect("a file system"));

    // Names without their checksums: the entry has the inode's number before its length, its kind and the name.
    let script = "truncate -s 4M $2; mke2fs -q -F -t ext4 -O ^metadata_csum,^has_journal,^dir_index -d $1 $2";
    let mut ext = image(script, fill);
    let entry = |image: &[u8], name: &[u8]| {
        let found = image.windows(name.len()).position(|entry| entry == name);
        found.expect("an entry") - 8
    };
    let outer = entry(&ext, b"outer");
    let inner = entry(&ext, b"inner");
    let number: Vec<u8> = ext[outer..][..4].into();
    ext[inner..][..4].copy_from_slice(&number);
    check(&Ext::open(make::bytes(ext)).expect("a file system"));

    // A directory's record has its place and its size in both orders of bytes, 31 bytes before its name.
    let mut iso = image("xorriso -as mkisofs -quiet -o $2 $1 2>/dev/null", fill);
    let record = |image: &[u8], name: &[u8]| {
        let found = image.windows(name.len()).position(|record| record == name);
        found.expect("a record") - 31
    };
    let outer = record(&iso, b"\x05OUTER");
    let inner = record(&iso, b"\x05INNER");
    let place: Vec<u8> = iso[outer + 1..][..16].into();
    iso[inner + 1..][..16].copy_from_slice(&place);
    check(&Iso::open(make::bytes(iso)).expect("a file system"));
}

#[test]
fn a_continuation_of_rock_ridge_that_leads_to_itself_is_an_error() {
    let long = "n".repeat(250);
    let mut image = image(
        "xorriso -as mkisofs -quiet -R -o $2 $1 2>/dev/null",
        |files| {
            fs::write(files.join(&long), "x").expect("a file");
            std::os::unix::fs::symlink("t/".repeat(200), files.join("link")).expect("a link");
        },
    );
    // Entries CE have 28 bytes: block, offset and length in both orders. Each area gets one, at its begin, that leads to the area.
    let places: Vec<usize> = (0..image.len() - 28)
        .filter(|&at| image[at..].starts_with(b"CE\x1c\x01"))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        let entry: Vec<u8> = image[at..][..28].into();
        let number = |at: usize| {
            u32::from_le_bytes(entry[at..][..4].try_into().expect("four bytes")) as usize
        };
        let area = number(4) * 2048 + number(12);
        if number(20) >= 28 {
            image[area..][..28].copy_from_slice(&entry);
        }
    }
    let fs = Iso::open(make::bytes(image)).expect("a file system");
    let found = path::open(&fs, long.as_bytes());
    let wrong = Error::Corrupt("too many continuation areas of Rock Ridge");
    assert_eq!(found, Err(wrong));
}
