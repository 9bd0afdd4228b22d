use crate::{make, tree};
use firstlight_disk::{FileSystem, squashfs::Squashfs};
use std::fs;

#[test]
fn each_compression_of_squashfs_reads_as_its_files() {
    for options in [
        "-comp gzip",
        "-comp xz",
        "-comp xz -b 1M -Xbcj x86",
        "-comp zstd",
        "-comp lzo -b 4K",
        "-comp lz4",
        "-noI -noD -noF -no-fragments",
        "-comp gzip -always-use-fragments -b 16K",
    ] {
        println!("mksquashfs {options}");
        let directory = tempfile::tempdir().expect("a directory");
        let files = directory.path().join("files");
        fs::create_dir(&files).expect("a directory");
        tree::make(&files, tree::Holds::Everything);
        // Enough that directories have indexes and inodes take several blocks.
        for number in 0..1500 {
            fs::write(files.join(format!("many/{number}")), b"").expect("a file");
        }
        let image = directory.path().join("image");
        make::shell(
            &format!("mksquashfs $1 $2 -quiet -no-progress -all-root {options}"),
            &[&files, &image],
        );
        let fs = Squashfs::open(make::image(&image)).expect("a file system");
        assert_eq!((fs.label().as_str(), fs.uuid()), ("", None));
        tree::assert_same(&fs, &files);
        tree::assert_links(&fs);
        tree::assert_pieces(&fs, &files);
    }
}
