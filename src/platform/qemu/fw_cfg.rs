//! QEMU's configuration device, by its DMA interface: one port write a transfer. Where that is missing (QEMU before 2.4,
//! `-global fw_cfg.dma_enabled=off`, and QEMU under Xen), byte by byte through a port.
//!
//! Source of the interface: QEMU's docs/specs/fw_cfg.rst and the public header linux/qemu_fw_cfg.h. The device does a
//! transfer before the port write that starts it ends, so waiting is only a safeguard.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::arch::{Clock, PhysMem, Ports, room_for};
use firstlight_tables::loader::{File, FileSource};

/// Items that have a fixed key (QEMU's standard-headers/linux/qemu_fw_cfg.h and hw/i386/fw_cfg.h).
pub mod key {
    /// The letters "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// The machine's UUID, 16 bytes.
    pub const UUID: u16 = 0x02;
    /// Whether the user wants no graphical display, 16 bits.
    pub const NOGRAPHIC: u16 = 0x04;
    /// CPUs present at start, 16 bits.
    pub const NB_CPUS: u16 = 0x05;
    /// Where the kernel wants to be, 32 bits.
    pub const KERNEL_ADDR: u16 = 0x07;
    /// Bytes of [`KERNEL_DATA`], 32 bits.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Where QEMU would put the initrd, 32 bits.
    pub const INITRD_ADDR: u16 = 0x0a;
    /// Bytes of [`INITRD_DATA`], 32 bits.
    pub const INITRD_SIZE: u16 = 0x0b;
    /// Whether the user wants a boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0e;
    /// Entry point of the kernel, 32 bits.
    pub const KERNEL_ENTRY: u16 = 0x10;
    /// The kernel's protected-mode part.
    pub const KERNEL_DATA: u16 = 0x11;
    /// The initrd.
    pub const INITRD_DATA: u16 = 0x12;
    /// Bytes of [`CMDLINE_DATA`] with its NUL, 32 bits.
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// The kernel's command line and a NUL.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// Bytes of [`SETUP_DATA`], 32 bits.
    pub const SETUP_SIZE: u16 = 0x17;
    /// The kernel's real-mode part.
    pub const SETUP_DATA: u16 = 0x18;
    /// The file directory.
    pub const FILE_DIR: u16 = 0x19;
}

const PORT_SELECT: u16 = 0x510;
const PORT_DATA: u16 = 0x511;
const PORT_DMA_HIGH: u16 = 0x514;
const PORT_DMA_LOW: u16 = 0x518;
/// What the DMA register's first half reads as while DMA is there, and item [`key::SIGNATURE`] in any case. The register's
/// second half would say no more.
const SIGNATURE: u32 = u32::from_le_bytes(*b"QEMU");

const CONTROL_ERROR: u32 = 1 << 0;
const CONTROL_READ: u32 = 1 << 1;
const CONTROL_SKIP: u32 = 1 << 2;
const CONTROL_SELECT: u32 = 1 << 3;
const CONTROL_WRITE: u32 = 1 << 4;

const TIMEOUT_US: u64 = 5_000_000;
const NAME_SIZE: usize = 56;
const ENTRY_SIZE: usize = 8 + NAME_SIZE;
/// Entries fetched with the first read: more than QEMU has without very many `-fw_cfg` options.
const USUAL_ENTRIES: usize = 48;
/// Memory that has to be left beside a large file or the directory, for what comes after.
const ROOM_BESIDE: usize = 128 << 10;
/// A file of at most so many bytes takes little from anybody: the wishes that are read while a guest runs, when the heap is small.
const SMALL_FILE: u32 = 4 << 10;
/// QEMU allows fewer files than keys, and keys have 14 bits.
const MAX_ENTRIES: usize = 0x3fff;

/// Why fw_cfg could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FwCfgError {
    /// There is no fw_cfg.
    NoDevice,
    /// The device reported an error.
    Refused,
    /// The device did not finish.
    Timeout,
    /// The directory claims more files than there can be.
    BadDirectory,
    /// A buffer longer than a transfer can be.
    TooLong,
}

impl fmt::Display for FwCfgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDevice => "no such device",
            Self::Refused => "the device refused the transfer",
            Self::Timeout => "the device did not finish the transfer",
            Self::BadDirectory => "the file directory is not valid",
            Self::TooLong => "the transfer is longer than 4 GiB",
        })
    }
}

/// The device and its file directory, in which QEMU only changes how long the ACPI tables are: it makes them anew when they are first
/// read.
#[derive(Clone, Debug, Default)]
pub struct FwCfg {
    /// Directory entries as the device gives them: size, key, two reserved bytes, name; numbers are big-endian.
    entries: Vec<u8>,
    /// Whether the device has the DMA interface.
    dma: bool,
}

