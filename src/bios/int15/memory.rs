//! INT 15h AH=88h and AX=E8xxh: how much memory there is.
//!
//! Source: ACPI specification 6.5, section 15.1; Ralf Brown's interrupt list, 15h/E801h and 15h/E881h.

use super::UNSUPPORTED;
use crate::arch::{Frame, PhysMem, linear};
use crate::bios::Bios;
use crate::units::MIB;
use firstlight_tables::e820::{E820Map, ENTRY_SIZE, Kind};
use spin::Mutex;

/// "SMAP".
const SIGNATURE: u32 = 0x534d_4150;
/// The most that AH=88h reports, in bytes above 1 MiB.
const LIMIT_88: u64 = 63 * MIB;

/// Where the RAM that starts at 1 MiB ends.
fn extended_end(map: &E820Map) -> u64 {
    map.entries()
        .iter()
        .find(|entry| entry.kind == Kind::Ram && (entry.start..entry.end).contains(&MIB))
        .map_or(MIB, |entry| entry.end)
}

/// AH=88h: KiB from 1 MiB up, at most 63 MiB.
pub fn below_64m(bios: &Mutex<Bios>, frame: &mut Frame) {
    let extended = extended_end(&bios.lock().machine.e820) - MIB;
    frame.set_ax((extended.min(LIMIT_88) >> 10) as u16);
    frame.set_carry(false);
}

/// AX=E801h, E881h and E820h.
pub fn serve<H>(bios: &Mutex<Bios>, hw: &H, frame: &mut Frame)
where
    H: crate::arch::Hardware,
{
    let bios = bios.lock();
    let map = &bios.machine.e820;
    match frame.al() {
        0x01 => {
            let (kib, blocks) = sizes(map);
            frame.set_ax(kib as u16);
            frame.set_bx(blocks as u16);
            frame.set_cx(kib as u16);
            frame.set_dx(blocks as u16);
            frame.set_carry(false);
        }
        0x81 => {
            let (kib, blocks) = sizes(map);
            (frame.eax, frame.ebx) = (kib, blocks);
            (frame.ecx, frame.edx) = (kib, blocks);
            frame.set_carry(false);
        }
        0x20 => {
            // Boot loaders and kernels ask for the map before the guest's own drivers start, which nothing else tells. A
            // disk that is at work is not left.
            if frame.ebx == 0
                && let Some(mut drives) = bios.drives.try_lock()
            {
                drives.quiesce();
            }
            e820(map, hw, frame);
        }
        _ => frame.fail(UNSUPPORTED),
    }
}

/// KiB between 1 and 16 MiB, and 64 KiB blocks from 16 MiB up to the first hole.
fn sizes(map: &E820Map) -> (u32, u32) {
    let end = extended_end(map);
    let kib = (end.min(16 * MIB) - MIB) >> 10;
    let blocks = end.saturating_sub(16 * MIB) >> 16;
    (kib as u32, blocks as u32)
}

