//! The structures we make ourselves, one function a type: values for those of [`super::described`], and all of the others. Field names and numbers are those of DSP0134 3.7, section 7;
//! each structure has the fields of version 3.0, which readers of older versions skip by its length.

use crate::units::{GIB, MIB};
use alloc::format;
use alloc::vec::Vec;

use super::described::{
    Baseboard, Bios, Chassis, OEM_STRINGS_HANDLE, System, oem_strings_as, release,
};
use super::structure::Builder;
use super::{Cache, Cpu, Input, Port, RELEASE_DATE, Slot, Supply, setting};

/// A handle that refers to no structure.
const NO_HANDLE: u16 = 0xffff;
/// Handle of the first cache; the others follow.
const CACHES: u16 = 0x700;
/// Handle of the memory array.
const MEMORY_ARRAY: u16 = 0x1000;
/// "Unknown" in most enumerations.
const UNKNOWN: u8 = 2;
/// "Other" in most enumerations.
const OTHER: u8 = 1;

/// Memory is shown as devices of this size, as other virtual machines do.
const DEVICE_SIZE: u64 = 16 * GIB;
/// More devices than this would not fit their handles; they get larger instead.
const MAX_DEVICES: u64 = 128;
/// Sockets past this number would run into the handles of the next type.
const MAX_SOCKETS: u32 = 0x300;

/// Makes all structures that `input` asks for, in the order of their types, without the end-of-table structure.
pub fn generate(input: &Input) -> Vec<Vec<u8>> {
    let mut all = Vec::with_capacity(24);
    all.push(bios(input));
    all.push(system(input));
    if input.strings.any("baseboard-") {
        all.push(baseboard(input));
    }
    all.push(chassis(input));
    processors(input, &mut all);
    let caches = input.cpu.caches.iter().zip(CACHES..);
    all.extend(caches.map(|(item, handle)| cache(item, handle)));
    all.extend(
        input
            .ports
            .iter()
            .zip(0x800..)
            .map(|(item, handle)| port(item, handle)),
    );
    all.extend(
        input
            .slots
            .iter()
            .zip(0x900..)
            .map(|(item, handle)| slot(item, handle)),
    );
    all.extend(oem_strings(input));
    memory(input, &mut all);
    if input.battery || input.strings.any("battery-") {
        all.push(battery(input));
    }
    all.push(boot_status());
    let supplies = input.supplies.iter().zip(0x2700..);
    all.extend(supplies.map(|(item, handle)| supply(item, handle)));
    all
}

/// Type 0. The release is shown where it is `MAJOR.MINOR`.
pub fn bios(input: &Input) -> Vec<u8> {
    let strings = &input.strings;
    let version = strings.or("bios-version", input.bios_version);
    Bios {
        vendor: strings.or("bios-vendor", input.bios_vendor),
        version,
        release_date: strings.or("bios-release-date", RELEASE_DATE.as_bytes()),
        release: release(strings.or("bios-release", version)),
    }
    .structure()
}

/// Type 1.
fn system(input: &Input) -> Vec<u8> {
    let strings = &input.strings;
    let serial = uuid_text(&input.uuid);
    System {
        manufacturer: strings.or("system-manufacturer", input.manufacturer),
        product: strings.or("system-product-name", input.product),
        version: strings.or("system-version", input.bios_version),
        serial: strings.or("system-serial-number", serial.as_bytes()),
        uuid: input.uuid,
        sku: strings.or("system-sku-number", b""),
        family: strings.or("system-family", b""),
    }
    .structure()
}

