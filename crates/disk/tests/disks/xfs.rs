use crate::{make, tree};
use firstlight_disk::{FileSystem, xfs::Xfs};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The prototype of mkfs.xfs(8) for a directory of files.
fn prototype(directory: &Path, text: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        let (name, kind) = (
            name.to_str().expect("text"),
            entry.file_type().expect("a type"),
        );
        let line = if kind.is_dir() {
            writeln!(text, "{name} d--755 0 0").expect("a line");
            prototype(&path, text);
            "$".to_owned()
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            format!("{name} l--777 0 0 {}", target.display())
        } else {
            format!("{name} ---644 0 0 {}", path.display())
        };
        writeln!(text, "{line}").expect("a line");
    }
}

/// Makes an image of `files` by mkfs.xfs with `options`.
pub fn xfs(files: &Path, image: &Path, size: &str, options: &str) {
    let mut text = "/none\n0 0\nd--755 0 0\n".to_owned();
    prototype(files, &mut text);
    text.push_str("$\n");
    let proto: PathBuf = image.with_extension("proto");
    fs::write(&proto, text).expect("the prototype");
    make::shell(
        &format!("truncate -s {size} $2; mkfs.xfs -q -L 'a label' {options} -p $1 $2"),
        &[&proto, image],
    );
}

#[test]
fn each_version_of_xfs_reads_as_its_files() {
    for options in [
        "",
        "-m crc=0",
        "-m crc=0 -n ftype=0 -b size=1024",
        "-m crc=1 -b size=1024 -n size=8192 -i size=512",
        "-m crc=1 -i nrext64=1",
    ] {
        println!("mkfs.xfs {options}");
        let directory = tempfile::tempdir().expect("a directory");
        let files = directory.path().join("files");
        fs::create_dir(&files).expect("a directory");
        tree::make(&files, tree::Holds::NoBlanks);
        // Longer than an inode: the target gets a block.
        let long = format!("{}boot", "etc/../".repeat(100));
        std::os::unix::fs::symlink(long, files.join("long")).expect("a link");
        let image = directory.path().join("image");
        xfs(&files, &image, "300M", options);
        let fs = Xfs::open(make::image(&image)).expect("a file system");
        assert_eq!(fs.label(), "a label");
        assert_eq!(fs.uuid().map(|uuid| uuid.len()), Some(36));
        tree::assert_same(&fs, &files);
        tree::assert_links(&fs);
        tree::assert_pieces(&fs, &files);
        let copied = tree::assert_stretches(&fs, &files, &image);
        assert!(copied > 1_800_000, "{options}: {copied}");
    }
}

/// Files in many extents, written by the kernel. Only root can mount.
#[test]
fn a_tree_of_extents_reads_as_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = directory.path().join("image");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("a directory");
    // Linux no longer mounts version 4.
    make::shell(
        "truncate -s 300M $1; mkfs.xfs -q -b size=1024 $1",
        &[&image],
    );
    let script = "
        seq 1 200000 > $2/all
        mkdir $2/many; cd $2/many; seq 1 3000 | xargs touch
        ln -s $(printf 'etc/../%.0s' $(seq 100))many $2/long
        # Every other block of a file is punched out.
        cp $2/all $2/holes; sync $2/holes
        for block in $(seq 0 2 1200); do fallocate -p -o ${block}KiB -l 1KiB $2/holes; done
        fallocate -l 1MiB $2/unwritten";
    if !make::mounted(&image, &files, script) {
        eprintln!("skipped: file systems cannot be mounted here");
        return;
    }
    let fs = Xfs::open(make::image(&image)).expect("a file system");
    tree::assert_same(&fs, &files);
}