fn e820(map: &E820Map, hw: &impl PhysMem, frame: &mut Frame) {
    let index = frame.ebx as usize;
    let (entry, size) = match map.entries().get(index) {
        Some(entry) if frame.edx == SIGNATURE && frame.ecx as usize >= ENTRY_SIZE => {
            (entry, ENTRY_SIZE as u32)
        }
        _ => return frame.fail(UNSUPPORTED),
    };
    hw.write(linear(frame.es, frame.di()), &entry.to_bytes());
    let next = index + 1;
    frame.ebx = if next < map.entries().len() {
        next as u32
    } else {
        0
    };
    frame.eax = SIGNATURE;
    frame.ecx = size;
    frame.set_carry(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::frame::CARRY;
    use crate::bios::tests::bios;
    use crate::storage::{BlockDevice, Bounce, Chs, Disk, DiskError, DiskInfo, Limits, Request};
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn with_map(entries: &[(u64, u64, Kind)]) -> Mutex<Bios> {
        let bios = bios();
        for &(start, end, kind) in entries {
            bios.lock().machine.e820.insert(start..end, kind).unwrap();
        }
        bios
    }

    #[test]
    fn sizes_stop_at_the_first_hole() {
        let bios = with_map(&[
            (0, 0x9fc00, Kind::Ram),
            (MIB, 0xffe_0000, Kind::Ram),
            (1 << 32, 2 << 32, Kind::Ram),
        ]);
        let mut frame = Frame {
            eax: 0xe801,
            ..Frame::default()
        };
        serve(&bios, &Fake::default(), &mut frame);
        assert_eq!((frame.ax(), frame.bx()), (0x3c00, 0xefe));
        below_64m(&bios, &mut frame);
        assert_eq!(frame.ax(), 0xfc00);
    }

    #[test]
    fn walks_the_whole_map() {
        let hw = Fake::default();
        let bios = with_map(&[(0, 0x9fc00, Kind::Ram), (0x9fc00, MIB, Kind::Reserved)]);
        let mut frame = Frame {
            eax: 0xe820,
            edx: SIGNATURE,
            ecx: 24,
            es: 0x1000,
            edi: 0x10,
            ..Frame::default()
        };
        serve(&bios, &hw, &mut frame);
        assert_eq!((frame.eax, frame.ebx, frame.ecx), (SIGNATURE, 1, 20));
        assert_eq!(hw.read64(0x10018), 0x9fc00);
        frame.eax = 0xe820;
        serve(&bios, &hw, &mut frame);
        assert_eq!(frame.ebx, 0);
        assert_eq!(hw.read64(0x10010), 0x9fc00);
        assert_eq!(hw.read32(0x10020), 2);
    }

    /// A disk that remembers whether it was left.
    struct Kept(DiskInfo, Arc<AtomicU32>);

    impl BlockDevice for Kept {
        fn info(&self) -> &DiskInfo {
            &self.0
        }
        fn transfer(&mut self, _: &Request) -> Result<(), DiskError> {
            Ok(())
        }
        fn flush(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
        fn recover(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
        fn quiesce(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_asks_for_the_map_gets_the_disks() {
        let hw = Fake::default();
        let bios = with_map(&[(0, 0x9fc00, Kind::Ram), (0x9fc00, MIB, Kind::Reserved)]);
        let left = Arc::new(AtomicU32::new(0));
        let info = DiskInfo {
            kind: crate::storage::Kind::HardDisk,
            name: "kept".into(),
            sector_size: 512,
            sectors: 100,
            geometry: Chs::default(),
            limits: Limits {
                sectors: 1,
                dma: None,
            },
            place: Arc::default(),
            edd: None,
        };
        let disk = Disk::new(Box::new(Kept(info, left.clone())), Bounce::NONE);
        let drives = bios.lock().drives.clone();
        drives.lock().add(&hw, disk, None).unwrap();
        let ask = |ebx| {
            let mut frame = Frame {
                eax: 0xe820,
                ebx,
                edx: SIGNATURE,
                ecx: 20,
                ..Frame::default()
            };
            serve(&bios, &hw, &mut frame);
            assert_eq!(frame.flags & CARRY, 0);
            left.load(Ordering::Relaxed)
        };
        assert_eq!([ask(0), ask(1), ask(0)], [1, 1, 2]);
        // From a handler that runs while a disk is at work.
        let busy = drives.lock();
        assert_eq!(ask(0), 2);
        drop(busy);
    }

    proptest! {
        #[test]
        fn any_registers_are_survived(ebx: u32, ecx: u32, edx: u32, es: u16, al: u8) {
            let hw = Fake::default();
            let bios = with_map(&[(0, 0x9fc00, Kind::Ram)]);
            let mut frame = Frame { eax: 0xe800 | u32::from(al), ebx, ecx, edx, es, ..Frame::default() };
            serve(&bios, &hw, &mut frame);
            prop_assert!(frame.flags & CARRY == 0 || frame.ah() == UNSUPPORTED);
        }
    }
}
