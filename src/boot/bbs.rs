//! What the Plug and Play BIOS tells a boot program of the boot: which devices can be booted, in which order, and by which the program
//! came.
//!
//! The order is the host's, so it can be read and not be set. The table of IPL devices has each hard disk as an entry of its own, since
//! the order does; the table of BCV devices has the hard disks by their numbers.
//!
//! Source: BIOS Boot Specification 1.01, Plug and Play functions 60h to 66h and appendix A.

use super::bootstrap::Boot;
use super::candidate::{Candidate, Kind, Reason, Target};
use crate::arch::{Frame, PhysMem};
use crate::bios::buffer::Buffers;
use crate::bios::int13::FIRST_DISK;
use crate::bios::{Bios, ivt};
use crate::low_memory::F_SEGMENT;
use crate::units::segment;
use alloc::string::ToString;
use alloc::vec::Vec;
use spin::Mutex;
use zerocopy::{Immutable, IntoBytes};

/// Status (Plug and Play BIOS Specification 1.0A, appendix C).
const SUCCESS: u16 = 0x00;
const NOT_SUPPORTED: u16 = 0x82;
const BAD_PARAMETER: u16 = 0x84;

/// In BCD: 1.01.
const VERSION: u16 = 0x0101;
/// Most entries of a table, which tell their places apart by four bits.
const MOST: usize = 16;
/// Bytes of a description with its zero.
const DESCRIPTION: usize = 64;

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
struct Entry {
    device: u16,
    /// Its place in the table, and the flags below.
    status: u16,
    /// Offset and segment of what boots it.
    handler: [u16; 2],
    /// Offset and segment of its name; zero without one.
    description: [u16; 2],
    reserved: u32,
}

/// Flags of [`Entry::status`].
const ENABLED: u16 = 1 << 8;
const FAILED: u16 = 1 << 9;
const MEDIUM_UNKNOWN: u16 = 1 << 10;
const MEDIUM_BOOTABLE: u16 = 2 << 10;

/// Serves a far call to the entry point. The status is in AX.
pub fn serve(boot: &Mutex<Boot>, bios: &Mutex<Bios>, hw: &impl PhysMem, frame: &mut Frame) {
    let call = Call {
        hw,
        frame,
        buffers: Buffers::of(&bios.lock().machine),
    };
    let boot = boot.lock();
    let result = match call.word(0) {
        0x60 => call.answer([(2, VERSION)]),
        0x61 => table(&boot, call.word(2)).and_then(|table| {
            let size = size_of::<Entry>() as u16;
            call.answer([(4, table.len() as u16), (8, MOST as u16), (12, size)])
        }),
        0x62 => table(&boot, call.word(2)).and_then(|table| tell(&boot, bios, &call, &table)),
        0x64 => match boot.current() {
            Some(index) => call.answer([(2, index as u16)]),
            None => Err(NOT_SUPPORTED),
        },
        _ => Err(NOT_SUPPORTED),
    };
    frame.set_ax(result.err().unwrap_or(SUCCESS));
}

/// A call, whose arguments are known by their offsets.
struct Call<'a, H> {
    hw: &'a H,
    frame: &'a Frame,
    buffers: Buffers,
}

impl<H: PhysMem> Call<'_, H> {
    fn word(&self, at: u16) -> u16 {
        self.hw.read16(self.frame.argument(at))
    }

    /// Address of the `len` bytes to which a far pointer points.
    fn room(&self, at: u16, len: usize) -> Result<u64, u16> {
        let (offset, segment) = (self.word(at), self.word(at + 2));
        let room = self.buffers.real_mode(segment, offset, len as u64);
        room.ok_or(BAD_PARAMETER)
    }

    /// Writes numbers to where the pointers at these offsets point: all, or none.
    fn answer<const N: usize>(&self, answers: [(u16, u16); N]) -> Result<(), u16> {
        let mut places = [0; N];
        for (place, (at, _)) in places.iter_mut().zip(answers) {
            *place = self.room(at, size_of::<u16>())?;
        }
        for (place, (_, number)) in places.into_iter().zip(answers) {
            self.hw.write16(place, number);
        }
        Ok(())
    }
}

