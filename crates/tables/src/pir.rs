//! The PCI interrupt routing table `$PIR` (Microsoft, PCI IRQ Routing Table Specification 1.0), which systems that use
//! the PIC without ACPI read.

use alloc::vec::Vec;

use super::place::{Placer, Zone, checksum};
use super::routing::{PCI_IRQS, Router};

const HEADER_SIZE: usize = 32;

/// The table for the devices on bus 0 with the numbers `devices`.
pub fn table(router: Router, devices: &[u8]) -> Vec<u8> {
    let mut table = Vec::with_capacity(HEADER_SIZE + 16 * devices.len());
    let size = (HEADER_SIZE + 16 * devices.len()) as u16;
    table.extend_from_slice(b"$PIR");
    table.extend_from_slice(&[0, 1]);
    table.extend_from_slice(&size.to_le_bytes());
    // Router's bus, device and function; no interrupts that only PCI uses.
    table.extend_from_slice(&[0, router.address(), 0, 0]);
    table.extend_from_slice(&router.compatible().to_le_bytes());
    table.resize(HEADER_SIZE, 0);
    let [low, high] = PCI_IRQS.to_le_bytes();
    for device in devices {
        let device = device & 31;
        // Slot number 0 says that the device is on the board.
        let mut entry = [0; 16];
        entry[1] = device << 3;
        for (pin, at) in (0..4).zip((2..).step_by(3)) {
            let link = router.register(router.pirq(device, pin));
            entry[at..at + 3].copy_from_slice(&[link, low, high]);
        }
        table.extend_from_slice(&entry);
    }
    table[HEADER_SIZE - 1] = checksum(&table);
    table
}

/// Makes the table and places it in the F segment. Gives its address; `None` where no memory was left.
pub fn install(router: Router, devices: &[u8], placer: &mut dyn Placer) -> Option<u64> {
    let table = table(router, devices);
    let block = placer.allocate(Zone::FSegment, table.len(), 16)?;
    block.bytes.copy_from_slice(&table);
    Some(block.addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::sum;

    #[test]
    fn describes_the_router_and_its_slots() {
        let table = table(Router::Piix3, &[1, 2, 31]);
        assert_eq!(sum(&table), 0);
        assert_eq!(table.len(), HEADER_SIZE + 48);
        assert_eq!(&table[..12], b"$PIR\0\x01\x50\0\0\x08\0\0");
        let slot = &table[HEADER_SIZE + 16..HEADER_SIZE + 32];
        assert_eq!(
            slot,
            [
                0, 16, 0x61, 0x20, 0xc, 0x62, 0x20, 0xc, 0x63, 0x20, 0xc, 0x60, 0x20, 0xc, 0, 0
            ]
        );
    }

    #[test]
    fn ich9_has_eight_links() {
        let table = super::table(Router::Ich9, &[2, 31]);
        assert_eq!(table[HEADER_SIZE + 2], 0x6a);
        assert_eq!(table[HEADER_SIZE + 18], 0x60);
    }
}
