//! The guest's tables under Xen, all made here: ACPI, SMBIOS, MP and PIR.

use crate::units::{FOUR_GIB, GIB};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use super::guest::Guest;
use super::memory::RESERVED_START;
use crate::arch::{Cpuid, PhysMem, Ports, leaves};
use crate::devices::pci::PciDevice;
use crate::devices::{mtrr, serial};
use crate::platform::legacy::Interrupts;
use crate::platform::{Described, Installed};
use crate::settings::Settings;
use firstlight_acpi as acpi;
use firstlight_tables::place::Placer;
use firstlight_tables::routing::Routing;
use firstlight_tables::smbios;

/// AMD processors keep the addresses from here to 1 TiB for their own.
const HYPERTRANSPORT: u64 = 0xfd_0000_0000;
/// More than this of ready-made structures or tables would not leave room on the heap.
const BLOB_LIMIT: u64 = 64 << 10;
/// The ID of Xen's I/O APIC, as guests know it from the stock loader's tables.
pub const IOAPIC_ID: u8 = 1;
/// A device's register that nothing answers.
const NOTHING: u32 = u32::MAX;
/// TPM_DID_VID of locality 0 (TCG PC Client Platform TPM Profile 1.05, section 6.5).
const TPM_DID_VID: u64 = 0xfed4_0f00;
/// TPM_CRB_INTF_ID, and its field that says which interface there is.
const TPM_INTERFACE_ID: u64 = 0xfed4_0030;
const TPM_INTERFACE_CRB: u32 = 1;

/// Places all tables and says where their entry points are. What cannot be made or placed is logged and left out.
pub fn install(
    hw: &(impl Ports + PhysMem),
    cpu: &impl Cpuid,
    guest: &Guest,
    described: &Described,
    placer: &mut dyn Placer,
) -> Installed {
    let mut installed = Installed::default();
    if guest.info.apic {
        let interrupts = Interrupts {
            routing: Routing::XEN,
            ioapic_id: IOAPIC_ID,
        };
        let ids = apic_ids(guest, described.apic_ids).into_iter().enumerate();
        let online = ids.filter(|(cpu, _)| is_online(guest, *cpu));
        let online: Vec<_> = online.map(|(_, id)| id).collect();
        (installed.mp, installed.pir) = interrupts.install(cpu, &online, described.pci, placer);
    }
    installed.smbios = install_smbios(hw, cpu, guest, described, placer);
    if guest.config.acpi {
        installed.rsdp = install_acpi(hw, cpu, guest, described, placer);
    }
    installed
}

/// Local APIC IDs by CPU number, also of CPUs that are plugged in later. `found` are those that CPUs have told, which Xen gives out in
/// ascending order; where some have told none, each is twice the number, as with every Xen so far.
fn apic_ids(guest: &Guest, found: &[u32]) -> Vec<u32> {
    let vcpus = guest.info.vcpus;
    if found.len() != vcpus as usize {
        return (0..vcpus).map(|cpu| 2 * cpu).collect();
    }
    let mut ids = found.to_vec();
    ids.sort_unstable();
    ids
}

fn is_online(guest: &Guest, cpu: usize) -> bool {
    guest.info.online >> cpu.min(127) & 1 != 0
}

/// The settings among the OEM strings of the toolstack's blob.
pub fn blob_settings(hw: &impl PhysMem, guest: &Guest, settings: &mut Settings) {
    let blob = read_blob(hw, guest.config.smbios_blob.as_ref());
    for (name, value) in smbios::settings(smbios::blob_structures(&blob)) {
        if guest.config.setting(name).is_some() {
            continue;
        }
        let value = core::str::from_utf8(value).unwrap_or_default();
        if let Err(error) = settings.set(name, value) {
            log::warn!("OEM string firstlight.{name}: {error}");
        }
    }
}

