//! Diskette drives, as far as telling that they are there.

use super::drivers::Around;
use super::{Found, Kind};
use crate::arch::Handle;
use crate::devices::place::Place;
use crate::devices::rtc;
use alloc::format;
use alloc::vec::Vec;

/// CMOS register with the types of the drives A (7:4) and B (3:0).
const CMOS_TYPES: u8 = 0x10;
/// The ISA bridge of PIIX3; other chipsets have no diskette controller of their own.
const ISA_BRIDGE: (u8, u8) = (1, 0);

/// The drives that CMOS tells of.
pub fn probe<H: Handle>(around: &Around<H>) -> Vec<Found> {
    let types = rtc::read(&around.hw, CMOS_TYPES);
    let drives = [types >> 4, types & 15].into_iter().zip(0u8..);
    drives
        .filter(|&(kind, _)| kind != 0)
        .map(|(_, unit)| Found::Unusable {
            kind: Kind::Floppy,
            name: format!("Diskette drive {}", char::from(b'A' + unit)),
            place: Place {
                pci: [ISA_BRIDGE].into(),
                unit: format!("fdc@03f0/floppy@{unit}"),
                ..Place::default()
            },
            why: super::NOT_SUPPORTED.into(),
        })
        .collect()
}
