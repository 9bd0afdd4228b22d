//! QEMU's table loader: a script in the fw_cfg file `etc/table-loader` that says which files to place in memory, which
//! pointers between them to fix, which checksums to make, and which addresses to tell QEMU.
//!
//! Source of the interface: the comments of QEMU's hw/acpi/bios-linker-loader.c. The script is a row of 128-byte
//! commands. The script is checked as a whole before anything is placed, and on a later error every placed byte is
//! cleared again, so a guest finds either all tables or none.

use alloc::vec::Vec;

use super::place::{Block, Placer, Zone, checksum, sum};

/// The fw_cfg file with the script.
pub const SCRIPT_FILE: &[u8] = b"etc/table-loader";

const COMMAND_SIZE: usize = 128;
const NAME_SIZE: usize = 56;
const RSDP_SIGNATURE: &[u8] = b"RSD PTR ";

/// A file of a [`FileSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// The source's own handle, for instance the fw_cfg selector.
    pub handle: u32,
    /// Size in bytes.
    pub size: u32,
}

/// The hypervisor's files.
pub trait FileSource {
    /// The file called `name` (no NUL at its end).
    fn find(&mut self, name: &[u8]) -> Option<File>;
    /// Reads the file's first `dest.len()` bytes, which are at most its size. `false` where that failed.
    fn read(&mut self, file: File, dest: &mut [u8]) -> bool;
    /// Writes `bytes` at `offset` of the file. `false` where that failed.
    fn write(&mut self, file: File, offset: u32, bytes: &[u8]) -> bool;
}

/// Why a script was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The script is not a row of whole commands.
    TornScript,
    /// A file name fills its field with no NUL after it, or is empty.
    BadName,
    /// ALLOCATE names a zone that is neither 1 nor 2.
    UnknownZone(u8),
    /// ALLOCATE asks for an alignment that is not a power of two.
    BadAlignment(u32),
    /// No such file, or an empty one.
    NoSuchFile,
    /// ALLOCATE names a file that already has its memory.
    AllocatedTwice,
    /// A command names a file that no earlier ALLOCATE placed.
    NotAllocated,
    /// A command reaches outside a file.
    OutOfRange,
    /// A pointer has another size than 1, 2, 4 or 8 bytes, or too few for the address.
    BadPointerSize(u8),
    /// No memory left in the zone.
    NoMemory,
    /// The source could not read a file.
    ReadFailed,
    /// The source could not write a file.
    WriteFailed,
}

/// A refused script: what is wrong, and with which of its commands (the first is 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderError {
    /// Index of the command.
    pub command: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What was written to a file of the source. A machine that wakes up from S3 has to be told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    file: File,
    offset: u32,
    bytes: [u8; 8],
    size: u8,
}

impl Told {
    /// Writes it to `source`. `false` where that failed.
    pub fn tell(&self, source: &mut dyn FileSource) -> bool {
        let bytes = &self.bytes[..usize::from(self.size)];
        source.write(self.file, self.offset, bytes)
    }
}

/// What a script left in memory.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Physical address of the ACPI root pointer, where the script placed one in the F segment.
    pub rsdp: Option<u64>,
    /// The placed files, in the order of the script.
    pub blocks: Vec<Block>,
    /// What the source was told.
    pub told: Vec<Told>,
}

impl Loaded {
    /// The bytes from physical address `addr` to the end of the placed file that holds it.
    pub fn at(&self, addr: u64) -> Option<&[u8]> {
        self.blocks.iter().find_map(|block| {
            let offset = usize::try_from(addr.checked_sub(block.addr)?).ok()?;
            block.bytes.get(offset..).filter(|rest| !rest.is_empty())
        })
    }
}

/// Runs a script: finds its files in `source`, places them with `placer` and links them.
///
/// # Errors
/// [`LoaderError`] names the first command that is wrong; nothing is then left in memory that a guest would find,
/// and, unless it is [`Fault::WriteFailed`], nothing was written to `source`.
pub fn run(
    script: &[u8],
    source: &mut dyn FileSource,
    placer: &mut dyn Placer,
) -> Result<Loaded, LoaderError> {
    let mut plan = Plan::default();
    let (commands, torn) = script.as_chunks::<COMMAND_SIZE>();
    for (index, command) in commands.iter().enumerate() {
        plan.add(command, source).map_err(|fault| LoaderError {
            command: index,
            fault,
        })?;
    }
    if !torn.is_empty() {
        return Err(LoaderError {
            command: commands.len(),
            fault: Fault::TornScript,
        });
    }
    let mut blocks = Vec::with_capacity(plan.files.len());
    let done = plan
        .place(source, placer, &mut blocks)
        .and_then(|()| plan.link(source, &mut blocks));
    let told = match done {
        Ok(told) => told,
        Err((command, fault)) => {
            for block in &mut blocks {
                block.bytes.fill(0);
            }
            let command = usize::from(command);
            return Err(LoaderError { command, fault });
        }
    };
    let rsdp = plan.find_rsdp(&blocks);
    Ok(Loaded { rsdp, blocks, told })
}