fn read_blob(hw: &impl PhysMem, range: Option<&Range<u64>>) -> Vec<u8> {
    let Some(range) = range else {
        return Vec::new();
    };
    let size = range.end - range.start;
    if size > BLOB_LIMIT {
        log::warn!(
            "Xen: {size} bytes of tables at {:#x} are too many",
            range.start
        );
        return Vec::new();
    }
    let mut bytes = alloc::vec![0; size as usize];
    hw.read(range.start, &mut bytes);
    bytes
}

fn install_acpi(
    hw: &(impl Ports + PhysMem),
    cpu: &impl Cpuid,
    guest: &Guest,
    described: &Described,
    placer: &mut dyn Placer,
) -> Option<u64> {
    let config = &guest.config;
    let ids = apic_ids(guest, described.apic_ids).into_iter().enumerate();
    let cpus = ids.map(|(cpu, apic_id)| acpi::Cpu {
        apic_id,
        online: is_online(guest, cpu),
    });
    let cpus: Vec<_> = cpus.collect();
    let extra = read_blob(hw, config.acpi_blob.as_ref());
    let phys_bits = mtrr::phys_bits(|leaf| cpu.cpuid(leaf));
    let device = |wanted: fn(&PciDevice) -> bool| {
        let found = described.pci.iter().find(|device| wanted(device))?;
        Some(found.bdf.device())
    };
    let tables = acpi::Input {
        cpus: &cpus,
        apic: guest.info.apic,
        ioapic_id: IOAPIC_ID,
        // With the platform device's memory, which may be cached.
        pci_window: low_window(&(described.pci_hole.start..RESERVED_START)),
        pci_window_64: high_window(guest.info.high_ram_end, phys_bits),
        vga_device: device(|device| device.subclass() == 0x0300),
        platform_device: device(|device| device.is(0x5853, 0x0001)),
        hpet: hw.read32(acpi::HPET_BASE.into()) != NOTHING,
        floppy: hw.in8(0x3f4) != 0xff,
        serial: [serial::PORTS[0], serial::PORTS[1]].map(|port| serial::answers(hw, port)),
        parallel: hw.in8(0x379) != 0xff,
        s3: config.s3,
        s4: config.s4,
        laptop_slate: config.laptop_slate,
        tpm: tpm(hw, config.tpm_version),
        generation_id: guest.generation_id,
        numa: guest.numa.as_ref(),
        extra: &extra,
    };
    match acpi::install(&tables, placer) {
        Ok(installed) => Some(installed.rsdp),
        Err(acpi::NoMemory) => {
            log::error!("no ACPI tables: no memory left for them");
            None
        }
    }
}

/// The hole as 32-bit addresses.
fn low_window(hole: &Range<u64>) -> Range<u32> {
    let clamp = |addr: u64| u32::try_from(addr).unwrap_or(u32::MAX);
    clamp(hole.start)..clamp(hole.end)
}

/// Whole GiB above RAM that every processor can address.
fn high_window(ram_end: u64, phys_bits: u8) -> Option<Range<u64>> {
    let start = ram_end.max(FOUR_GIB).checked_next_multiple_of(GIB)?;
    let end = 1u64.checked_shl(phys_bits.into()).unwrap_or(u64::MAX);
    let end = end.min(HYPERTRANSPORT);
    (start < end).then_some(start..end)
}

/// The TPM that its registers show. `version` is what the toolstack says, which libxl never does.
fn tpm(hw: &impl PhysMem, version: Option<u8>) -> Option<acpi::Tpm> {
    let tis = || !matches!(hw.read32(TPM_DID_VID), 0 | NOTHING);
    let crb = || hw.read32(TPM_INTERFACE_ID) & 15 == TPM_INTERFACE_CRB;
    match version {
        Some(0) => None,
        None if !tis() => None,
        None if crb() => Some(acpi::Tpm::V20),
        None => Some(acpi::Tpm::V12),
        Some(1) if tis() => Some(acpi::Tpm::V12),
        Some(2) if crb() => Some(acpi::Tpm::V20),
        Some(_) => {
            log::warn!("Xen: the TPM does not answer");
            None
        }
    }
}

