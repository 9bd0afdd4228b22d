use crate::make;
use firstlight_disk::partition::{Scheme, Type};
use firstlight_disk::volume::{self, Origin, Scan};
use std::fs;
use std::path::Path;

/// Makes a disk of 64 MiB by a shell script that has it in `$1`.
fn disk(script: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let image = directory.path().join("image");
    make::shell(&format!("truncate -s 64M $1\n{script}"), &[&image]);
    fs::read(image).expect("the image")
}

fn scan(disk: &[u8]) -> Scan {
    volume::scan(&make::bytes(disk.to_vec())).expect("a scan")
}

/// Each volume's name, first MiB, size in MiB and kind of file system.
fn summary(scan: &Scan) -> Vec<(String, u64, u64, &'static str)> {
    scan.volumes
        .iter()
        .map(|volume| {
            let start = match &volume.origin {
                Origin::Whole => 0,
                Origin::Partition(_, partition) => partition.start >> 20,
                Origin::Logical { .. } => 0,
            };
            let kind = volume.fs.as_ref().map_or("none", |fs| fs.kind());
            (volume.grub_name(), start, volume.source.size() >> 20, kind)
        })
        .collect()
}

fn row(name: &str, start: u64, size: u64, kind: &'static str) -> (String, u64, u64, &'static str) {
    (name.to_owned(), start, size, kind)
}

const LOGICAL: &str = "sfdisk -q $1 <<END
label: dos
start=1MiB, size=4MiB, type=c, bootable
start=8MiB, size=2MiB, type=83
start=16MiB, type=5
start=17MiB, size=3MiB, type=83
start=24MiB, size=6MiB, type=83
END
mke2fs -q -F -E offset=$((24<<20)) $1 6M
mkfs.fat --offset $((1<<11)) $1 4096";

#[test]
fn logical_partitions_follow_the_primary_ones() {
    let disk = disk(LOGICAL);
    let scan = scan(&disk);
    assert_eq!(
        summary(&scan),
        [
            row("msdos1", 1, 4, "fat"),
            row("msdos2", 8, 2, "none"),
            row("msdos5", 17, 3, "none"),
            row("msdos6", 24, 6, "ext2"),
        ]
    );
    let Origin::Partition(Scheme::Mbr, first) = &scan.volumes[0].origin else {
        panic!("not an MBR");
    };
    assert!(first.active);
    assert_eq!(first.kind, Type::Mbr(12));
    assert!(scan.complaints.is_empty());
}

#[test]
fn a_chain_of_logical_partitions_in_a_circle_ends() {
    let mut disk = disk(LOGICAL);
    // The second entry of the second table, which names the next one from the begin of the extended partition.
    let table = 23 << 20;
    let second = disk
        .windows(2)
        .skip(510)
        .step_by(512)
        .position(|signature| signature == [0x55, 0xaa])
        .map(|_| table)
        .expect("a table");
    assert_eq!(disk[second + 510..second + 512], [0x55, 0xaa]);
    let entry = &mut disk[second + 446 + 16..][..16];
    entry.copy_from_slice(&[0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    let scan = scan(&disk);
    assert_eq!(
        scan.complaints,
        ["the chain of logical partitions goes in a circle"]
    );
    assert_eq!(scan.volumes.len(), 4);
}

const GPT: &str =
    "sgdisk -Z -n 1:2048:+4M -t 1:ef00 -c 1:'EFI system' -n 7:8M:+8M -t 7:8300 -A 7:set:2 $1
mke2fs -q -F -E offset=$((8<<20)) $1 8M";

#[test]
fn a_gpt_names_its_partitions() {
    let scan = scan(&disk(GPT));
    assert_eq!(
        summary(&scan),
        [row("gpt1", 1, 4, "none"), row("gpt7", 8, 8, "ext2")]
    );
    let Origin::Partition(Scheme::Gpt, first) = &scan.volumes[0].origin else {
        panic!("not a GPT");
    };
    assert_eq!(first.name, "EFI system");
    assert_eq!(
        first.kind,
        Type::Gpt("c12a7328-f81f-11d2-ba4b-00a0c93ec93b".to_owned())
    );
    let Origin::Partition(_, seventh) = &scan.volumes[1].origin else {
        panic!("not a GPT");
    };
    assert!(seventh.active && !first.active);
    assert!(scan.complaints.is_empty());
}

#[test]
fn the_backup_serves_where_the_primary_gpt_is_bad() {
    let good = disk(GPT);
    for (place, complaint) in [
        (512, "no primary GPT; its backup is used"),
        (512 + 60, "the primary GPT is bad; its backup is used"),
        (1024 + 8, "the primary GPT is bad; its backup is used"),
    ] {
        let mut disk = good.clone();
        disk[place] ^= 0xff;
        let scan = scan(&disk);
        assert_eq!(scan.volumes.len(), 2);
        assert_eq!(scan.complaints, [complaint]);
        let end = disk.len() - 512;
        disk[end + 60] ^= 0xff;
        assert!(self::scan(&disk).volumes.is_empty());
    }
}

#[test]
fn sectors_of_4096_bytes_are_found_out() {
    let big = "truncate -s 8M $1.fat; mkfs.fat -S 4096 $1.fat; dd if=$1.fat of=$1 bs=1M seek=1 conv=notrunc 2>&1";
    // util-linux of Debian 12 partitions images in sectors of 512 bytes only, so this table is written by hand.
    let mut disk = disk(big);
    let entry = &mut disk[446..462];
    entry.copy_from_slice(&[0x80, 0, 0, 0, 12, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(summary(&scan(&disk)), [row("msdos1", 1, 8, "fat")]);
}

/// The layout of a live medium: an ISO with an MBR and a FAT for UEFI behind it.
#[test]
fn a_hybrid_iso_is_a_file_system_and_a_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = directory.path().join("image");
    let files = directory.path().join("files");
    fs::create_dir_all(files.join("boot")).expect("a directory");
    fs::write(files.join("boot/file"), b"on the ISO").expect("a file");
    make::shell(
        "truncate -s 2M $2.fat; mkfs.fat $2.fat; dd if=/dev/zero of=$2.mbr bs=32768 count=1 2>&1
         xorriso -as mkisofs -quiet -R -G $2.mbr -partition_offset 16 \
         --protective-msdos-label -append_partition 2 0xef $2.fat -o $2 $1",
        &[&files, Path::new(&image)],
    );
    let scan = volume::scan(&make::image(&image)).expect("a scan");
    let kinds: Vec<_> = scan
        .volumes
        .iter()
        .map(|volume| {
            (
                volume.grub_name(),
                volume.fs.as_ref().map_or("none", |fs| fs.kind()),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (String::new(), "iso9660"),
            ("msdos1".to_owned(), "iso9660"),
            ("msdos2".to_owned(), "fat")
        ]
    );
}

#[test]
fn a_file_system_on_the_whole_disk_needs_no_table() {
    let ext = disk("mke2fs -q -F $1");
    assert_eq!(summary(&scan(&ext)), [row("", 0, 64, "ext2")]);
    let fat = disk("mkfs.fat $1");
    assert_eq!(summary(&scan(&fat)), [row("", 0, 64, "fat")]);
}