/// The candidates of a table, by their places in the order: the IPL devices, or the BCV devices.
fn table(boot: &Boot, switch: u16) -> Result<Vec<usize>, u16> {
    let candidates = boot.candidates().iter().enumerate();
    let mut table: Vec<usize> = match switch {
        0 => candidates.map(|(index, _)| index).collect(),
        1 => {
            let number = |candidate: &Candidate| match candidate.target {
                Target::Drive(number) if number >= FIRST_DISK => Some(number),
                _ => None,
            };
            let disks = candidates.filter_map(|(index, found)| Some((number(found)?, index)));
            let mut disks: Vec<_> = disks.collect();
            firstlight_tables::sort::by_key(&mut disks, |disk| *disk);
            disks.into_iter().map(|(_, index)| index).collect()
        }
        _ => return Err(BAD_PARAMETER),
    };
    table.truncate(MOST);
    Ok(table)
}

/// Function 62h: the order, a byte for each entry, and the entries. They stand in their order.
fn tell<H: PhysMem>(
    boot: &Boot,
    bios: &Mutex<Bios>,
    call: &Call<H>,
    table: &[usize],
) -> Result<(), u16> {
    let priority = call.room(4, table.len())?;
    let entries = call.room(8, table.len() * size_of::<Entry>())?;
    let reasons = boot.reasons();
    let descriptions = descriptions(bios);
    for (place, index) in (0_u8..).zip(table) {
        let mut entry = entry(boot, place, *index, reasons[*index].as_ref());
        // Both tables point to the same names.
        if let Some(start) = descriptions.filter(|_| *index < MOST) {
            let at = start + (*index * DESCRIPTION) as u64;
            call.hw.write(at, &words(&boot.candidates()[*index]));
            entry.description = [at as u16 & 0xf, (at >> 4) as u16];
        }
        let at = u64::from(place);
        call.hw.write8(priority + at, place);
        let size = size_of::<Entry>() as u64;
        call.hw.write(entries + at * size, entry.as_bytes());
    }
    Ok(())
}

/// Where names are shown to callers, for good; `None` where there is no room.
fn descriptions(bios: &Mutex<Bios>) -> Option<u64> {
    let bios = &mut *bios.lock();
    let kept = &mut bios.services.boot_names;
    if kept.is_none() {
        let size = (MOST * DESCRIPTION) as u64;
        *kept = bios.services.pmm.keep(&mut bios.machine.e820, size);
    }
    *kept
}

/// What a person calls it, with a zero at its end.
fn words(candidate: &Candidate) -> [u8; DESCRIPTION] {
    let mut bytes = [0; DESCRIPTION];
    let name = candidate.name.to_string();
    let readable = name.chars().map(|c| match c {
        ' '..='~' => c as u8,
        _ => b'?',
    });
    for (byte, c) in bytes[..DESCRIPTION - 1].iter_mut().zip(readable) {
        *byte = c;
    }
    bytes
}

