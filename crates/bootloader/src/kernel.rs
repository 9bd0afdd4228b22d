//! Whether Xen can start a file as a guest's kernel: what libxenguest looks for, as far as it shows without unpacking.
//!
//! A compressed kernel is taken as it is: libxenguest unpacks it, and says itself where the kernel in it has no Xen note.

use crate::volumes::{File, FileError};

/// How many bytes of notes are looked at.
const NOTES: u64 = 64 << 10;

/// The types of Xen's ELF notes that say how a kernel is entered (Xen's public header elfnote.h).
const ENTRY: u32 = 1;
const PHYS32_ENTRY: u32 = 18;

/// What a kernel's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// A compressed kernel in a bzImage, or one that is compressed as a whole.
    Compressed,
    /// An ELF file, and how Xen can enter it.
    Elf { pv: bool, pvh: bool },
    /// A file with Xen's own header for images that are no ELF files.
    Xen,
}

/// Looks at a kernel.
///
/// # Errors
/// A text that says what is missing.
pub fn check(file: &dyn File) -> Result<Image, String> {
    let mut start = vec![0; 0x8000];
    let length = read(file, 0, &mut start).map_err(|error| error.to_string())?;
    start.truncate(length);
    if start.starts_with(b"\x7fELF") {
        return elf(&start, file);
    }
    if start.get(0x202..0x206) == Some(b"HdrS") {
        return bzimage(&start, file);
    }
    if is_compressed(&start) {
        return Ok(Image::Compressed);
    }
    // XEN_MULTIBOOT_MAGIC3, aligned to 4 bytes in the first 8,192 (libxenguest's loader for binary images).
    let magic = 0x336e_c578_u32.to_le_bytes();
    if start
        .get(..8192.min(length))
        .is_some_and(|start| start.chunks_exact(4).any(|word| word == magic))
    {
        return Ok(Image::Xen);
    }
    Err("it is no kernel: neither ELF nor bzImage, nor a compressed one of these".to_owned())
}

/// Reads as much as there is.
fn read(file: &dyn File, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read_at(offset.saturating_add(filled as u64), rest)? {
            0 => break,
            count => filled = filled.saturating_add(count),
        }
    }
    Ok(filled)
}

/// The formats that libxenguest unpacks, by their first bytes.
fn is_compressed(start: &[u8]) -> bool {
    const MAGIC: &[&[u8]] = &[
        b"\x1f\x8b",         // gzip
        b"BZh",              // bzip2
        b"\xfd7zXZ\0",       // xz
        b"\x5d\0\0",         // lzma
        b"\x89LZO",          // lzop
        b"\x02\x21\x4c\x18", // lz4, as the kernel has it
        b"\x28\xb5\x2f\xfd", // zstd
    ];
    MAGIC.iter().any(|magic| start.starts_with(magic))
}

/// A Linux kernel with its setup (Linux, Documentation/arch/x86/boot.rst). libxenguest needs the field that says where the
/// payload is, of protocol 2.08.
fn bzimage(start: &[u8], file: &dyn File) -> Result<Image, String> {
    let version = u16_at(start, 0x206).unwrap_or(0);
    if version < 0x208 {
        let (major, minor) = (version >> 8, version & 0xff);
        return Err(format!(
            "it is a bzImage of boot protocol {major}.{minor:02}, where Xen needs 2.08"
        ));
    }
    let sectors = match start.get(0x1f1) {
        Some(0) | None => 4,
        Some(sectors) => u64::from(*sectors),
    };
    let payload = u32_at(start, 0x248).unwrap_or(0);
    let at = (sectors + 1) * 512 + u64::from(payload);
    let mut head = [0; 16];
    let length = read(file, at, &mut head).map_err(|error| error.to_string())?;
    let head = &head[..length];
    match is_compressed(head) || head.starts_with(b"\x7fELF") {
        true => Ok(Image::Compressed),
        false => Err("it is a bzImage whose payload is neither ELF nor compressed".to_owned()),
    }
}

fn elf(start: &[u8], file: &dyn File) -> Result<Image, String> {
    let wide = start.get(4) == Some(&2);
    if start.get(5) != Some(&1) {
        return Err("it is an ELF file, but not a little-endian one".to_owned());
    }
    let (table, size, count) = match wide {
        true => (u64_at(start, 32), u16_at(start, 54), u16_at(start, 56)),
        false => (
            u32_at(start, 28).map(u64::from),
            u16_at(start, 42),
            u16_at(start, 44),
        ),
    };
    let (Some(table), Some(size), Some(count)) = (table, size, count) else {
        return Err("it is an ELF file without its header".to_owned());
    };
    let (mut pv, mut pvh) = (false, false);
    for index in 0..u64::from(count.min(128)) {
        let mut header = [0; 56];
        let at = table.saturating_add(index * u64::from(size));
        let length = read(file, at, &mut header).map_err(|error| error.to_string())?;
        let header = &header[..length];
        // PT_NOTE.
        if u32_at(header, 0) != Some(4) {
            continue;
        }
        let (offset, size) = match wide {
            true => (u64_at(header, 8), u64_at(header, 32)),
            false => (
                u32_at(header, 4).map(u64::from),
                u32_at(header, 16).map(u64::from),
            ),
        };
        if let (Some(offset), Some(size)) = (offset, size) {
            let mut notes = vec![0; size.min(NOTES) as usize];
            let length = read(file, offset, &mut notes).map_err(|error| error.to_string())?;
            for kind in xen_notes(&notes[..length]) {
                pv |= kind == ENTRY;
                pvh |= kind == PHYS32_ENTRY;
            }
        }
    }
    // Kernels before Linux 2.6.23 have a section of text instead of notes; which have none shows only in the section's name.
    match pv || pvh || has_section(start, file, wide) {
        true => Ok(Image::Elf { pv, pvh }),
        false => Err(
            "it is an ELF kernel without a Xen note: it was built without CONFIG_XEN_PV and CONFIG_PVH"
                .to_owned(),
        ),
    }
}

