//! ACPI tables for Xen HVM guests, where nobody else makes them (on QEMU, [`firstlight_tables::loader`] places QEMU's).
//!
//! [`install`] makes every table for an [`Input`], places them below 4 GiB and the root pointer in the F segment.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod aml;
mod dsdt;
mod fixed;

use alloc::vec::Vec;
use core::ops::Range;

use log::warn;

use firstlight_tables::place::{Block, Placer, Zone, sum};
use fixed::HEADER_SIZE;

/// Port of the general-purpose event block 0 (hvm/ioreq.h: ACPI_GPE0_BLK_ADDRESS_V1), and its bytes.
pub const GPE0: u16 = 0xafe0;
/// Bytes of that block, status and enable.
pub const GPE0_SIZE: u8 = 4;
/// Physical address of the HPET's registers.
pub const HPET_BASE: u32 = 0xfed0_0000;
/// Bytes of a TPM's event log.
pub const TPM_LOG_SIZE: u32 = 64 << 10;

/// A CPU that is or may come. Its index is the processor ID that Xen's hypercalls know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Local APIC ID.
    pub apic_id: u32,
    /// Whether it is there at start.
    pub online: bool,
}

/// The TPM's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tpm {
    /// 1.2, with the TIS registers.
    V12,
    /// 2.0, with the command response buffer.
    V20,
}

/// Memory of a NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaMemory {
    /// Physical addresses.
    pub range: Range<u64>,
    /// The node.
    pub node: u32,
}

/// The guest's virtual NUMA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numa {
    /// Number of nodes.
    pub nodes: u32,
    /// Node of each CPU.
    pub cpu_nodes: Vec<u32>,
    /// Memory of the nodes.
    pub memory: Vec<NumaMemory>,
    /// Distances, `nodes` times `nodes`, 10 for a node's own memory.
    pub distances: Vec<u8>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// All CPUs that are or may come.
    pub cpus: &'a [Cpu],
    /// Whether the machine has an I/O APIC; without, there is no MADT.
    pub apic: bool,
    /// The I/O APIC's ID.
    pub ioapic_id: u8,
    /// Where PCI memory windows lie below 4 GiB.
    pub pci_window: Range<u32>,
    /// Where PCI memory windows lie above 4 GiB.
    pub pci_window_64: Option<Range<u64>>,
    /// PCI device number of the display on bus 0.
    pub vga_device: Option<u8>,
    /// PCI device number of Xen's platform device on bus 0.
    pub platform_device: Option<u8>,
    /// Whether there is an HPET.
    pub hpet: bool,
    /// Whether there is a floppy controller.
    pub floppy: bool,
    /// Whether there are COM1 and COM2.
    pub serial: [bool; 2],
    /// Whether there is a printer port.
    pub parallel: bool,
    /// Whether the guest may sleep to RAM.
    pub s3: bool,
    /// Whether the guest may sleep to disk.
    pub s4: bool,
    /// Whether to show a laptop that can be a slate.
    pub laptop_slate: bool,
    /// TPM, where there is one.
    pub tpm: Option<Tpm>,
    /// Physical address of the generation ID, where there is one.
    pub generation_id: Option<u64>,
    /// NUMA, where the guest has it.
    pub numa: Option<&'a Numa>,
    /// Ready-made tables from the toolstack, one after another.
    pub extra: &'a [u8],
}

impl Default for Input<'_> {
    fn default() -> Self {
        Self {
            cpus: &[],
            apic: true,
            ioapic_id: 1,
            pci_window: 0xf000_0000..0xfc00_0000,
            pci_window_64: None,
            vga_device: None,
            platform_device: None,
            hpet: true,
            floppy: true,
            serial: [true, false],
            parallel: false,
            s3: true,
            s4: true,
            laptop_slate: false,
            tpm: None,
            generation_id: None,
            numa: None,
            extra: &[],
        }
    }
}

/// Where the parts are that the firmware itself needs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The root pointer.
    pub rsdp: u64,
    /// The FACS, which holds the waking vector.
    pub facs: u64,
}