/// The entry of a candidate, without its name.
fn entry(boot: &Boot, place: u8, index: usize, reason: Option<&Reason>) -> Entry {
    let candidate = &boot.candidates()[index];
    let medium = match reason {
        _ if boot.current() == Some(index) => MEDIUM_BOOTABLE,
        Some(Reason::NoMedium | Reason::NoSignature) => 0,
        _ => MEDIUM_UNKNOWN,
    };
    let failed = if reason.is_some() { FAILED } else { 0 };
    Entry {
        device: match candidate.kind {
            Kind::Floppy => 0x01,
            Kind::HardDisk => 0x02,
            Kind::CdRom => 0x03,
            // Those that boot by a bootstrap entry vector.
            Kind::Network | Kind::OptionRom => 0x80,
        },
        status: u16::from(place) | ENABLED | failed | medium,
        handler: match &candidate.target {
            Target::Rom(vector) => [vector.offset, vector.segment],
            _ => [ivt::entry::INT_19, segment(F_SEGMENT.start)],
        },
        description: [0; 2],
        reserved: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::bios::tests::bios;
    use crate::boot::order::Order;
    use crate::devices::name::Name;

    const SEGMENT: u16 = 0x2000;
    const STACK: u16 = 0x9000;

    fn machine() -> (Mutex<Boot>, Mutex<Bios>, Fake) {
        let candidate = |kind, name: &'static str, target| Candidate {
            kind,
            name: Name::from(name),
            place: None,
            target,
        };
        let candidates = vec![
            candidate(Kind::CdRom, "CD", Target::Cd(0xe0)),
            candidate(Kind::HardDisk, "second", Target::Drive(0x81)),
            candidate(Kind::HardDisk, "f\u{fc}rst", Target::Drive(0x80)),
            candidate(Kind::Floppy, "Floppy", Target::Drive(0)),
        ];
        let boot = Boot::new(candidates, Order::default());
        (Mutex::new(boot), bios(), Fake::default())
    }

    /// Calls with these words as arguments, and returns the status.
    fn call(machine: &(Mutex<Boot>, Mutex<Bios>, Fake), words: &[u16]) -> u16 {
        let mut frame = Frame {
            ss: STACK,
            esp: 0xffe0,
            ..Frame::default()
        };
        for (at, word) in (0..).step_by(2).zip(words) {
            machine.2.write16(frame.argument(at), *word);
        }
        serve(&machine.0, &machine.1, &machine.2, &mut frame);
        frame.ax()
    }

    fn text(hw: &Fake, [offset, segment]: [u16; 2]) -> String {
        let start = crate::arch::linear(segment, offset);
        let bytes = (start..)
            .map(|at| hw.read8(at))
            .take_while(|byte| *byte != 0);
        bytes.map(char::from).collect()
    }

    #[test]
    fn tables_name_what_can_be_booted_in_its_order() {
        let machine = machine();
        let hw = &machine.2;
        assert_eq!(call(&machine, &[0x60, 0, SEGMENT, 0xf000]), SUCCESS);
        assert_eq!(hw.read16(0x2_0000), 0x0101);
        for (switch, kinds, names) in [
            (
                0,
                &[3, 2, 2, 1][..],
                &["CD", "second", "f?rst", "Floppy"][..],
            ),
            (1, &[2, 2], &["f?rst", "second"]),
        ] {
            let count = [0x61, switch, 0, SEGMENT, 2, SEGMENT, 4, SEGMENT, 0xf000];
            assert_eq!(call(&machine, &count), SUCCESS);
            let numbers = [0, 2, 4].map(|at| hw.read16(0x2_0000 + at));
            assert_eq!(numbers, [kinds.len() as u16, 16, 16]);
            let tables = [0x62, switch, 0, SEGMENT, 0x10, SEGMENT, 0xf000];
            assert_eq!(call(&machine, &tables), SUCCESS);
            for (place, (kind, name)) in kinds.iter().zip(names).enumerate() {
                let at = 0x2_0010 + 16 * place as u64;
                assert_eq!(hw.read8(0x2_0000 + place as u64), place as u8);
                assert_eq!(hw.read16(at), *kind);
                assert_eq!(hw.read16(at + 2), ENABLED | MEDIUM_UNKNOWN | place as u16);
                let description = [8, 10].map(|word| hw.read16(at + word));
                assert_eq!(text(hw, description), *name);
            }
        }
    }

    #[test]
    fn what_cannot_be_told_is_a_status() {
        let machine = machine();
        assert_eq!(call(&machine, &[0x64, 0, SEGMENT]), NOT_SUPPORTED);
        for function in [0, 0x63, 0x65, 0x66, 0xffff] {
            assert_eq!(call(&machine, &[function, 0, SEGMENT]), NOT_SUPPORTED);
        }
        assert_eq!(
            call(&machine, &[0x61, 2, 0, SEGMENT, 2, SEGMENT, 4, SEGMENT]),
            BAD_PARAMETER
        );
        // One of the places is the firmware's: nothing is written.
        machine.2.write16(0x2_0000, 0xabcd);
        assert_eq!(
            call(&machine, &[0x61, 0, 0, SEGMENT, 0, 0xf000, 4, SEGMENT]),
            BAD_PARAMETER
        );
        assert_eq!(machine.2.read16(0x2_0000), 0xabcd);
        assert_eq!(
            call(&machine, &[0x62, 0, 0, SEGMENT, 0, 0xf000]),
            BAD_PARAMETER
        );
    }
}