/// The address of the 32-bit entry point.
fn install_smbios(
    hw: &impl PhysMem,
    cpu: &impl Cpuid,
    guest: &Guest,
    described: &Described,
    placer: &mut dyn Placer,
) -> Option<u64> {
    let config = &guest.config;
    let blob = read_blob(hw, config.smbios_blob.as_ref());
    let leaves = leaves::find(cpu);
    let version = match &leaves {
        Some(leaves) => {
            let (major, minor) = leaves.version;
            format!("{major}.{minor}{}", guest.extra_version)
        }
        None => guest.extra_version.clone(),
    };
    let brand = brand(cpu);
    let [_, b, c, d] = cpu.cpuid(0);
    let vendor = [b.to_le_bytes(), d.to_le_bytes(), c.to_le_bytes()].concat();
    let [signature, _, _, features] = cpu.cpuid(1);
    let tables = smbios::Input {
        mode: described.settings.smbios_mode,
        strings: config.strings.clone(),
        blob: &blob,
        uuid: guest.uuid,
        bios_vendor: b"Xen",
        bios_version: version.as_bytes(),
        manufacturer: b"Xen",
        product: b"HVM domU",
        oem: b"Xen",
        cpu: smbios::Cpu {
            vendor: &vendor,
            brand: brand.trim_ascii(),
            signature,
            features,
            mhz: leaves.map_or(0, |leaves| leaves.tsc_mhz(cpu)),
            sockets: guest.info.online.count_ones(),
            cores: 1,
            threads: 1,
            caches: caches(cpu),
        },
        low_ram: guest.info.low_ram_end,
        high_ram: guest.info.high_ram_end - FOUR_GIB,
        battery: config.default_battery,
        ports: &PORTS,
        supplies: &[smbios::Supply {
            name: "Virtual supply",
            manufacturer: "Xen",
            watts: None,
        }],
        ..smbios::Input::default()
    };
    let slots: Vec<_> = slots(described.pci).collect();
    let tables = smbios::Input {
        slots: &slots,
        ..tables
    };
    let table = smbios::generate(&tables);
    match smbios::install(&table, smbios::Entries::BOTH, placer) {
        Ok(installed) => installed.entry_32,
        Err(smbios::NoMemory) => {
            log::error!("no SMBIOS tables: no memory left for them");
            None
        }
    }
}

/// What a PC has at its back (DSP0134 3.7, tables 41 and 42): PS/2 sockets, and a nine-pin one for a serial port.
const PORTS: [smbios::Port; 3] = [
    port("Keyboard", 0x0f, 0x0d),
    port("Mouse", 0x0f, 0x0e),
    port("COM1", 0x08, 0x09),
];

const fn port(label: &'static str, connector: u8, kind: u8) -> smbios::Port {
    smbios::Port {
        label,
        connector,
        kind,
    }
}

/// The slots that have a card: all on bus 0 but the chip set's, which is in slots 0 and 1.
fn slots(pci: &[PciDevice]) -> impl Iterator<Item = smbios::Slot> {
    let cards = pci.iter().map(|function| function.bdf);
    let cards = cards.filter(|bdf| bdf.bus() == 0 && bdf.function() == 0 && bdf.device() > 1);
    cards.map(|bdf| smbios::Slot {
        device: bdf.device(),
        in_use: true,
    })
}

/// The caches of one processor, as far as the extended leaves tell their sizes (AMD's processor programming reference, CPUID
/// 80000005h and 80000006h; Intel's processors tell the second level there).
fn caches(cpu: &impl Cpuid) -> Vec<smbios::Cache> {
    const LEVEL_2_AND_3: u32 = 0x8000_0006;
    if cpu.cpuid(0x8000_0000)[0] < LEVEL_2_AND_3 {
        return Vec::new();
    }
    let [_, _, data, instructions] = cpu.cpuid(LEVEL_2_AND_3 - 1);
    let [_, _, second, third] = cpu.cpuid(LEVEL_2_AND_3);
    let sizes = [
        (data >> 24) + (instructions >> 24),
        second >> 16,
        (third >> 18) * 512,
    ];
    let levels = (1..).zip(sizes).filter(|(_, kib)| *kib > 0);
    levels
        .map(|(level, kib)| smbios::Cache { level, kib })
        .collect()
}

