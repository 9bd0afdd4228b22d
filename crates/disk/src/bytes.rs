//! Numbers and text in a disk's structures, with checked places.

use crate::error::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;

/// A structure as it lies on the disk.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// `N` bytes from `at`.
    pub fn array<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        self.0
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or(Error::Corrupt("a structure is cut off"))
    }

    /// `len` bytes from `at`.
    pub fn slice(self, at: usize, len: usize) -> Result<&'a [u8]> {
        at.checked_add(len)
            .and_then(|end| self.0.get(at..end))
            .ok_or(Error::Corrupt("a structure is cut off"))
    }

    pub fn u8(self, at: usize) -> Result<u8> {
        Ok(self.array::<1>(at)?[0])
    }

    pub fn le16(self, at: usize) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub fn le32(self, at: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub fn be16(self, at: usize) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array(at)?))
    }

    pub fn be32(self, at: usize) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array(at)?))
    }

    pub fn be64(self, at: usize) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array(at)?))
    }

    pub fn le64(self, at: usize) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }
}

/// A zeroed buffer of `len` bytes, which the caller has bounded.
pub(crate) fn buffer(len: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Error::Memory)?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// Whether a name can stand in a path. What has none, or one that steps elsewhere, is no entry.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// Text of a fixed field: up to the first NUL, without blanks at its end.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    String::from(String::from_utf8_lossy(&field[..end]).trim_end_matches(' '))
}

/// Text of UTF-16 units up to the first NUL. Halves of pairs become U+FFFD.
pub(crate) fn utf16(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// A UUID in the usual form, its bytes in the order of the text.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// A GUID as UEFI stores it, its first three fields little-endian (UEFI 2.10, appendix A).
pub(crate) fn guid(bytes: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let mut ordered = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    ordered[8..].copy_from_slice(&rest);
    uuid(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_its_first_fields_swapped() {
        // The type of EFI system partitions: UEFI 2.10, table 5.7.
        let bytes = [
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e,
            0xc9, 0x3b,
        ];
        assert_eq!(guid(bytes), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn a_field_beyond_the_end_is_an_error() {
        let fields = Fields(&[1, 2, 3]);
        assert_eq!(fields.le16(1), Ok(0x0302));
        assert!(fields.le16(2).is_err());
        assert!(fields.le32(usize::MAX).is_err());
        assert!(fields.slice(2, usize::MAX).is_err());
    }
}