fn uuid_text(uuid: &[u8; 16]) -> alloc::string::String {
    let number = u128::from_be_bytes(*uuid);
    let part = |shift: u32, digits: u32| (number >> shift) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

/// Type 2.
fn baseboard(input: &Input) -> Vec<u8> {
    let strings = &input.strings;
    Baseboard {
        manufacturer: strings.or("baseboard-manufacturer", input.manufacturer),
        product: strings.or("baseboard-product-name", b""),
        version: strings.or("baseboard-version", b""),
        serial: strings.or("baseboard-serial-number", b""),
        asset: strings.or("baseboard-asset-tag", b""),
        location: strings.or("baseboard-location-in-chassis", b""),
    }
    .structure()
}

/// Type 3.
fn chassis(input: &Input) -> Vec<u8> {
    let strings = &input.strings;
    Chassis {
        manufacturer: strings.or("enclosure-manufacturer", input.manufacturer),
        version: strings.or("enclosure-version", b""),
        serial: strings.or("enclosure-serial-number", b""),
        asset: strings.or("enclosure-asset-tag", b""),
        sku: strings.or("enclosure-sku-number", b""),
    }
    .structure()
}

/// Type 4, one a socket.
fn processors(input: &Input, all: &mut Vec<Vec<u8>>) {
    for socket in 0..input.cpu.sockets.clamp(1, MAX_SOCKETS) {
        all.push(processor(&input.cpu, socket));
    }
}

fn processor(cpu: &Cpu, socket: u32) -> Vec<u8> {
    const CENTRAL: u8 = 3;
    const ENABLED: u8 = 0x41;
    const CAN_DO_64_BIT: u16 = 1 << 2;
    let cores = cpu.cores.clamp(1, 0xffff) as u16;
    let threads = (cpu.cores.max(1) * cpu.threads.max(1)).min(0xffff) as u16;
    // A count that does not fit a byte is 0xff there and stands in the word at the end.
    let short = |count: u16| count.min(0xff) as u8;
    let cache = |level: u8| {
        let position = cpu.caches.iter().position(|cache| cache.level == level);
        position.map_or(NO_HANDLE, |position| CACHES + position as u16)
    };
    Builder::new(4, 0x400 + socket as u16)
        .string(format!("CPU {}", socket + 1).as_bytes())
        .byte(CENTRAL)
        .byte(OTHER)
        .string(match cpu.vendor {
            b"GenuineIntel" => b"Intel",
            b"AuthenticAMD" => b"AMD",
            other => other,
        })
        .dword(cpu.signature)
        .dword(cpu.features)
        .string(cpu.brand)
        .byte(0)
        .word(0)
        .word(cpu.mhz)
        .word(cpu.mhz)
        .byte(ENABLED)
        .byte(OTHER)
        .word(cache(1))
        .word(cache(2))
        .word(cache(3))
        .raw(&[0, 0, 0])
        .raw(&[short(cores), short(cores), short(threads)])
        .word(CAN_DO_64_BIT)
        .word(OTHER.into())
        .word(cores)
        .word(cores)
        .word(threads)
        .finish()
}

/// Type 7.
fn cache(cache: &Cache, handle: u16) -> Vec<u8> {
    const ENABLED_WRITE_BACK: u16 = 1 << 7 | 1 << 8;
    const SRAM_UNKNOWN: u16 = 1 << 1;
    const UNIFIED: u8 = 5;
    const LARGE_UNITS: u16 = 1 << 15;
    let size = match u16::try_from(cache.kib) {
        Ok(kib) if kib < LARGE_UNITS => kib,
        _ => LARGE_UNITS | (cache.kib / 64).min(0x7fff) as u16,
    };
    let level = u16::from(cache.level.clamp(1, 8) - 1);
    Builder::new(7, handle)
        .string(format!("L{} Cache", cache.level).as_bytes())
        .word(ENABLED_WRITE_BACK | level)
        .word(size)
        .word(size)
        .word(SRAM_UNKNOWN)
        .word(SRAM_UNKNOWN)
        .raw(&[0, UNKNOWN, UNIFIED, UNKNOWN])
        .finish()
}

/// Type 8.
fn port(port: &Port, handle: u16) -> Vec<u8> {
    Builder::new(8, handle)
        .string(b"")
        .byte(0)
        .string(port.label.as_bytes())
        .raw(&[port.connector, port.kind])
        .finish()
}

/// Type 9.
fn slot(slot: &Slot, handle: u16) -> Vec<u8> {
    const PCI: u8 = 6;
    const WIDTH_32: u8 = 5;
    const AVAILABLE: u8 = 3;
    const IN_USE: u8 = 4;
    const LENGTH_LONG: u8 = 4;
    Builder::new(9, handle)
        .string(format!("PCI {}", slot.device).as_bytes())
        .raw(&[PCI, WIDTH_32, if slot.in_use { IN_USE } else { AVAILABLE }])
        .byte(LENGTH_LONG)
        .word(slot.device.into())
        .raw(&[1 << 2, 1 << 1])
        .word(0)
        .raw(&[0, slot.device << 3])
        .finish()
}

/// Type 11; `None` where there is no string that the guest is to see.
fn oem_strings(input: &Input) -> Option<Vec<u8>> {
    let texts = input.strings.oem.iter().map(Vec::as_slice);
    visible_strings(texts, OEM_STRINGS_HANDLE)
        .or_else(|| visible_strings(core::iter::once(input.oem), OEM_STRINGS_HANDLE))
}

/// Type 11 with those of `texts` that are not settings.
pub fn visible_strings<'a>(
    texts: impl Iterator<Item = &'a [u8]> + Clone,
    handle: u16,
) -> Option<Vec<u8>> {
    oem_strings_as(handle, texts.filter(|text| setting(text).is_none()))
}

