//! Other firmware behind ours: the toolstack's SeaBIOS or OVMF module, given what it expects of a loader.
//!
//! Each reads a structure at 0x1000 that names the BIOS tables and the memory map (SeaBIOS src/fw/xen.c, OVMF
//! OvmfPkg/XenPlatformPei/Xen.h), lies at its fixed place, and starts at F000:FFF0.

use super::config::Firmware;
use super::guest::Guest;
use crate::arch::PhysMem;
use crate::arch::hypercalls::Hypercalls;
use crate::low_memory::MODULE_INFO;
use crate::platform::Installed;
use crate::settings::Settings;
use crate::units::{FOUR_GIB, KIB, MIB, PAGE};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_tables::e820::E820Map;
use firstlight_tables::place::checksum;

/// Where both look for the structure. Its arrays follow on the same page.
pub const INFO_ADDR: u64 = MODULE_INFO.start;
const TABLES_ADDR: u64 = INFO_ADDR + 0x40;
const E820_ADDR: u64 = INFO_ADDR + 0x100;
/// What fits on the page.
const MAX_E820: usize = (PAGE as usize - 0x100) / 20;
const MAX_TABLES: usize = 8;

const SEGMENT: u64 = 64 * KIB;
/// Distance of the first instruction from the end.
const RESET_VECTOR: u64 = 16;
/// Below this, option ROMs and video memory lie, so no BIOS image can be longer.
const SEABIOS_MAX: u64 = 0x4_0000;
/// From here to 4 GiB the toolstack keeps nothing.
const OVMF_MIN_START: u64 = 0xff00_0000;
/// OVMF looks from here for the RSDP (OvmfPkg/XenAcpiPlatformDxe/AcpiPlatform.c) ...
pub const OVMF_RSDP_ADDR: u64 = 0xea020;
/// ... and from here for the SMBIOS entry point (OvmfPkg/SmbiosPlatformDxe/X86Xen.c).
pub const OVMF_SMBIOS_ADDR: u64 = 0xeb000;

/// The firmware that a module holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Ends at 1 MiB.
    SeaBios,
    /// Ends at 4 GiB; its last 64 KiB are also below 1 MiB.
    Ovmf,
}

/// Why a module cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// The toolstack gave none.
    Missing,
    /// Its length in bytes is none that such firmware has.
    Length(u64),
    /// Its first instruction, or the header of its volume, is not there.
    Damaged,
    /// There is no memory for it.
    NoMemory,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "the toolstack gave no firmware module"),
            Self::Length(length) => write!(f, "the firmware module cannot be {length} bytes long"),
            Self::Damaged => write!(f, "the firmware module is damaged"),
            Self::NoMemory => write!(f, "there is no memory for the firmware module"),
        }
    }
}

/// The firmware to start in place of the built-in BIOS, if any. What cannot be started is logged in one line.
pub fn choose(mem: &impl PhysMem, guest: &Guest, settings: &Settings) -> Option<Payload> {
    let image = match &guest.config.firmware {
        Firmware::Ovmf => Image::Ovmf,
        Firmware::SeaBios if settings.payload_module => Image::SeaBios,
        Firmware::SeaBios | Firmware::RomBios => return None,
        Firmware::Unknown(name) => {
            log::error!("Xen: firmware \"{name}\" is not known; the built-in BIOS starts instead");
            return None;
        }
    };
    Payload::check(mem, image, guest.firmware_module())
        .inspect_err(|error| log::error!("Xen: {error}; the built-in BIOS starts instead"))
        .ok()
}

/// A module that was found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    image: Image,
    module: Range<u64>,
}

