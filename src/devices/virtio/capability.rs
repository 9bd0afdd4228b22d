//! Where a modern device says that its registers are (VIRTIO 1.2, section 4.1.4).

use crate::arch::{PhysMem, Ports};
use crate::devices::pci::{Bdf, ConfigAccess, reg};

/// PCI capability of a vendor.
const VENDOR_SPECIFIC: u8 = 0x09;
/// Kinds of structure.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;
/// Length of the common registers that a queue takes.
const COMMON_LEN: u64 = 0x38;
/// Most capabilities that 192 bytes hold.
const MOST: usize = 48;

/// Physical addresses of a device's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The common configuration.
    pub common: u64,
    /// The device's own configuration, and its length.
    pub device: u64,
    /// Its length in bytes.
    pub device_len: u64,
    /// The first notification register.
    notify: u64,
    notify_len: u64,
    notify_step: u64,
}

impl Places {
    /// Where a queue is notified whose offset the device gave; the first register where that lies outside.
    pub fn notify_of(&self, offset: u16) -> u64 {
        let at = u64::from(offset) * self.notify_step;
        if at + 2 <= self.notify_len {
            self.notify + at
        } else {
            self.notify
        }
    }
}

/// Offset of a function's first capability; 0 where it has none.
pub fn list(hw: &(impl Ports + PhysMem), config: ConfigAccess, bdf: Bdf) -> u8 {
    config.read8(hw, bdf, reg::CAPABILITIES)
}

/// Follows the list of capabilities from `first`. `read` gives 32 bits of configuration space, `bar` address and length of a
/// memory BAR. The first structure of a kind counts. `None` where one is missing or cannot be reached.
pub fn places(
    first: u8,
    read: impl Fn(u16) -> u32,
    bar: impl Fn(usize) -> Option<(u64, u64)>,
) -> Option<Places> {
    let (mut common, mut notify, mut device) = (None, None, None);
    let mut at = u16::from(first & 0xfc);
    for _ in 0..MOST {
        if !(0x40..=0xf0).contains(&at) {
            break;
        }
        let [id, next, len, kind] = read(at).to_le_bytes();
        let slot = match (id, kind) {
            (VENDOR_SPECIFIC, COMMON) => &mut common,
            (VENDOR_SPECIFIC, NOTIFY) => &mut notify,
            (VENDOR_SPECIFIC, DEVICE) => &mut device,
            _ => {
                at = u16::from(next & 0xfc);
                continue;
            }
        };
        if slot.is_none() && len >= 16 {
            let [index, ..] = read(at + 4).to_le_bytes();
            let (offset, size) = (u64::from(read(at + 8)), u64::from(read(at + 12)));
            *slot = bar(index.into())
                .filter(|&(_, room)| offset + size <= room)
                .map(|(base, _)| (base + offset, size, at));
        }
        at = u16::from(next & 0xfc);
    }
    let (common, common_len, _) = common?;
    let (notify, notify_len, notify_at) = notify?;
    let (device, device_len, _) = device.unwrap_or((0, 0, 0));
    let fits = common_len >= COMMON_LEN && notify_len >= 2 && notify_at <= 0xec;
    fits.then(|| Places {
        common,
        device,
        device_len,
        notify,
        notify_len,
        notify_step: read(notify_at + 16).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Configuration space with QEMU's layout: common 40h, interrupts 50h, device 60h, notifications 70h, MSI-X 98h.
    fn config() -> [u8; 256] {
        let mut bytes = [0; 256];
        let mut put = |at: usize, next: u8, kind: u8, offset: u32, len: u32| {
            bytes[at..at + 4].copy_from_slice(&[VENDOR_SPECIFIC, next, 20, kind]);
            bytes[at + 4] = 4;
            bytes[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
        };
        put(0x70, 0x60, NOTIFY, 0x3000, 0x1000);
        put(0x60, 0x50, DEVICE, 0x2000, 0x40);
        put(0x50, 0x40, 3, 0x1000, 0x1000);
        put(0x40, 0, COMMON, 0, 0x1000);
        bytes[0x80] = 4;
        bytes[0x98..0x9a].copy_from_slice(&[0x11, 0x70]);
        bytes
    }

    fn find(bytes: &[u8; 256]) -> Option<Places> {
        let read = |at: u16| {
            let at = usize::from(at);
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
        };
        places(0x98, read, |bar| {
            (bar == 4).then_some((0xfe00_0000, 0x4000))
        })
    }

    #[test]
    fn qemus_layout() {
        let places = find(&config()).unwrap();
        assert_eq!(places.common, 0xfe00_0000);
        assert_eq!((places.device, places.device_len), (0xfe00_2000, 0x40));
        assert_eq!(places.notify_of(3), 0xfe00_300c);
        assert_eq!(places.notify_of(0x500), 0xfe00_3000);
    }

    #[test]
    fn what_lies_outside_its_bar_is_no_register() {
        let mut bytes = config();
        bytes[0x48..0x4c].copy_from_slice(&0x3800u32.to_le_bytes());
        assert_eq!(find(&bytes), None);
        bytes[0x48..0x4c].copy_from_slice(&0u32.to_le_bytes());
        bytes[0x4c..0x50].copy_from_slice(&0x20u32.to_le_bytes());
        assert_eq!(find(&bytes), None);
    }

    #[test]
    fn a_list_that_goes_round_ends() {
        let mut bytes = config();
        bytes[0x41] = 0x70;
        assert!(find(&bytes).is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_space_is_read(bytes in proptest::collection::vec(0u8.., 256)) {
            let bytes: [u8; 256] = bytes.try_into().unwrap();
            if let Some(places) = find(&bytes) {
                assert!((0xfe00_0000..0xfe00_4000).contains(&places.notify_of(7)));
            }
        }
    }
}
