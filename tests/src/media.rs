//! Media that say which one was booted, and how drives are numbered then: see `guest/letter.s` and `guest/which.s`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/letter.bin"));
static PRIORITY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bbs.bin"));
static NUMBERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/which.bin"));

/// Where the program has its letter.
const LETTER_OFFSET: usize = 1;
/// Bytes of a disk, and of a floppy disk.
const DISK: u64 = 4 << 20;
const FLOPPY: u64 = 1_474_560;
/// Bytes of a CD's sector.
const CD_SECTOR: u64 = 2048;

/// The program with its letter: one sector of 512 bytes.
pub fn program(letter: char) -> Vec<u8> {
    with_letter(PROGRAM, letter)
}

/// The same, but it also says its drive number and which media the first three drives of its kind have.
pub fn numbers(letter: char) -> Vec<u8> {
    with_letter(NUMBERS, letter)
}

fn with_letter(program: &[u8], letter: char) -> Vec<u8> {
    let mut program = program.to_vec();
    program[LETTER_OFFSET] = letter as u8;
    program
}

/// Makes a hard disk that says `letter` in `directory`.
///
/// # Errors
/// The file cannot be made.
pub fn disk(directory: &Path, letter: char) -> Result<PathBuf> {
    raw(directory, letter, &program(letter), DISK)
}

/// Makes a hard disk that says how drives are numbered.
///
/// # Errors
/// As [`disk`].
pub fn numbered_disk(directory: &Path, letter: char) -> Result<PathBuf> {
    raw(directory, letter, &numbers(letter), DISK)
}

/// Makes a hard disk that says what the Plug and Play BIOS tells of the boot: see `guest/bbs.s`.
///
/// # Errors
/// As [`disk`].
pub fn asking_disk(directory: &Path, letter: char) -> Result<PathBuf> {
    raw(directory, letter, PRIORITY, DISK)
}

/// Makes a floppy disk that says how drives are numbered.
///
/// # Errors
/// As [`disk`].
pub fn numbered_floppy(directory: &Path, letter: char) -> Result<PathBuf> {
    raw(directory, letter, &numbers(letter), FLOPPY)
}

/// Makes a floppy disk.
///
/// # Errors
/// As [`disk`].
pub fn floppy(directory: &Path, letter: char) -> Result<PathBuf> {
    raw(directory, letter, &program(letter), FLOPPY)
}

fn raw(directory: &Path, letter: char, program: &[u8], size: u64) -> Result<PathBuf> {
    let path = directory.join(format!("{letter}.img"));
    let file = File::create(&path)?;
    file.write_all_at(program, 0)?;
    file.set_len(size)?;
    Ok(path)
}

/// Makes a CD that says `letter`.
///
/// # Errors
/// As [`disk`].
pub fn cdrom(directory: &Path, letter: char) -> Result<PathBuf> {
    cdrom_of(directory, &letter.to_string(), &program(letter))
}

/// Makes a CD that boots `program` without emulation (El Torito 1.0, sections 2 and 3), and has no files.
///
/// # Errors
/// As [`disk`].
pub fn cdrom_of(directory: &Path, name: &str, program: &[u8]) -> Result<PathBuf> {
    const CATALOG: u64 = 19;
    const IMAGE: u64 = 20;
    const SECTORS: u64 = 64;
    let path = directory.join(format!("{name}.iso"));
    let file = File::create(&path)?;
    let put = |sector: u64, offset: usize, bytes: &[u8]| {
        file.write_all_at(bytes, sector * CD_SECTOR + offset as u64)
    };
    put(16, 0, b"\x01CD001\x01")?;
    put(16, 40, format!("{:32}", format!("DISC_{name}")).as_bytes())?;
    put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION")?;
    put(17, 0x47, &(CATALOG as u32).to_le_bytes())?;
    put(18, 0, b"\xffCD001\x01")?;
    // The validation entry's words add up to zero.
    let mut validation = [0u8; 32];
    validation[0] = 1;
    validation[30..].copy_from_slice(&[0x55, 0xaa]);
    let sum = validation.chunks(2).fold(0u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    put(CATALOG, 0, &validation)?;
    // Bootable, no emulation, segment 7C0h by default, four sectors of 512 bytes.
    let mut entry = [0u8; 32];
    entry[0] = 0x88;
    entry[6] = 4;
    entry[8..12].copy_from_slice(&(IMAGE as u32).to_le_bytes());
    put(CATALOG, 32, &entry)?;
    put(IMAGE, 0, program)?;
    file.set_len(SECTORS * CD_SECTOR)?;
    Ok(path)
}

/// An option ROM with the last byte that makes its checksum right, or wrong.
pub fn rom(program: &[u8], right: bool) -> Vec<u8> {
    let mut rom = program.to_vec();
    let sum = rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    *rom.last_mut().expect("a ROM has bytes") = sum.wrapping_neg().wrapping_add(u8::from(!right));
    rom
}
