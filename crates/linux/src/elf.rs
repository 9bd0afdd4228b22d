//! Where an ELF file wants its parts (ELF 1.2, "Program Header"; ELF-64 1.5, section 8).

use alloc::vec::Vec;
use core::ops::Range;

/// The first bytes of an ELF file, as a kernel with a PVH entry is one.
pub const MAGIC: &[u8] = b"\x7fELF";

/// Offset of the byte that says how wide addresses are, and what it is where they have 64 bits.
const CLASS: usize = 4;
const CLASS_64: u8 = 2;
/// A part that is loaded.
const LOAD: u64 = 1;

/// Where a field is in files with 32-bit and with 64-bit addresses, and how many bytes it has.
type Field = [(usize, usize); 2];
const TABLE_OFFSET: Field = [(28, 4), (32, 8)];
const ENTRY_SIZE: Field = [(42, 2), (54, 2)];
const ENTRIES: Field = [(44, 2), (56, 2)];
const TYPE: Field = [(0, 4), (0, 4)];
const ADDRESS: Field = [(12, 4), (24, 8)];
const MEMORY_SIZE: Field = [(20, 4), (40, 8)];

/// The physical addresses that the file whose first bytes these are is loaded to. `None` where its program headers are not among
/// the bytes, or make no sense.
pub fn loaded(file: &[u8]) -> Option<Vec<Range<u64>>> {
    if !file.starts_with(MAGIC) {
        return None;
    }
    let wide = *file.get(CLASS)? == CLASS_64;
    let number = |bytes: &[u8], field: Field| {
        let (at, size) = field[usize::from(wide)];
        let bytes = bytes.get(at..at + size)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    let table = file.get(usize::try_from(number(file, TABLE_OFFSET)?).ok()?..)?;
    let size = number(file, ENTRY_SIZE)? as usize;
    let count = number(file, ENTRIES)? as usize;
    let mut parts = Vec::new();
    for index in 0..count {
        let header = table.get(index * size..(index + 1) * size)?;
        if number(header, TYPE)? == LOAD {
            let start = number(header, ADDRESS)?;
            parts.push(start..start.checked_add(number(header, MEMORY_SIZE)?)?);
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with program headers of these types, addresses and sizes.
    fn file(wide: bool, headers: &[(u32, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64];
        let put = |file: &mut Vec<u8>, base: usize, field: Field, value: u64| {
            let (at, size) = field[usize::from(wide)];
            file[base + at..base + at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        file[..4].copy_from_slice(MAGIC);
        file[CLASS] = 1 + u8::from(wide);
        put(&mut file, 0, TABLE_OFFSET, 64);
        put(&mut file, 0, ENTRY_SIZE, 56);
        put(&mut file, 0, ENTRIES, headers.len() as u64);
        for (kind, start, size) in headers {
            let base = file.len();
            file.resize(base + 56, 0);
            put(&mut file, base, TYPE, (*kind).into());
            put(&mut file, base, ADDRESS, *start);
            put(&mut file, base, MEMORY_SIZE, *size);
        }
        file
    }

    #[test]
    fn parts_lie_where_the_headers_say() {
        for wide in [false, true] {
            let file = file(wide, &[(1, 0x8000, 0x10), (4, 1, 2), (1, 0x10_0000, 0x30)]);
            assert_eq!(
                loaded(&file),
                Some(vec![0x8000..0x8010, 0x10_0000..0x10_0030])
            );
            assert_eq!(loaded(&file[..file.len() - 1]), None);
        }
        assert_eq!(loaded(&file(true, &[(1, u64::MAX, 1)])), None);
        assert_eq!(loaded(b"\x7fELG"), None);
    }

    proptest! {
        #[test]
        fn whatever_the_file_is(bytes: Vec<u8>) {
            let file = [MAGIC, &bytes].concat();
            loaded(&file);
        }
    }
}