/// A file name as the script stores it, padded with NULs, in words so that comparing is cheap.
type Name = [u64; NAME_SIZE / 8];

struct PlacedFile {
    name: Name,
    file: File,
    zone: Zone,
    align: usize,
    command: u16,
}

#[derive(Clone, Copy)]
enum Step {
    /// Add the address of file `to` to the pointer at `offset` of file `at`.
    AddPointer {
        at: usize,
        to: usize,
        offset: usize,
        size: u8,
    },
    /// Make the sum of `start..end` of file `at` zero with the byte at `offset`.
    AddChecksum {
        at: usize,
        offset: usize,
        start: usize,
        end: usize,
    },
    /// Write the address of `to_offset` in file `to` to the source's file `at`.
    WritePointer {
        at: File,
        to: usize,
        offset: u32,
        to_offset: u32,
        size: u8,
    },
}

/// A checked script.
#[derive(Default)]
struct Plan {
    files: Vec<PlacedFile>,
    steps: Vec<(u16, Step)>,
    commands: u16,
}

impl Plan {
    fn add(
        &mut self,
        command: &[u8; COMMAND_SIZE],
        source: &mut dyn FileSource,
    ) -> Result<(), Fault> {
        let index = self.commands;
        self.commands = index.checked_add(1).ok_or(Fault::TornScript)?;
        let step = match word(command, 0) {
            1 => return self.add_file(command, index, source),
            2 => self.add_pointer(command)?,
            3 => self.add_checksum(command)?,
            4 => self.write_pointer(command, source)?,
            // Commands that a later QEMU adds are optional, or it would not offer them unasked.
            _ => return Ok(()),
        };
        self.steps.push((index, step));
        Ok(())
    }

    fn add_file(
        &mut self,
        command: &[u8; COMMAND_SIZE],
        index: u16,
        source: &mut dyn FileSource,
    ) -> Result<(), Fault> {
        let name = name(command, 4);
        if self.files.iter().any(|file| file.name == name) {
            return Err(Fault::AllocatedTwice);
        }
        let file = find(command, 4, source)?;
        let align = word(command, 60);
        if !align.is_power_of_two() {
            return Err(Fault::BadAlignment(align));
        }
        let zone = match command[64] {
            1 => Zone::High,
            2 => Zone::FSegment,
            other => return Err(Fault::UnknownZone(other)),
        };
        self.files.push(PlacedFile {
            name,
            file,
            zone,
            align: align as usize,
            command: index,
        });
        Ok(())
    }

    fn add_pointer(&self, command: &[u8; COMMAND_SIZE]) -> Result<Step, Fault> {
        let at = self.placed(command, 4)?;
        let to = self.placed(command, 60)?;
        let (offset, size) = (word(command, 116), command[120]);
        self.check(at, offset, pointer_size(size)?)?;
        Ok(Step::AddPointer {
            at,
            to,
            offset: offset as usize,
            size,
        })
    }

    fn add_checksum(&self, command: &[u8; COMMAND_SIZE]) -> Result<Step, Fault> {
        let at = self.placed(command, 4)?;
        let (offset, start, size) = (word(command, 60), word(command, 64), word(command, 68));
        self.check(at, offset, 1)?;
        self.check(at, start, size)?;
        Ok(Step::AddChecksum {
            at,
            offset: offset as usize,
            start: start as usize,
            end: start as usize + size as usize,
        })
    }

    fn write_pointer(
        &self,
        command: &[u8; COMMAND_SIZE],
        source: &mut dyn FileSource,
    ) -> Result<Step, Fault> {
        let at = find(command, 4, source)?;
        let to = self.placed(command, 60)?;
        let (offset, to_offset, size) = (word(command, 116), word(command, 120), command[124]);
        let end = u64::from(offset) + u64::from(pointer_size(size)?);
        if end > u64::from(at.size) {
            return Err(Fault::OutOfRange);
        }
        self.check(to, to_offset, 1)?;
        Ok(Step::WritePointer {
            at,
            to,
            offset,
            to_offset,
            size,
        })
    }

    /// The placed file whose name is at `field` of the command.
    fn placed(&self, command: &[u8; COMMAND_SIZE], field: usize) -> Result<usize, Fault> {
        let name = name(command, field);
        self.files
            .iter()
            .position(|file| file.name == name)
            .ok_or(Fault::NotAllocated)
    }

    /// Checks that `size` bytes at `offset` lie in the file.
    fn check(&self, file: usize, offset: u32, size: u32) -> Result<(), Fault> {
        let end = u64::from(offset) + u64::from(size);
        if end > u64::from(self.files[file].file.size) {
            return Err(Fault::OutOfRange);
        }
        Ok(())
    }