/// The types of the notes whose owner is Xen.
fn xen_notes(notes: &[u8]) -> Vec<u32> {
    let mut kinds = Vec::new();
    let mut at = 0_usize;
    while let (Some(owner), Some(data), Some(kind)) = (
        u32_at(notes, at),
        u32_at(notes, at + 4),
        u32_at(notes, at + 8),
    ) {
        let (owner, data) = (owner as usize, data as usize);
        let name = notes.get(at + 12..).and_then(|rest| rest.get(..owner));
        if name == Some(b"Xen\0") {
            kinds.push(kind);
        }
        let padded = |length: usize| length.checked_next_multiple_of(4);
        let next = padded(owner)
            .zip(padded(data))
            .and_then(|(owner, data)| (at + 12).checked_add(owner)?.checked_add(data));
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    kinds
}

/// Whether there is the section `__xen_guest`.
fn has_section(start: &[u8], file: &dyn File, wide: bool) -> bool {
    let (table, size, count, names) = match wide {
        true => (
            u64_at(start, 40),
            u16_at(start, 58),
            u16_at(start, 60),
            u16_at(start, 62),
        ),
        false => (
            u32_at(start, 32).map(u64::from),
            u16_at(start, 46),
            u16_at(start, 48),
            u16_at(start, 50),
        ),
    };
    let (Some(table), Some(size), Some(count), Some(names)) = (table, size, count, names) else {
        return false;
    };
    if names >= count {
        return false;
    }
    let mut header = [0; 64];
    let at = table.saturating_add(u64::from(names) * u64::from(size));
    if !matches!(read(file, at, &mut header), Ok(40..)) {
        return false;
    }
    let (offset, length) = match wide {
        true => (u64_at(&header, 24), u64_at(&header, 32)),
        false => (
            u32_at(&header, 16).map(u64::from),
            u32_at(&header, 20).map(u64::from),
        ),
    };
    let mut text = vec![0; length.unwrap_or(0).min(NOTES) as usize];
    let length = read(file, offset.unwrap_or(0), &mut text).unwrap_or(0);
    let wanted = b"__xen_guest\0";
    text[..length]
        .windows(wanted.len())
        .any(|part| part == wanted)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file of one note segment.
    fn elf_with(notes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 4;
        bytes[72] = 120;
        bytes[96..104].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        bytes.extend_from_slice(notes);
        bytes
    }

    fn note(kind: u32) -> Vec<u8> {
        let words = [4, 4, kind].map(u32::to_le_bytes);
        [&words.concat()[..], b"Xen\0", &[0; 4]].concat()
    }

    #[test]
    fn an_elf_kernel_needs_a_xen_note() {
        let check = |bytes: &[u8]| check(&bytes);
        let other = [&[4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..], b"GNU\0\0\0\0\0"].concat();
        assert!(check(&elf_with(&other)).is_err_and(|why| why.contains("Xen note")));
        let both = [other, note(ENTRY), note(PHYS32_ENTRY)].concat();
        let found = Ok(Image::Elf {
            pv: true,
            pvh: true,
        });
        assert_eq!(check(&elf_with(&both)), found);
    }

    #[test]
    fn a_bzimage_needs_a_payload() {
        let mut image = vec![0; 0x4000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&[0x07, 0x02]);
        let check = |bytes: &[u8]| check(&bytes);
        assert!(check(&image).is_err_and(|why| why.contains("2.07")));
        image[0x206] = 0x0f;
        image[0x1f1] = 1;
        image[0x248] = 16;
        assert!(check(&image).is_err());
        image[1024 + 16..1024 + 20].copy_from_slice(b"\x28\xb5\x2f\xfd");
        assert_eq!(check(&image), Ok(Image::Compressed));
        assert!(check(b"#!/bin/sh\n").is_err());
        assert!(check(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_kernel_harms(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), elf in any::<bool>()) {
            if elf && bytes.len() > 8 {
                bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            }
            let _ = check(&bytes.as_slice());
            let _ = check(&elf_with(&bytes).as_slice());
        }
    }
}
