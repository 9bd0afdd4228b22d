use crate::{make, tree};
use firstlight_disk::{FileSystem, ext::Ext};
use std::fs;
use std::path::{Path, PathBuf};

/// Makes a file system of our tree by mke2fs with `options`.
fn ext(directory: &Path, options: &str) -> PathBuf {
    let files = directory.join("files");
    fs::create_dir_all(&files).expect("a directory");
    tree::make(&files, tree::Holds::Everything);
    let image = directory.join("image");
    make::shell(
        &format!(
            "truncate -s 24M $2; mke2fs -q -F -L 'a label' -U 01234567-89ab-cdef-0123-456789abcdef {options} -d $1 $2"
        ),
        &[&files, &image],
    );
    image
}

fn assert_reads(options: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let image = ext(directory.path(), options);
    let fs = Ext::open(make::image(&image)).unwrap_or_else(|error| panic!("{options}: {error}"));
    println!("mke2fs {options}");
    assert_eq!(fs.label(), "a label");
    assert_eq!(
        fs.uuid().as_deref(),
        Some("01234567-89ab-cdef-0123-456789abcdef")
    );
    tree::assert_same(&fs, &directory.path().join("files"));
    tree::assert_links(&fs);
    tree::assert_pieces(&fs, &directory.path().join("files"));
    let copied = tree::assert_stretches(&fs, &directory.path().join("files"), &image);
    assert!(copied > 1_800_000, "{options}: {copied}");
}

#[test]
fn each_kind_of_ext_reads_as_its_files() {
    for options in [
        "-t ext2",
        "-t ext2 -b 4096 -I 128 -O ^filetype",
        "-t ext3 -b 1024",
        "-t ext4",
        "-t ext4 -b 1024 -O ^64bit,^metadata_csum",
        "-t ext4 -O meta_bg,^resize_inode -b 1024 -g 1024",
        "-t ext4 -O meta_bg,^resize_inode,sparse_super2 -b 1024 -g 1024",
        "-t ext4 -O inline_data -I 256",
        "-t ext4 -O mmp,ea_inode,large_dir,casefold -b 2048",
        "-t ext4 -O bigalloc -b 1024 -C 4096",
    ] {
        assert_reads(options);
    }
}

/// The mark of a journal that waits to be played back.
#[test]
fn an_unclean_journal_does_not_matter() {
    let directory = tempfile::tempdir().expect("a directory");
    for kind in ["-t ext3", "-t ext4"] {
        let image = ext(directory.path(), kind);
        make::shell("debugfs -w -R 'feature needs_recovery' $1", &[&image]);
        let fs = Ext::open(make::image(&image)).expect("a file system");
        tree::assert_same(&fs, &directory.path().join("files"));
        fs::remove_dir_all(directory.path().join("files")).expect("removed");
    }
}
