//! The toolstack's blob of ready-made structures (`smbios_firmware=` in xl.cfg): a row of a 32-bit little-endian length
//! and a structure of that many bytes.

use alloc::vec::Vec;

use log::warn;

use super::structure::{END_OF_TABLE, Structure};

/// The blob's structures. What is no complete structure is left out, with a warning that says where it was.
pub fn structures(blob: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        loop {
            let rest = blob.get(at..).filter(|rest| !rest.is_empty())?;
            let Some((length, rest)) = rest.split_first_chunk::<4>() else {
                warn!("SMBIOS blob: {} stray bytes at its end", rest.len());
                at = blob.len();
                return None;
            };
            let length = u32::from_le_bytes(*length) as usize;
            let Some(bytes) = rest.get(..length) else {
                warn!(
                    "SMBIOS blob: the structure at {at:#x} says {length} bytes and the blob ends before"
                );
                at = blob.len();
                return None;
            };
            let start = at;
            at += 4 + length;
            match Structure::parse(bytes) {
                Ok((structure, _)) if structure.kind() == END_OF_TABLE => {}
                Ok((structure, _)) => return Some(structure),
                Err(error) => warn!("SMBIOS blob: dropped the structure at {start:#x}: {error:?}"),
            }
        }
    })
}

/// The blob that has `all`, each a whole structure.
pub fn pack(all: &[Vec<u8>]) -> Vec<u8> {
    let mut blob = Vec::new();
    for structure in all {
        blob.extend_from_slice(&(structure.len() as u32).to_le_bytes());
        blob.extend_from_slice(structure);
    }
    blob
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn skips_what_is_broken() {
        let mut blob = Vec::new();
        let mut add = |length: u32, bytes: &[u8]| {
            blob.extend_from_slice(&length.to_le_bytes());
            blob.extend_from_slice(bytes);
        };
        add(6, b"\x80\x04\x00\x00\0\0");
        add(0, b"");
        add(3, b"\x80\x04\x00");
        add(6, b"\x81\x04\x00\x00\0\0");
        add(u32::MAX, b"\x82\x04\x00\x00\0\0");
        let kinds: Vec<u8> = structures(&blob)
            .map(|structure| structure.kind())
            .collect();
        assert_eq!(kinds, [0x80, 0x81]);
    }

    proptest! {
        #[test]
        fn reads_any_blob(
            parts in prop::collection::vec((prop_oneof![0u32..30, any::<u32>()], prop::collection::vec(any::<u8>(), 0..30)), 0..20)
        ) {
            let mut blob = Vec::new();
            for (length, bytes) in parts {
                blob.extend_from_slice(&length.to_le_bytes());
                blob.extend_from_slice(&bytes);
            }
            let _ = structures(&blob).count();
        }
    }
}