/// Types 16, 17 and 19.
fn memory(input: &Input, all: &mut Vec<Vec<u8>>) {
    let total = input.low_ram + input.high_ram;
    let per_device = DEVICE_SIZE.max(total.div_ceil(MAX_DEVICES).next_multiple_of(GIB));
    let devices = total.div_ceil(per_device).max(1);
    all.push(memory_array(total, devices as u16));
    for device in 0..devices {
        let size = per_device.min(total - device * per_device);
        all.push(memory_device(size, device as u16));
    }
    let ranges = [(0, input.low_ram), (4 * GIB, input.high_ram)];
    for ((start, size), handle) in ranges.into_iter().zip(0x1300..) {
        if size > 0 {
            all.push(memory_range(start, size, devices as u8, handle));
        }
    }
}

fn memory_array(total: u64, devices: u16) -> Vec<u8> {
    const SYSTEM_MEMORY: u8 = 3;
    const MULTI_BIT_ECC: u8 = 6;
    const IN_EXTENDED: u32 = 1 << 31;
    let kib = total / 1024;
    let (short, extended) = match u32::try_from(kib) {
        Ok(kib) if kib < IN_EXTENDED => (kib, 0),
        _ => (IN_EXTENDED, total),
    };
    Builder::new(16, MEMORY_ARRAY)
        .raw(&[OTHER, SYSTEM_MEMORY, MULTI_BIT_ECC])
        .dword(short)
        .word(0xfffe)
        .word(devices)
        .qword(extended)
        .finish()
}

fn memory_device(size: u64, index: u16) -> Vec<u8> {
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const IN_EXTENDED: u16 = 0x7fff;
    let mib = size / MIB;
    let (short, extended) = match u16::try_from(mib) {
        Ok(mib) if mib < IN_EXTENDED => (mib, 0),
        _ => (IN_EXTENDED, mib as u32),
    };
    Builder::new(17, 0x1100 + index)
        .word(MEMORY_ARRAY)
        .word(0xfffe)
        .word(0xffff)
        .word(0xffff)
        .word(short)
        .raw(&[DIMM, 0])
        .string(format!("DIMM {index}").as_bytes())
        .string(b"")
        .byte(RAM)
        .word(1 << 1)
        .word(0)
        .raw(&[0, 0, 0, 0, 0])
        .dword(extended)
        .raw(&[0; 8])
        .finish()
}

fn memory_range(start: u64, size: u64, devices: u8, handle: u16) -> Vec<u8> {
    let last = (start + size) / 1024 - 1;
    // 0xffffffff says that the 64-bit fields hold the range, which are in bytes.
    let short = u32::try_from(last).ok().filter(|last| *last != u32::MAX);
    let (ends, extended) = match short {
        Some(last) => ([(start / 1024) as u32, last], [0, 0]),
        None => ([u32::MAX; 2], [start, start + size - 1]),
    };
    Builder::new(19, handle)
        .dword(ends[0])
        .dword(ends[1])
        .word(MEMORY_ARRAY)
        .byte(devices)
        .qword(extended[0])
        .qword(extended[1])
        .finish()
}

/// Type 22: the battery that old laptop software wants to see.
fn battery(input: &Input) -> Vec<u8> {
    const LITHIUM_ION: u8 = 6;
    let strings = &input.strings;
    Builder::new(22, 0x1600)
        .string(b"Primary")
        .string(strings.or("battery-manufacturer", input.manufacturer))
        .string(b"")
        .string(b"")
        .string(strings.or("battery-device-name", b"Virtual battery"))
        .byte(LITHIUM_ION)
        .word(0)
        .word(0)
        .string(b"")
        .byte(0xff)
        .word(0)
        .word(0)
        .string(b"")
        .byte(1)
        .dword(0)
        .finish()
}

/// Type 32: no errors detected.
fn boot_status() -> Vec<u8> {
    Builder::new(32, 0x2000).raw(&[0; 7]).finish()
}

/// Type 39.
fn supply(supply: &Supply, handle: u16) -> Vec<u8> {
    const UNKNOWN_POWER: u16 = 0x8000;
    // Type "other", status "OK", input switching unknown, present, not hot-replaceable.
    const CHARACTERISTICS: u16 = 1 << 10 | 3 << 7 | 2 << 3 | 1 << 1;
    Builder::new(39, handle)
        .byte(1)
        .string(b"")
        .string(supply.name.as_bytes())
        .string(supply.manufacturer.as_bytes())
        .raw(&[0, 0, 0, 0])
        .word(supply.watts.unwrap_or(UNKNOWN_POWER))
        .word(CHARACTERISTICS)
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .finish()
}
