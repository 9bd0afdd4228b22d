//! The setup header of a Linux kernel: where everything goes in memory, and what the kernel is told.
//!
//! Pure: from the setup sectors and sizes to a [`Plan`] and the bytes of `boot_params`. The source is the kernel's
//! Documentation/arch/x86/boot.rst ("the boot protocol") and zero-page.rst; offsets below are theirs.

use core::fmt;
use core::ops::Range;
use firstlight_tables::e820::{E820Map, Kind};
use firstlight_tables::units::{FOUR_GIB, MIB, PAGE};

/// Bytes of `boot_params`, the zero page.
pub const BOOT_PARAMS_SIZE: usize = 4096;
/// Where what belongs to a kernel goes that is not the kernel itself: low memory that no service of ours uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The setup code (16-bit entry) or `boot_params`, on a 16-byte boundary.
    pub setup: u64,
    /// Stack pointer of the setup code, in its own segment; its heap ends 200h below.
    pub stack: u16,
    /// The command line, with its final zero.
    pub command_line: Range<u64>,
}

/// Beside a kernel that goes to 1 MiB or above, and beside those of other kinds.
pub const PLACES: Places = Places {
    setup: 0x1_0000,
    stack: 0xe000,
    command_line: 0x2_0000..0x6_0000,
};

/// Where a kernel of old goes that is loaded low, and what is beside it: boot.rst, "Sample Boot Configuration". From 9A000h on the
/// BIOS may have memory of its own.
const LOW_KERNEL: Range<u64> = 0x1_0000..0x9_0000;
const LOW_PLACES: Places = Places {
    setup: LOW_KERNEL.end,
    stack: 0x9800,
    command_line: 0x9_9800..0x9_a000,
};

/// What the setup code has for its stack and heap, at least.
const SETUP_HEAP: usize = 4 << 10;

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const JUMP_LENGTH: usize = 0x201;
const SIGNATURE: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const HEAP_END_PTR: usize = 0x224;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

/// Fields of `boot_params` outside the setup header.
const ACPI_RSDP: usize = 0x070;
const EXT_RAMDISK_IMAGE: usize = 0x0c0;
const EXT_RAMDISK_SIZE: usize = 0x0c4;
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_MAX: usize = 128;

const LOADED_HIGH: u8 = 1 << 0;
const CAN_USE_HEAP: u8 = 1 << 7;
const KERNEL_64: u16 = 1 << 0;
const ABOVE_4G: u16 = 1 << 1;
/// `type_of_loader` of a loader without a registered number.
const LOADER_UNKNOWN: u8 = 0xff;

/// The 32-bit entry is as old as protocol 2.05, but images that only imitate a kernel (iPXE's .lkrn says 2.07) lack it; all
/// those that say this much have it.
const SINCE_PROTECTED: u16 = 0x20a;

/// Why a kernel cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No boot sector flag or no "HdrS": not a Linux kernel.
    NotLinux,
    /// The header ends before a field that its version promises, or sectors are missing.
    Truncated,
    /// A boot protocol older than 2.02.
    TooOld(u16),
    /// No RAM at an address where the kernel can run.
    NoRoomForKernel {
        /// Bytes that it needs while it unpacks itself.
        needs: u64,
    },
    /// No RAM that is large enough below the kernel's limit.
    NoRoomForInitrd {
        /// Bytes of the initrd.
        size: u64,
        /// The highest address that the kernel takes.
        limit: u64,
    },
    /// The command line does not fit where it goes.
    CommandLineTooLong(usize),
    /// The setup code leaves no room for its stack in its segment.
    SetupTooLong(usize),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            KernelError::NotLinux => write!(f, "not a Linux kernel"),
            KernelError::Truncated => write!(f, "the kernel image is truncated"),
            KernelError::TooOld(version) => {
                write!(
                    f,
                    "boot protocol {}.{:02} is older than 2.02",
                    version >> 8,
                    version & 0xff
                )
            }
            KernelError::NoRoomForKernel { needs } => {
                write!(
                    f,
                    "no {} KiB of memory for the kernel where it can run",
                    needs.div_ceil(1024)
                )
            }
            KernelError::NoRoomForInitrd { size, limit } => {
                write!(
                    f,
                    "no {} KiB of memory below {limit:#x} for the initrd",
                    size.div_ceil(1024)
                )
            }
            KernelError::CommandLineTooLong(length) => {
                write!(f, "a command line of {length} bytes is too long")
            }
            KernelError::SetupTooLong(size) => {
                write!(f, "setup code of {size} bytes is too long")
            }
        }
    }
}

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Long mode, at this address, RSI = `boot_params`.
    Long(u64),
    /// 32-bit protected mode, at this address, ESI = `boot_params`.
    Protected(u32),
    /// Real mode, at the setup code in [`Places::setup`].
    Real,
}

