//! The BIOS32 service directory's header, by which 32-bit systems find the PCI BIOS in `pci32.s`.
//!
//! Source: Standard BIOS 32-bit Service Directory Proposal 0.4.

use firstlight_tables::place::checksum;

/// The header, for a multiple of 16 in the F segment; `entry` is the physical address of the directory's entry point.
pub fn header(entry: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0..4].copy_from_slice(b"_32_");
    bytes[4..8].copy_from_slice(&entry.to_le_bytes());
    // Revision 0, length in paragraphs.
    bytes[9] = 1;
    bytes[10] = checksum(&bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_tables::place::sum;

    #[test]
    fn the_sum_is_zero() {
        assert_eq!(sum(&header(0xf_fa4f)), 0);
    }
}