    fn place(
        &self,
        source: &mut dyn FileSource,
        placer: &mut dyn Placer,
        blocks: &mut Vec<Block>,
    ) -> Result<(), (u16, Fault)> {
        for file in &self.files {
            let size = file.file.size as usize;
            let block = placer
                .allocate(file.zone, size, file.align)
                .filter(|block| block.bytes.len() == size)
                .ok_or((file.command, Fault::NoMemory))?;
            blocks.push(block);
            let read = blocks
                .last_mut()
                .is_some_and(|block| source.read(file.file, block.bytes));
            if !read {
                return Err((file.command, Fault::ReadFailed));
            }
        }
        Ok(())
    }

    /// Runs the steps. QEMU is told addresses last, when nothing else can fail any more.
    fn link(
        &self,
        source: &mut dyn FileSource,
        blocks: &mut [Block],
    ) -> Result<Vec<Told>, (u16, Fault)> {
        for &(command, step) in &self.steps {
            match step {
                Step::AddPointer {
                    at,
                    to,
                    offset,
                    size,
                } => {
                    let target = (blocks[to].addr, blocks[to].bytes.len());
                    let field = &mut blocks[at].bytes[offset..offset + usize::from(size)];
                    relocate(field, target).map_err(|fault| (command, fault))?;
                }
                Step::AddChecksum {
                    at,
                    offset,
                    start,
                    end,
                } => {
                    let bytes = &mut *blocks[at].bytes;
                    bytes[offset] = bytes[offset].wrapping_add(checksum(&bytes[start..end]));
                }
                Step::WritePointer { .. } => {}
            }
        }
        let mut told = Vec::new();
        for &(command, step) in &self.steps {
            if let Step::WritePointer {
                at,
                to,
                offset,
                to_offset,
                size,
            } = step
            {
                let value = blocks[to].addr + u64::from(to_offset);
                let bytes = pointer_bytes(value, size).map_err(|fault| (command, fault))?;
                let pointer = Told {
                    file: at,
                    offset,
                    bytes,
                    size,
                };
                if !pointer.tell(source) {
                    return Err((command, Fault::WriteFailed));
                }
                told.push(pointer);
            }
        }
        Ok(told)
    }

    fn find_rsdp(&self, blocks: &[Block]) -> Option<u64> {
        let fseg = |(file, _): &(&PlacedFile, &Block)| file.zone == Zone::FSegment;
        self.files
            .iter()
            .zip(blocks)
            .filter(fseg)
            .find_map(|(_, block)| {
                let skip = block.addr.wrapping_neg() as usize % 16;
                (skip..block.bytes.len())
                    .step_by(16)
                    .find(|offset| is_rsdp(&block.bytes[*offset..]))
                    .map(|offset| block.addr + offset as u64)
            })
    }
}

/// Whether a valid ACPI 1.0 root pointer starts here (ACPI specification 6.5, section 5.2.5.3).
fn is_rsdp(bytes: &[u8]) -> bool {
    bytes.starts_with(RSDP_SIGNATURE) && bytes.get(..20).is_some_and(|rsdp| sum(rsdp) == 0)
}

/// Turns an offset into the file at `target` (address, size) into a physical address, in place.
fn relocate(field: &mut [u8], target: (u64, usize)) -> Result<(), Fault> {
    let mut value = [0; 8];
    value[..field.len()].copy_from_slice(field);
    let offset = u64::from_le_bytes(value);
    if offset >= target.1 as u64 {
        return Err(Fault::OutOfRange);
    }
    let size = field.len() as u8;
    field.copy_from_slice(&pointer_bytes(target.0 + offset, size)?[..field.len()]);
    Ok(())
}

/// An address in little endian, of which `size` bytes count.
fn pointer_bytes(value: u64, size: u8) -> Result<[u8; 8], Fault> {
    let bits = u32::from(size) * 8;
    if bits < 64 && value >> bits != 0 {
        return Err(Fault::BadPointerSize(size));
    }
    Ok(value.to_le_bytes())
}

fn pointer_size(size: u8) -> Result<u32, Fault> {
    match size {
        1 | 2 | 4 | 8 => Ok(size.into()),
        _ => Err(Fault::BadPointerSize(size)),
    }
}

/// The little-endian word at a constant `offset` of a command.
#[inline(always)]
fn word(command: &[u8; COMMAND_SIZE], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&command[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

#[inline(always)]
fn name(command: &[u8; COMMAND_SIZE], field: usize) -> Name {
    let (words, _) = command[field..field + NAME_SIZE].as_chunks::<8>();
    core::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

fn find(
    command: &[u8; COMMAND_SIZE],
    field: usize,
    source: &mut dyn FileSource,
) -> Result<File, Fault> {
    let bytes = &command[field..field + NAME_SIZE];
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = end.filter(|end| *end > 0).ok_or(Fault::BadName)?;
    source
        .find(&bytes[..name])
        .filter(|file| file.size > 0)
        .ok_or(Fault::NoSuchFile)
}

#[cfg(test)]
mod tests;