impl Payload {
    /// Looks at the module at `module`.
    ///
    /// # Errors
    /// See [`PayloadError`].
    pub fn check(
        mem: &impl PhysMem,
        image: Image,
        module: Option<&Range<u64>>,
    ) -> Result<Self, PayloadError> {
        let module = module.ok_or(PayloadError::Missing)?.clone();
        let length = module.end - module.start;
        let granule = match image {
            Image::SeaBios => SEGMENT,
            Image::Ovmf => PAGE,
        };
        let longest = match image {
            Image::SeaBios => SEABIOS_MAX,
            Image::Ovmf => FOUR_GIB - OVMF_MIN_START,
        };
        if length < SEGMENT || length > longest || length % granule != 0 {
            return Err(PayloadError::Length(length));
        }
        let payload = Self { image, module };
        match payload.looks_sound(mem) {
            true => Ok(payload),
            false => Err(PayloadError::Damaged),
        }
    }

    fn looks_sound(&self, mem: &impl PhysMem) -> bool {
        const FAR_JUMP: u8 = 0xea;
        let vector = self.module.end - RESET_VECTOR;
        match self.image {
            // A far jump within the BIOS segment, as on every PC.
            Image::SeaBios => mem.read8(vector) == FAR_JUMP && mem.read16(vector + 3) == 0xf000,
            // The image starts with a firmware volume (UEFI PI specification, volume 3, 3.2.1) and has a reset vector.
            Image::Ovmf => {
                let mut signature = [0; 4];
                mem.read(self.module.start + 40, &mut signature);
                let first = mem.read32(vector);
                signature == *b"_FVH" && first != 0 && first != u32::MAX
            }
        }
    }

    /// Where it belongs.
    pub fn place(&self) -> Range<u64> {
        let end = match self.image {
            Image::SeaBios => MIB,
            Image::Ovmf => FOUR_GIB,
        };
        end - (self.module.end - self.module.start)..end
    }

    /// Makes sure that there is memory at the module's place. New memory where Xen has some for us, else from the top of the
    /// guest's RAM, which `map` then no longer has.
    ///
    /// # Errors
    /// [`PayloadError::NoMemory`].
    pub fn make_room(&self, xen: &impl Hypercalls, map: &mut E820Map) -> Result<(), PayloadError> {
        if self.image == Image::SeaBios {
            return Ok(());
        }
        let place = self.place();
        let pages: Vec<u64> = (place.start / PAGE..place.end / PAGE).collect();
        let done = xen.populate(&pages).unwrap_or(0).min(pages.len());
        let missing = &pages[done..];
        if missing.is_empty() {
            return Ok(());
        }
        let size = missing.len() as u64 * PAGE;
        let from = map
            .find_ram_top(u64::MAX, size, PAGE)
            .ok_or(PayloadError::NoMemory)?;
        map.remove(from..from + size)
            .map_err(|_| PayloadError::NoMemory)?;
        for (page, to) in (from / PAGE..).zip(missing) {
            xen.move_page(page, *to)
                .map_err(|_| PayloadError::NoMemory)?;
        }
        Ok(())
    }

    /// Puts the structure and the module into their places, over the built-in BIOS: nothing but the jump to F000:FFF0 may
    /// follow.
    pub fn install(&self, mem: &impl PhysMem, entries: &Installed, map: &E820Map) {
        let (info, tables, e820) = describe(self.image, entries, map);
        mem.write(INFO_ADDR, &info);
        mem.write(TABLES_ADDR, &tables);
        mem.write(E820_ADDR, &e820);
        let place = self.place();
        mem.copy(place.start, self.module.start, place.end - place.start);
        if self.image == Image::Ovmf {
            mem.copy(MIB - SEGMENT, self.module.end - SEGMENT, SEGMENT);
            self.install_ovmf_entries(mem, entries);
        }
    }

    /// OVMF scans for the entry points; they name the rest of the tables by address, so copies do.
    fn install_ovmf_entries(&self, mem: &impl PhysMem, entries: &Installed) {
        const RSDP_SIZE: usize = 36;
        const SMBIOS_ENTRY_SIZE: usize = 31;
        if let Some(rsdp) = entries.rsdp {
            let mut bytes = [0; RSDP_SIZE];
            mem.read(rsdp, &mut bytes);
            mem.write(OVMF_RSDP_ADDR, &bytes);
        }
        if let Some(smbios) = entries.smbios {
            let mut bytes = [0; SMBIOS_ENTRY_SIZE];
            mem.read(smbios, &mut bytes);
            mem.write(OVMF_SMBIOS_ADDR, &bytes);
        }
    }
}