impl FwCfg {
    /// Finds the device and reads its file directory.
    ///
    /// # Errors
    /// No device, or one that does not answer as documented.
    pub fn open(hw: &(impl Ports + PhysMem + Clock)) -> Result<Self, FwCfgError> {
        let mut fw_cfg = Self {
            dma: hw.in32(PORT_DMA_HIGH) == SIGNATURE,
            ..Self::default()
        };
        if !fw_cfg.dma && fw_cfg.number::<4>(hw, key::SIGNATURE) != SIGNATURE.into() {
            return Err(FwCfgError::NoDevice);
        }
        fw_cfg.read_directory(hw)?;
        Ok(fw_cfg)
    }

    /// The same with the directory as it is now.
    ///
    /// # Errors
    /// As [`FwCfg::open`].
    pub fn reread(&self, hw: &(impl Ports + PhysMem + Clock)) -> Result<Self, FwCfgError> {
        let mut fw_cfg = Self {
            dma: self.dma,
            ..Self::default()
        };
        fw_cfg.read_directory(hw)?;
        Ok(fw_cfg)
    }

    fn read_directory(&mut self, hw: &(impl Ports + PhysMem + Clock)) -> Result<(), FwCfgError> {
        let mut bytes = vec![0; 4 + USUAL_ENTRIES * ENTRY_SIZE];
        self.read(hw, key::FILE_DIR, &mut bytes)?;
        let count = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if count > MAX_ENTRIES {
            return Err(FwCfgError::BadDirectory);
        }
        let all = count * ENTRY_SIZE;
        let count = if count > USUAL_ENTRIES && !room_for(all + ROOM_BESIDE) {
            log::warn!("fw_cfg: no memory for {count} files: the rest is left out");
            USUAL_ENTRIES
        } else {
            count
        };
        if count > USUAL_ENTRIES {
            bytes = vec![0; 4 + count * ENTRY_SIZE];
            self.read(hw, key::FILE_DIR, &mut bytes)?;
        }
        bytes.truncate(4 + count * ENTRY_SIZE);
        bytes.drain(..4);
        self.entries = bytes;
        Ok(())
    }

    /// The file called `name`.
    pub fn find(&self, name: &[u8]) -> Option<File> {
        let (last, len) = (*name.last()?, name.len());
        // The ends differ more than the starts do, so look there first.
        let same = |field: &[u8]| {
            field.get(len - 1) == Some(&last)
                && field.get(len).is_none_or(|after| *after == 0)
                && field.starts_with(name)
        };
        let mut entries = self.entries.chunks_exact(ENTRY_SIZE);
        entries.find(|entry| same(&entry[8..])).map(file)
    }

    /// All files with their names.
    pub fn files(&self) -> impl Iterator<Item = (File, &[u8])> {
        self.entries.chunks_exact(ENTRY_SIZE).map(|entry| {
            let name = &entry[8..];
            let len = name.iter().position(|b| *b == 0).unwrap_or(NAME_SIZE);
            (file(entry), &name[..len])
        })
    }

    /// Fills `buf` from the start of item `key`; bytes past the item's end are zero.
    ///
    /// # Errors
    /// The device refuses or does not answer.
    pub fn read(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        key: u16,
        buf: &mut [u8],
    ) -> Result<(), FwCfgError> {
        self.read_at(hw, key, 0, buf)
    }

    /// Fills `buf` as [`FwCfg::read`] does, from `offset` of item `key`.
    ///
    /// # Errors
    /// The device refuses or does not answer.
    pub fn read_at(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        key: u16,
        offset: u32,
        buf: &mut [u8],
    ) -> Result<(), FwCfgError> {
        let len = u32::try_from(buf.len()).map_err(|_| FwCfgError::TooLong)?;
        // Memory is identity-mapped; exposing the pointer tells the compiler that the device may write there.
        let addr = buf.as_mut_ptr().expose_provenance() as u64;
        self.read_to(hw, key, offset, addr, len)
    }

    /// Reads `len` bytes of item `key` from `offset` straight to physical address `addr`.
    ///
    /// # Errors
    /// The device refuses or does not answer.
    pub fn read_to(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        key: u16,
        offset: u32,
        addr: u64,
        len: u32,
    ) -> Result<(), FwCfgError> {
        if self.dma {
            return transfer(hw, key, offset, CONTROL_READ, addr, len);
        }
        read_by_port(hw, key, offset, addr, len);
        Ok(())
    }

    /// Writes `data` at `offset` of item `key`, for the few items that QEMU lets a guest write.
    ///
    /// # Errors
    /// The item is read-only or shorter, or the device does not answer.
    pub fn write(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        key: u16,
        offset: u32,
        data: &[u8],
    ) -> Result<(), FwCfgError> {
        // By port, QEMU takes no data (since 2.4).
        if !self.dma {
            return Err(FwCfgError::Refused);
        }
        let len = u32::try_from(data.len()).map_err(|_| FwCfgError::TooLong)?;
        let addr = data.as_ptr().expose_provenance() as u64;
        transfer(hw, key, offset, CONTROL_WRITE, addr, len)
    }

