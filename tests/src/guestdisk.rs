//! Disks of guests for the bootloader: file systems with a few files, in each way that a disk can hold them. All of it without
//! root, loop devices and mounts.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::command::run_quietly;

/// The kinds of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    Ext4,
    Fat,
    Iso,
    Xfs,
    /// XFS as it was before 2013, without checksums and types in directories: what pygrub reads.
    XfsV4,
    Btrfs,
}

/// How a disk holds its file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One, without a partition table.
    Whole,
    /// Primary partitions, the first of which is active.
    Mbr,
    /// One in a logical partition.
    Logical,
    Gpt,
    /// One in a logical volume of LVM, in a partition.
    Lvm,
}

/// What a file of a guest has in it.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    Text(&'a str),
    /// Enough to be taken for a kernel, and its own path between two `@`.
    Kernel,
    /// A unified kernel image: such a kernel, an initial RAM disk whose name has `-initrd` more, and this command line.
    Unified(&'a str),
    /// What a file of this machine has.
    Copy(&'a Path),
}

/// A file system of a disk, with its files by their paths.
pub struct Part<'a> {
    pub fs: Fs,
    pub files: Vec<(&'a str, Content<'a>)>,
}

/// Bytes before the first partition.
const START: u64 = 1 << 20;

/// Makes a disk in `directory`.
///
/// # Errors
/// A tool is missing or fails.
pub fn disk(directory: &Path, layout: Layout, parts: &[Part]) -> Result<PathBuf> {
    let mut images = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let mut image = image(directory, number, part)?;
        if layout == Layout::Lvm {
            image = physical_volume(&image)?;
        }
        images.push(image);
    }
    if layout == Layout::Whole {
        return images.into_iter().next().context("a file system");
    }
    let path = directory.join("disk");
    let file = File::create(&path)?;
    let mut table = match layout {
        Layout::Gpt | Layout::Lvm => "label: gpt\n".to_owned(),
        _ => "label: dos\n".to_owned(),
    };
    let mut at = START;
    let mut places = Vec::new();
    for image in &images {
        let size = fs::metadata(image)?.len().next_multiple_of(START);
        let (start, sectors) = (at / 512, size / 512);
        match layout {
            Layout::Logical => {
                let extended = sectors + START / 512;
                writeln!(table, "start={start}, size={extended}, type=5")?;
                at += START;
                writeln!(table, "/dev/5: start={}, size={sectors}, type=83", at / 512)?;
            }
            Layout::Mbr if places.is_empty() => {
                writeln!(table, "start={start}, size={sectors}, type=83, bootable")?;
            }
            _ => writeln!(table, "start={start}, size={sectors}")?,
        }
        places.push(at);
        at += size;
    }
    file.set_len(at + START)?;
    let script = directory.join("table");
    fs::write(&script, table)?;
    run_quietly(
        shell("sfdisk --quiet --no-reread --no-tell-kernel $1 < $2")
            .arg(&path)
            .arg(&script),
    )?;
    for (image, at) in images.iter().zip(places) {
        put(image, &path, at)?;
    }
    Ok(path)
}

/// Puts a file system into a logical volume of a physical one, whose structures are written here: LVM's own tools want a device
/// mapper (lvm2, lib/label/label.h and lib/format_text/layout.h).
fn physical_volume(image: &Path) -> Result<PathBuf> {
    const UUIDS: [&str; 3] = [
        "GGGGGG-GGGG-GGGG-GGGG-GGGG-GGGG-GGGGGG",
        "PPPPPP-PPPP-PPPP-PPPP-PPPP-PPPP-PPPPPP",
        "LLLLLL-LLLL-LLLL-LLLL-LLLL-LLLL-LLLLLL",
    ];
    /// Where the area with the text begins, and where the text is in it.
    const AREA: u64 = 4096;
    const TEXT: u64 = 512;
    let [group, physical, logical] = UUIDS;
    let extents = fs::metadata(image)?.len().div_ceil(START);
    let text = format!(
        "vg {{\nid = \"{group}\"\nseqno = 1\nstatus = [\"READ\", \"WRITE\"]\nextent_size = 2048\nphysical_volumes {{\n\
         pv0 {{\nid = \"{physical}\"\nstatus = [\"ALLOCATABLE\"]\npe_start = 2048\npe_count = {extents}\n}}\n}}\n\
         logical_volumes {{\nroot {{\nid = \"{logical}\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment_count = 1\n\
         segment1 {{\nstart_extent = 0\nextent_count = {extents}\ntype = \"striped\"\nstripe_count = 1\nstripes = [\"pv0\", 0]\n}}\n}}\n}}\n}}\n\
         contents = \"Text Format Volume Group\"\nversion = 1\n\0"
    );
    // The checksum of Ethernet with another begin and no inversion.
    let sum = text.bytes().fold(0xf597_a6cf_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    });
    let size = START * (extents + 1);
    let path = image.with_extension("pv");
    let file = File::create(&path)?;
    file.set_len(size)?;
    let put_at = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at);
    put_at(512, b"LABELONE")?;
    put_at(512 + 8, &1u64.to_le_bytes())?;
    put_at(512 + 20, &32u32.to_le_bytes())?;
    put_at(512 + 24, b"LVM2 001")?;
    put_at(512 + 32, physical.replace('-', "").as_bytes())?;
    let places = [size, START, 0, 0, 0, AREA, START - AREA, 0, 0];
    for (place, number) in (512 + 64..).step_by(8).zip(places) {
        put_at(place, &number.to_le_bytes())?;
    }
    put_at(AREA + 4, b" LVM2 x[5A%r0N*>")?;
    put_at(AREA + 20, &1u32.to_le_bytes())?;
    for (place, number) in
        (AREA + 24..)
            .step_by(8)
            .zip([AREA, START - AREA, TEXT, text.len() as u64])
    {
        put_at(place, &number.to_le_bytes())?;
    }
    put_at(AREA + 56, &sum.to_le_bytes())?;
    put_at(AREA + TEXT, text.as_bytes())?;
    put(image, &path, START)?;
    Ok(path)
}