/// No memory left below 4 GiB or in the F segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Makes and places all tables.
///
/// # Errors
/// [`NoMemory`]; the root pointer is placed last, so a guest then finds no tables at all.
pub fn install(input: &Input, placer: &mut dyn Placer) -> Result<Installed, NoMemory> {
    let facs = place(&fixed::facs(), 64, placer)?;
    let dsdt = place(&fixed::table(b"DSDT", 2, &dsdt::body(input)), 16, placer)?;
    let extra: Vec<_> = extra_tables(input.extra).collect();
    let licence = licence(&extra);
    let mut tables = alloc::vec![of_its_maker(fixed::fadt(facs, dsdt), licence)];
    if input.apic {
        tables.push(fixed::madt(input));
    }
    if input.hpet {
        tables.push(fixed::hpet());
    }
    tables.push(fixed::waet());
    if let Some(numa) = input.numa {
        tables.push(fixed::srat(input, numa));
        match fixed::slit(numa) {
            Some(slit) => tables.push(slit),
            None => warn!(
                "ACPI: no SLIT, since the distances are not those of {} nodes",
                numa.nodes
            ),
        }
    }
    if let Some(tpm) = input.tpm {
        let log = allocate(TPM_LOG_SIZE as usize, 16, placer)?;
        log.bytes.fill(0);
        let log = log.addr;
        tables.push(match tpm {
            Tpm::V12 => fixed::tcpa(log, TPM_LOG_SIZE),
            Tpm::V20 => fixed::tpm2(log, TPM_LOG_SIZE),
        });
    }
    tables.extend(extra.iter().map(|table| table.to_vec()));
    let mut rsdt = Vec::with_capacity(4 * tables.len());
    let mut xsdt = Vec::with_capacity(8 * tables.len());
    for table in &tables {
        let addr = place(table, 16, placer)?;
        rsdt.extend_from_slice(&addr.to_le_bytes());
        xsdt.extend_from_slice(&u64::from(addr).to_le_bytes());
    }
    let rsdt = of_its_maker(fixed::table(b"RSDT", 1, &rsdt), licence);
    let xsdt = of_its_maker(fixed::table(b"XSDT", 1, &xsdt), licence);
    let oem = fixed::oem(&xsdt);
    let (rsdt, xsdt_at) = (place(&rsdt, 16, placer)?, place(&xsdt, 16, placer)?);
    let rsdp = fixed::rsdp(rsdt, xsdt_at.into(), oem);
    let block = placer
        .allocate(Zone::FSegment, rsdp.len(), 16)
        .ok_or(NoMemory)?;
    block.bytes.copy_from_slice(&rsdp);
    Ok(Installed {
        rsdp: block.addr,
        facs: facs.into(),
    })
}

fn allocate(size: usize, align: usize, placer: &mut dyn Placer) -> Result<Block, NoMemory> {
    placer.allocate(Zone::High, size, align).ok_or(NoMemory)
}

/// Places bytes below 4 GiB.
fn place(bytes: &[u8], align: usize, placer: &mut dyn Placer) -> Result<u32, NoMemory> {
    let block = allocate(bytes.len(), align, placer)?;
    block.bytes.copy_from_slice(bytes);
    u32::try_from(block.addr).map_err(|_| NoMemory)
}

/// The table with a licence for Windows, which is valid where the RSDT, the XSDT and the FADT are from the same maker (Microsoft's
/// SLIC and MSDM).
fn licence<'a>(tables: &[&'a [u8]]) -> Option<&'a [u8]> {
    let named = |name: &[u8]| tables.iter().find(|table| table.starts_with(name)).copied();
    named(b"SLIC").or_else(|| named(b"MSDM"))
}

/// The table as it has to be beside that licence.
fn of_its_maker(mut table: Vec<u8>, licence: Option<&[u8]>) -> Vec<u8> {
    if let Some(licence) = licence {
        fixed::set_oem(&mut table, fixed::oem(licence));
    }
    table
}

/// The toolstack's tables. One with a wrong checksum is left out, and so is all after a length that makes no sense.
fn extra_tables(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        loop {
            if bytes.is_empty() {
                return None;
            }
            let length = bytes.get(4..8).and_then(|field| field.try_into().ok());
            let length = length.map_or(0, u32::from_le_bytes) as usize;
            let table = bytes
                .get(..length)
                .filter(|table| table.len() >= HEADER_SIZE);
            let Some(table) = table else {
                warn!(
                    "ACPI: the toolstack's tables end in {} bytes that are none",
                    bytes.len()
                );
                bytes = &[];
                return None;
            };
            bytes = &bytes[length..];
            if sum(table) == 0 {
                return Some(table);
            }
            warn!(
                "ACPI: dropped a table of the toolstack's with a wrong checksum: {:?}",
                &table[..4]
            );
        }
    })
}

#[cfg(test)]
mod tests;
