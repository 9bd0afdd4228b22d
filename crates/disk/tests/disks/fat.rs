use crate::{make, tree};
use firstlight_disk::{FileSystem, fat::Fat, path};
use std::fs;

fn assert_reads(size: &str, options: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("a directory");
    tree::make(&files, tree::Holds::NoLinks);
    let image = directory.path().join("image");
    make::shell(
        &format!(
            "truncate -s {size} $2; mkfs.fat -i cafe0123 -n 'A LABEL' {options} $2; mcopy -s -i $2 $1/* ::"
        ),
        &[&files, &image],
    );
    let fs = Fat::open(make::image(&image)).unwrap_or_else(|error| panic!("{options}: {error}"));
    assert_eq!(fs.label(), "A LABEL");
    assert_eq!(fs.uuid().as_deref(), Some("CAFE-0123"));
    tree::assert_same(&fs, &files);
    tree::assert_pieces(&fs, &files);
    let copied = tree::assert_stretches(&fs, &files, &image);
    assert!(copied > 1_000_000, "{copied}");
    let kernel = path::open(&fs, b"/boot/vmlinuz-6.1.0-amd64");
    assert!(kernel.is_ok());
    assert_eq!(path::open(&fs, b"/BOOT/VMLINUZ-6.1.0-AMD64"), kernel);
    assert_eq!(path::open(&fs, b"/boot/vmlinu~1.0-a"), kernel);
}

#[test]
fn each_width_of_fat_reads_as_its_files() {
    for (size, options) in [
        ("8M", "-F 12"),
        ("32M", "-F 16"),
        ("64M", "-F 32 -s 1"),
        ("400M", "-F 32 -S 4096 -s 1"),
    ] {
        assert_reads(size, options);
    }
}

/// mkfs.fat writes another label into the boot sector than into the root directory only by accident; without one it writes "NO NAME".
#[test]
fn no_label_is_no_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = directory.path().join("image");
    make::shell("truncate -s 4M $1; mkfs.fat $1", &[&image]);
    let fs = Fat::open(make::image(&image)).expect("a file system");
    assert_eq!(fs.label(), "");
}