/// A command of the shell, whose `$1` and so on are its arguments.
fn shell(script: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-euc", script, "sh"])
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("MTOOLS_SKIP_CHECK", "1");
    command
}

/// Copies a file system into a disk, with its holes.
fn put(image: &Path, disk: &Path, at: u64) -> Result<()> {
    OpenOptions::new().write(true).open(disk)?;
    run_quietly(
        shell("dd if=$1 of=$2 bs=64K seek=$3 oflag=seek_bytes conv=notrunc,sparse status=none")
            .args([image, disk])
            .arg(at.to_string()),
    )
}

/// A bzImage as far as Xen's domain builder looks at it before it unpacks, with its path.
fn kernel(path: &str) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    // Linux, Documentation/arch/x86/boot.rst: boot protocol 2.15, with a payload that zstd compressed.
    bytes[0x1f1] = 1;
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bytes[1024..1028].copy_from_slice(b"\x28\xb5\x2f\xfd");
    let name = format!("@{path}@");
    bytes[4096..4096 + name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// An EFI program with the three sections that boot a Linux (uapi-group.org, "Unified Kernel Image"; Microsoft, "PE Format").
fn unified(path: &str, line: &str) -> Vec<u8> {
    const HEADER: usize = 64;
    const ALIGNMENT: usize = 512;
    let sections = [
        (".linux", kernel(path)),
        (".initrd", kernel(&format!("{path}-initrd"))),
        (".cmdline", line.as_bytes().to_vec()),
    ];
    let mut bytes = vec![0; ALIGNMENT];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[60] = HEADER as u8;
    bytes[HEADER..HEADER + 4].copy_from_slice(b"PE\0\0");
    bytes[HEADER + 6] = sections.len() as u8;
    for (index, (name, content)) in sections.iter().enumerate() {
        let at = HEADER + 24 + 40 * index;
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        let (place, len) = (bytes.len() as u32, content.len() as u32);
        for (field, value) in [(8, len), (16, len), (20, place)] {
            bytes[at + field..at + field + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    bytes
}

fn image(directory: &Path, number: usize, part: &Part) -> Result<PathBuf> {
    let files = directory.join(format!("files{number}"));
    fs::create_dir(&files)?;
    for (path, content) in &part.files {
        let file = files.join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a directory")?)?;
        match content {
            Content::Text(text) => fs::write(&file, text)?,
            Content::Kernel => fs::write(&file, kernel(path))?,
            Content::Unified(line) => fs::write(&file, unified(path, line))?,
            Content::Copy(from) => fs::copy(from, &file).map(drop)?,
        }
    }
    let image = directory.join(format!("image{number}"));
    let xfs = |options: &str| -> Result<String> {
        let prototype = directory.join(format!("prototype{number}"));
        let mut text = "/none\n0 0\nd--755 0 0\n".to_owned();
        describe(&files, &mut text)?;
        text.push_str("$\n");
        fs::write(&prototype, text)?;
        // Smaller ones are not made any more.
        let size = "truncate -s 320M $2";
        Ok(format!(
            "{size}; mkfs.xfs -q {options} -p {} $2",
            prototype.display()
        ))
    };
    let script = match part.fs {
        Fs::Ext4 => "truncate -s 96M $2; mkfs.ext4 -q -d $1 $2".to_owned(),
        Fs::Fat => "truncate -s 96M $2; mkfs.vfat $2; mcopy -s -i $2 $1/* ::".to_owned(),
        Fs::Iso => "xorriso -as mkisofs -quiet -R -J -o $2 $1".to_owned(),
        Fs::Xfs => xfs("")?,
        Fs::XfsV4 => xfs("-m crc=0 -n ftype=0")?,
        Fs::Btrfs => "truncate -s 160M $2; mkfs.btrfs -q --rootdir $1 $2".to_owned(),
    };
    run_quietly(shell(&script).args([&files, &image]))?;
    Ok(image)
}

/// The entries of a directory as a prototype of mkfs.xfs(8).
fn describe(directory: &Path, text: &mut String) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            writeln!(text, "{name} d--755 0 0")?;
            describe(&path, text)?;
            text.push_str("$\n");
        } else {
            writeln!(text, "{name} ---644 0 0 {}", path.display())?;
        }
    }
    Ok(())
}
