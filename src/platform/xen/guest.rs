//! Finding out about the guest, and what of its memory is ours.

use super::config::{Config, collect};
use super::hvm_info::{self, HvmInfo};
use super::hypercalls::{Hypercalls, MapEntry, Param};
use super::memory;
use super::start_info::{self, Module, StartInfo};
use super::xenstore::{Store, StoreError};
use crate::arch::Hardware;
use crate::tables::e820::{E820Map, Kind};
use alloc::vec::Vec;
use core::ops::Range;

const PAGE: u64 = 4096;
const TWO_GIB: u64 = 1 << 31;
const FOUR_GIB: u64 = 1 << 32;
/// A task state segment with an interrupt redirection map and a permission map for all ports, which ends in a byte of ones
/// (Intel SDM volume 1, 20.3.1 and 19.5.2).
const VM86_TSS_SIZE: u64 = 104 + 32 + 8192 + 1;

/// The guest as Xen and the toolstack describe it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Memory sizes and CPUs.
    pub info: HvmInfo,
    /// What the toolstack passed along.
    pub modules: Vec<Module>,
    /// What xenstore says.
    pub config: Config,
    /// The guest's memory map.
    pub map: E820Map,
    /// Where the VM generation id is, if there is one.
    pub generation_id: Option<u64>,
}

/// Asks Xen, the toolstack's structures and xenstore. `resident` is what our own image occupies.
///
/// Whatever is missing or damaged is logged, and its default taken.
pub fn discover<H: Hardware, X: Hypercalls>(
    hw: &H,
    xen: &X,
    start_info: u64,
    resident: Range<u64>,
) -> Guest {
    let StartInfo { modules, .. } = start_info::read(hw, start_info).unwrap_or_else(|error| {
        log::error!("Xen: no hvm_start_info ({error:?}): no modules");
        StartInfo::default()
    });
    let toolstack = xen.memory_map().unwrap_or_else(|errno| {
        log::warn!("Xen: no memory map (error {})", errno.0);
        Vec::new()
    });
    let info = hvm_info::read(hw).unwrap_or_else(|error| {
        log::error!("Xen: no hvm_info_table ({error:?}): memory from the memory map, one CPU");
        info_from_map(&toolstack, &resident)
    });
    let config = read_config(hw, xen);
    let map = memory_map(&info, &toolstack, resident);
    let mut guest = Guest {
        info,
        modules,
        config,
        map,
        generation_id: None,
    };
    guest.set_params(hw, xen);
    guest
}

fn read_config<H: Hardware, X: Hypercalls>(hw: &H, xen: &X) -> Config {
    let ring = xen.param(Param::StorePfn).unwrap_or(0);
    let port = xen.param(Param::StoreEvtchn).unwrap_or(0);
    if ring == 0 || ring >= FOUR_GIB / PAGE || port == 0 {
        log::error!("Xen: no xenstore: defaults for everything");
        return Config::default();
    }
    let mut store = Store::new(hw, xen, ring * PAGE, port as u32);
    let keys = collect(&mut store).unwrap_or_else(|error: StoreError| {
        log::error!("Xen: xenstore does not answer ({error:?}): defaults for everything");
        Default::default()
    });
    store.release();
    Config::from_keys(&keys)
}

/// Without a table, the map's RAM is what there is.
fn info_from_map(toolstack: &[MapEntry], resident: &Range<u64>) -> HvmInfo {
    let ram_end = |below: Range<u64>| {
        toolstack
            .iter()
            .filter(|entry| Kind::from_number(entry.kind) == Kind::Ram)
            .filter_map(|entry| entry.start.checked_add(entry.size))
            .filter(|end| below.contains(end))
            .max()
    };
    HvmInfo {
        apic: true,
        vcpus: 1,
        online: 1,
        low_ram_end: ram_end(0..FOUR_GIB).unwrap_or(0).max(resident.end),
        high_ram_end: ram_end(FOUR_GIB..u64::MAX).unwrap_or(FOUR_GIB),
        reserved_start: memory::RESERVED_START,
    }
}

