use crate::{make, tree};
use firstlight_disk::{FileSystem, iso::Iso, path, read_file};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

fn iso(options: &str, holds: tree::Holds) -> (TempDir, PathBuf, Iso) {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("a directory");
    tree::make(&files, holds);
    let image = directory.path().join("image");
    make::shell(
        &format!(
            "xorriso -as mkisofs -quiet -V 'A_LABEL' --modification-date=2026010203040506 {options} -o $2 $1"
        ),
        &[&files, &image],
    );
    let fs = Iso::open(make::image(&image)).unwrap_or_else(|error| panic!("{options}: {error}"));
    assert_eq!(fs.label(), "A_LABEL");
    assert_eq!(fs.uuid().as_deref(), Some("2026-01-02-03-04-05-06"));
    (directory, files, fs)
}

#[test]
fn rock_ridge_reads_as_its_files() {
    for options in ["-R", "-R -J -joliet-long"] {
        let (_directory, files, fs) = iso(options, tree::Holds::Everything);
        tree::assert_same(&fs, &files);
        tree::assert_links(&fs);
        tree::assert_pieces(&fs, &files);
        let image = files.with_file_name("image");
        assert!(tree::assert_stretches(&fs, &files, &image) > 6_000_000);
    }
}

/// Joliet's names are 103 characters at most, which xorriso cuts to.
#[test]
fn joliet_reads_as_its_files() {
    let (_directory, files, fs) = iso("--norock -J -joliet-long", tree::Holds::NoLinks);
    for (ours, theirs) in [
        ("/etc/Größe and ☃.txt", "etc/Größe and ☃.txt"),
        ("/BOOT/VMLINUZ-6.1.0-amd64", "boot/vmlinuz-6.1.0-amd64"),
        (
            "/many/an entry of a large directory, number 00399",
            "many/an entry of a large directory, number 00399",
        ),
    ] {
        let node = path::open(&fs, ours.as_bytes()).expect(ours);
        let expected = fs::read(files.join(theirs)).expect("a file");
        assert!(read_file(&fs, node, 1 << 20) == Ok(expected), "{ours}");
    }
}

#[test]
fn plain_names_are_found_in_any_case() {
    let (_directory, files, fs) = iso("--norock", tree::Holds::NoLinks);
    let node = path::open(&fs, b"/boot/grub/grub.cfg").expect("a file");
    assert_eq!(path::open(&fs, b"/BOOT/GRUB/GRUB.CFG"), Ok(node));
    let expected = fs::read(files.join("boot/grub/grub.cfg")).expect("a file");
    assert_eq!(read_file(&fs, node, 1 << 20), Ok(expected));
}

/// Directories deeper than eight levels are moved by Rock Ridge (CL, PL and RE).
#[test]
fn moved_directories_are_where_they_belong() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    let deep = files.join("1/2/3/4/5/6/7/8/9/10");
    fs::create_dir_all(&deep).expect("directories");
    fs::write(deep.join("file"), b"deep down").expect("a file");
    let image = directory.path().join("image");
    make::shell(
        "xorriso -as mkisofs -quiet -R -relaxed-filenames -hide-rr-moved -o $2 $1",
        &[&files, &image],
    );
    let fs = Iso::open(make::image(&image)).expect("a file system");
    let node = path::open(&fs, b"/1/2/3/4/5/6/7/8/9/10/file").expect("a file");
    assert_eq!(read_file(&fs, node, 100), Ok(b"deep down".to_vec()));
}