    /// The whole file called `name`, if there is one that can be read and has at most `limit` bytes.
    ///
    /// A file that is there but cannot be used is logged.
    pub fn read_file(
        &self,
        hw: &(impl Ports + PhysMem + Clock),
        name: &[u8],
        limit: u32,
    ) -> Option<Vec<u8>> {
        let file = self.find(name)?;
        if file.size == 0 {
            return Some(Vec::new());
        }
        let shown = name.escape_ascii();
        if file.size > limit {
            log::warn!(
                "fw_cfg {shown}: {} bytes, more than the {limit} allowed",
                file.size
            );
            return None;
        }
        let beside = if file.size > SMALL_FILE {
            ROOM_BESIDE
        } else {
            0
        };
        if !room_for(file.size as usize + beside) {
            log::warn!("fw_cfg {shown}: no memory for {} bytes", file.size);
            return None;
        }
        let mut bytes = vec![0; file.size as usize];
        match self.read(hw, file.handle as u16, &mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                log::warn!("fw_cfg {shown}: {error}");
                None
            }
        }
    }

    /// The little-endian number of `N` bytes that is item `key`; 0 where the device fails.
    pub fn number<const N: usize>(&self, hw: &(impl Ports + PhysMem + Clock), key: u16) -> u64 {
        let mut bytes = [0; N];
        let mut wide = [0; 8];
        if self.read(hw, key, &mut bytes).is_ok() {
            wide[..N.min(8)].copy_from_slice(&bytes[..N.min(8)]);
        }
        u64::from_le_bytes(wide)
    }

    /// The little-endian number that is the file called `name`.
    pub fn number_file(&self, hw: &(impl Ports + PhysMem + Clock), name: &[u8]) -> Option<u64> {
        let bytes = self.read_file(hw, name, 8)?;
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(&bytes);
        Some(u64::from_le_bytes(wide))
    }
}

fn file(entry: &[u8]) -> File {
    File {
        size: u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]),
        handle: u16::from_be_bytes([entry[4], entry[5]]).into(),
    }
}

fn transfer(
    hw: &(impl Ports + PhysMem + Clock),
    key: u16,
    offset: u32,
    direction: u32,
    addr: u64,
    len: u32,
) -> Result<(), FwCfgError> {
    let select = u32::from(key) << 16 | CONTROL_SELECT;
    if offset == 0 {
        return command(hw, select | direction, addr, len);
    }
    command(hw, select | CONTROL_SKIP, 0, offset)?;
    command(hw, direction, addr, len)
}

/// The device gives zeros past an item's end, as DMA does. Nothing tells of a failure.
fn read_by_port(
    hw: &(impl Ports + PhysMem),
    key: u16,
    mut offset: u32,
    mut addr: u64,
    mut len: u32,
) {
    // Under Xen, QEMU is asked once for as much of one instruction as lies in one page.
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let mut page = Page([0; 4096]);
    let bytes = &mut page.0;
    hw.out16(PORT_SELECT, key);
    while offset > 0 {
        let step = offset.min(bytes.len() as u32);
        hw.in8_repeated(PORT_DATA, &mut bytes[..step as usize]);
        offset -= step;
    }
    while len > 0 {
        let step = len.min(bytes.len() as u32);
        let part = &mut bytes[..step as usize];
        hw.in8_repeated(PORT_DATA, part);
        hw.write(addr, part);
        addr += u64::from(step);
        len -= step;
    }
}

/// One DMA command. The address register's high half is zero after reset and after each command, so a descriptor below
/// 4 GiB, where the firmware lives, takes one port write.
fn command(
    hw: &(impl Ports + PhysMem + Clock),
    control: u32,
    addr: u64,
    len: u32,
) -> Result<(), FwCfgError> {
    let mut descriptor = [0u8; 16];
    let at = descriptor.as_mut_ptr().expose_provenance() as u64;
    hw.write32(at, control.to_be());
    hw.write32(at + 4, len.to_be());
    hw.write64(at + 8, addr.to_be());
    if at >> 32 != 0 {
        hw.out32(PORT_DMA_HIGH, ((at >> 32) as u32).to_be());
    }
    hw.out32(PORT_DMA_LOW, (at as u32).to_be());
    let left = hw.wait_for(TIMEOUT_US, || {
        let left = u32::from_be(hw.read32(at));
        (left & !CONTROL_ERROR == 0).then_some(left)
    });
    match left {
        Some(0) => Ok(()),
        Some(_) => Err(FwCfgError::Refused),
        None => Err(FwCfgError::Timeout),
    }
}

/// fw_cfg as the table loader's source of files.
pub struct Files<'a, H> {
    /// The device.
    pub fw_cfg: &'a FwCfg,
    /// The machine it is in.
    pub hw: &'a H,
}

impl<H: Ports + PhysMem + Clock> FileSource for Files<'_, H> {
    fn find(&mut self, name: &[u8]) -> Option<File> {
        self.fw_cfg.find(name)
    }

    fn read(&mut self, file: File, dest: &mut [u8]) -> bool {
        self.fw_cfg.read(self.hw, file.handle as u16, dest).is_ok()
    }

    fn write(&mut self, file: File, offset: u32, bytes: &[u8]) -> bool {
        self.fw_cfg
            .write(self.hw, file.handle as u16, offset, bytes)
            .is_ok()
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