fn memory_map(info: &HvmInfo, toolstack: &[MapEntry], resident: Range<u64>) -> E820Map {
    let mut map = memory::e820(info, toolstack)
        .or_else(|_| {
            log::warn!("Xen: the toolstack's memory map has too many entries; it is left out");
            memory::e820(info, &[])
        })
        .unwrap_or_default();
    if map.insert(resident, Kind::Reserved).is_err() {
        log::error!("Xen: no room in the memory map for the firmware itself");
    }
    map
}

impl Guest {
    /// `size` bytes below 2 GiB that the guest keeps as `kind`, zeroed. Below 2 GiB, since RAM above may still move.
    pub fn take<H: Hardware>(&mut self, hw: &H, size: u64, align: u64, kind: Kind) -> Option<u64> {
        let start = self.map.take_ram_top(TWO_GIB, size, align, kind)?;
        hw.fill(start, size, 0);
        Some(start)
    }

    /// The module that `bios=` named.
    pub fn firmware_module(&self) -> Option<&Range<u64>> {
        self.modules
            .iter()
            .find(|module| module.cmdline == "firmware")
            .map(|module| &module.range)
    }

    /// Tells Xen where its ACPI ports are to be, where real mode's TSS is, and where the generation id is.
    fn set_params<H: Hardware, X: Hypercalls>(&mut self, hw: &H, xen: &X) {
        let set = |param, value| {
            if let Err(errno) = xen.set_param(param, value) {
                log::warn!("Xen: {param:?} cannot be set (error {})", errno.0);
            }
        };
        if !self.config.traditional_device_model {
            set(Param::AcpiIoportsLocation, 1);
        }
        let size = VM86_TSS_SIZE.next_multiple_of(PAGE);
        if let Some(tss) = self.take(hw, size, PAGE, Kind::Reserved) {
            set(Param::Vm86TssSized, VM86_TSS_SIZE << 32 | tss);
        }
        if let Some(id) = self.config.generation_id
            && let Some(place) = self.take(hw, PAGE, PAGE, Kind::Nvs)
        {
            hw.write(place, &id);
            set(Param::VmGenerationIdAddr, place);
            self.generation_id = Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeXen;
    use super::*;
    use crate::arch::PhysMem;
    use crate::arch::fake::Fake;

    const RESIDENT: Range<u64> = 0xff0_0000..0x1000_0000;

    #[test]
    fn takes_what_it_needs_from_the_guest() {
        let hw = Fake::default();
        let mut xen = FakeXen::new(&hw);
        xen.map.push(MapEntry {
            start: 0x800_0000,
            size: 0x1000,
            kind: 2,
        });
        xen.set("platform/generation-id", "5:6");
        hvm_info::tests::install(&hw, 0x1000_0000, 0, 2);
        let guest = discover(&hw, &xen, 0x20_0000, RESIDENT);
        assert_eq!(guest.info.vcpus, 2);
        assert_eq!(guest.map.kind_at(0x800_0000), Some(Kind::Reserved));
        assert_eq!(guest.map.kind_at(RESIDENT.start), Some(Kind::Reserved));
        let id = guest.generation_id.unwrap();
        assert_eq!(hw.read64(id), 5);
        assert_eq!(guest.map.kind_at(id), Some(Kind::Nvs));
        assert_eq!(xen.param(Param::VmGenerationIdAddr), Ok(id));
        assert_eq!(xen.param(Param::AcpiIoportsLocation), Ok(1));
        let tss = xen.param(Param::Vm86TssSized).unwrap();
        assert_eq!(guest.map.kind_at(tss & 0xffff_ffff), Some(Kind::Reserved));
        assert_eq!(tss >> 32, VM86_TSS_SIZE);
    }

    #[test]
    fn goes_on_with_nothing_at_all() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        xen.params.borrow_mut().clear();
        let guest = discover(&hw, &xen, 0, RESIDENT);
        assert_eq!(guest.info.low_ram_end, RESIDENT.end);
        assert!(guest.config.acpi && guest.modules.is_empty());
        assert!(guest.firmware_module().is_none());
    }
}
