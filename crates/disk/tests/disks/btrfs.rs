use crate::{make, tree};
use firstlight_disk::{FileSystem, btrfs::Btrfs, path, read_file};
use std::fs;

#[test]
fn btrfs_reads_as_its_files() {
    for options in ["", "-m single", "-m dup -d dup -n 4096", "-M"] {
        println!("mkfs.btrfs {options}");
        let directory = tempfile::tempdir().expect("a directory");
        let files = directory.path().join("files");
        fs::create_dir(&files).expect("a directory");
        tree::make(&files, tree::Holds::Everything);
        let image = directory.path().join("image");
        make::shell(
            &format!(
                "truncate -s 300M $2
                 mkfs.btrfs -q -L 'a label' -U 01234567-89ab-cdef-0123-456789abcdef {options} --rootdir $1 $2"
            ),
            &[&files, &image],
        );
        let fs = Btrfs::open(make::image(&image)).expect("a file system");
        assert_eq!(fs.label(), "a label");
        assert_eq!(
            fs.uuid().as_deref(),
            Some("01234567-89ab-cdef-0123-456789abcdef")
        );
        assert_eq!(fs.root(), fs.top_level());
        tree::assert_same(&fs, &files);
        tree::assert_links(&fs);
        tree::assert_pieces(&fs, &files);
        let copied = tree::assert_stretches(&fs, &files, &image);
        assert!(copied > 1_000_000, "{copied}");
    }
}

/// What only the kernel can make: compressed files, subvolumes and a default one. Only root can mount.
#[test]
fn compressed_files_and_subvolumes_read_as_they_are() {
    for (options, mount) in [
        ("", "zlib"),
        ("", "lzo"),
        ("", "zstd:3"),
        ("-n 4096 -s 4096", "zstd:1"),
    ] {
        println!("compress-force={mount}");
        let directory = tempfile::tempdir().expect("a directory");
        let image = directory.path().join("image");
        let files = directory.path().join("files");
        let source = directory.path().join("source");
        fs::create_dir_all(&files).expect("a directory");
        fs::create_dir(&source).expect("a directory");
        tree::make(&source, tree::Holds::Everything);
        make::shell(
            &format!("truncate -s 300M $1; mkfs.btrfs -q {options} $1"),
            &[&image],
        );
        let script = format!(
            "mount -o remount,compress-force={mount} $2
             cp -a --sparse=always {0}/. $2
             seq 1 200000 >$2/numbers; printf small-but-compressible-%0100d 0 >$2/small
             btrfs -q subvolume create $2/@; cp -a {0}/boot $2/@
             btrfs -q subvolume snapshot $2/@ $2/snapshot 2>&1
             btrfs subvolume set-default $2/@",
            source.display()
        );
        if !make::mounted(&image, &files, &script) {
            eprintln!("skipped: file systems cannot be mounted here");
            return;
        }
        let fs = Btrfs::open(make::image(&image)).expect("a file system");
        tree::assert_same_below(&fs, fs.top_level(), &files);
        tree::assert_same(
            &fs,
            &source
                .join("boot/..")
                .canonicalize()
                .map(|_| files.join("@"))
                .expect("a directory"),
        );
        let config = path::open(&fs, b"/boot/grub/grub.cfg").expect("a file");
        assert!(read_file(&fs, config, 1000).is_ok());
        let same = path::open_from(&fs, fs.top_level(), b"/snapshot/boot/grub/grub.cfg");
        let same = read_file(&fs, same.expect("a file"), 1000);
        assert_eq!(same, read_file(&fs, config, 1000));
    }
}
