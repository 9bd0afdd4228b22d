//! `hvm_info_table`: memory sizes and CPUs (public header hvm/hvm_info_table.h).

use crate::arch::PhysMem;
use crate::low_memory::HVM_INFO;
use crate::units::{FOUR_GIB, MIB, PAGE};
use firstlight_tables::place::{checksum, sum};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where the toolstack puts the table.
pub const ADDR: u64 = HVM_INFO;
const SIGNATURE: [u8; 8] = *b"HVM INFO";
/// Memory of a domain that runs us at all.
const LEAST_RAM: u64 = 2 * MIB;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Raw {
    signature: [u8; 8],
    length: u32,
    checksum: u8,
    apic_mode: u8,
    padding: [u8; 2],
    nr_vcpus: u32,
    low_mem_pgend: u32,
    reserved_mem_pgstart: u32,
    high_mem_pgend: u32,
    vcpu_online: [u8; 16],
}

/// The table, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HvmInfo {
    /// Whether the domain has APICs to describe (`apic=`).
    pub apic: bool,
    /// Virtual CPUs, at least 1, at most 128.
    pub vcpus: u32,
    /// CPUs present at start, a bit each.
    pub online: u128,
    /// RAM below 4 GiB ends here, in bytes, page aligned.
    pub low_ram_end: u64,
    /// RAM from 4 GiB up ends here, in bytes; 4 GiB where there is none.
    pub high_ram_end: u64,
    /// Pages from here to 4 GiB are the toolstack's (rings, identity map).
    pub reserved_start: u64,
}

/// Why the table is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HvmInfoError {
    /// No signature.
    Missing,
    /// The bytes do not add up to zero, or the length is wrong.
    Damaged,
    /// Low RAM ends nowhere sensible.
    Memory(u64),
}

/// Reads the table.
///
/// # Errors
/// See [`HvmInfoError`].
pub fn read(mem: &impl PhysMem) -> Result<HvmInfo, HvmInfoError> {
    parse(&mem.read_as(ADDR))
}

fn parse(raw: &Raw) -> Result<HvmInfo, HvmInfoError> {
    if raw.signature != SIGNATURE {
        return Err(HvmInfoError::Missing);
    }
    if raw.length as usize != size_of::<Raw>() || sum(raw.as_bytes()) != 0 {
        return Err(HvmInfoError::Damaged);
    }
    let low_ram_end = u64::from(raw.low_mem_pgend) * PAGE;
    if !(LEAST_RAM..FOUR_GIB).contains(&low_ram_end) {
        return Err(HvmInfoError::Memory(low_ram_end));
    }
    let vcpus = raw.nr_vcpus.clamp(1, 128);
    let online = u128::from_le_bytes(raw.vcpu_online) & (u128::MAX >> (128 - vcpus)) | 1;
    Ok(HvmInfo {
        apic: raw.apic_mode != 0,
        vcpus,
        online,
        low_ram_end,
        high_ram_end: (u64::from(raw.high_mem_pgend) * PAGE).max(FOUR_GIB),
        reserved_start: u64::from(raw.reserved_mem_pgstart) * PAGE,
    })
}

/// Writes changed memory sizes back, for payloads that read the table after RAM has been moved. The table has been
/// [`read`] before.
pub fn update(mem: &impl PhysMem, info: &HvmInfo) {
    let mut raw: Raw = mem.read_as(ADDR);
    raw.low_mem_pgend = (info.low_ram_end / PAGE) as u32;
    raw.high_mem_pgend = if info.high_ram_end > FOUR_GIB {
        (info.high_ram_end / PAGE) as u32
    } else {
        0
    };
    raw.checksum = 0;
    raw.checksum = checksum(raw.as_bytes());
    mem.write_as(ADDR, &raw);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use proptest::prelude::*;

    /// Puts a good table into `mem`.
    pub(crate) fn install(mem: &Fake, low_ram_end: u64, high_ram_end: u64, vcpus: u32) {
        let mut raw = Raw {
            signature: SIGNATURE,
            length: 48,
            checksum: 0,
            apic_mode: 1,
            padding: [0; 2],
            nr_vcpus: vcpus,
            low_mem_pgend: (low_ram_end / PAGE) as u32,
            reserved_mem_pgstart: 0xfeff8,
            high_mem_pgend: (high_ram_end / PAGE) as u32,
            vcpu_online: [0xff; 16],
        };
        raw.checksum = checksum(raw.as_bytes());
        mem.write_as(ADDR, &raw);
    }

    #[test]
    fn reads_and_updates() {
        let mem = Fake::default();
        assert_eq!(read(&mem), Err(HvmInfoError::Missing));
        install(&mem, 0xf000_0000, 0x1_5000_0000, 4);
        let mut info = read(&mem).unwrap();
        assert_eq!(info.low_ram_end, 0xf000_0000);
        assert_eq!(info.high_ram_end, 0x1_5000_0000);
        assert_eq!((info.vcpus, info.online, info.apic), (4, 0xf, true));
        info.low_ram_end = 0xe000_0000;
        info.high_ram_end = 0x1_6000_0000;
        update(&mem, &info);
        assert_eq!(read(&mem), Ok(info));
    }

    #[test]
    fn says_what_is_wrong() {
        let mem = Fake::default();
        install(&mem, 0x1000_0000, 0, 1);
        mem.write8(ADDR + 13, 0);
        assert_eq!(read(&mem), Err(HvmInfoError::Damaged));
        install(&mem, 0, 0, 1);
        assert_eq!(read(&mem), Err(HvmInfoError::Memory(0)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: [u8; 48], repair: bool) {
            let mem = Fake::default();
            mem.write(ADDR, &bytes);
            if repair {
                mem.write(ADDR, &SIGNATURE);
                mem.write32(ADDR + 8, 48);
                mem.write8(ADDR + 12, 0);
                let mut whole = [0; 48];
                mem.read(ADDR, &mut whole);
                mem.write8(ADDR + 12, checksum(&whole));
            }
            if let Ok(info) = read(&mem) {
                prop_assert!(info.online & 1 == 1 && info.vcpus <= 128 && info.high_ram_end >= FOUR_GIB);
                update(&mem, &info);
                prop_assert_eq!(read(&mem), Ok(info));
            }
        }
    }
}