/// What is loaded, and from where the kernel goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the kernel is entered.
    pub entry: Entry,
    /// Where the protected-mode kernel is loaded.
    pub kernel: u64,
    /// Where the initrd is loaded, page aligned; `None` when there is none.
    pub initrd: Option<Range<u64>>,
    /// Where the rest goes.
    pub places: Places,
}

/// The setup sectors of a kernel image, checked as far as their header reaches.
pub struct Setup<'a> {
    bytes: &'a [u8],
    version: u16,
}

impl<'a> Setup<'a> {
    /// Checks the header of the first sectors of a kernel.
    ///
    /// # Errors
    /// [`KernelError::NotLinux`], [`KernelError::TooOld`], or [`KernelError::Truncated`] when the header does not hold what
    /// its version has.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, KernelError> {
        let setup = Setup { bytes, version: 0 };
        let flag = setup.u16(BOOT_FLAG).ok_or(KernelError::NotLinux)?;
        if flag != 0xaa55 || bytes.get(SIGNATURE..SIGNATURE + 4) != Some(b"HdrS") {
            return Err(KernelError::NotLinux);
        }
        let version = setup.u16(VERSION).ok_or(KernelError::Truncated)?;
        if version < 0x202 {
            return Err(KernelError::TooOld(version));
        }
        let fields_end = match version {
            0x20a.. => INIT_SIZE + 4,
            0x205..0x20a => XLOADFLAGS,
            0x203..0x205 => INITRD_ADDR_MAX + 4,
            _ => CMD_LINE_PTR + 4,
        };
        if bytes.len() < fields_end {
            return Err(KernelError::Truncated);
        }
        Ok(Setup { bytes, version })
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..offset + N)?.try_into().ok()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    /// A 32-bit field that `since` brought; zero in older headers.
    fn u32_since(&self, since: u16, offset: usize) -> u32 {
        let value = self.array(offset).map_or(0, u32::from_le_bytes);
        if self.version >= since { value } else { 0 }
    }

    fn byte(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    fn xloadflags(&self) -> u16 {
        if self.version >= 0x20c {
            self.u16(XLOADFLAGS).unwrap_or(0)
        } else {
            0
        }
    }

    /// Bytes of the real-mode part: the boot sector and the setup sectors.
    pub fn real_mode_size(&self) -> usize {
        let sectors = match self.byte(SETUP_SECTS) {
            0 => 4,
            sectors => usize::from(sectors),
        };
        (sectors + 1) * 512
    }

    /// Whether the kernel goes to 1 MiB or above.
    fn is_loaded_high(&self) -> bool {
        self.byte(LOADFLAGS) & LOADED_HIGH != 0
    }

    /// Whether the kernel has no other entry than the one into its setup code.
    pub fn is_real_mode(&self) -> bool {
        self.version < SINCE_PROTECTED
    }

    /// The highest address, exclusive, that the kernel takes for its initrd.
    fn initrd_limit(&self) -> u64 {
        if self.xloadflags() & ABOVE_4G != 0 {
            return u64::MAX;
        }
        match self.u32_since(0x203, INITRD_ADDR_MAX) {
            0 => 0x3800_0000,
            last => u64::from(last) + 1,
        }
    }

    /// Decides where a kernel of `kernel_size` bytes (without the real-mode part) and its initrd go. `by_setup`: it is to be
    /// entered by its setup code, which asks the BIOS about the machine, if that can be.
    ///
    /// # Errors
    /// What does not fit, by its size.
    pub fn plan(
        &self,
        kernel_size: u64,
        initrd_size: u64,
        map: &E820Map,
        by_setup: bool,
    ) -> Result<Plan, KernelError> {
        let (kernel, needs) = self.place_kernel(kernel_size, map)?;
        let initrd = match initrd_size {
            0 => None,
            size => Some(self.place_initrd(size, kernel..kernel + needs, map)?),
        };
        let places = if self.is_loaded_high() {
            PLACES
        } else {
            LOW_PLACES
        };
        let setup_size = self.real_mode_size();
        let setup_fits = setup_size + SETUP_HEAP <= usize::from(places.stack);
        // Setup code knows 32 bits of the initrd's address.
        let initrd_fits = initrd.as_ref().is_none_or(|initrd| initrd.end <= FOUR_GIB);
        let entry = if self.is_real_mode() || by_setup && setup_fits && initrd_fits {
            if !setup_fits {
                return Err(KernelError::SetupTooLong(setup_size));
            }
            Entry::Real
        } else if self.xloadflags() & KERNEL_64 != 0 {
            Entry::Long(kernel + 0x200)
        } else {
            Entry::Protected(kernel as u32)
        };
        Ok(Plan {
            entry,
            kernel,
            initrd,
            places,
        })
    }

    /// Where the kernel is loaded, and how much memory it uses from there before it reads the memory map.
    fn place_kernel(&self, size: u64, map: &E820Map) -> Result<(u64, u64), KernelError> {
        let needs = size.max(self.u32_since(0x20a, INIT_SIZE).into());
        let fits = |start: u64| {
            start
                .checked_add(needs)
                .is_some_and(|end| map.ram_in(start..end) == needs)
        };
        if !self.is_loaded_high() {
            // Its setup code moves it to where it runs.
            let room = LOW_KERNEL.start..LOW_PLACES.command_line.end;
            let free = map.ram_in(room.clone()) == room.end - room.start;
            return match free && needs <= LOW_KERNEL.end - LOW_KERNEL.start {
                true => Ok((LOW_KERNEL.start, needs)),
                false => Err(KernelError::NoRoomForKernel { needs }),
            };
        }
        let relocatable = self.version >= 0x205 && self.byte(RELOCATABLE) != 0;
        let align = u64::from(self.u32_since(0x205, KERNEL_ALIGNMENT)).max(PAGE);
        let preferred = match self.version {
            0x20a.. => self.array(PREF_ADDRESS).map_or(MIB, u64::from_le_bytes),
            _ => MIB,
        };
        // A kernel that cannot move itself to its preferred address at run time is moved by its own unpacking code.
        let mut places = [
            Some(preferred).filter(|place| relocatable && place % align == 0 && *place < FOUR_GIB),
            Some(MIB),
        ]
        .into_iter()
        .flatten();
        if let Some(place) = places.find(|place| fits(*place)) {
            return Ok((place, needs));
        }
        let lowest = map
            .entries()
            .iter()
            .filter(|entry| entry.kind == Kind::Ram && relocatable)
            .filter_map(|entry| entry.start.max(MIB).checked_next_multiple_of(align))
            .find(|place| *place < FOUR_GIB && fits(*place));
        lowest
            .map(|place| (place, needs))
            .ok_or(KernelError::NoRoomForKernel { needs })
    }

    fn place_initrd(
        &self,
        size: u64,
        kernel: Range<u64>,
        map: &E820Map,
    ) -> Result<Range<u64>, KernelError> {
        let limit = self.initrd_limit();
        let no_room = KernelError::NoRoomForInitrd { size, limit };
        let mut free = map.clone();
        free.insert(0..MIB, Kind::Reserved).map_err(|_| no_room)?;
        free.insert(kernel, Kind::Reserved).map_err(|_| no_room)?;
        let below = [limit.min(FOUR_GIB), limit];
        let start = below
            .into_iter()
            .find_map(|below| free.find_ram_top(below, size, PAGE));
        start.map(|start| start..start + size).ok_or(no_room)
    }

    /// The real-mode part as the 16-bit entry wants it: the kernel's own, with what a loader fills in.
    pub fn real_mode_part(&self, plan: &Plan) -> alloc::vec::Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        self.fill_in(&mut bytes, plan);
        bytes
    }

    /// `boot_params` for the 32-bit and 64-bit entries.
    pub fn boot_params(&self, plan: &Plan, map: &E820Map, rsdp: u64) -> [u8; BOOT_PARAMS_SIZE] {
        let mut page = [0; BOOT_PARAMS_SIZE];
        let header_end = (SIGNATURE + usize::from(self.byte(JUMP_LENGTH)))
            .min(self.bytes.len())
            .min(E820_TABLE);
        if header_end > SETUP_SECTS {
            page[SETUP_SECTS..header_end].copy_from_slice(&self.bytes[SETUP_SECTS..header_end]);
        }
        self.fill_in(&mut page, plan);
        put(&mut page, ACPI_RSDP, &rsdp.to_le_bytes());
        if let Some(initrd) = &plan.initrd {
            let size = initrd.end - initrd.start;
            put(
                &mut page,
                EXT_RAMDISK_IMAGE,
                &((initrd.start >> 32) as u32).to_le_bytes(),
            );
            put(
                &mut page,
                EXT_RAMDISK_SIZE,
                &((size >> 32) as u32).to_le_bytes(),
            );
        }
        let entries = &map.entries()[..map.entries().len().min(E820_MAX)];
        page[E820_ENTRIES] = entries.len() as u8;
        for (i, entry) in entries.iter().enumerate() {
            put(&mut page, E820_TABLE + 20 * i, &entry.to_bytes());
        }
        page
    }

    /// The fields that the boot protocol wants a loader to write.
    fn fill_in(&self, header: &mut [u8], plan: &Plan) {
        put(header, TYPE_OF_LOADER, &[LOADER_UNKNOWN]);
        put(header, LOADFLAGS, &[self.byte(LOADFLAGS) | CAN_USE_HEAP]);
        let heap_end = plan.places.stack - 0x200;
        put(header, HEAP_END_PTR, &heap_end.to_le_bytes());
        let command_line = plan.places.command_line.start as u32;
        put(header, CMD_LINE_PTR, &command_line.to_le_bytes());
        if self.is_loaded_high() {
            put(header, CODE32_START, &(plan.kernel as u32).to_le_bytes());
        }
        let initrd = plan.initrd.clone().unwrap_or(0..0);
        put(header, RAMDISK_IMAGE, &(initrd.start as u32).to_le_bytes());
        put(
            header,
            RAMDISK_SIZE,
            &((initrd.end - initrd.start) as u32).to_le_bytes(),
        );
    }
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(ram_end: u64) -> E820Map {
        let mut map = E820Map::new();
        map.insert(0..0x9_fc00, Kind::Ram).unwrap();
        map.insert(0x9_fc00..0xa_0000, Kind::Reserved).unwrap();
        map.insert(MIB..ram_end.min(0xc000_0000), Kind::Ram)
            .unwrap();
        if ram_end > 0xc000_0000 {
            map.insert(FOUR_GIB..FOUR_GIB + ram_end - 0xc000_0000, Kind::Ram)
                .unwrap();
        }
        map
    }

    fn modern() -> Vec<u8> {
        let mut image = vec![0; 0x2000];
        image[SETUP_SECTS] = 15;
        put(&mut image, BOOT_FLAG, &0xaa55u16.to_le_bytes());
        image[JUMP_LENGTH] = 0x6a;
        put(&mut image, SIGNATURE, b"HdrS");
        put(&mut image, VERSION, &0x20fu16.to_le_bytes());
        image[LOADFLAGS] = LOADED_HIGH;
        put(&mut image, INITRD_ADDR_MAX, &0x7fff_ffffu32.to_le_bytes());
        put(&mut image, KERNEL_ALIGNMENT, &0x20_0000u32.to_le_bytes());
        image[RELOCATABLE] = 1;
        put(&mut image, XLOADFLAGS, &KERNEL_64.to_le_bytes());
        put(&mut image, PREF_ADDRESS, &0x100_0000u64.to_le_bytes());
        put(&mut image, INIT_SIZE, &0x300_0000u32.to_le_bytes());
        image
    }

    #[test]
    fn a_modern_kernel_goes_to_its_preferred_address_and_starts_in_long_mode() {
        let image = modern();
        let plan = Setup::parse(&image)
            .unwrap()
            .plan(8 << 20, 3 << 20, &map(256 << 20), false)
            .unwrap();
        assert_eq!(plan.kernel, 0x100_0000);
        assert_eq!(plan.entry, Entry::Long(0x100_0200));
        assert_eq!(plan.initrd, Some((253 << 20)..(256 << 20)));
    }

    #[test]
    fn a_small_machine_gets_the_kernel_lower() {
        let plan = Setup::parse(&modern())
            .unwrap()
            .plan(8 << 20, 0, &map(56 << 20), false)
            .unwrap();
        assert_eq!(plan.kernel, MIB);
    }

    #[test]
    fn an_initrd_that_only_fits_above_4_gib_needs_the_flag_for_it() {
        let mut image = modern();
        let size = 3 << 30;
        let error = Setup::parse(&image)
            .unwrap()
            .plan(1, size, &map(8 << 30), true)
            .unwrap_err();
        assert_eq!(
            error,
            KernelError::NoRoomForInitrd {
                size,
                limit: 0x8000_0000
            }
        );
        put(
            &mut image,
            XLOADFLAGS,
            &(KERNEL_64 | ABOVE_4G).to_le_bytes(),
        );
        let setup = Setup::parse(&image).unwrap();
        let plan = setup.plan(1, size, &map(8 << 30), true).unwrap();
        let initrd = plan.initrd.clone().unwrap();
        assert!(initrd.start >= FOUR_GIB);
        let page = setup.boot_params(&plan, &map(8 << 30), 0);
        assert_eq!(
            page[EXT_RAMDISK_IMAGE..][..4],
            ((initrd.start >> 32) as u32).to_le_bytes()
        );
    }

    #[test]
    fn a_kernel_goes_by_its_setup_code_where_it_is_to() {
        let image = modern();
        let setup = Setup::parse(&image).unwrap();
        let plan = setup.plan(8 << 20, 3 << 20, &map(256 << 20), true).unwrap();
        assert_eq!((plan.entry, &plan.places), (Entry::Real, &PLACES));
        let part = setup.real_mode_part(&plan);
        assert_eq!(part[CODE32_START..][..4], 0x100_0000u32.to_le_bytes());
        assert_eq!(part[HEAP_END_PTR..][..2], 0xde00u16.to_le_bytes());
    }

    #[test]
    fn a_kernel_of_old_lies_below_its_setup_code_and_says_itself_where_it_runs() {
        let mut image = modern();
        put(&mut image, VERSION, &0x204u16.to_le_bytes());
        put(&mut image, LOADFLAGS, &[0]);
        put(&mut image, CODE32_START, &0x1000u32.to_le_bytes());
        let setup = Setup::parse(&image).unwrap();
        let plan = setup.plan(0x8_0000, 0, &map(256 << 20), false).unwrap();
        assert_eq!((plan.entry, plan.kernel), (Entry::Real, 0x1_0000));
        assert_eq!(plan.places, LOW_PLACES);
        let part = setup.real_mode_part(&plan);
        assert_eq!(part[CODE32_START..][..4], 0x1000u32.to_le_bytes());
        assert_eq!(part[CMD_LINE_PTR..][..4], 0x9_9800u32.to_le_bytes());
        let error = setup.plan(0x8_0001, 0, &map(256 << 20), false).unwrap_err();
        assert_eq!(error, KernelError::NoRoomForKernel { needs: 0x8_0001 });
        image[SETUP_SECTS] = 0x80;
        let setup = Setup::parse(&image).unwrap();
        let error = setup.plan(1, 0, &map(256 << 20), false).unwrap_err();
        assert_eq!(error, KernelError::SetupTooLong(0x81 * 512));
    }

    #[test]
    fn the_kernel_sees_the_map_and_the_rsdp() {
        let image = modern();
        let setup = Setup::parse(&image).unwrap();
        let plan = setup.plan(1, 0, &map(256 << 20), false).unwrap();
        let page = setup.boot_params(&plan, &map(256 << 20), 0xf_1230);
        assert_eq!(page[E820_ENTRIES], 3);
        assert_eq!(page[ACPI_RSDP..][..8], 0xf_1230u64.to_le_bytes());
        assert_eq!(&page[SIGNATURE..][..4], b"HdrS");
    }

    #[test]
    fn what_is_no_kernel_is_said_to_be_none() {
        for bytes in [&[][..], &[0; 511], &[0; 4096]] {
            assert_eq!(Setup::parse(bytes).err(), Some(KernelError::NotLinux));
        }
        let mut old = modern();
        put(&mut old, VERSION, &0x201u16.to_le_bytes());
        assert_eq!(Setup::parse(&old).err(), Some(KernelError::TooOld(0x201)));
        assert_eq!(
            Setup::parse(&modern()[..0x220]).err(),
            Some(KernelError::Truncated)
        );
    }

    proptest! {
        #[test]
        fn a_mutated_kernel_never_lands_outside_ram(
            changes in prop::collection::vec((0usize..0x270, any::<u8>()), 0..40),
            length in 0usize..0x2000,
            kernel in 0u64..1 << 33,
            initrd in 0u64..1 << 33,
            ram in (2u64 << 20)..8 << 30,
            by_setup: bool,
        ) {
            let mut image = modern();
            for (offset, byte) in changes {
                image[offset] = byte;
            }
            let map = map(ram);
            let Ok(setup) = Setup::parse(&image[..length]) else { return Ok(()) };
            let Ok(plan) = setup.plan(kernel, initrd, &map, by_setup) else { return Ok(()) };
            prop_assert_eq!(map.ram_in(plan.kernel..plan.kernel + kernel), kernel);
            if let Some(place) = &plan.initrd {
                prop_assert_eq!(map.ram_in(place.clone()), initrd);
                prop_assert!(place.end <= plan.kernel || place.start >= plan.kernel + kernel);
            }
            let setup_size = match plan.entry {
                Entry::Real => u64::from(plan.places.stack),
                _ => BOOT_PARAMS_SIZE as u64,
            };
            let (kernel, setup_at) = (plan.kernel..plan.kernel + kernel, plan.places.setup);
            for part in [setup_at..setup_at + setup_size, plan.places.command_line.clone()] {
                prop_assert!(part.end <= kernel.start || part.start >= kernel.end);
            }
            setup.boot_params(&plan, &map, 0);
            setup.real_mode_part(&plan);
        }
    }
}