/// The processor's name, where it has one.
fn brand(cpu: &impl Cpuid) -> Vec<u8> {
    const HIGHEST: u32 = 0x8000_0000;
    const BRAND: Range<u32> = 0x8000_0002..0x8000_0005;
    if cpu.cpuid(HIGHEST)[0] < BRAND.end - 1 {
        return Vec::new();
    }
    let words = BRAND.flat_map(|leaf| cpu.cpuid(leaf));
    let bytes = words.flat_map(u32::to_le_bytes);
    bytes.take_while(|byte| *byte != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::super::guest::discover;
    use super::super::hvm_info;
    use super::*;
    use crate::arch::fake::Fake;
    use crate::arch::fake_xen::FakeXen;

    #[test]
    fn apic_ids_are_those_that_the_cpus_tell() {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        hvm_info::tests::install(&hw, 0x1000_0000, 0, 3);
        let (guest, ..) = discover(&hw, &xen, 0, 0x7ff_0000..0x800_0000);
        assert_eq!(apic_ids(&guest, &[0, 3, 1]), [0, 1, 3]);
        assert_eq!(apic_ids(&guest, &[0, 1]), [0, 2, 4]);
    }

    #[test]
    fn a_tpm_is_known_by_its_registers() {
        let found = |vendor, interface, version| {
            let hw = Fake::default();
            hw.write32(TPM_DID_VID, vendor);
            hw.write32(TPM_INTERFACE_ID, interface);
            tpm(&hw, version)
        };
        assert_eq!(found(NOTHING, NOTHING, None), None);
        assert_eq!(found(0, 0, None), None);
        assert_eq!(found(0x1_1014, 0, None), Some(acpi::Tpm::V12));
        assert_eq!(found(0x1_1014, 1, None), Some(acpi::Tpm::V20));
        assert_eq!(found(0x1_1014, 0, Some(2)), None);
        assert_eq!(found(0x1_1014, 1, Some(2)), Some(acpi::Tpm::V20));
        assert_eq!(found(0x1_1014, 0, Some(0)), None);
    }

    #[test]
    fn windows_are_what_can_be_addressed() {
        assert_eq!(low_window(&(0xf000_0000..FOUR_GIB)), 0xf000_0000..u32::MAX);
        let end = HYPERTRANSPORT;
        assert_eq!(high_window(FOUR_GIB + 1, 40), Some(FOUR_GIB + GIB..end));
        assert_eq!(high_window(0, 36), Some(FOUR_GIB..1 << 36));
        assert_eq!(high_window(0, 32), None);
        assert_eq!(high_window(u64::MAX, 52), None);
    }

    #[test]
    fn caches_are_those_that_the_processor_tells_of() {
        let amd = |leaf: u32| match leaf {
            0x8000_0000 => [0x8000_001f, 0, 0, 0],
            0x8000_0005 => [0, 0, 64 << 24, 64 << 24],
            0x8000_0006 => [0, 0, 512 << 16, 32 << 18],
            _ => [0; 4],
        };
        let sizes = caches(&amd)
            .iter()
            .map(|cache| cache.kib)
            .collect::<Vec<_>>();
        assert_eq!(sizes, [128, 512, 16384]);
        assert_eq!(caches(&|_| [0; 4]), []);
    }

    #[test]
    fn the_brand_ends_where_it_ends() {
        let cpu = |leaf: u32| match leaf {
            0x8000_0000 => [0x8000_0004, 0, 0, 0],
            0x8000_0002 => [0x7465_6956, 0x736e_616d, 0x2020, 0],
            _ => [0x4141_4141; 4],
        };
        assert_eq!(brand(&cpu), b"Vietmans  ");
        assert_eq!(brand(&|_| [0; 4]), b"");
    }
}