/// The entry points that there are.
fn list(entries: &Installed) -> impl Iterator<Item = u64> {
    [entries.rsdp, entries.smbios, entries.mp, entries.pir]
        .into_iter()
        .flatten()
}

/// The structure at [`INFO_ADDR`], the array of tables and the memory map that it points to.
fn describe(image: Image, entries: &Installed, map: &E820Map) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    const LENGTH_AT: usize = 14;
    const CHECKSUM_AT: usize = 15;
    let tables: Vec<u64> = list(entries).take(MAX_TABLES).collect();
    let count = tables.len() as u32;
    let mut ranges = map.entries();
    if ranges.len() > MAX_E820 {
        log::warn!("Xen: the memory map is too long for the firmware module; its end is left out");
        ranges = &ranges[..MAX_E820];
    }
    let mut info = Vec::new();
    let tables = match image {
        Image::SeaBios => {
            info.extend_from_slice(b"XenHVMSeaBIOS\0\0\0");
            for field in [TABLES_ADDR as u32, count, E820_ADDR as u32] {
                info.extend_from_slice(&field.to_le_bytes());
            }
            tables
                .iter()
                .flat_map(|table| (*table as u32).to_le_bytes())
                .collect()
        }
        Image::Ovmf => {
            info.extend_from_slice(b"XenHVMOVMF\0\0\0\0\0\0");
            info.extend_from_slice(&TABLES_ADDR.to_le_bytes());
            info.extend_from_slice(&count.to_le_bytes());
            info.extend_from_slice(&E820_ADDR.to_le_bytes());
            tables
                .iter()
                .flat_map(|table| table.to_le_bytes())
                .collect()
        }
    };
    info.extend_from_slice(&(ranges.len() as u32).to_le_bytes());
    info[LENGTH_AT] = info.len() as u8;
    info[CHECKSUM_AT] = checksum(&info);
    let e820 = ranges.iter().flat_map(|entry| entry.to_bytes()).collect();
    (info, tables, e820)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::fake_xen::FakeXen;
    use firstlight_tables::e820::Kind;
    use firstlight_tables::place::sum;
    use proptest::prelude::*;

    const AT: u64 = 0x40_0000;

    fn seabios(mem: &Fake, length: u64) -> Range<u64> {
        mem.write(AT + length - RESET_VECTOR, &[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
        AT..AT + length
    }

    fn ovmf(mem: &Fake, length: u64) -> Range<u64> {
        mem.write(AT + 40, b"_FVH");
        mem.write(AT + length - RESET_VECTOR, &[0x90, 0x90, 0xe9]);
        AT..AT + length
    }

    fn map() -> E820Map {
        let mut map = E820Map::new();
        map.insert(0..0xa0000, Kind::Ram).unwrap();
        map.insert(0x10_0000..0x1000_0000, Kind::Ram).unwrap();
        map.insert(0xff0_0000..0x1000_0000, Kind::Reserved).unwrap();
        map
    }

    #[test]
    fn seabios_ends_at_one_mib() {
        let mem = Fake::default();
        let module = seabios(&mem, 0x2_0000);
        let payload = Payload::check(&mem, Image::SeaBios, Some(&module)).unwrap();
        let entries = Installed {
            rsdp: Some(0xff1_0000),
            pir: Some(0xff2_0000),
            ..Installed::default()
        };
        payload.install(&mem, &entries, &map());
        assert_eq!(payload.place(), 0xe_0000..0x10_0000);
        assert_eq!(mem.read8(0xffff0), 0xea);
        let mut info = [0; 32];
        mem.read(INFO_ADDR, &mut info);
        assert_eq!(&info[..14], b"XenHVMSeaBIOS\0");
        assert_eq!(info[14], 32);
        assert_eq!(sum(&info), 0);
        assert_eq!(mem.read32(INFO_ADDR + 20), 2);
        let tables = u64::from(mem.read32(INFO_ADDR + 16));
        assert_eq!(mem.read32(tables), 0xff1_0000);
        assert_eq!(mem.read32(tables + 4), 0xff2_0000);
        let e820 = u64::from(mem.read32(INFO_ADDR + 24));
        assert_eq!(mem.read32(INFO_ADDR + 28), 3);
        assert_eq!(mem.read64(e820 + 20), 0x10_0000);
        assert_eq!(mem.read32(e820 + 56), 2);
    }

    #[test]
    fn ovmf_ends_at_four_gib_and_its_tables_are_where_it_looks() {
        let mem = Fake::default();
        let xen = FakeXen::new(&mem);
        let module = ovmf(&mem, 0x20_0000);
        let payload = Payload::check(&mem, Image::Ovmf, Some(&module)).unwrap();
        let mut map = map();
        payload.make_room(&xen, &mut map).unwrap();
        assert_eq!(xen.populated.borrow().len(), 0x200);
        mem.write(0xff1_0000, b"RSD PTR ");
        let entries = Installed {
            rsdp: Some(0xff1_0000),
            ..Installed::default()
        };
        payload.install(&mem, &entries, &map);
        assert_eq!(mem.read16(0xffff0), 0x9090);
        assert_eq!(mem.read16(0xffff_fff0), 0x9090);
        let mut found = [0; 8];
        mem.read(OVMF_RSDP_ADDR, &mut found);
        assert_eq!(&found, b"RSD PTR ");
        let mut info = [0; 40];
        mem.read(INFO_ADDR, &mut info);
        assert_eq!(&info[..11], b"XenHVMOVMF\0");
        assert_eq!((info[14], sum(&info)), (40, 0));
        assert_eq!(mem.read64(INFO_ADDR + 28), E820_ADDR);
    }

    #[test]
    fn memory_that_xen_does_not_give_comes_from_ram() {
        let mem = Fake::default();
        let xen = FakeXen::new(&mem);
        xen.populate_limit.set(0x100);
        let payload = Payload::check(&mem, Image::Ovmf, Some(&ovmf(&mem, 0x20_0000))).unwrap();
        let mut map = map();
        payload.make_room(&xen, &mut map).unwrap();
        assert_eq!(xen.moved.borrow().len(), 0x100);
        assert_eq!(xen.moved.borrow()[0], (0xfe00, 0xfff00));
        assert_eq!(map.kind_at(0xfe0_0000), None);
        assert_eq!(map.kind_at(0xfdf_ffff), Some(Kind::Ram));
        let mut small = E820Map::new();
        assert_eq!(
            payload.make_room(&xen, &mut small),
            Err(PayloadError::NoMemory)
        );
    }

    #[test]
    fn damage_is_named() {
        let mem = Fake::default();
        let check = |image, module| Payload::check(&mem, image, module);
        assert_eq!(check(Image::Ovmf, None), Err(PayloadError::Missing));
        let module = AT..AT + 100;
        assert_eq!(
            check(Image::SeaBios, Some(&module)),
            Err(PayloadError::Length(100))
        );
        let module = AT..AT + 0x2_0000;
        for image in [Image::SeaBios, Image::Ovmf] {
            assert_eq!(check(image, Some(&module)), Err(PayloadError::Damaged));
        }
    }

    proptest! {
        #[test]
        fn any_module_is_judged(start: u32, length in 0u64..0x200_0000, ovmf: bool) {
            let mem = Fake::default();
            let image = if ovmf { Image::Ovmf } else { Image::SeaBios };
            let module = u64::from(start)..u64::from(start) + length;
            prop_assert!(Payload::check(&mem, image, Some(&module)).is_err());
        }
    }
}
