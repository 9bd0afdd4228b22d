//! Finding out about the guest, and what of its memory is ours.

use super::config::{Config, collect};
use super::hvm_info::{self, HvmInfo};
use super::memory;
use super::start_info::{self, Module, StartInfo};
use crate::arch::hypercalls::{Hypercalls, MapEntry, Param, Vnuma};
use crate::arch::{Hardware, PhysMem};
use crate::devices::chipset::Chipset;
use crate::devices::xen::store::{Store, StoreError};
use crate::platform::{Cpus, Machine};
use crate::settings::Settings;
use crate::units::{FOUR_GIB, GIB, PAGE};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use firstlight_acpi::{Numa, NumaMemory};
use firstlight_tables::e820::{E820Map, Kind};

const TWO_GIB: u64 = 2 * GIB;
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
    /// Where the VM generation id is, if there is one.
    pub generation_id: Option<u64>,
    /// The domain's UUID, in the order in which it is written.
    pub uuid: [u8; 16],
    /// What follows the major and minor number in Xen's version.
    pub extra_version: String,
    /// Virtual NUMA, where the toolstack gave some.
    pub numa: Option<Numa>,
}

/// Asks Xen, the toolstack's structures and xenstore. `resident` is what our own image occupies.
///
/// Whatever is missing or damaged is logged, and its default taken.
pub fn discover<H: Hardware, X: Hypercalls>(
    hw: &H,
    xen: &X,
    start_info: u64,
    resident: Range<u64>,
) -> (Guest, Machine, Settings) {
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
    let mut machine = Machine {
        low_ram_end: info.low_ram_end,
        high_ram: info.high_ram_end - FOUR_GIB,
        high_end: info.high_ram_end,
        cpus: cpus(&info),
        e820: memory_map(&info, &toolstack, resident.clone()),
        resident,
        chipset: Chipset::I440fx,
        ..Machine::default()
    };
    let settings = settings(&config);
    let mut guest = Guest {
        info,
        modules,
        config,
        generation_id: None,
        uuid: xen.domain_uuid().unwrap_or_default(),
        extra_version: text(&xen.extra_version().unwrap_or_default()),
        numa: xen.vnuma().ok().map(numa),
    };
    guest.set_params(hw, xen, &mut machine.e820);
    (guest, machine, settings)
}

fn cpus(info: &HvmInfo) -> Cpus {
    Cpus {
        present: info.online.count_ones(),
    }
}

/// As the tables have it: a distance is a byte there, of which the largest says that there is no way.
fn numa(given: Vnuma) -> Numa {
    let ranges = given.memory.iter().filter(|range| range.start < range.end);
    let memory = ranges.map(|range| NumaMemory {
        range: range.start..range.end,
        node: range.node,
    });
    Numa {
        nodes: given.nodes,
        cpu_nodes: given.cpu_nodes,
        memory: memory.collect(),
        distances: given
            .distances
            .iter()
            .map(|distance| (*distance).min(255) as u8)
            .collect(),
    }
}

/// The first of each name counts, since what the host's owner wrote comes before the OEM strings.
fn settings(config: &Config) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in config.settings.iter().rev() {
        // OEM strings also carry SMBIOS fields, which the tables take from there.
        if name.starts_with("smbios.") {
            continue;
        }
        if let Err(error) = settings.set(name, value.trim()) {
            log::warn!("setting {name}={value}: {error}");
        }
    }
    settings
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn read_config<H: Hardware, X: Hypercalls>(hw: &H, xen: &X) -> Config {
    let Some(mut store) = Store::open(hw, xen) else {
        log::error!("Xen: no xenstore: defaults for everything");
        return Config::default();
    };
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

/// `size` bytes below 2 GiB that the guest keeps as `kind`, zeroed. Below 2 GiB, since RAM above may still move.
pub fn take(
    hw: &impl PhysMem,
    map: &mut E820Map,
    size: u64,
    align: u64,
    kind: Kind,
) -> Option<u64> {
    let start = map.take_ram_top(TWO_GIB, size, align, kind)?;
    hw.fill(start, size, 0);
    Some(start)
}

impl Guest {
    /// The module that `bios=` named.
    pub fn firmware_module(&self) -> Option<&Range<u64>> {
        self.modules
            .iter()
            .find(|module| module.cmdline == "firmware")
            .map(|module| &module.range)
    }

    /// Tells Xen where its ACPI ports are to be, where real mode's TSS is, and where the generation id is.
    fn set_params(&mut self, hw: &impl PhysMem, xen: &impl Hypercalls, map: &mut E820Map) {
        let set = |param, value| {
            if let Err(errno) = xen.set_param(param, value) {
                log::warn!("Xen: {param:?} cannot be set (error {})", errno.0);
            }
        };
        if !self.config.traditional_device_model {
            set(Param::AcpiIoportsLocation, 1);
        }
        let size = VM86_TSS_SIZE.next_multiple_of(PAGE);
        if let Some(tss) = take(hw, map, size, PAGE, Kind::Reserved) {
            set(Param::Vm86TssSized, VM86_TSS_SIZE << 32 | tss);
        }
        if let Some(id) = self.config.generation_id
            && let Some(place) = take(hw, map, PAGE, PAGE, Kind::Nvs)
        {
            hw.write(place, &id);
            set(Param::VmGenerationIdAddr, place);
            self.generation_id = Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::fake_xen::FakeXen;

    const RESIDENT: Range<u64> = 0xff0_0000..0x1000_0000;

    #[test]
    fn takes_what_it_needs_from_the_guest() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        xen.map.borrow_mut().push(MapEntry {
            start: 0x800_0000,
            size: 0x1000,
            kind: 2,
        });
        xen.set("platform/generation-id", "5:6");
        xen.set("platform/firstlight", "");
        xen.set("platform/firstlight/log", "debug");
        xen.set("bios-strings/oem-1", "firstlight.log=error");
        xen.set("bios-strings/oem-2", "firstlight.serial-console=yes");
        hvm_info::tests::install(&hw, 0x1000_0000, 0, 2);
        let (guest, machine, settings) = discover(&hw, &xen, 0x20_0000, RESIDENT);
        assert_eq!(guest.info.vcpus, 2);
        assert_eq!(guest.extra_version, ".5-fake");
        assert_eq!(settings.log, Some(log::LevelFilter::Debug));
        assert_eq!(settings.console_port(), Some(0));
        assert_eq!(machine.e820.kind_at(0x800_0000), Some(Kind::Reserved));
        assert_eq!(machine.e820.kind_at(RESIDENT.start), Some(Kind::Reserved));
        let id = guest.generation_id.unwrap();
        assert_eq!(hw.read64(id), 5);
        assert_eq!(machine.e820.kind_at(id), Some(Kind::Nvs));
        assert_eq!(xen.param(Param::VmGenerationIdAddr), Ok(id));
        assert_eq!(xen.param(Param::AcpiIoportsLocation), Ok(1));
        let tss = xen.param(Param::Vm86TssSized).unwrap();
        assert_eq!(
            machine.e820.kind_at(tss & 0xffff_ffff),
            Some(Kind::Reserved)
        );
        assert_eq!(tss >> 32, VM86_TSS_SIZE);
    }

    #[test]
    fn goes_on_with_nothing_at_all() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        xen.params.borrow_mut().clear();
        let (guest, machine, _) = discover(&hw, &xen, 0, RESIDENT);
        assert_eq!(machine.low_ram_end, RESIDENT.end);
        assert_eq!(guest.info.low_ram_end, RESIDENT.end);
        assert!(guest.config.acpi && guest.modules.is_empty());
        assert!(guest.firmware_module().is_none());
    }
}
